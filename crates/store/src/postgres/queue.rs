//! Where jobs wait for a committer. Several committers take batches side by side.
//!
//! Invariant: jobs about the same subject are done in the order in
//! which they were asked: while one of them is in a committer's hands, those behind it wait.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use abide_core::kernel::Subject;
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::Notify;

use crate::error::StoreError;
use crate::job::{Done, Job};

/// The most jobs in one transaction: bounds how long the first of them waits for the last.
const MAX_BATCH: usize = 1024;

/// A job and when it was asked. One that is dropped unanswered, as by a panic, answers that nobody
/// knows what became of it.
pub(crate) struct Queued {
    job: Option<Job>,
    since: Instant,
    database: Arc<str>,
}

impl Queued {
    pub(crate) fn job(&self) -> &Job {
        self.job.as_ref().expect("it has not been answered")
    }

    pub(crate) fn waited(&self) -> Duration {
        self.since.elapsed()
    }

    pub(crate) fn answer(mut self, done: Done) {
        if let Some(job) = self.job.take() {
            job.answer(done);
        }
    }

    pub(crate) fn refuse(mut self, error: StoreError) {
        if let Some(job) = self.job.take() {
            job.refuse(error);
        }
    }

    /// What it is about. A job about nothing needs to keep no place among others.
    pub(crate) fn subject(&self) -> Option<Subject> {
        match self.job() {
            Job::Apply(request, _) => Some(request.subject()),
            Job::Claim { .. } | Job::FireTimers { .. } => None,
        }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        if let Some(job) = self.job.take() {
            job.refuse(StoreError::Io {
                path: self.database.to_string(),
                detail: "the writer ended before it had answered".to_owned(),
                unknown: true,
            });
        }
    }
}

/// Jobs that wait.
pub(crate) struct Queue {
    database: Arc<str>,
    waiting: Mutex<Waiting>,
    /// Something was asked, or is no longer under way.
    news: Notify,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Queued>,
    /// Those that turned out to be about something that is under way, by what that is. Whatever else
    /// is asked about it goes behind them.
    behind: FxHashMap<Subject, VecDeque<Queued>>,
    /// What of that is no longer under way.
    released: VecDeque<Subject>,
    /// What the batches are about that are under way, and how many they are.
    subjects: FxHashSet<Subject>,
    under_way: usize,
    is_closed: bool,
}

/// That some jobs are under way. Until it is dropped, others of the same executions wait.
pub(crate) struct UnderWay {
    queue: Arc<Queue>,
    subjects: FxHashSet<Subject>,
}

/// Jobs to be done now.
pub(crate) struct Batch {
    pub(crate) jobs: Vec<Queued>,
    pub(crate) under_way: UnderWay,
}

impl Queue {
    pub(crate) fn new(database: String) -> Arc<Queue> {
        Arc::new(Queue {
            database: database.into(),
            waiting: Mutex::default(),
            news: Notify::new(),
        })
    }

    /// Adds a job.
    pub(crate) fn push(&self, job: Job) -> Result<(), StoreError> {
        let queued = Queued {
            job: Some(job),
            since: Instant::now(),
            database: self.database.clone(),
        };
        let mut waiting = self.lock();
        if waiting.is_closed {
            drop(waiting);
            queued.refuse(StoreError::Closed);
            return Err(StoreError::Closed);
        }
        waiting.jobs.push_back(queued);
        drop(waiting);
        self.news.notify_one();
        Ok(())
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Nothing more is taken. Committers go on until everything asked is done.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.news.notify_waiters();
        self.news.notify_one();
    }

    /// The next jobs, once there are any that nothing stands in the way of; `None` when the queue
    /// is closed and everything is done.
    pub(crate) async fn take(self: &Arc<Self>) -> Option<Batch> {
        loop {
            let news = self.news.notified();
            let mut news = std::pin::pin!(news);
            news.as_mut().enable();
            {
                let mut waiting = self.lock();
                let (jobs, subjects) = waiting.take();
                if !jobs.is_empty() {
                    waiting.under_way += 1;
                    let queue = self.clone();
                    let under_way = UnderWay { queue, subjects };
                    return Some(Batch { jobs, under_way });
                }
                if waiting.is_closed && waiting.is_empty() && waiting.under_way == 0 {
                    return None;
                }
            }
            news.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.behind.is_empty()
    }

    /// Takes jobs in their order, leaving aside those that must wait for others under way. What has
    /// waited for those comes first, but takes half of the room at most: others wait, too.
    fn take(&mut self) -> (Vec<Queued>, FxHashSet<Subject>) {
        let (mut jobs, mut subjects) = (Vec::new(), FxHashSet::default());
        while jobs.len() < MAX_BATCH / 2
            && let Some(subject) = self.released.pop_front()
        {
            let Entry::Occupied(mut behind) = self.behind.entry(subject.clone()) else {
                continue;
            };
            let room = MAX_BATCH / 2 - jobs.len();
            let count = behind.get().len().min(room);
            jobs.extend(behind.get_mut().drain(..count));
            if behind.get().is_empty() {
                behind.remove();
            }
            subjects.insert(subject);
        }
        self.subjects.extend(subjects.iter().cloned());
        while jobs.len() < MAX_BATCH
            && let Some(next) = self.jobs.pop_front()
        {
            match next.subject() {
                Some(subject) if self.waits(&subject, &subjects) => {
                    self.behind.entry(subject).or_default().push_back(next);
                }
                subject => {
                    subjects.extend(subject);
                    jobs.push(next);
                }
            }
        }
        self.subjects.extend(subjects.iter().cloned());
        (jobs, subjects)
    }

    /// Whether a job must wait that is about a subject, behind others or until those under way are
    /// done. Those of a batch may follow each other in it.
    fn waits(&self, subject: &Subject, of_batch: &FxHashSet<Subject>) -> bool {
        self.behind.contains_key(subject)
            || self.subjects.contains(subject) && !of_batch.contains(subject)
    }

    /// What waited behind these is next.
    fn release(&mut self, subjects: &FxHashSet<Subject>) {
        for subject in subjects {
            self.subjects.remove(subject);
            if self.behind.contains_key(subject) {
                self.released.push_back(subject.clone());
            }
        }
    }
}

impl UnderWay {
    /// Those about one subject are done apart, and take longer than the rest.
    pub(crate) fn split_off(&mut self, subject: &Subject) -> UnderWay {
        self.queue.lock().under_way += 1;
        UnderWay {
            queue: self.queue.clone(),
            subjects: self.subjects.take(subject).into_iter().collect(),
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut waiting = self.queue.lock();
        waiting.release(&self.subjects);
        waiting.under_way -= 1;
        let may_matter = waiting.is_closed || !waiting.is_empty();
        drop(waiting);
        if may_matter {
            self.queue.news.notify_waiters();
        }
    }
}
