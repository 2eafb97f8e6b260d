//! The values that an attempt was given, read as the types that its task asks for. If an input or
//! output cannot be read, the failure is final: another attempt would read the same text.

use std::any::type_name;
use std::sync::Arc;

use abide_core::failure::{Failure, RetryHint, kinds};
use abide_core::trigger::Ending;
use serde::de::DeserializeOwned;

use super::erased::DependencyOutput;
use super::state::StateMap;
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

/// Nodes in declared order: those that completed with their outputs, and how the others ended.
pub(super) type NodesOfTask<O> = (Vec<(String, O)>, Vec<(String, Ending)>);

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

    /// The output of the one node of `task`; none if it didn't complete or there is no such node.
    pub(super) fn output_if_completed<O: DeserializeOwned>(
        &self,
        task: &str,
    ) -> Result<Option<O>, TaskError> {
        let mut completed = self
            .nodes_of(task)
            .filter(|node| node.ending == Ending::Completed);
        let Some(node) = completed.next() else {
            return Ok(None);
        };
        match completed.count() {
            0 => self.output_of(node).map(Some),
            others => {
                let count = others + 1;
                let found = format!("has {count} nodes before this one: take `Outputs<{task}>`");
                Err(self.missing(task, &found))
            }
        }
    }

    /// The output of the one node of `task`, which must have completed.
    pub(super) fn output<O: DeserializeOwned>(&self, task: &str) -> Result<O, TaskError> {
        self.output_if_completed(task)?
            .ok_or_else(|| match self.nodes_of(task).next() {
                Some(node) => {
                    let found = format!("ended {}: take `Option<Output<{task}>>`", node.ending);
                    self.missing(task, &found)
                }
                None => self.missing(task, "is not before it in this graph"),
            })
    }

    /// The nodes of `task`.
    pub(super) fn outputs<O: DeserializeOwned>(
        &self,
        task: &str,
    ) -> Result<NodesOfTask<O>, TaskError> {
        let (mut completed, mut others) = (Vec::new(), Vec::new());
        for node in self.nodes_of(task) {
            let id = node.node.to_string();
            match node.ending {
                Ending::Completed => completed.push((id, self.output_of(node)?)),
                ending => others.push((id, ending)),
            }
        }
        Ok((completed, others))
    }

    fn nodes_of(&self, task: &str) -> impl Iterator<Item = &DependencyOutput> {
        self.outputs
            .iter()
            .filter(move |output| *output.task == *task)
    }

    fn output_of<O: DeserializeOwned>(&self, node: &DependencyOutput) -> Result<O, TaskError> {
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

    fn missing(&self, task: &str, found: &str) -> TaskError {
        let message = format!(
            "task `{}` takes the output of `{task}`, which {found}",
            self.task
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
        let (completed, others) = given.outputs::<u32>("hash").expect("reads");
        assert_eq!(completed, [("b".to_owned(), 2), ("a".to_owned(), 1)]);
        let (failed, skipped) = ("c".to_owned(), "d".to_owned());
        assert_eq!(
            others,
            [(failed, Ending::Failed), (skipped, Ending::Skipped)]
        );
    }

    #[test]
    fn one_output_is_that_of_the_only_completed_node() {
        let one = given(&[("a", "hash", Ending::Completed, Some("1"))]);
        assert_eq!(one.output::<u32>("hash").expect("completed"), 1);
        assert_eq!(
            one.output_if_completed::<u32>("hash").expect("reads"),
            Some(1)
        );

        let skipped = given(&[("a", "hash", Ending::Skipped, None)]);
        assert_eq!(
            skipped.output_if_completed::<u32>("hash").expect("reads"),
            None
        );
        let (kind, message) = refusal(skipped.output::<u32>("hash"));
        assert_eq!(kind, MISSING_OUTPUT);
        assert_eq!(
            message,
            "task `report` takes the output of `hash`, which ended Skipped: take `Option<Output<hash>>`"
        );

        let two = given(&[
            ("a", "hash", Ending::Completed, Some("1")),
            ("b", "hash", Ending::Completed, Some("2")),
        ]);
        let (_, message) = refusal(two.output_if_completed::<u32>("hash"));
        assert!(
            message.ends_with("has 2 nodes before this one: take `Outputs<hash>`"),
            "{message}"
        );

        let (_, message) = refusal(given(&[]).output::<u32>("hash"));
        assert!(
            message.ends_with("is not before it in this graph"),
            "{message}"
        );
    }

    #[test]
    fn an_output_of_another_type_names_its_node() {
        let (kind, message) = refusal(
            given(&[("a", "hash", Ending::Completed, Some("true"))]).outputs::<u32>("hash"),
        );
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
