//! Reads every file under a directory, as one durable execution with a task per file. Killed at any
//! moment and started again, it goes on where it was.
//!
//! ```text
//! cargo run --release --example ingest -- /usr/share
//! ```

mod args;
mod failure;
mod job;
mod listing;
mod names;
mod reading;
mod report;
mod screen;
mod workflow;

use std::process::ExitCode;
use std::time::Duration;

use abide::{
    Engine, EngineError, ExecutionFilter, ExecutionId, ExecutionStatus, IfExists, Run, Workflow,
};
use clap::Parser;

use args::Args;
use failure::Failure;
use job::Job;
use names::text_of;
use report::Summary;
use screen::Progress;

/// Slots. Reading a small file takes less time than recording that it was read, and what many
/// tasks record at the same time shares a commit; so more tasks at a time than there are cores,
/// and not so many that open files or buffers add up.
const CONCURRENT_TASKS: usize = 256;

/// Threads that read.
const READING_THREADS: usize = 16;

/// How long Ctrl-C lets running tasks go on.
const SHUTDOWN: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(READING_THREADS)
        .build();
    let runtime = runtime.expect("threads can be started");
    let ended = runtime.block_on(ingest(&args));
    // Without waiting for threads that read: what they find was given up.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

async fn ingest(args: &Args) -> Result<(), Failure> {
    let mut job = job::find(args).await?;
    println!("{}", job.told);
    let progress = Progress::new(text_of(&job.root), job.files, job.done);
    let engine = engine(args, progress.clone()).await?;
    let run = start(&engine, &mut job).await?;
    if run.is_new() {
        println!("New execution {} in {}.", run.id(), args.db);
    }
    tell_others(&engine, run.id()).await?;
    let ended = tokio::select! {
        never = progress.show() => match never {},
        ended = run.result() => ended,
        _ = tokio::signal::ctrl_c() => {
            engine.shutdown().await;
            engine.store().close().await;
            return Err(Failure::interrupted());
        }
    };
    engine.shutdown().await;
    let view = run.status().await?;
    // What SQLite keeps beside the database goes back into it.
    engine.store().close().await;
    let look = screen::commands(&args.db, run.id());
    let summary = ended.map_err(|error| Failure::new(format!("{error}\n\n{look}")))?;
    let taken = screen::taken(&view);
    println!("\n{summary}\n{} {taken}\n\n{look}", summary.report);
    Ok(())
}

async fn engine(args: &Args, progress: Progress) -> Result<Engine, Failure> {
    let engine = Engine::builder(job::url(&args.db))
        .register::<workflow::ingest::Workflow>()
        .state(progress)
        .max_concurrent_tasks(CONCURRENT_TASKS)
        // Reading can't take the process down, so a crash is no file's fault.
        .max_crashes(u32::MAX)
        .shutdown_deadline(SHUTDOWN)
        .start()
        .await;
    Ok(engine?)
}

/// Starts the execution, or finds the one that was left open.
async fn start(engine: &Engine, job: &mut Job) -> Result<Run<Summary>, EngineError> {
    match job.graph.take() {
        None => {
            engine
                .run::<workflow::ingest::Workflow>(&job.instance)
                .await
        }
        Some(graph) => {
            let start = engine.start_graph(&job.instance, graph);
            start.if_exists(IfExists::StartAnew).await
        }
    }
}

/// What else is open in this database goes on as well, as long as this runs.
async fn tell_others(engine: &Engine, own: ExecutionId) -> Result<(), EngineError> {
    let open = ExecutionFilter {
        statuses: vec![ExecutionStatus::Pending, ExecutionStatus::Running],
        workflow: Some(workflow::ingest::Workflow::NAME.to_owned()),
        ..ExecutionFilter::default()
    };
    for other in engine.list(open, None, 10).await? {
        if other.execution.id != own {
            println!(
                "Going on meanwhile, left open before: {}.",
                other.execution.instance
            );
        }
    }
    Ok(())
}
