//! The context as a task sees it: a map that remembers its changes. Only the changes are stored.

use std::fmt;
use std::marker::PhantomData;

use abide_core::context::Changes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use abide_core::text::{check_name, nearest};

use super::task_error::TaskError;

/// A map of values that is passed along the graph, as a parameter: `&mut Context<Value>`.
///
/// A task sees the values that its ancestors wrote. Their changes are applied in the graph's
/// topological order, and declared order decides ties, so the result never depends on timing. A
/// task passes on only its *changes*: keys that it inserted, updated or removed. A value that it
/// only inherited is not recorded, and so never overwrites a sibling's update. An inserted value is
/// recorded even if it equals the inherited value. If two siblings write the same key, the value of
/// the task that is declared later wins.
///
/// Changes by a failed attempt are discarded.
///
/// ```
/// use abide::{Context, TaskError, task};
/// use serde_json::Value;
///
/// #[task]
/// pub async fn count(context: &mut Context<Value>) -> Result<(), TaskError> {
///     let words: u32 = context.require("words")?;
///     context.insert("long", words > 1_000)?;
///     context.update("seen", |seen: Option<u32>| seen.unwrap_or(0) + 1)?;
///     Ok(())
/// }
///
/// // In a unit test:
/// let mut context = Context::<Value>::new();
/// context.insert("words", 7)?;
/// # let _ = count(&mut context);
/// # Ok::<(), TaskError>(())
/// ```
///
/// Every written value must fit the type `T`. The default, [`Value`], fits all values. A value that
/// does not fit is refused when it is written, with an error of kind `context`.
pub struct Context<T = Value> {
    values: Map<String, Value>,
    changes: Changes,
    value_type: PhantomData<fn() -> T>,
}

/// The kind of a [`Context`]'s errors.
const KIND: &str = "context";

impl<T> Context<T> {
    /// An empty context.
    pub fn new() -> Context<T> {
        Context::of_values(Map::new())
    }

    /// A context that inherits `values`. Inherited values do not count as changes.
    ///
    /// ```
    /// use abide::Context;
    /// use serde_json::{Map, Value};
    ///
    /// let inherited = Map::from_iter([("a".to_owned(), Value::from(1))]);
    /// let context = Context::<Value>::of_values(inherited);
    /// assert!(context.contains("a"));
    /// assert!(context.changes().is_empty());
    /// ```
    pub fn of_values(values: Map<String, Value>) -> Context<T> {
        Context {
            values,
            changes: Changes::default(),
            value_type: PhantomData,
        }
    }

    /// The value of `key`, if there is one, read as a `V`.
    ///
    /// ```
    /// use abide::Context;
    ///
    /// let mut context: Context = Context::new();
    /// context.insert("n", 7)?;
    /// assert_eq!(context.get::<u8>("n")?, Some(7));
    /// assert_eq!(context.get::<u8>("m")?, None);
    /// assert_eq!(context.get::<bool>("n").expect_err("7 is not a bool").kind(), "context");
    /// # Ok::<(), abide::TaskError>(())
    /// ```
    pub fn get<V: DeserializeOwned>(&self, key: &str) -> Result<Option<V>, TaskError> {
        let Some(value) = self.values.get(key) else {
            return Ok(None);
        };
        let value = V::deserialize(value).map_err(|error| {
            let wanted = std::any::type_name::<V>();
            failed(format!("the value of `{key}` is not a {wanted}: {error}"))
        })?;
        Ok(Some(value))
    }

    /// The value of `key` read as a `V`. If the key is missing, the error names the nearest key.
    ///
    /// ```
    /// use abide::Context;
    ///
    /// let mut context: Context = Context::new();
    /// context.insert("customer", "Ada")?;
    /// let error = context.require::<String>("costumer").expect_err("misspelt");
    /// assert_eq!(error.message(), "the context has no `costumer`; did you mean `customer`?");
    /// # Ok::<(), abide::TaskError>(())
    /// ```
    pub fn require<V: DeserializeOwned>(&self, key: &str) -> Result<V, TaskError> {
        self.get(key)?.ok_or_else(|| {
            let hint = nearest(key, self.keys()).map(|key| format!("; did you mean `{key}`?"));
            failed(format!(
                "the context has no `{key}`{}",
                hint.unwrap_or_default()
            ))
        })
    }

    /// The value of `key` as stored JSON.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// Removes `key` and returns its value. Removing a key that isn't there changes nothing.
    ///
    /// ```
    /// use abide::Context;
    ///
    /// let mut context: Context = Context::new();
    /// context.insert("draft", true)?;
    /// assert!(context.remove("draft").is_some());
    /// assert!(!context.contains("draft"));
    /// # Ok::<(), abide::TaskError>(())
    /// ```
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let value = self.values.remove(key)?;
        self.changes.remove(key);
        Some(value)
    }

    /// Whether `key` has a value. `null` is a value.
    pub fn contains(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// Every key.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// Every key with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// How many keys have a value.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether no key has a value.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The changes to this context, which the task passes on to its dependents.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Like [`changes`](Context::changes), by value.
    pub fn into_changes(self) -> Changes {
        self.changes
    }
}

impl<T: DeserializeOwned + 'static> Context<T> {
    /// Sets the value of `key`, whether or not `key` had a value.
    ///
    /// Returns an error of kind `context` if the value cannot be written as JSON or does not fit
    /// `T`, or if the key is empty, too long or contains control characters.
    ///
    /// ```
    /// use abide::Context;
    ///
    /// let mut context: Context<u32> = Context::new();
    /// context.insert("n", 7)?;
    /// assert!(context.insert("n", "seven").is_err());
    /// assert_eq!(context.require::<u32>("n")?, 7);
    /// # Ok::<(), abide::TaskError>(())
    /// ```
    pub fn insert(
        &mut self,
        key: impl Into<String>,
        value: impl Serialize,
    ) -> Result<(), TaskError> {
        let key = key.into();
        check_name("context key", &key).map_err(failed)?;
        let refuse = |error| failed(format!("the value for `{key}` is refused: {error}"));
        let value = serde_json::to_value(value).map_err(refuse)?;
        if !fits_anything::<T>() {
            T::deserialize(&value).map_err(refuse)?;
        }
        self.values.insert(key.clone(), value.clone());
        self.changes.set(key, value);
        Ok(())
    }

    /// Replaces the value of `key` by the result of `change`, which gets the present value, or
    /// `None`.
    ///
    /// ```
    /// use abide::Context;
    ///
    /// let mut context: Context = Context::new();
    /// context.update("n", |n: Option<u32>| n.unwrap_or(0) + 1)?;
    /// context.update("n", |n: Option<u32>| n.unwrap_or(0) + 1)?;
    /// assert_eq!(context.require::<u32>("n")?, 2);
    /// # Ok::<(), abide::TaskError>(())
    /// ```
    pub fn update<V>(
        &mut self,
        key: &str,
        change: impl FnOnce(Option<V>) -> V,
    ) -> Result<(), TaskError>
    where
        V: Serialize + DeserializeOwned,
    {
        let value = change(self.get(key)?);
        self.insert(key, value)
    }
}

/// Every JSON value fits `Value`, so it needs no check.
fn fits_anything<T: 'static>() -> bool {
    std::any::TypeId::of::<T>() == std::any::TypeId::of::<Value>()
}

fn failed(message: impl fmt::Display) -> TaskError {
    TaskError::new(KIND, message)
}

impl<T> Default for Context<T> {
    fn default() -> Context<T> {
        Context::new()
    }
}

impl<T> Clone for Context<T> {
    fn clone(&self) -> Context<T> {
        Context {
            values: self.values.clone(),
            changes: self.changes.clone(),
            value_type: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Context<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("values", &self.values)
            .field("changes", &self.changes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inherited() -> Context {
        let values = [("a", 1), ("b", 2)].map(|(key, value)| (key.to_owned(), Value::from(value)));
        Context::of_values(Map::from_iter(values))
    }

    fn changes(context: Context) -> Vec<(String, Option<Value>)> {
        context.into_changes().0.into_iter().collect()
    }

    #[test]
    fn what_was_only_inherited_or_read_is_not_a_change() {
        let context = inherited();
        assert_eq!(context.require::<u8>("a").expect("inherited"), 1);
        assert_eq!(changes(context), []);
    }

    #[test]
    fn an_equal_value_inserted_is_a_change() {
        let mut context = inherited();
        context.insert("a", 1).expect("valid");
        assert_eq!(changes(context), [("a".to_owned(), Some(Value::from(1)))]);
    }

    #[test]
    fn the_last_thing_done_to_a_key_counts() {
        let mut context = inherited();
        assert_eq!(context.remove("a"), Some(Value::from(1)));
        assert_eq!(context.remove("a"), None);
        context.insert("c", "x").expect("valid");
        context.remove("c");
        context.remove("b");
        context
            .update("b", |b: Option<u8>| b.unwrap_or(7))
            .expect("valid");
        let expected = [("a", None), ("b", Some(Value::from(7))), ("c", None)];
        assert_eq!(
            changes(context),
            expected.map(|(key, value)| (key.to_owned(), value))
        );
    }

    #[test]
    fn removing_what_is_not_there_is_not_a_change() {
        let mut context = inherited();
        assert_eq!(context.remove("z"), None);
        assert_eq!(changes(context), []);
    }

    #[test]
    fn a_failed_write_changes_nothing() {
        let mut context = inherited();
        for key in ["", "a\0b", &"k".repeat(300)] {
            assert_eq!(
                context.insert(key, 1).expect_err("no such key").kind(),
                "context"
            );
        }
        let not_json = std::collections::HashMap::from([((1, 2), 3)]);
        assert!(context.insert("map", not_json).is_err());
        assert!(
            context
                .update("a", |a: Option<bool>| a.unwrap_or_default())
                .is_err()
        );
        assert_eq!(changes(context), []);
    }
}
