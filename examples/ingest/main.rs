//! Reads every file under a directory, as one durable execution with a task per file. If you kill
//! the program at any moment and start it again, it continues where it stopped.
//!
//! ```text
//! cargo run --release -p abide-examples --example ingest -- /usr/share
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

/// The number of slots. Reading a small file takes less time than recording the result, and results
/// that are recorded at the same time share a commit. So run more tasks than there are cores, but
/// not so many that open files or buffers run out.
const CONCURRENT_TASKS: usize = 256;

/// Threads that read.
const READING_THREADS: usize = 16;

/// How long running tasks may continue after Ctrl-C.
const SHUTDOWN: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(READING_THREADS)
        .build();
    let runtime = runtime.expect("threads can be started");
    let ended = runtime.block_on(ingest(&args));
    // Does not wait for threads that still read: their results are not needed any more.
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
    // Writes SQLite's log back into the database file.
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
        // Reading a file cannot kill the process, so no file is the cause of a crash.
        .max_crashes(u32::MAX)
        .shutdown_deadline(SHUTDOWN)
        .start()
        .await;
    Ok(engine?)
}

/// Starts the execution, or finds the open one.
async fn start(engine: &Engine, job: &mut Job) -> Result<Run<Summary>, EngineError> {
    match job.graph.take() {
        None => {
            engine
                .find::<workflow::ingest::Workflow>(&job.instance)
                .await
        }
        Some(graph) => {
            let start = engine.start_graph(&job.instance, graph);
            start.if_exists(IfExists::StartAnew).await
        }
    }
}

/// Other open executions of this database continue too, as long as this program runs.
async fn tell_others(engine: &Engine, own: ExecutionId) -> Result<(), EngineError> {
    let open = ExecutionFilter {
        statuses: vec![ExecutionStatus::Pending, ExecutionStatus::Running],
        workflow: Some(workflow::ingest::Workflow::NAME.to_owned()),
        ..ExecutionFilter::default()
    };
    for other in engine.list(&open, None, 10).await?.items {
        if other.id != own {
            println!("Going on meanwhile, left open before: {}.", other.instance);
        }
    }
    Ok(())
}
