//! Every form of the attributes compiles and means what it says.

#[path = "authoring_forms/names.rs"]
mod names;

use std::path::PathBuf;
use std::time::Duration;

use abide::{
    Backoff, Context, ContextOp, Input, NodesOnly, Output, Outputs, State, Task, TaskBuilder,
    TaskError, TaskHandle, Trigger, Workflow, WorkflowBuilder, task, workflow,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Debug)]
struct Disk;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct FileInfo {
    bytes: u64,
}

#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct IoFailure {
    path: PathBuf,
}

impl std::fmt::Display for IoFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} can't be read", self.path.display())
    }
}

impl std::error::Error for IoFailure {}

type Report = Vec<(String, u64)>;

#[workflow(output = report, version = "7", priority = -3, deadline = "1d", tags = ["nightly", "files"])]
mod ingest {
    #[task(retries = 3, backoff = exponential("100ms", max = "5s"), jitter = 0.2, retry_if = ["IoFailure"])]
    pub(crate) async fn hash(
        Input(path): Input<PathBuf>,
        disk: State<Disk>,
    ) -> Result<FileInfo, IoFailure> {
        match path.exists() {
            true => Ok(FileInfo {
                bytes: format!("{disk:?}").len() as u64,
            }),
            false => Err(IoFailure { path }),
        }
    }

    #[task(timeout = "1m30s", priority = 5)]
    pub(crate) async fn marker(
        context: &mut Context<Value>,
        handle: &TaskHandle,
    ) -> Result<(), TaskError> {
        let _ = handle;
        context.insert("marker", true)
    }

    #[task(
        id = "the-report",
        dependencies = [hash, "marker"],
        trigger = all(any(success(marker), skipped("marker")), none(context("mode") == "dry", context("n") not exists)),
    )]
    pub(crate) async fn report(
        files: Outputs<hash>,
        seen: Option<Output<marker>>,
    ) -> Result<Report, TaskError> {
        let _ = seen;
        Ok(files
            .iter()
            .map(|(node, file)| (node.to_owned(), file.bytes))
            .collect())
    }
}

#[test]
fn a_module_says_what_a_builder_says() {
    let spec = ingest::Workflow::spec().expect("a sound workflow");
    assert_eq!((spec.name.as_str(), spec.version.as_str()), ("ingest", "7"));
    assert_eq!(
        (spec.priority, spec.deadline_us),
        (-3, Some(86_400_000_000))
    );
    assert_eq!(spec.tags, ["nightly", "files"]);
    assert_eq!(spec.output.as_deref(), Some("the-report"));
    assert_eq!(<ingest::hash as Task>::ID, "hash");

    let by_hand = WorkflowBuilder::new("ingest")
        .version("7")
        .task(
            TaskBuilder::new(
                "hash",
                async |Input(path): Input<PathBuf>, _: State<Disk>| {
                    Err::<FileInfo, _>(IoFailure { path })
                },
            )
            .retries(3)
            .backoff(Backoff::exponential(Duration::from_millis(100)).max(Duration::from_secs(5)))
            .jitter(0.2)
            .retry_if(["IoFailure"]),
        )
        .task(
            TaskBuilder::new(
                "marker",
                async |context: &mut Context<Value>, _: &TaskHandle| context.insert("marker", true),
            )
            .timeout(Duration::from_secs(90))
            .priority(5),
        )
        .task(
            TaskBuilder::new(
                "the-report",
                async |_: Outputs<ingest::hash>, _: Option<Output<ingest::marker>>| {
                    Ok::<Report, TaskError>(Vec::new())
                },
            )
            .trigger(Trigger::All(vec![
                Trigger::Any(vec![
                    Trigger::Success("marker".into()),
                    Trigger::Skipped("marker".into()),
                ]),
                Trigger::None(vec![
                    Trigger::Context {
                        key: "mode".into(),
                        op: ContextOp::Eq,
                        value: "dry".into(),
                    },
                    Trigger::Context {
                        key: "n".into(),
                        op: ContextOp::NotExists,
                        value: Value::Null,
                    },
                ]),
            ])),
        )
        .output("the-report")
        .build()
        .expect("a sound workflow");
    assert_eq!(spec.graph.to_json(), by_hand.graph.to_json());
}

#[task(id = "simple")]
async fn simple(context: &mut Context<Value>) -> Result<(), TaskError> {
    context.insert("simple", 1)
}

#[task(id = "waiter", dependencies = ["simple"])]
async fn waiter(context: &mut Context<Value>, handle: &TaskHandle) -> Result<(), TaskError> {
    let _ = handle;
    context.insert("waiter", 1)
}

#[test]
fn the_seeds_two_signatures_are_told_apart_by_type() {
    let spec = WorkflowBuilder::new("seeds")
        .add::<simple>()
        .add::<waiter>()
        .build()
        .expect("sound");
    let uses: Vec<_> = spec
        .graph
        .tasks()
        .iter()
        .map(|task| (task.uses.context, task.uses.handle))
        .collect();
    assert_eq!(uses, [(true, false), (true, true)]);
    assert_eq!(spec.graph.dependencies(2), [1]);
}

mod shop {
    use super::*;

    #[workflow(retries = 2, timeout = "5s", version = "3", tags = ["shop"])]
    pub(super) async fn checkout(handle: &TaskHandle, order: u32) -> Result<String, TaskError> {
        let _ = handle;
        Ok(order.to_string())
    }
}

#[test]
fn a_durable_function_is_a_workflow_of_one_task() {
    let spec = <shop::checkout as Workflow>::spec().expect("sound");
    assert_eq!(
        (spec.name.as_str(), spec.version.as_str()),
        ("checkout", "3")
    );
    assert_eq!(spec.kind, abide::authoring::WorkflowKind::Function);
    assert_eq!(spec.tasks.len(), 1);
    assert_eq!(spec.graph.tasks()[0].retry.retries, 2);
}

type Ctx = Context<Value>;
type Checked<T> = Result<T, std::io::Error>;

#[task]
async fn aliases(ctx: &mut Ctx) -> Checked<u8> {
    Ok(ctx.len() as u8)
}

#[task]
async fn many(
    context: &mut Context<u32>,
    (a, b): (u8, String),
    first: State<Disk>,
    second: State<String>,
    handle: TaskHandle,
) -> std::io::Result<()> {
    let _ = (context, a, b, first, second, handle);
    Ok(())
}

#[test]
fn aliases_patterns_and_order_of_parameters_do_not_matter() {
    let spec = WorkflowBuilder::new("forms")
        .add::<aliases>()
        .add::<many>()
        .build()
        .expect("sound");
    assert!(spec.tasks[1].spec().uses.handle);
    assert_eq!(spec.tasks[1].required_state().len(), 2);
    let _: <many as Task>::Input = (1, String::new());
    let _: <aliases as Task>::Error = std::io::Error::other("x");
}

#[workflow(name = "two-inputs")]
mod mixed {
    #[task]
    async fn a(n: u32) -> Result<(), TaskError> {
        let _ = n;
        Ok(())
    }

    #[cfg(not(any()))]
    #[task]
    async fn b(s: String) -> Result<(), TaskError> {
        let _ = s;
        Ok(())
    }

    #[cfg(any())]
    #[task]
    async fn a(absent: Nowhere) -> Result<(), TaskError> {}
}

#[test]
fn a_workflow_with_several_inputs_is_started_by_graphs_only() {
    fn input_of<W: Workflow<Input = NodesOnly>>() -> Option<abide::authoring::TypeInfo> {
        W::spec().expect("sound").input
    }
    assert_eq!(input_of::<mixed::Workflow>(), None);
}

mod nested {
    use super::*;

    /// More private than the task that speaks of it.
    #[derive(Serialize, Deserialize)]
    struct Hidden;

    #[workflow(output = hide)]
    mod hiding {
        #[task]
        pub(crate) async fn hide() -> Result<Hidden, TaskError> {
            Ok(Hidden)
        }
    }

    #[test]
    fn a_task_may_speak_of_types_that_only_the_module_s_surroundings_see() {
        let _: fn() -> <hiding::Workflow as Workflow>::Output = || Hidden;
        assert_eq!(<hiding::hide as Task>::ID, "hide");
    }
}
