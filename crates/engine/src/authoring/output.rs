//! The outputs of a task's dependencies, as parameters.

use std::fmt;
use std::ops::Deref;

use abide_core::trigger::Ending;

use super::task::Task;

/// The output of the dependency `T`, as a parameter. The parameter makes `T` a dependency.
///
/// `T` must have exactly one node. If a graph built at run time gives `T` several nodes, take
/// [`Outputs`]. If a trigger rule lets the task run although `T` did not complete, take
/// `Option<Output<T>>`; without the `Option` such a run fails with an error of kind
/// `missing_output`.
///
/// ```
/// use abide::{Output, TaskError, task, workflow};
///
/// #[workflow]
/// mod sums {
///     #[task]
///     pub async fn two() -> Result<u32, TaskError> {
///         Ok(2)
///     }
///
///     #[task]
///     pub async fn four(Output(n): Output<two>) -> Result<u32, TaskError> {
///         Ok(2 * n)
///     }
/// }
/// # fn main() {}
/// ```
pub struct Output<T: Task>(pub T::Output);

impl<T: Task> Deref for Output<T> {
    type Target = T::Output;
    fn deref(&self) -> &T::Output {
        &self.0
    }
}

impl<T: Task<Output: fmt::Debug>> fmt::Debug for Output<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Output").field(&self.0).finish()
    }
}

impl<T: Task<Output: Clone>> Clone for Output<T> {
    fn clone(&self) -> Output<T> {
        Output(self.0.clone())
    }
}

/// The outputs of every node of task `T` that this task depends on, as a parameter. The parameter
/// makes `T` a dependency. The keys are node ids, in the order in which the graph declares the
/// nodes.
///
/// With the default trigger rule all nodes completed. With your own rule some may have ended
/// otherwise: [`others`](Outputs::others) names those nodes.
///
/// ```
/// use abide::{Outputs, Task, TaskError, task};
///
/// #[task]
/// pub async fn size(path: String) -> Result<u64, TaskError> {
///     Ok(std::fs::metadata(path)?.len())
/// }
///
/// #[task]
/// pub async fn total(sizes: Outputs<size>) -> Result<u64, TaskError> {
///     Ok(sizes.values().sum())
/// }
///
/// # fn main() {
/// // In a unit test:
/// let sizes = Outputs::<size>::new([("a", 1), ("b", 2)]);
/// assert_eq!(sizes.get("b"), Some(&2));
/// for (node, size) in &sizes {
///     println!("{node}: {size} bytes");
/// }
/// assert_eq!(sizes.clone().len(), 2);
/// # let _ =
/// total(sizes);
/// # }
/// ```
pub struct Outputs<T: Task> {
    completed: Vec<(String, T::Output)>,
    others: Vec<(String, Ending)>,
}

impl<T: Task> Outputs<T> {
    /// Outputs for a unit test that calls a task's function.
    pub fn new<K: Into<String>>(outputs: impl IntoIterator<Item = (K, T::Output)>) -> Outputs<T> {
        let completed = outputs
            .into_iter()
            .map(|(node, output)| (node.into(), output))
            .collect();
        Outputs {
            completed,
            others: Vec::new(),
        }
    }

    /// Adds nodes that ended without an output, for unit tests.
    #[must_use]
    pub fn with_others<K: Into<String>>(
        mut self,
        others: impl IntoIterator<Item = (K, Ending)>,
    ) -> Outputs<T> {
        self.others.extend(
            others
                .into_iter()
                .map(|(node, status)| (node.into(), status)),
        );
        self
    }

    /// The output of one node, found by its id in linear time.
    pub fn get(&self, node: &str) -> Option<&T::Output> {
        self.iter()
            .find(|(id, _)| *id == node)
            .map(|(_, output)| output)
    }

    /// Node ids and outputs, in declared order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &T::Output)> {
        self.into_iter()
    }

    /// The outputs, in declared order of their nodes.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &T::Output> {
        self.completed.iter().map(|(_, output)| output)
    }

    /// The nodes that ended without an output, in declared order, and how each ended.
    pub fn others(&self) -> impl ExactSizeIterator<Item = (&str, Ending)> {
        self.others
            .iter()
            .map(|(node, status)| (node.as_str(), *status))
    }

    /// How many nodes completed.
    pub fn len(&self) -> usize {
        self.completed.len()
    }

    /// Whether no node completed.
    pub fn is_empty(&self) -> bool {
        self.completed.is_empty()
    }
}

impl<T: Task> IntoIterator for Outputs<T> {
    type Item = (String, T::Output);
    type IntoIter = std::vec::IntoIter<(String, T::Output)>;

    fn into_iter(self) -> Self::IntoIter {
        self.completed.into_iter()
    }
}

/// The iterator over `&Outputs`: node ids and outputs, in declared order.
type Pairs<'a, O> =
    std::iter::Map<std::slice::Iter<'a, (String, O)>, fn(&'a (String, O)) -> (&'a str, &'a O)>;

impl<'a, T: Task> IntoIterator for &'a Outputs<T> {
    type Item = (&'a str, &'a T::Output);
    type IntoIter = Pairs<'a, T::Output>;

    fn into_iter(self) -> Self::IntoIter {
        self.completed
            .iter()
            .map(|(node, output)| (node.as_str(), output))
    }
}

impl<T: Task<Output: Clone>> Clone for Outputs<T> {
    fn clone(&self) -> Outputs<T> {
        Outputs {
            completed: self.completed.clone(),
            others: self.others.clone(),
        }
    }
}

impl<T: Task<Output: fmt::Debug>> fmt::Debug for Outputs<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let completed = self.completed.iter().map(|(node, output)| (node, output));
        f.debug_map()
            .entries(completed)
            .entries(self.others())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authoring::{TaskBuilder, TaskError};

    struct Hash;

    impl Task for Hash {
        const ID: &'static str = "hash";
        type Input = String;
        type Output = u32;
        type Error = TaskError;

        fn builder() -> TaskBuilder {
            TaskBuilder::new(Self::ID, async || Ok::<u32, TaskError>(1))
        }
    }

    #[test]
    fn outputs_are_found_by_the_ids_of_completed_nodes() {
        let outputs = Outputs::<Hash>::new([("b", 2), ("a", 1)]);
        let outputs = outputs.with_others([("c", Ending::Failed), ("d", Ending::Skipped)]);
        assert_eq!(outputs.iter().collect::<Vec<_>>(), [("b", &2), ("a", &1)]);
        assert_eq!(
            outputs.others().collect::<Vec<_>>(),
            [("c", Ending::Failed), ("d", Ending::Skipped)]
        );
        assert_eq!(outputs.get("a"), Some(&1));
        assert_eq!((outputs.get("x"), outputs.get("c")), (None, None));
    }
}
