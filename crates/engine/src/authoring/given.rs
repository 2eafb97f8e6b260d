//! The values that an attempt was given, read as the types that its task asks for. If an input or
//! output cannot be read, the failure is final: another attempt would read the same text.

use std::any::type_name;
use std::sync::Arc;

use abide_core::failure::{Failure, RetryHint, kinds};
use abide_core::trigger::Ending;
use serde::de::DeserializeOwned;

use super::erased::DependencyOutput;
use super::output::Outputs;
use super::state::StateMap;
use super::task::Task;
use super::task_error::TaskError;

/// The error kind of a task that takes the output of a dependency that has none.
pub const MISSING_OUTPUT: &str = "missing_output";

/// The error kind of a task whose state was not given to the engine. Registration refuses such a
/// task, so only a task that was never registered fails with it.
pub const MISSING_STATE: &str = "missing_state";

/// The parts of an invocation that are read by type.
pub(super) struct Given {
    pub(super) task: Arc<str>,
    pub(super) input: Option<Arc<str>>,
    pub(super) outputs: Vec<DependencyOutput>,
    pub(super) state: Arc<StateMap>,
}

impl Given {
    pub(super) fn input<T: DeserializeOwned>(&self) -> Result<T, TaskError> {
        self.read(self.input.as_deref(), || "its input".to_owned())
    }

    pub(super) fn state<T: Send + Sync + 'static>(&self) -> Result<Arc<T>, TaskError> {
        self.state.get().ok_or_else(|| {
            let message = format!(
                "task `{}` takes `State<{}>`, which nobody brought",
                self.task,
                type_name::<T>()
            );
            refused(MISSING_STATE, message)
        })
    }

    /// The output of the one node of `T`; none if it didn't complete or there is no such node.
    pub(super) fn output_if_completed<T: Task>(&self) -> Result<Option<T::Output>, TaskError> {
        let mut completed = self
            .nodes_of::<T>()
            .filter(|node| node.ending == Ending::Completed);
        let Some(node) = completed.next() else {
            return Ok(None);
        };
        match completed.count() {
            0 => self.output_of::<T>(node).map(Some),
            others => {
                let count = others + 1;
                let found = format!(
                    "has {count} nodes before this one: take `Outputs<{}>`",
                    T::ID
                );
                Err(self.missing::<T>(&found))
            }
        }
    }

    /// The output of the one node of `T`, which must have completed.
    pub(super) fn output<T: Task>(&self) -> Result<T::Output, TaskError> {
        self.output_if_completed::<T>()?
            .ok_or_else(|| match self.nodes_of::<T>().next() {
                Some(node) => self.missing::<T>(&format!(
                    "ended {}: take `Option<Output<{}>>`",
                    node.ending,
                    T::ID
                )),
                None => self.missing::<T>("is not before it in this graph"),
            })
    }

    /// The outputs of every node of `T`, in declared order.
    pub(super) fn outputs<T: Task>(&self) -> Result<Outputs<T>, TaskError> {
        let (completed, others): (Vec<_>, Vec<_>) = self
            .nodes_of::<T>()
            .partition(|node| node.ending == Ending::Completed);
        let completed = completed
            .into_iter()
            .map(|node| Ok((node.node.to_string(), self.output_of::<T>(node)?)))
            .collect::<Result<Vec<_>, TaskError>>()?;
        Ok(Outputs::new(completed)
            .with_others(others.into_iter().map(|node| (&*node.node, node.ending))))
    }

    fn nodes_of<T: Task>(&self) -> impl Iterator<Item = &DependencyOutput> {
        self.outputs.iter().filter(|output| *output.task == *T::ID)
    }

    fn output_of<T: Task>(&self, node: &DependencyOutput) -> Result<T::Output, TaskError> {
        self.read(node.output.as_deref(), || {
            format!("the output of `{}`", node.node)
        })
    }

    fn read<T: DeserializeOwned>(
        &self,
        json: Option<&str>,
        what: impl Fn() -> String,
    ) -> Result<T, TaskError> {
        serde_json::from_str(json.unwrap_or("null")).map_err(|error| {
            let message = format!(
                "task `{}` can't read {} as {}: {error}",
                self.task,
                what(),
                type_name::<T>()
            );
            TaskError::of_failure(Failure::engine(kinds::UNDECODABLE, message))
        })
    }

    fn missing<T: Task>(&self, found: &str) -> TaskError {
        let message = format!(
            "task `{}` takes the output of `{}`, which {found}",
            self.task,
            T::ID
        );
        refused(MISSING_OUTPUT, message)
    }
}

fn refused(kind: &str, message: String) -> TaskError {
    TaskError::of_failure(Failure::new(kind, message).with_retry(RetryHint::Fatal))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authoring::TaskBuilder;

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

    fn given(outputs: &[(&str, &str, Ending, Option<&str>)]) -> Given {
        let outputs = outputs
            .iter()
            .map(|(node, task, ending, output)| DependencyOutput {
                node: Arc::from(*node),
                task: Arc::from(*task),
                ending: *ending,
                output: output.map(Arc::from),
            });
        let mut state = StateMap::new();
        state.insert(7_u64);
        Given {
            task: Arc::from("report"),
            input: None,
            outputs: outputs.collect(),
            state: Arc::new(state),
        }
    }

    fn refusal<T: std::fmt::Debug>(read: Result<T, TaskError>) -> (String, String) {
        let error = read.expect_err("refused");
        assert!(error.is_fatal(), "trying again reads the same");
        (error.kind().to_owned(), error.message().to_owned())
    }

    #[test]
    fn an_input_reads_as_the_type_asked_for() {
        let read = Given {
            input: Some(Arc::from(r#"["a",1]"#)),
            ..given(&[])
        };
        assert_eq!(
            read.input::<(String, u8)>().expect("reads"),
            ("a".to_owned(), 1)
        );
        let (kind, message) = refusal(read.input::<bool>());
        assert_eq!(kind, "undecodable");
        assert_eq!(
            message,
            "task `report` can't read its input as bool: invalid type: sequence, expected a boolean at line 1 column 0"
        );
    }

    #[test]
    fn no_text_stands_for_null() {
        given(&[]).input::<()>().expect("null is a unit");
        assert_eq!(
            given(&[]).input::<Option<u8>>().expect("null is none"),
            None
        );
    }

    #[test]
    fn outputs_are_those_of_the_task_in_declared_order() {
        let given = given(&[
            ("b", "hash", Ending::Completed, Some("2")),
            ("x", "size", Ending::Completed, Some("9")),
            ("a", "hash", Ending::Completed, Some("1")),
            ("c", "hash", Ending::Failed, None),
            ("d", "hash", Ending::Skipped, None),
        ]);
        let outputs = given.outputs::<Hash>().expect("reads");
        assert_eq!(outputs.iter().collect::<Vec<_>>(), [("b", &2), ("a", &1)]);
        assert_eq!(
            outputs.others().collect::<Vec<_>>(),
            [("c", Ending::Failed), ("d", Ending::Skipped)]
        );
        assert_eq!(outputs.get("a"), Some(&1));
        assert_eq!((outputs.get("x"), outputs.get("c")), (None, None));
    }

    #[test]
    fn one_output_is_that_of_the_only_completed_node() {
        let one = given(&[("a", "hash", Ending::Completed, Some("1"))]);
        assert_eq!(one.output::<Hash>().expect("completed"), 1);
        assert_eq!(one.output_if_completed::<Hash>().expect("reads"), Some(1));

        let skipped = given(&[("a", "hash", Ending::Skipped, None)]);
        assert_eq!(skipped.output_if_completed::<Hash>().expect("reads"), None);
        let (kind, message) = refusal(skipped.output::<Hash>());
        assert_eq!(kind, MISSING_OUTPUT);
        assert_eq!(
            message,
            "task `report` takes the output of `hash`, which ended Skipped: take `Option<Output<hash>>`"
        );

        let two = given(&[
            ("a", "hash", Ending::Completed, Some("1")),
            ("b", "hash", Ending::Completed, Some("2")),
        ]);
        let (_, message) = refusal(two.output_if_completed::<Hash>());
        assert!(
            message.ends_with("has 2 nodes before this one: take `Outputs<hash>`"),
            "{message}"
        );

        let (_, message) = refusal(given(&[]).output::<Hash>());
        assert!(
            message.ends_with("is not before it in this graph"),
            "{message}"
        );
    }

    #[test]
    fn an_output_of_another_type_names_its_node() {
        let (kind, message) =
            refusal(given(&[("a", "hash", Ending::Completed, Some("true"))]).outputs::<Hash>());
        assert_eq!(kind, "undecodable");
        assert!(
            message.starts_with("task `report` can't read the output of `a` as u32: "),
            "{message}"
        );
    }

    #[test]
    fn state_is_found_by_its_type() {
        assert_eq!(*given(&[]).state::<u64>().expect("brought"), 7);
        let (kind, message) = refusal(given(&[]).state::<u32>());
        assert_eq!(kind, MISSING_STATE);
        assert_eq!(
            message,
            "task `report` takes `State<u32>`, which nobody brought"
        );
    }
}
