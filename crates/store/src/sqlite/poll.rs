//! Looking for changes of files again and again, where the system has no room to tell of them. Asks the
//! files when they were changed, and nothing of the database.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, SyncSender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// How often the files are looked at.
pub(crate) const EVERY: Duration = Duration::from_millis(100);

/// When a file was last changed, and its size; none if there is no such file.
type State = Option<(SystemTime, u64)>;
type Files = Arc<Mutex<BTreeMap<PathBuf, State>>>;

/// Looks from a thread of its own, for as long as it is kept.
pub(crate) struct Poll {
    files: Files,
    /// The thread ends when this is dropped.
    _stop: Sender<()>,
}

impl Poll {
    /// Tells of every change.
    pub(crate) fn start(tell: SyncSender<()>) -> io::Result<Poll> {
        let files = Files::default();
        let (stop, stopped) = channel();
        let looked_at = Arc::clone(&files);
        let look = move || {
            while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                if look(&mut locked(&looked_at)) {
                    // A full channel means that a look is due already.
                    tell.try_send(()).ok();
                }
            }
        };
        let thread = std::thread::Builder::new().name("abide-poll".into());
        thread.spawn(look)?;
        Ok(Poll { files, _stop: stop })
    }

    /// Looks at that file, too.
    pub(crate) fn add(&self, path: &Path) {
        locked(&self.files).insert(path.to_owned(), state(path));
    }

    /// Looks at that file no more.
    pub(crate) fn remove(&self, path: &Path) {
        locked(&self.files).remove(path);
    }
}

/// Whether a file was changed since the last look.
fn look(files: &mut BTreeMap<PathBuf, State>) -> bool {
    let mut changed = false;
    for (path, known) in files {
        let found = state(path);
        changed |= found != *known;
        *known = found;
    }
    changed
}

fn state(path: &Path) -> State {
    let found = std::fs::metadata(path).ok()?;
    Some((found.modified().ok()?, found.len()))
}

fn locked(files: &Files) -> MutexGuard<'_, BTreeMap<PathBuf, State>> {
    files.lock().unwrap_or_else(PoisonError::into_inner)
}
