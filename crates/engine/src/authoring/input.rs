//! A task's input.

use std::ops::{Deref, DerefMut};

/// The input of a task, as a parameter. In a workflow's static graph it is what the execution was
/// started with; in a graph built at run time, what its node was given.
///
/// In a function with `#[task]` or `#[workflow]` a parameter of any other type that isn't one of
/// the engine's means the same: `path: PathBuf` is `Input(path): Input<PathBuf>`. Builders know
/// the input by this type only.
///
/// ```
/// use abide::{Input, TaskError, task};
///
/// #[task]
/// pub async fn double(Input(n): Input<u32>) -> Result<u32, TaskError> {
///     Ok(2 * n)
/// }
/// # fn main() {}
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Input<T>(pub T);

impl<T> Deref for Input<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Input<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}
