//! Wake-ups between processes on one file. Who commits something that another process should look
//! at touches `<db>-wake`; the process that runs tasks watches that file. A process that only
//! observes watches the log instead, since it waits for what others write.
//!
//! Hints only: the truth is in the store, and the heartbeat looks there anyway.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use crate::error::StoreError;

use super::connection::Database;

/// How long a burst of changes is left to gather before it is looked at once.
const GATHER: Duration = Duration::from_millis(2);

/// Wakes the other processes.
pub(crate) struct Waker {
    file: PathBuf,
    /// Whoever runs the tasks need not tell itself.
    holds_lock: Arc<AtomicBool>,
}

impl Waker {
    pub(crate) fn new(database: &Database, holds_lock: Arc<AtomicBool>) -> Waker {
        Waker {
            file: database.beside("-wake"),
            holds_lock,
        }
    }

    pub(crate) fn wake_others(&mut self) {
        if self.holds_lock.load(Ordering::Acquire) {
            return;
        }
        let touched = File::create(&self.file).and_then(|mut file| file.write_all(b"."));
        if let Err(error) = touched {
            tracing::debug!(%error, "other processes find this change at their next heartbeat");
        }
    }
}

/// Calls `changed` from a thread of its own after other processes may have changed something, for
/// as long as it is kept.
pub(crate) struct ForeignWatch {
    _watcher: RecommendedWatcher,
}

impl ForeignWatch {
    /// Watches for wake-ups only (`all` false), or for every change of the database.
    pub(crate) fn start(
        database: &Database,
        all: bool,
        changed: impl FnMut() + Send + 'static,
    ) -> Result<ForeignWatch, StoreError> {
        let fail = |detail: String| StoreError::CannotOpen {
            path: database.name(),
            detail,
        };
        let wake = database.beside("-wake");
        File::options()
            .create(true)
            .append(true)
            .open(&wake)
            .map_err(|error| fail(format!("{}: {error}", wake.display())))?;
        let names: Vec<PathBuf> = match all {
            true => vec![database.beside("-wal"), database.beside("")],
            false => vec![wake.clone()],
        };
        let names: Vec<_> = names
            .iter()
            .filter_map(|path| path.file_name().map(ToOwned::to_owned))
            .collect();
        let (tell, told) = sync_channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            let ours = event.paths.iter().any(|path| {
                path.file_name()
                    .is_some_and(|name| names.iter().any(|n| n == name))
            });
            if ours && !matches!(event.kind, EventKind::Access(_)) {
                // A full channel means that a look is due already; a closed one that nobody looks.
                tell.try_send(()).ok();
            }
        });
        let mut watcher = watcher.map_err(|error| fail(error.to_string()))?;
        let directory = wake
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or_else(|| ".".as_ref());
        let target = if all { directory } else { &wake };
        watcher
            .watch(target, RecursiveMode::NonRecursive)
            .map_err(|error| fail(error.to_string()))?;
        std::thread::Builder::new()
            .name("abide-watch".into())
            .spawn(move || look(&told, changed))
            .map_err(|error| {
                StoreError::Internal(format!("no thread to watch the database: {error}"))
            })?;
        Ok(ForeignWatch { _watcher: watcher })
    }
}

fn look(told: &Receiver<()>, mut changed: impl FnMut()) {
    while told.recv().is_ok() {
        std::thread::sleep(GATHER);
        while told.try_recv().is_ok() {}
        changed();
    }
}
