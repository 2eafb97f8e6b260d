//! Tasks, parameters and types may be called like anything that the attributes write themselves.

use abide::{
    Context, Engine, Output, State, Task, TaskError, TaskHandle, Workflow, task, workflow,
};
use serde_json::Value;

/// A chain of tasks called like what stands in expansions, or like crates and types that expansions
/// name; each counts one on.
#[workflow(output = r#type)]
mod names {
    #[task]
    async fn call(needs: u32) -> Result<u32, TaskError> {
        Ok(needs + 1)
    }

    #[task]
    async fn needs(call: Output<call>, error: u32) -> Result<u32, TaskError> {
        Ok(*call + error)
    }

    #[task]
    async fn result(
        call: &mut Context<Value>,
        output: Output<needs>,
        result: &TaskHandle,
    ) -> Result<u32, TaskError> {
        call.insert("result", result.node_id())?;
        Ok(*output + 1)
    }

    #[task]
    async fn output(needs: State<u32>, output: Output<result>) -> Checked<u32> {
        Ok(*output + *needs)
    }

    #[task]
    async fn error(error: Option<Output<output>>) -> Result<u32, std::num::ParseIntError> {
        Ok(error.map_or(0, |error| *error) + "1".parse::<u32>()?)
    }

    #[task(dependencies = [error])]
    async fn parameter_0(parameter_1: Output<error>) -> Result<u32, TaskError> {
        Ok(*parameter_1 + 1)
    }

    #[task(trigger = success(parameter_0))]
    async fn workflow(task: Output<parameter_0>) -> Result<u32, TaskError> {
        Ok(*task + 1)
    }

    #[task]
    async fn task(workflow: Output<workflow>) -> Result<u32, TaskError> {
        Ok(*workflow + 1)
    }

    #[task]
    async fn builder(task: Output<task>) -> Result<u32, TaskError> {
        Ok(*task + 1)
    }

    #[task]
    async fn convert(builder: Output<builder>) -> Result<u32, TaskError> {
        Ok(*builder + 1)
    }

    #[task]
    async fn abide(convert: Output<convert>) -> Result<u32, TaskError> {
        Ok(*convert + 1)
    }

    #[task]
    async fn core(abide: Output<abide>) -> Result<u32, TaskError> {
        Ok(*abide + 1)
    }

    #[task]
    async fn str(core: Output<core>) -> Result<u32, TaskError> {
        Ok(*core + 1)
    }

    #[task]
    async fn r#type(str: Output<str>) -> Result<u32, TaskError> {
        Ok(*str + 1)
    }
}

type Checked<T> = Result<T, TaskError>;

#[tokio::test]
async fn tasks_may_be_called_like_what_the_attributes_write() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let url = format!("sqlite:{}", home.path().join("app.db").display());
    let engine = Engine::builder(url).state(1_u32);
    let engine = engine.register::<names::Workflow>().start().await;
    let engine = engine.expect("starts");
    let run = engine.start::<names::Workflow>("names", &1).await;
    let run = run.expect("a durable start");
    assert_eq!(run.result().await.expect("completes"), 15);
    engine.shutdown().await;
}

/// What a macro of the user's writes has names of its own.
macro_rules! doubling {
    ($($name:ident($input:ty) fails with $error:ty),*) => {$(
        #[task(retries = 1)]
        pub(super) async fn $name(
            context: &mut Context<Value>,
            input: $input,
            _handle: TaskHandle,
        ) -> Result<$input, $error> {
            context.insert("doubled", input).ok();
            Ok(2 * input)
        }
    )*};
}

mod written {
    use super::*;

    doubling!(small(u8) fails with TaskError, call(u64) fails with std::num::ParseIntError);

    #[workflow]
    pub(super) async fn result(handle: &TaskHandle, call: u32) -> Result<u32, TaskError> {
        let _ = handle;
        Ok(call)
    }
}

#[tokio::test]
async fn a_macro_may_write_tasks() {
    let _: <written::small as Task>::Input = 1_u8;
    let _: <written::call as Task>::Output = 1_u64;
    for task in [
        <written::small as Task>::builder(),
        <written::call as Task>::builder(),
    ] {
        let workflow = abide::WorkflowBuilder::new("written").task(task).build();
        let uses = workflow.expect("sound").tasks[0].spec().uses;
        assert!(uses.context && uses.input && uses.handle);
    }
    let spec = <written::result as Workflow>::spec().expect("sound");
    assert_eq!(spec.name, "result");
}

/// Nothing that a prelude or this crate brings means here what it means elsewhere.
#[expect(dead_code, reason = "it is enough that they are in the way")]
mod shadowed {
    pub(super) struct Option;
    pub(super) struct Some;
    pub(super) struct None;
    pub(super) struct Result;
    pub(super) struct Ok;
    pub(super) struct Err;
    pub(super) struct Box;
    pub(super) struct String;
    pub(super) struct Vec;
    pub(super) struct Input;
    pub(super) struct Output;
    pub(super) struct Outputs;
    pub(super) struct Context;
    pub(super) struct State;
    pub(super) struct Task;
    pub(super) struct TaskBuilder;
    pub(super) struct TaskError;
    pub(super) struct TaskHandle;
    pub(super) struct Trigger;
    pub(super) struct Of;
    pub(super) trait Default {}
    pub(super) trait From {}
    pub(super) trait Into {}
    pub(super) mod std {}
    pub(super) mod core {}
    pub(super) mod abide {}
    pub(super) mod serde_json {}

    /// Methods of every type there is.
    pub(super) trait Everything: Sized {
        fn how(&self) {}
        fn convert(self) {}
        fn add(&self) {}
        fn context(&self) {}
        fn after(self) {}
        fn trigger(self) {}
        fn retries(self) {}
    }

    impl<T> Everything for T {}

    #[::abide::workflow(output = last, tags = ["shadowed"], deadline = "1h")]
    pub(super) mod flow {
        #[::abide::task(
            retries = 1,
            backoff = fixed("1s"),
            jitter = 0.5,
            retry_if = ["broken"],
            timeout = "1s",
        )]
        pub(crate) async fn first(
            seen: &mut ::abide::Context<::serde_json::Value>,
            number: ::abide::Input<u32>,
        ) -> ::core::result::Result<u32, ::abide::TaskError> {
            seen.insert("seen", true)?;
            ::core::result::Result::Ok(number.0)
        }

        #[::abide::task(trigger = any(success(first), context("seen") == true))]
        pub(crate) async fn last(
            first: ::core::option::Option<::abide::Output<first>>,
        ) -> ::core::result::Result<u32, ::std::fmt::Error> {
            first.map(|first| *first).ok_or(::std::fmt::Error)
        }
    }

    #[::abide::workflow(priority = 1)]
    pub(super) async fn alone(
        number: ::abide::Input<u32>,
    ) -> ::core::result::Result<u32, ::abide::TaskError> {
        ::core::result::Result::Ok(number.0)
    }
}

#[test]
fn names_of_the_prelude_and_of_the_crate_may_be_taken() {
    let spec = <shadowed::flow::Workflow as Workflow>::spec().expect("sound");
    assert_eq!(
        (spec.tasks.len(), spec.output.as_deref()),
        (2, Some("last"))
    );
    let spec = <shadowed::alone as Workflow>::spec().expect("sound");
    assert_eq!(spec.name, "alone");
}

/// A type of the user's that is called like one of the engine's is an input if `Input` says so.
mod own {
    use super::*;

    #[derive(serde::Serialize, serde::Deserialize)]
    pub(super) struct Context {
        pub(super) order: u32,
    }

    #[derive(serde::Serialize, serde::Deserialize)]
    pub(super) struct State<T>(pub(super) T);

    #[task]
    pub(super) async fn context(input: abide::Input<Context>) -> Result<u32, TaskError> {
        Ok(input.0.order)
    }

    #[task]
    pub(super) async fn state(input: abide::Input<State<u32>>) -> Result<u32, TaskError> {
        Ok(input.0.0)
    }
}

#[tokio::test]
async fn an_input_may_be_called_like_a_type_of_the_engine() {
    let context = own::context(abide::Input(own::Context { order: 7 })).await;
    assert_eq!(context.expect("succeeds"), 7);
    let state = own::state(abide::Input(own::State(8))).await;
    assert_eq!(state.expect("succeeds"), 8);
    let _: <own::context as Task>::Input = own::Context { order: 7 };
}
