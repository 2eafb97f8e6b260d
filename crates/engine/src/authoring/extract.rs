//! From an invocation to a function's parameters: one rule per parameter type, found by the
//! compiler. Each type says beforehand what it needs, so that graphs get their edges, the runtime
//! reads only what is used, and missing state is found at start-up.

use std::any::type_name;
use std::sync::Arc;

use abide_core::context::Changes;
use abide_core::failure::{Failure, RetryHint, kinds};
use abide_core::graph::Uses;
use abide_core::trigger::Ending;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::context::Context;
use super::erased::{DependencyOutput, Invocation, Produced, TypeInfo};
use super::input::Input;
use super::output::{Output, Outputs};
use super::state::State;
use super::task::Task;
use super::task_error::TaskError;
use crate::handle::TaskHandle;

/// The kind of the error of a task that asks for the output of a dependency without one.
pub const MISSING_OUTPUT: &str = "missing_output";

/// The kind of the error of a task whose output can't be written as JSON.
pub const UNENCODABLE: &str = "unencodable";

/// What a task's parameters need, told by their types alone.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    pub(crate) uses: Uses,
    pub(crate) state: Vec<TypeInfo>,
    pub(crate) reads: Vec<Read>,
    pub(crate) input: Option<TypeInfo>,
}

/// A dependency whose output a parameter reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) task: String,
    pub(crate) arity: Arity,
}

/// How many nodes of a task a parameter reads from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arity {
    One,
    AtMostOne,
    Any,
}

impl Arity {
    pub(crate) fn allows(self, nodes: usize) -> bool {
        match self {
            Arity::One => nodes == 1,
            Arity::AtMostOne => nodes <= 1,
            Arity::Any => true,
        }
    }
}

impl Needs {
    /// Adds what parameter type `P` needs.
    pub fn add<P: Extract>(&mut self) {
        P::needs(self);
    }

    /// Adds the context.
    pub fn context(&mut self) {
        self.uses.context = true;
    }

    /// Adds the handle.
    pub fn handle(&mut self) {
        self.uses.handle = true;
    }

    fn read<T: Task>(&mut self, arity: Arity) {
        self.uses.outputs = true;
        self.reads.push(Read {
            task: T::ID.to_owned(),
            arity,
        });
    }
}

/// An invocation of one task, taken apart parameter by parameter.
pub struct Call {
    task: Arc<str>,
    invocation: Invocation,
}

impl Call {
    pub(crate) fn new(task: Arc<str>, invocation: Invocation) -> Call {
        Call { task, invocation }
    }

    /// The context with the changes of every ancestor.
    pub fn context<T>(&mut self) -> Context<T> {
        Context::of_values(self.invocation.context.take().unwrap_or_default())
    }

    /// The door to durable operations.
    pub fn handle(&self) -> TaskHandle {
        self.invocation.handle.clone()
    }

    fn outputs_of<T: Task>(&self) -> impl Iterator<Item = &DependencyOutput> {
        self.invocation
            .outputs
            .iter()
            .filter(|output| *output.task == *T::ID)
    }

    fn decode<T: DeserializeOwned>(&self, what: &str, json: Option<&str>) -> Result<T, TaskError> {
        serde_json::from_str(json.unwrap_or("null")).map_err(|error| {
            let message = format!(
                "task `{}` can't read {what} as {}: {error}",
                self.task,
                type_name::<T>()
            );
            TaskError::of_failure(Failure::engine(kinds::UNDECODABLE, message))
        })
    }

    fn decode_output<T: Task>(&self, output: &DependencyOutput) -> Result<T::Output, TaskError> {
        self.decode(
            &format!("the output of `{}`", output.node),
            output.output.as_deref(),
        )
    }

    /// The one completed node of `T`; an error if it has several.
    fn single<T: Task>(&self) -> Result<Option<T::Output>, TaskError> {
        let mut completed = self
            .outputs_of::<T>()
            .filter(|output| output.ending == Ending::Completed);
        let Some(output) = completed.next() else {
            return Ok(None);
        };
        match completed.count() {
            0 => self.decode_output::<T>(output).map(Some),
            more => Err(self.missing(format!(
                "task `{}` takes the output of `{}`, which has {} nodes here: take `Outputs<{}>`",
                self.task,
                T::ID,
                more + 1,
                T::ID
            ))),
        }
    }

    fn missing(&self, message: String) -> TaskError {
        TaskError::of_failure(Failure::new(MISSING_OUTPUT, message).with_retry(RetryHint::Fatal))
    }
}

/// A type that a task can take as a parameter: [`Input`], [`State`], [`Output`], [`Outputs`],
/// `Option<Output<_>>` and [`TaskHandle`]; by reference `&mut Context<_>` and `&TaskHandle`, which come first.
#[diagnostic::on_unimplemented(
    message = "a task can't take a `{Self}`",
    label = "not a task's parameter",
    note = "a task takes `&mut Context<_>`, `&TaskHandle`, `Input<_>`, `State<_>`, `Output<task>`, \
            `Outputs<task>` or `Option<Output<task>>`"
)]
pub trait Extract: sealed::Sealed + Sized + Send + 'static {
    /// What it takes to make one.
    fn needs(needs: &mut Needs);

    /// Makes one for this call.
    fn extract(call: &mut Call) -> Result<Self, TaskError>;
}

mod sealed {
    use super::{Input, Output, Outputs, State, Task, TaskHandle};

    pub trait Sealed {}
    impl<T> Sealed for Input<T> {}
    impl<T> Sealed for State<T> {}
    impl<T: Task> Sealed for Output<T> {}
    impl<T: Task> Sealed for Option<Output<T>> {}
    impl<T: Task> Sealed for Outputs<T> {}
    impl Sealed for TaskHandle {}
}

impl<T: DeserializeOwned + Send + 'static> Extract for Input<T> {
    fn needs(needs: &mut Needs) {
        needs.uses.input = true;
        needs.input = Some(TypeInfo::of::<T>());
    }

    fn extract(call: &mut Call) -> Result<Input<T>, TaskError> {
        call.decode("its input", call.invocation.input.as_deref())
            .map(Input)
    }
}

impl<T: Send + Sync + 'static> Extract for State<T> {
    fn needs(needs: &mut Needs) {
        needs.state.push(TypeInfo::of::<T>());
    }

    fn extract(call: &mut Call) -> Result<State<T>, TaskError> {
        call.invocation.state.get().map(State).ok_or_else(|| {
            let message = format!(
                "task `{}` asks for the state {}, which nobody brought",
                call.task,
                type_name::<T>()
            );
            TaskError::fatal(TaskError::new("missing_state", message))
        })
    }
}

impl<T: Task> Extract for Output<T> {
    fn needs(needs: &mut Needs) {
        needs.read::<T>(Arity::One);
    }

    fn extract(call: &mut Call) -> Result<Output<T>, TaskError> {
        match call.single::<T>()? {
            Some(output) => Ok(Output(output)),
            None => {
                let ended = call.outputs_of::<T>().next().map(|output| output.ending);
                let ended = ended.map_or("isn't in this graph".to_owned(), |ending| {
                    format!("ended {ending}")
                });
                Err(call.missing(format!(
                    "task `{}` takes the output of `{}`, which {ended}: take `Option<Output<{}>>`",
                    call.task,
                    T::ID,
                    T::ID
                )))
            }
        }
    }
}

impl<T: Task> Extract for Option<Output<T>> {
    fn needs(needs: &mut Needs) {
        needs.read::<T>(Arity::AtMostOne);
    }

    fn extract(call: &mut Call) -> Result<Option<Output<T>>, TaskError> {
        Ok(call.single::<T>()?.map(Output))
    }
}

impl<T: Task> Extract for Outputs<T> {
    fn needs(needs: &mut Needs) {
        needs.read::<T>(Arity::Any);
    }

    fn extract(call: &mut Call) -> Result<Outputs<T>, TaskError> {
        let (completed, others): (Vec<_>, Vec<_>) = call
            .outputs_of::<T>()
            .partition(|output| output.ending == Ending::Completed);
        let completed = completed
            .into_iter()
            .map(|output| Ok((output.node.to_string(), call.decode_output::<T>(output)?)))
            .collect::<Result<Vec<_>, TaskError>>()?;
        Ok(Outputs::new(completed).with_others(
            others
                .into_iter()
                .map(|output| (&*output.node, output.ending)),
        ))
    }
}

impl Extract for TaskHandle {
    fn needs(needs: &mut Needs) {
        needs.handle();
    }

    fn extract(call: &mut Call) -> Result<TaskHandle, TaskError> {
        Ok(call.handle())
    }
}

/// What a function leaves behind that returned `output`.
pub fn produced<O: Serialize>(changes: Option<Changes>, output: &O) -> Result<Produced, TaskError> {
    let output = serde_json::to_string(output).map_err(|error| {
        let message = format!("the output can't be written as JSON: {error}");
        TaskError::fatal(TaskError::new(UNENCODABLE, message))
    })?;
    let changes = changes.filter(|changes| !changes.is_empty());
    Ok(Produced {
        output: (output != "null").then_some(output),
        changes,
    })
}
