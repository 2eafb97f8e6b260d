//! The workflow: one task per file, one that waits for the marker, and one that joins the results.
//! Files and settings are recorded as the tasks' inputs, so a process that continues needs neither
//! the list nor the options.

use std::path::Path;
use std::time::{Duration, SystemTime};

use abide::{
    Deferred, GraphOf, Input, Output, Outputs, State, TaskError, TaskHandle, task, workflow,
};
use serde::{Deserialize, Serialize};

use crate::listing::Found;
use crate::names::{path_of, shortened, text_of};
use crate::reading::{self, FileInfo};
use crate::report::{Report, Summary};
use crate::screen::Progress;

/// How often a file is read again after an error that may disappear.
const RETRIES: u32 = 5;

/// How often the marker is checked.
const MARKER_INTERVAL: Duration = Duration::from_millis(100);

/// A file to read, as listed. Paths are texts, see [`crate::names`].
#[derive(Serialize, Deserialize)]
pub(crate) struct Listed {
    root: String,
    /// The path below the root.
    path: String,
    /// Why it cannot be read at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// The result for a file. A file that cannot be read is a result like any other, not a failure.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Read(FileInfo),
    Unreadable(Unreadable),
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Unreadable {
    pub(crate) path: String,
    pub(crate) reason: String,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Marker {
    file: String,
    /// A time of the wall clock, not a duration, so that a crash does not make the wait longer.
    until: SystemTime,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MarkerSeen {
    Seen,
    TimedOut,
}

/// The report's path, and the facts in it that no task finds out.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) root: String,
    pub(crate) out: String,
    pub(crate) left_out: usize,
    pub(crate) links: usize,
    pub(crate) special: usize,
}

#[workflow(output = report)]
pub(crate) mod ingest {
    /// Reads one file. An error that may disappear fails the attempt, and the task is retried. An
    /// error that will not disappear, or that is still there at the last attempt, is the task's
    /// result.
    #[task(retries = 5, backoff = exponential("100ms", max = "5s"), jitter = 0.2)]
    pub(crate) async fn hash(
        handle: &TaskHandle,
        Input(listed): Input<Listed>,
        progress: State<Progress>,
    ) -> Result<Outcome, TaskError> {
        let read = match &listed.problem {
            Some(problem) => Err(problem.clone()),
            None => match read_file(handle, &listed).await {
                Ok(info) => Ok(info),
                Err(error) if reading::is_final(&error) => Err(error.to_string()),
                Err(error) if handle.attempt() > RETRIES => Err(format!("{error}, repeatedly")),
                Err(error) => return Err(error.into()),
            },
        };
        progress.file_done(&listed.root, read.as_ref().ok().map(|info| info.bytes));
        Ok(match read {
            Ok(info) => Outcome::Read(info),
            Err(reason) => Outcome::Unreadable(Unreadable {
                path: listed.path,
                reason,
            }),
        })
    }

    /// Waits for the marker, without a slot. It starts first, so that the files are read meanwhile.
    #[task(priority = 1)]
    pub(crate) async fn marker(
        handle: &TaskHandle,
        Input(marker): Input<Marker>,
    ) -> Result<MarkerSeen, TaskError> {
        let file = path_of(&marker.file);
        let seen = handle
            .defer_until_or(|| file.exists(), MARKER_INTERVAL, marker.until)
            .await?;
        Ok(match seen {
            Deferred::Met => MarkerSeen::Seen,
            Deferred::Expired => MarkerSeen::TimedOut,
        })
    }

    /// Writes the report. Retried for a long time, so that a full disk does not lose the results.
    #[task(retries = 50, backoff = exponential("200ms", max = "10s"))]
    pub(crate) async fn report(
        Input(settings): Input<Settings>,
        files: Outputs<hash>,
        marker: Output<marker>,
        progress: State<Progress>,
    ) -> Result<Summary, TaskError> {
        let report = Report::new(settings, files.into_iter().map(|(_, file)| file), *marker);
        let written = tokio::task::spawn_blocking(move || report.write()).await;
        let written = written.map_err(TaskError::fatal)?;
        if let Err(error) = &written {
            progress.note(format!("{error:#}; trying again"));
        }
        written
    }
}

/// Reads on a thread for blocking work.
async fn read_file(handle: &TaskHandle, listed: &Listed) -> std::io::Result<FileInfo> {
    let file = path_of(&listed.root).join(path_of(&listed.path));
    let (path, stop) = (listed.path.clone(), handle.cancellation_token());
    let read = move || reading::read(&file, &path, || stop.is_cancelled());
    tokio::task::spawn_blocking(read).await?
}

/// The graph of one execution: a node for each file.
pub(crate) fn graph(
    settings: Settings,
    files: Vec<Found>,
    marker: &Path,
    until: SystemTime,
) -> GraphOf<ingest::Workflow> {
    let mut graph = ingest::graph();
    for file in files {
        let listed = Listed {
            root: settings.root.clone(),
            path: text_of(&file.path),
            problem: file.problem,
        };
        graph = graph.node::<ingest::hash>(shortened(format!("file:{}", listed.path)), &listed);
    }
    let marker = Marker {
        file: text_of(marker),
        until,
    };
    graph
        .node::<ingest::marker>("marker", &marker)
        .node::<ingest::report>("report", &settings)
}
