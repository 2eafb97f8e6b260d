//! Who writes: the writer's thread, or a caller on its own thread.
//!
//! On a fast disk a commit takes less time than waking the thread and being woken by it. So a caller that is alone
//! writes what it asked for itself, if nobody else is writing. The thread writes when many ask, when commits are slow
//! (a thread of a runtime must not wait for a slow disk), and when another process writes.
//!
//! Invariant: whoever puts something into the queue writes it before it waits for anything, or wakes the thread. So all
//! that was asked is written, and in its order: the queue is emptied from its front, by who holds the writer.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use crate::error::StoreError;

use super::locked;
use super::writer::{Batch, MAX_BATCH, Sent, Writer};

/// How long the thread stays awake after a batch: when many ask, the next one is there in a moment.
const LINGER: Duration = Duration::from_micros(100);

/// What waits to be written, and the writer, for whoever writes next.
pub(crate) struct Desk {
    queue: Mutex<Queue>,
    /// The length of the queue.
    length: AtomicUsize,
    /// None once the file is closed.
    writer: Mutex<Option<Writer>>,
    /// Set before anything is asked.
    thread: OnceLock<Thread>,
    /// Whether the thread was woken since it last looked.
    woken: AtomicBool,
    /// A fork of it must not write: SQLite's locks are not the fork's.
    process: u32,
}

struct Queue {
    sent: VecDeque<Sent>,
    open: bool,
}

/// Wakes the thread when this is dropped, if something is left to write or the caller panics.
struct WakeAfter<'a>(&'a Desk);

impl Drop for WakeAfter<'_> {
    fn drop(&mut self) {
        if self.0.length() > 0 || std::thread::panicking() {
            self.0.wake();
        }
    }
}

/// Refuses what waits and what comes when this is dropped.
struct ClearWhenDropped<'a>(&'a Desk);

impl Drop for ClearWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.clear();
    }
}

impl Desk {
    pub(crate) fn new(writer: Writer) -> Desk {
        let queue = Queue {
            sent: VecDeque::new(),
            open: true,
        };
        Desk {
            queue: Mutex::new(queue),
            length: AtomicUsize::new(0),
            writer: Mutex::new(Some(writer)),
            thread: OnceLock::new(),
            woken: AtomicBool::new(false),
            process: std::process::id(),
        }
    }

    /// Starts the thread.
    pub(crate) fn start(self: &Arc<Desk>) -> std::io::Result<JoinHandle<()>> {
        let desk = Arc::clone(self);
        let thread = std::thread::Builder::new().name("abide-writer".into());
        let thread = thread.spawn(move || desk.run())?;
        self.thread.get_or_init(|| thread.thread().clone());
        Ok(thread)
    }

    /// Puts something at the end of the queue. Whoever does so calls [`write_here`](Desk::write_here) or
    /// [`wake`](Desk::wake) next.
    pub(crate) fn push(&self, sent: Sent) -> Result<(), StoreError> {
        if std::process::id() != self.process {
            return Err(StoreError::Closed);
        }
        let mut queue = locked(&self.queue);
        if !queue.open {
            return Err(StoreError::Closed);
        }
        queue.sent.push_back(sent);
        self.length.store(queue.sent.len(), Ordering::Release);
        Ok(())
    }

    /// Takes no more. The thread ends once it has written what waits.
    pub(crate) fn close(&self) {
        locked(&self.queue).open = false;
        self.wake();
    }

    /// Has the thread look at what is to be done.
    pub(crate) fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn length(&self) -> usize {
        self.length.load(Ordering::Acquire)
    }

    // ---- a caller writes ----

    /// Writes what the caller asked for, if that is likely to be quick. Otherwise wakes the thread.
    pub(crate) fn write_here(&self) {
        let _wake = WakeAfter(self);
        let written = match self.writer.try_lock() {
            Ok(mut writer) if self.length() == 1 => {
                let writer = writer.as_mut();
                writer.and_then(|writer| writer.write_here(|| self.take_single()))
            }
            _ => None,
        };
        if let Some(written) = written {
            if written.log_is_long || written.patience.is_some() {
                self.wake();
            }
            written.send();
        }
    }

    /// What waits, if it is a single small job.
    fn take_single(&self) -> Option<Batch> {
        let mut queue = locked(&self.queue);
        let is_single = queue.sent.len() == 1 && queue.sent.iter().all(Sent::is_small);
        is_single.then(|| self.take(&mut queue))
    }

    fn take(&self, queue: &mut Queue) -> Batch {
        let batch = Batch::gather(&mut queue.sent, MAX_BATCH);
        self.length.store(queue.sent.len(), Ordering::Release);
        batch
    }

    // ---- the thread ----

    /// Writes what callers leave, until the store is closed.
    fn run(&self) {
        // However it ends, nobody waits for it any more.
        let _cleared = ClearWhenDropped(self);
        let mut patience = None;
        loop {
            self.wait(patience);
            let mut place = match self.writer.lock() {
                Ok(place) => place,
                Err(panicked) => {
                    tracing::error!("a caller panicked while it wrote: the store is closed");
                    // What it had begun is rolled back, and the file is free for other processes.
                    drop(panicked.into_inner().take());
                    return;
                }
            };
            let Some(writer) = &mut *place else { return };
            let mut queue = locked(&self.queue);
            let mut batch = self.take(&mut queue);
            let is_last = !queue.open && queue.sent.is_empty();
            drop(queue);
            let closing = batch.closing.take();
            let wanted = std::mem::take(&mut batch.checkpoints);
            let written = writer.work_off(batch);
            patience = written.patience;
            let log_is_long = written.log_is_long;
            drop(place);
            written.send();
            if log_is_long || !wanted.is_empty() {
                self.checkpoint(!wanted.is_empty());
                for answer in wanted {
                    answer.send(()).ok();
                }
            }
            if is_last || closing.is_some() {
                if let Some(writer) = locked(&self.writer).take() {
                    writer.finish();
                }
                if let Some(answer) = closing {
                    answer.send(()).ok();
                }
                return;
            }
            if self.length() > 0 {
                self.wake();
            }
        }
    }

    fn checkpoint(&self, all: bool) {
        if let Some(writer) = &mut *locked(&self.writer) {
            writer.checkpoint(all);
        }
    }

    /// Waits until there may be something to do, at most for so long.
    fn wait(&self, patience: Option<Duration>) {
        let begun = Instant::now();
        loop {
            if self.woken.swap(false, Ordering::AcqRel) {
                return;
            }
            if begun.elapsed() > LINGER {
                break;
            }
            std::hint::spin_loop();
        }
        match patience {
            None => std::thread::park(),
            Some(patience) => std::thread::park_timeout(patience),
        }
        // Before the queue is looked at: what comes from now on wakes it again.
        self.woken.store(false, Ordering::Release);
    }

    /// Refuses what waits and what comes.
    fn clear(&self) {
        let mut queue = locked(&self.queue);
        queue.open = false;
        let left = std::mem::take(&mut queue.sent);
        self.length.store(0, Ordering::Release);
        drop(queue);
        // Whoever asked learns it now.
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Future, poll_fn};
    use std::pin::Pin;
    use std::task::Poll;
    use std::thread::ThreadId;

    use abide_core::kernel::{Reply, Request, Signal};
    use rusqlite::Connection;
    use tokio::task::JoinSet;

    use super::*;
    use crate::StoreOptions;
    use crate::error::ApplyError;
    use crate::job::Job;
    use crate::sqlite::Sqlite;
    use crate::sqlite::schema::MIGRATIONS;

    /// A store that remembers which threads wrote.
    #[derive(Clone)]
    struct Home {
        store: Arc<Sqlite>,
        writers: Arc<Mutex<Vec<ThreadId>>>,
        directory: Arc<tempfile::TempDir>,
    }

    impl Home {
        /// One whose transactions count as quick up to this.
        fn new(quick: Duration) -> Home {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let writers = Arc::new(Mutex::new(Vec::new()));
            let noted = Arc::clone(&writers);
            // A transaction asks once what time it is.
            let now = move || {
                locked(&noted).push(std::thread::current().id());
                crate::system_now()
            };
            let options = StoreOptions {
                now: Some(Arc::new(now)),
                busy_timeout: Duration::from_secs(1_000_000),
                ..StoreOptions::default()
            };
            let path = directory.path().join("a.db");
            let store = Sqlite::open(path, &options, Arc::default(), &MIGRATIONS);
            let store = Arc::new(store.expect("opens"));
            let mut writer = locked(&store.desk.writer);
            writer.as_mut().expect("it is open").quick = quick;
            drop(writer);
            locked(&writers).clear();
            Home {
                store,
                writers,
                directory: Arc::new(directory),
            }
        }

        /// Something that takes a transaction. It is refused.
        async fn ask(&self) {
            let signal = Signal {
                instance: "nobody".into(),
                name: "word".into(),
                payload: abide_core::payload::Payload::from_json("1".to_owned()),
                actor: None,
            };
            let request = Box::new(Request::Signal(signal));
            let answer = self.store.answer(|answer| Job::Apply(request, answer));
            let answer: Result<Reply, ApplyError> = answer.await.expect("the store is open");
            assert!(matches!(answer, Err(ApplyError::Refused(_))), "{answer:?}");
        }

        /// From now on callers are taken to be alone.
        async fn alone(&self) {
            for _ in 0..100 {
                self.ask().await;
            }
        }

        fn writers(&self) -> Vec<ThreadId> {
            locked(&self.writers).clone()
        }

        fn thread(&self) -> ThreadId {
            self.store.desk.thread.get().expect("it runs").id()
        }
    }

    async fn polled_once<F: Future<Output = ()> + Unpin>(mut future: F) -> F {
        poll_fn(|cx| Poll::Ready(Pin::new(&mut future).poll(cx).is_ready())).await;
        future
    }

    #[tokio::test]
    async fn a_caller_that_is_alone_writes_on_its_own_thread() {
        let home = Home::new(Duration::MAX);
        let here = std::thread::current().id();
        home.alone().await;
        locked(&home.writers).clear();
        for _ in 0..100 {
            home.ask().await;
        }
        let writers = home.writers();
        assert_eq!(writers.len(), 100);
        // Now and then it lets the thread write.
        let own = writers.iter().filter(|writer| **writer == here).count();
        assert!((50..100).contains(&own), "{own}");
    }

    #[tokio::test]
    async fn while_commits_are_slow_the_thread_writes() {
        let home = Home::new(Duration::ZERO);
        for asked in 1..100 {
            home.ask().await;
            assert_eq!(home.writers(), vec![home.thread(); asked]);
        }
    }

    #[tokio::test]
    async fn callers_at_the_same_time_share_commits_even_after_many_that_were_alone() {
        const CALLERS: usize = 100;
        let home = Home::new(Duration::MAX);
        for alone in [false, true] {
            if alone {
                home.alone().await;
            }
            let before = home.writers().len();
            let callers = (0..CALLERS).map(|_| home.clone());
            let mut asking = JoinSet::new();
            for home in callers {
                asking.spawn(async move { home.ask().await });
            }
            asking.join_all().await;
            let commits = home.writers().len() - before;
            assert!(
                commits < CALLERS / 2,
                "{commits} commits, alone before: {alone}"
            );
        }
    }

    #[tokio::test]
    async fn what_is_asked_is_written_although_its_caller_is_gone() {
        let home = Home::new(Duration::MAX);
        let forgotten = Box::pin(home.ask());
        // One that is kept and not polled again is as good as gone.
        let _kept = polled_once(forgotten).await;
        while home.writers().is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(home.writers(), [home.thread()]);
    }

    #[tokio::test]
    async fn a_caller_waits_for_no_other_connection_that_writes() {
        let home = Home::new(Duration::MAX);
        home.alone().await;
        locked(&home.writers).clear();
        let other = Connection::open(home.directory.path().join("a.db")).expect("opens");
        other.execute_batch("BEGIN IMMEDIATE").expect("begins");
        let ends = async {
            // The caller has tried meanwhile.
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
            other.execute_batch("ROLLBACK").expect("ends");
        };
        tokio::join!(home.ask(), ends);
        assert_eq!(home.writers(), [home.thread()]);
    }

    #[tokio::test]
    async fn a_caller_that_panics_while_it_writes_leaves_nobody_waiting() {
        let home = Home::new(Duration::MAX);
        let store = Arc::clone(&home.store);
        let panicked = std::thread::spawn(move || {
            let _writer = locked(&store.desk.writer);
            panic!("on purpose");
        });
        assert!(panicked.join().is_err());
        for _ in 0..2 {
            let fire = |answer| Job::FireTimers { limit: 1, answer };
            let answer = home.store.answer(fire).await.map(drop);
            assert!(matches!(answer, Err(StoreError::Closed)), "{answer:?}");
        }
        home.store.close().await;
    }
}
