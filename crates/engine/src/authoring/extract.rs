//! From an invocation to a function's parameters. The compiler finds one rule for each parameter
//! type. Each type declares what it needs, so that graphs get their edges, the runtime reads only
//! what is used, and missing state is found at start-up.

use std::sync::Arc;

use abide_core::context::Changes;
use abide_core::graph::Uses;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::context::Context;
use super::erased::{Invocation, Produced, TypeInfo};
use super::given::Given;
use super::input::Input;
use super::output::{Output, Outputs};
use super::state::State;
use super::task::Task;
use super::task_error::TaskError;
use crate::handle::TaskHandle;

/// The error kind of a task whose output cannot be written as JSON.
pub const UNENCODABLE: &str = "unencodable";

/// What a task's parameters need, derived from their types.
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
    /// Needs nothing yet. Unlike `default`, this can be called without a trait in scope.
    pub fn none() -> Needs {
        Needs::default()
    }

    /// Adds the needs of parameter type `P`.
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

/// An invocation of one task, from which the parameters are taken one by one.
pub struct Call {
    given: Given,
    context: Option<Map<String, Value>>,
    handle: TaskHandle,
}

impl Call {
    pub(crate) fn new(task: Arc<str>, invocation: Invocation) -> Call {
        let Invocation {
            input,
            context,
            outputs,
            state,
            handle,
        } = invocation;
        Call {
            given: Given {
                task,
                input,
                outputs,
                state,
            },
            context,
            handle,
        }
    }

    /// The context with the changes of every ancestor. Only the first call gets it; a second call
    /// gets an empty context.
    pub fn context<T>(&mut self) -> Context<T> {
        Context::of_values(self.context.take().unwrap_or_default())
    }

    /// The handle for durable operations.
    pub fn handle(&self) -> TaskHandle {
        self.handle.clone()
    }
}

/// A type that a task can take as a parameter: [`Input`], [`State`], [`Output`], [`Outputs`],
/// `Option<Output<_>>` and [`TaskHandle`]. By reference, a task can take `&mut Context<_>` and
/// `&TaskHandle`, which come first.
#[diagnostic::on_unimplemented(
    message = "a task can't take a `{Self}`",
    label = "not a task's parameter",
    note = "a task takes `&mut Context<_>`, `&TaskHandle`, `Input<_>`, `State<_>`, `Output<task>`, \
            `Outputs<task>` or `Option<Output<task>>`"
)]
pub trait Extract: sealed::Sealed + Sized + Send + 'static {
    /// Adds what is needed to make a value.
    fn needs(needs: &mut Needs);

    /// Makes a value for this call.
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
        call.given.input().map(Input)
    }
}

impl<T: Send + Sync + 'static> Extract for State<T> {
    fn needs(needs: &mut Needs) {
        needs.state.push(TypeInfo::of::<T>());
    }

    fn extract(call: &mut Call) -> Result<State<T>, TaskError> {
        call.given.state().map(State)
    }
}

impl<T: Task> Extract for Output<T> {
    fn needs(needs: &mut Needs) {
        needs.read::<T>(Arity::One);
    }

    fn extract(call: &mut Call) -> Result<Output<T>, TaskError> {
        call.given.output::<T>().map(Output)
    }
}

impl<T: Task> Extract for Option<Output<T>> {
    fn needs(needs: &mut Needs) {
        needs.read::<T>(Arity::AtMostOne);
    }

    fn extract(call: &mut Call) -> Result<Option<Output<T>>, TaskError> {
        Ok(call.given.output_if_completed::<T>()?.map(Output))
    }
}

impl<T: Task> Extract for Outputs<T> {
    fn needs(needs: &mut Needs) {
        needs.read::<T>(Arity::Any);
    }

    fn extract(call: &mut Call) -> Result<Outputs<T>, TaskError> {
        call.given.outputs()
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

/// What a function that returned `output` produced.
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
