//! A task's input.

use std::ops::{Deref, DerefMut};

/// The input of a task, as a parameter. In a workflow's static graph it is the input of the
/// execution; in a graph built at run time it is the input of the node.
///
/// In a function with `#[task]` or `#[workflow]`, a parameter whose type is none of the engine's
/// types means the same: `path: PathBuf` is short for `Input(path): Input<PathBuf>`. With builders,
/// the input must be an `Input<_>`.
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
