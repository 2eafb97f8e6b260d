//! The output: the progress while the execution runs, and a summary at its end. Progress goes to
//! stderr, results to stdout.

use std::convert::Infallible;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use abide::{ExecutionId, ExecutionView};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

/// How often the bar moves.
const TICK: Duration = Duration::from_millis(100);

/// How often a line is printed without a terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// The progress of an execution. Tasks count, and the screen reads. Clones are the same.
#[derive(Clone)]
pub(crate) struct Progress(Arc<Counts>);

struct Counts {
    /// Open tasks of other directories run here too, and are not counted.
    root: String,
    files: u64,
    done: AtomicU64,
    bytes: AtomicU64,
    unreadable: AtomicU64,
    note: Mutex<Option<String>>,
}

impl Progress {
    pub(crate) fn new(root: String, files: usize, done: usize) -> Progress {
        Progress(Arc::new(Counts {
            root,
            files: files as u64,
            done: AtomicU64::new(done as u64),
            bytes: AtomicU64::new(0),
            unreadable: AtomicU64::new(0),
            note: Mutex::default(),
        }))
    }

    /// Counts a file. A file without bytes cannot be read.
    pub(crate) fn file_done(&self, root: &str, bytes: Option<u64>) {
        if root != self.0.root {
            return;
        }
        self.0.done.fetch_add(1, Ordering::Relaxed);
        match bytes {
            Some(bytes) => self.0.bytes.fetch_add(bytes, Ordering::Relaxed),
            None => self.0.unreadable.fetch_add(1, Ordering::Relaxed),
        };
    }

    /// Prints a message.
    pub(crate) fn note(&self, note: String) {
        *self.0.note.lock().unwrap_or_else(PoisonError::into_inner) = Some(note);
    }

    fn take_note(&self) -> Option<String> {
        let mut note = self.0.note.lock().unwrap_or_else(PoisonError::into_inner);
        note.take()
    }

    /// Shows the progress, until it is dropped.
    pub(crate) async fn show(&self) -> Infallible {
        let bar = ProgressBar::new(self.0.files);
        let style = "{bar:32} {human_pos}/{human_len} files, {eta} left  {msg}";
        bar.set_style(ProgressStyle::with_template(style).expect("a valid template"));
        bar.set_position(self.done());
        bar.reset_eta();
        let bar = Cleared(bar);
        let mut line_at = Instant::now() + LINE_EVERY;
        loop {
            tokio::time::sleep(TICK).await;
            bar.0.set_position(self.done());
            bar.0.set_message(self.message());
            if let Some(note) = self.take_note() {
                bar.0.suspend(|| eprintln!("{note}"));
            }
            if !std::io::stderr().is_terminal() && Instant::now() >= line_at {
                line_at += LINE_EVERY;
                eprintln!("{}", self.line());
            }
        }
    }

    fn done(&self) -> u64 {
        self.0.done.load(Ordering::Relaxed).min(self.0.files)
    }

    fn message(&self) -> String {
        if self.done() == self.0.files {
            return "all files read: waiting for the marker, then writing the report".to_owned();
        }
        let bytes = HumanBytes(self.0.bytes.load(Ordering::Relaxed));
        match self.0.unreadable.load(Ordering::Relaxed) {
            0 => format!("{bytes}"),
            unreadable => format!("{bytes}, {} unreadable", HumanCount(unreadable)),
        }
    }

    fn line(&self) -> String {
        let (done, files) = (HumanCount(self.done()), HumanCount(self.0.files));
        format!("{done} of {files} files; {}", self.message())
    }
}

/// A bar that is removed at the end.
struct Cleared(ProgressBar);

impl Drop for Cleared {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// How long an execution took, from the moment it was recorded.
pub(crate) fn taken(view: &ExecutionView) -> String {
    let execution = &view.execution;
    let end = execution.closed_at.unwrap_or(execution.changed_at);
    let us = end.since_us(execution.created_at);
    format!("was written {:.1} s after the start.", us as f64 / 1e6)
}

/// The commands that show an execution.
pub(crate) fn commands(db: &str, execution: ExecutionId) -> String {
    let command = |rest: &str| format!("  abide --db {} {rest}\n", quoted(db));
    [
        "Look into it (`cargo install --path crates/cli` installs `abide`):\n".to_owned(),
        command("list"),
        command(&format!("describe {execution}")),
        command(&format!("events {execution}")),
        command("verify"),
    ]
    .concat()
}

/// Quoted as one word for a shell.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}
