//! The execution to run: a new one with a list of files, or one that is still open, with the list
//! with which it was started.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use abide::{Engine, EngineError, ExecutionView, GraphOf, MAX_NODES, TaskFilter, TaskStatus};
use indicatif::HumanCount;

use crate::args::Args;
use crate::failure::Failure;
use crate::listing::{self, Listing};
use crate::names::{shortened, text_of};
use crate::report;
use crate::workflow::{self, Settings, ingest};

/// The tasks of an execution that do not belong to a file: the marker and the report.
const OTHER_TASKS: usize = 2;

/// The most files of an execution.
const MAX_FILES: usize = MAX_NODES - OTHER_TASKS;

/// The files that SQLite and the engine create beside a database.
const BESIDE: [&str; 7] = [
    "", "-wal", "-shm", "-journal", "-turn", "-write", "-workers",
];

pub(crate) struct Job {
    /// The directory, without links and dots. Two runs with the same directory are the same.
    pub(crate) root: PathBuf,
    pub(crate) instance: String,
    /// None: the instance has an open execution.
    pub(crate) graph: Option<GraphOf<ingest::Workflow>>,
    pub(crate) files: usize,
    pub(crate) done: usize,
    /// Messages for the user.
    pub(crate) told: String,
}

/// Decides what to run.
pub(crate) async fn find(args: &Args) -> Result<Job, Failure> {
    let root = directory(&args.dir)?;
    let instance = shortened(text_of(&root));
    match open_execution(&args.db, &instance).await? {
        Some((view, done)) => Ok(resumed(args, root, instance, &view, done)),
        None => new(args, root, instance),
    }
}

fn directory(given: &Path) -> Result<PathBuf, Failure> {
    let root = given.canonicalize();
    let root = root.map_err(|error| Failure::usage(given, error))?;
    match root.is_dir() {
        true => Ok(root),
        false => Err(Failure::usage(given, "is not a directory")),
    }
}

/// The instance's execution if it has not ended, and the number of its files that are done.
async fn open_execution(
    db: &str,
    instance: &str,
) -> Result<Option<(ExecutionView, usize)>, EngineError> {
    // A file that does not exist is created later, once there is something to do.
    if !is_url(db) && !Path::new(db).exists() {
        return Ok(None);
    }
    let engine = Engine::connect(url(db)).await?;
    let run = match engine.find::<ingest::Workflow>(instance).await {
        Err(EngineError::UnknownInstance(_)) => return Ok(None),
        run => run?,
    };
    let Some((view, rollup)) = engine.store().summary(run.id()).await? else {
        return Ok(None);
    };
    if view.execution.status.is_terminal() {
        return Ok(None);
    }
    let completed = rollup.count(|group| group.status == TaskStatus::Completed);
    let others = TaskFilter {
        statuses: vec![TaskStatus::Completed],
        after: files(&view),
        ..TaskFilter::default()
    };
    let others = engine.tasks(run.id(), &others, None, 2).await?;
    let done = completed as usize - others.items.len();
    Ok(Some((view, done)))
}

/// How many tasks belong to a file: they are the first ones.
fn files(view: &ExecutionView) -> u32 {
    view.tasks.saturating_sub(OTHER_TASKS as u32)
}

fn resumed(args: &Args, root: PathBuf, instance: String, view: &ExecutionView, done: usize) -> Job {
    let files = files(view) as usize;
    let mut told = format!(
        "{}: resuming execution {} of {}, with {} of {} files done",
        root.display(),
        view.execution.id,
        args.db,
        HumanCount(done as u64),
        HumanCount(files as u64),
    );
    let recorded = args.recorded();
    if !recorded.is_empty() {
        let what = recorded.join(", ");
        told += &format!("\n({what}: as recorded when it was started)");
    }
    Job {
        root,
        instance,
        graph: None,
        files,
        done,
        told,
    }
}

fn new(args: &Args, root: PathBuf, instance: String) -> Result<Job, Failure> {
    let out = args.out();
    let made = fs::create_dir_all(&out).and_then(|()| out.canonicalize());
    let out = made.map_err(|error| Failure::usage(&out, error))?;
    let marker = std::path::absolute(args.marker());
    let marker = marker.map_err(|error| Failure::usage(&args.marker(), error))?;
    let own = own_files(&args.db, &out);
    let listing = listing::list(&root, args.limit.unwrap_or(MAX_FILES), &own);
    let listing = listing.map_err(|error| Failure::usage(&root, error))?;
    if args.limit.is_none() && listing.left_out > 0 {
        return Err(too_many(&root, &listing));
    }
    let files = listing.files.len();
    let mut told = format!("{}: {} files", root.display(), HumanCount(files as u64));
    if !args.marker_timeout().is_zero() {
        let (marker, timeout) = (args.marker(), args.marker_timeout());
        let marker = marker.display();
        told += &format!(
            "\nThe report is written once {marker} exists, {timeout:?} after the start at the latest."
        );
    }
    let settings = Settings {
        root: text_of(&root),
        out: text_of(&out),
        left_out: listing.left_out,
        links: listing.links,
        special: listing.special,
    };
    let until = SystemTime::now() + args.marker_timeout();
    let graph = workflow::graph(settings, listing.files, &marker, until);
    Ok(Job {
        root,
        instance,
        graph: Some(graph),
        files,
        done: 0,
        told,
    })
}

fn too_many(root: &Path, listing: &Listing) -> Failure {
    let files = listing.files.len() + listing.left_out;
    let why = format!(
        "{} files, and an execution has at most {}: a task each. Take its subdirectories one by \
         one, or the first files only, with --limit {MAX_FILES}",
        HumanCount(files as u64),
        HumanCount(MAX_FILES as u64),
    );
    Failure::usage(root, why)
}

/// The files and directories that this program writes. Those that do not exist yet cannot be listed
/// either.
fn own_files(db: &str, out: &Path) -> HashSet<PathBuf> {
    let beside = BESIDE.map(|suffix| PathBuf::from(format!("{db}{suffix}")));
    let all = beside.into_iter().chain(report::own_files(out));
    all.filter_map(|file| file.canonicalize().ok()).collect()
}

/// The address of the database. Its name may contain any character.
pub(crate) fn url(db: &str) -> String {
    match is_url(db) {
        true => db.to_owned(),
        false => format!("sqlite:{db}"),
    }
}

fn is_url(db: &str) -> bool {
    db.contains("://")
}
