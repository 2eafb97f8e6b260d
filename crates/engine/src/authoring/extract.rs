//! From a call to a function's parameters. The compiler finds one rule for each parameter type. Each
//! type also declares what it needs.

use serde::de::DeserializeOwned;

use super::call::Call;
use super::input::Input;
use super::needs::{Arity, Needs};
use super::output::{Output, Outputs};
use super::state::State;
use super::task::Task;
use super::task_error::TaskError;
use super::type_info::TypeInfo;
use crate::handle::TaskHandle;

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

impl Needs {
    /// Adds the needs of parameter type `P`.
    pub fn add<P: Extract>(&mut self) {
        P::needs(self);
    }
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
        needs.read(T::ID, Arity::One);
    }

    fn extract(call: &mut Call) -> Result<Output<T>, TaskError> {
        call.given.output(T::ID).map(Output)
    }
}

impl<T: Task> Extract for Option<Output<T>> {
    fn needs(needs: &mut Needs) {
        needs.read(T::ID, Arity::AtMostOne);
    }

    fn extract(call: &mut Call) -> Result<Option<Output<T>>, TaskError> {
        Ok(call.given.output_if_completed(T::ID)?.map(Output))
    }
}

impl<T: Task> Extract for Outputs<T> {
    fn needs(needs: &mut Needs) {
        needs.read(T::ID, Arity::Any);
    }

    fn extract(call: &mut Call) -> Result<Outputs<T>, TaskError> {
        let (completed, others) = call.given.outputs(T::ID)?;
        Ok(Outputs::new(completed).with_others(others))
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
