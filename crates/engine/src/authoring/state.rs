//! Shared state, found by type: pools, clients, configuration. A task that takes a `State<T>` is
//! refused at start-up if no `T` was given, so extraction cannot fail later.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::type_info::TypeInfo;

/// The values that tasks can take, one for each type.
///
/// ```
/// use abide::authoring::StateMap;
///
/// struct Smtp { host: &'static str }
///
/// let mut state = StateMap::new();
/// state.insert(Smtp { host: "localhost" });
/// assert_eq!(state.get::<Smtp>().expect("just inserted").host, "localhost");
/// assert!(state.get::<String>().is_none());
/// ```
#[derive(Clone, Default)]
pub struct StateMap {
    values: HashMap<TypeId, Entry>,
}

#[derive(Clone)]
struct Entry {
    type_name: &'static str,
    value: Arc<dyn Any + Send + Sync>,
}

impl StateMap {
    /// A map without values.
    pub fn new() -> StateMap {
        StateMap::default()
    }

    /// Shares `value` with every task that takes its type. Replaces and returns the earlier value
    /// of the same type, if there is one.
    pub fn insert<T: Send + Sync + 'static>(&mut self, value: T) -> Option<Arc<T>> {
        let entry = Entry {
            type_name: type_name::<T>(),
            value: Arc::new(value),
        };
        let before = self.values.insert(TypeId::of::<T>(), entry)?;
        before.value.downcast().ok()
    }

    /// The value of type `T`.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let entry = self.values.get(&TypeId::of::<T>())?;
        Arc::clone(&entry.value).downcast().ok()
    }

    /// Whether there is a value of the type that a task needs.
    pub fn has(&self, need: &TypeInfo) -> bool {
        self.values.contains_key(&need.id)
    }

    /// The names of the values' types, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        let mut names: Vec<_> = self.values.values().map(|entry| entry.type_name).collect();
        names.sort_unstable();
        names.into_iter()
    }
}

impl fmt::Debug for StateMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// The shared value of type `T`, as a task's parameter. Cheap to clone; dereferences to `T`.
///
/// Give the value to the engine with `Engine::builder(..).state(value)`. If a task takes a type
/// that was not given, the engine does not start, and the error names the task and the type.
///
/// ```
/// use abide::{State, TaskError, task};
///
/// pub struct Prices { pub apple: u32 }
///
/// #[task]
/// pub async fn price(prices: State<Prices>) -> Result<u32, TaskError> {
///     Ok(prices.apple)
/// }
///
/// # fn main() {
/// // In a unit test a task is a function.
/// # let _ =
/// price(State::new(Prices { apple: 3 }));
/// # }
/// ```
pub struct State<T>(pub Arc<T>);

impl<T> State<T> {
    /// Wraps a value, for calling a task's function in a unit test.
    pub fn new(value: T) -> State<T> {
        State(Arc::new(value))
    }
}

impl<T> Deref for State<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Clone for State<T> {
    fn clone(&self) -> State<T> {
        State(Arc::clone(&self.0))
    }
}

impl<T: fmt::Debug> fmt::Debug for State<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("State").field(&self.0).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_value_of_a_type_replaces_the_first_and_returns_it() {
        let mut state = StateMap::new();
        assert_eq!(state.insert(1_u8), None);
        assert_eq!(state.insert(2_u8), Some(Arc::new(1)));
        assert_eq!(state.get::<u8>(), Some(Arc::new(2)));
    }

    #[test]
    fn a_need_is_met_by_its_own_type_only() {
        let mut state = StateMap::new();
        state.insert(String::new());
        assert!(state.has(&TypeInfo::of::<String>()));
        assert!(!state.has(&TypeInfo::of::<&'static str>()));
        assert_eq!(format!("{state:?}"), r#"{"alloc::string::String"}"#);
    }
}
