//! What a builder's mistakes are told: the culprit, and the nearest valid name. The graph's own
//! mistakes (duplicates, unknown names, cycles) are tested where graphs are checked.

use abide::{
    AuthoringError, Input, NodesOnly, Output, Task, TaskBuilder, TaskError, TaskHandle, Workflow,
    WorkflowBuilder, trigger,
};

fn task(id: &str) -> TaskBuilder {
    TaskBuilder::new(id, async || Ok::<u32, TaskError>(1))
}

fn refusal(workflow: WorkflowBuilder) -> String {
    workflow.build().expect_err("refused").to_string()
}

#[test]
fn mistakes_of_the_graph_name_workflow_task_and_nearest_name() {
    let workflow = || WorkflowBuilder::new("w").task(task("hash"));
    assert_eq!(
        refusal(WorkflowBuilder::new("w")),
        "workflow `w`: the graph has no nodes"
    );
    assert_eq!(
        refusal(workflow().task(task("hash"))),
        "workflow `w`: node `hash` is declared twice"
    );
    assert_eq!(
        refusal(workflow().task(task("a").after("a"))),
        "workflow `w`: node `a` depends on itself"
    );
    assert_eq!(
        refusal(
            workflow()
                .task(task("a").after("b"))
                .task(task("b").after("a"))
        ),
        "workflow `w`: the graph has a cycle: a -> b -> a"
    );
    assert_eq!(
        refusal(workflow().task(task("a").after("hash").trigger(trigger::failed("hush")))),
        "workflow `w`: the trigger of node `a` names `hush`, which is not among its dependencies; did you mean `hash`?"
    );
    assert_eq!(
        refusal(workflow().output("hashes")),
        "workflow `w`: the output is node `hashes`, which isn't declared; did you mean `hash`?"
    );
    assert_eq!(
        refusal(workflow().task(task("a").retries(1).jitter(2.0))),
        "workflow `w`: the retry policy of task `a` is wrong: jitter is 2; it must be between 0 and 1"
    );
}

#[test]
fn names_are_checked() {
    assert_eq!(
        refusal(WorkflowBuilder::new("").task(task("a"))),
        "workflow name is empty"
    );
    assert_eq!(
        refusal(WorkflowBuilder::new("w").version("1\n").task(task("a"))),
        r"workflow version `1\n` holds the control character U+000A"
    );
    assert_eq!(
        refusal(WorkflowBuilder::new("w").tag("").task(task("a"))),
        "tag is empty"
    );
}

#[test]
fn a_durable_function_has_one_task() {
    assert_eq!(
        refusal(WorkflowBuilder::function(task("checkout")).task(task("ship"))),
        "workflow `checkout` is a durable function, so it has one task; `ship` is another"
    );
}

macro_rules! task_type {
    ($name:ident, $id:literal, $input:ty => $output:ty, $builder:expr) => {
        struct $name;

        impl Task for $name {
            const ID: &'static str = $id;
            type Input = $input;
            type Output = $output;
            type Error = TaskError;

            fn builder() -> TaskBuilder {
                $builder
            }
        }
    };
}

task_type!(Sound, "sound", () => u32, task("sound"));
task_type!(OtherId, "one", () => u32, task("two"));
task_type!(OtherOutput, "out", () => String, task("out"));
task_type!(OtherInput, "in", String => u32, TaskBuilder::new("in", async |Input(n): Input<u32>| Ok::<u32, TaskError>(n)));

#[test]
fn types_said_of_a_task_are_those_of_its_function() {
    let add = |workflow: WorkflowBuilder| workflow.build().map(drop);
    add(WorkflowBuilder::new("w").add::<Sound>()).expect("sound");
    assert_eq!(
        refusal(WorkflowBuilder::new("w").add::<OtherId>()),
        "the builder of `one` calls it `two`"
    );
    assert_eq!(
        refusal(WorkflowBuilder::new("w").add::<OtherOutput>()),
        "the output of `out` is `alloc::string::String`, but its function says `u32`"
    );
    assert_eq!(
        refusal(WorkflowBuilder::new("w").add::<OtherInput>()),
        "the input of `in` is `alloc::string::String`, but its function says `u32`"
    );
}

macro_rules! workflow_type {
    ($name:ident, $input:ty => $output:ty) => {
        struct $name;

        impl Workflow for $name {
            const NAME: &'static str = "w";
            type Input = $input;
            type Output = $output;
            type Error = TaskError;

            fn builder() -> WorkflowBuilder {
                let read = TaskBuilder::new("read", async |Input(n): Input<u32>| {
                    Ok::<String, TaskError>(n.to_string())
                });
                WorkflowBuilder::new("w").task(read).output("read")
            }
        }
    };
}

workflow_type!(Right, u32 => String);
workflow_type!(ByGraphs, NodesOnly => String);
workflow_type!(WrongInput, u64 => String);
workflow_type!(WrongOutput, u32 => ());

#[test]
fn types_said_of_a_workflow_are_those_of_its_tasks() {
    Right::spec().expect("sound");
    ByGraphs::spec().expect("a workflow may insist on graphs");
    let refusal = |spec: Result<_, AuthoringError>| match spec {
        Err(error) => error.to_string(),
        Ok(_) => panic!("accepted"),
    };
    assert_eq!(
        refusal(WrongInput::spec().map(drop)),
        "the input of `w` is `u64`, but its function says `u32`"
    );
    assert_eq!(
        refusal(WrongOutput::spec().map(drop)),
        "the output of `w` is `()`, but its function says `alloc::string::String`"
    );
}

async fn by_item(
    context: &mut abide::Context,
    handle: &TaskHandle,
    Input(n): Input<u32>,
    sound: Option<Output<Sound>>,
) -> Result<u32, TaskError> {
    let _ = (handle, sound);
    context.insert("n", n)?;
    Ok(n)
}

#[test]
fn functions_are_taken_as_closures_are() {
    let spec = WorkflowBuilder::new("w")
        .add::<Sound>()
        .task(TaskBuilder::new("item", by_item))
        .build()
        .expect("sound");
    let uses = spec.tasks[1].spec().uses;
    assert!(uses.input && uses.context && uses.handle && uses.outputs);
    assert_eq!(spec.graph.dependencies(2), [1]);
}
