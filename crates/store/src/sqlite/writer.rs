//! The writer thread: it alone owns the write connection. It drains everything that waits, runs
//! it in one `BEGIN IMMEDIATE`, and one fsync acknowledges all. Nothing is delayed to make a batch
//! larger: while one batch is written, the next gathers.
//!
//! Invariant: an answer is sent after the commit that makes it durable. An unexpected error rolls
//! the batch back and runs it one by one, so that one bad request harms no other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvError, TryRecvError};
use std::time::{Duration, Instant};

use abide_core::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId};
use abide_core::kernel::{Change, Claim, Inbox, OutboxRow, Reply, Request, Working};
use abide_core::timer::{Timer, TimerKind};
use rusqlite::{Connection, OptionalExtension, params};
use rustc_hash::FxHashSet;
use tokio::sync::oneshot;

use crate::error::{ApplyError, StoreError};
use crate::flush;
use crate::graphs::GraphCache;
use crate::hints::Hints;
use crate::stats::Counters;
use crate::{Claims, Clock, Fired};

use super::checkpoint::Checkpoints;
use super::connection::Database;
use super::load::Loader;
use super::wake::Waker;
use super::{rows, write};

/// The most jobs in one transaction: bounds how long the first of them waits for the last.
const MAX_BATCH: usize = 2048;
/// How long the writer looks for the next job before it sleeps.
const LINGER: Duration = Duration::from_micros(100);

pub(crate) type Answer<T> = oneshot::Sender<T>;
/// Work on the write connection that is no transition: it runs inside the batch's transaction, and
/// again if that is rolled back because of another job.
pub(crate) type Errand = Box<dyn Fn(&Database, &Connection, Timestamp) -> ErrandResult + Send>;
pub(crate) type ErrandResult = Result<Box<dyn std::any::Any + Send>, StoreError>;

/// What the writer is asked.
pub(crate) enum Job {
    Apply(Box<Request>, Answer<Result<Reply, ApplyError>>),
    Claim {
        worker: WorkerId,
        queues: Arc<[VersionId]>,
        max: u32,
        answer: Answer<Result<Claims, StoreError>>,
    },
    FireTimers {
        limit: u32,
        answer: Answer<Result<Fired, StoreError>>,
    },
    Errand(Errand, Answer<ErrandResult>),
    /// Answers once everything sent before is done, and ends the thread.
    Close(Answer<()>),
}

/// What a job came to, kept until the commit.
enum Done {
    Apply(Result<Reply, ApplyError>),
    Claim(Result<Claims, StoreError>),
    Fired(Result<Fired, StoreError>),
    Errand(ErrandResult),
}

impl Done {
    /// Whether the whole batch must be rolled back: the database failed, rather than the request.
    fn is_fatal(&self) -> Option<&StoreError> {
        let error = match self {
            Done::Apply(Err(ApplyError::Store(error))) => error,
            Done::Claim(Err(error)) | Done::Fired(Err(error)) | Done::Errand(Err(error)) => error,
            _ => return None,
        };
        match error {
            StoreError::Undecodable { .. } | StoreError::Invalid(_) => None,
            error => Some(error),
        }
    }
}

pub(crate) struct Writer {
    pub(crate) database: Database,
    pub(crate) clock: Clock,
    pub(crate) graphs: Arc<GraphCache>,
    pub(crate) hints: Arc<Hints>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) holds_lock: Arc<std::sync::atomic::AtomicBool>,
    pub(crate) waker: Waker,
    /// [`foreign`], when it was last looked at.
    pub(crate) foreign: i64,
}

impl Writer {
    /// Runs until the store is closed.
    pub(crate) fn run(
        mut self,
        connection: Connection,
        mut checkpoints: Checkpoints,
        jobs: &Receiver<Job>,
    ) {
        checkpoints.count_pages(&connection);
        let mut closing = None;
        while closing.is_none() {
            let Ok(mut batch) = gather(jobs, &mut closing) else {
                break;
            };
            if !batch.is_empty() {
                self.work_off(&connection, &mut batch);
                checkpoints.after_commit(&connection);
            }
        }
        checkpoints.finish(&connection);
        drop(connection);
        if let Some(answer) = closing {
            answer.send(()).ok();
        }
    }

    fn work_off(&mut self, connection: &Connection, batch: &mut Vec<Job>) {
        match self.commit(connection, batch) {
            Ok(answers) => answers
                .into_iter()
                .zip(batch.drain(..))
                .for_each(|(done, job)| send(job, done)),
            Err(error) if batch.len() == 1 => refuse(batch.pop().expect("one"), error),
            Err(error) if !is_singled_out(&error) => {
                batch.drain(..).for_each(|job| refuse(job, error.clone()))
            }
            Err(error) => {
                tracing::warn!(%error, jobs = batch.len(), "a batch failed and is run one by one");
                for job in batch.drain(..) {
                    self.work_off(connection, &mut vec![job]);
                }
            }
        }
    }

    /// Runs a batch in one transaction. After an error nothing of it is written.
    fn commit(&mut self, connection: &Connection, batch: &[Job]) -> Result<Vec<Done>, StoreError> {
        connection
            .execute_batch("BEGIN IMMEDIATE")
            .map_err(|error| self.database.error(error, false))?;
        let run = catch_unwind(AssertUnwindSafe(|| self.run_batch(connection, batch)));
        let run = run.unwrap_or_else(|panic| Err(StoreError::Internal(flush::panic_text(&*panic))));
        let (answers, after) = match run {
            Ok(done) => done,
            Err(error) => {
                roll_back(connection);
                return Err(error);
            }
        };
        if let Err(error) = connection.execute_batch("COMMIT") {
            roll_back(connection);
            return Err(self.database.error(error, true));
        }
        self.counters.add_commit(batch.len());
        if batch.iter().any(|job| matches!(job, Job::Errand(..))) {
            self.look_for_others(connection);
        }
        after.tell(&self.hints, &mut self.waker);
        Ok(answers)
    }

    /// Whether other processes committed something, in case that their wake-up was lost. Looked at
    /// with errands, since a heartbeat is one.
    fn look_for_others(&mut self, connection: &Connection) {
        match foreign(connection) {
            Ok(foreign) if foreign == self.foreign => {}
            Ok(foreign) => {
                self.foreign = foreign;
                self.hints.timer_set(Timestamp(0));
                self.hints.work.notify_one();
            }
            Err(error) => tracing::warn!(%error, "can't tell what other processes wrote"),
        }
    }

    fn run_batch(
        &self,
        connection: &Connection,
        batch: &[Job],
    ) -> Result<(Vec<Done>, After), StoreError> {
        let now = (self.clock)();
        let mut working = Working::new(now);
        let mut after = After::default();
        let mut fired = FxHashSet::default();
        let loader = Loader {
            database: &self.database,
            connection,
            graphs: &self.graphs,
            holds_lock: self.holds_lock.load(std::sync::atomic::Ordering::Acquire),
        };
        let mut answers = Vec::with_capacity(batch.len());
        for job in batch {
            let done = match job {
                Job::Apply(request, _) => Done::Apply(run(&loader, &mut working, request)),
                Job::Claim {
                    worker,
                    queues,
                    max,
                    ..
                } => Done::Claim(claim(&loader, &mut working, *worker, queues, *max)),
                Job::FireTimers { limit, .. } => {
                    Done::Fired(fire(&loader, &mut working, *limit, &mut fired))
                }
                Job::Errand(errand, _) => Done::Errand(errand(&self.database, connection, now)),
                Job::Close(_) => unreachable!("closing ends a batch"),
            };
            if let Some(error) = done.is_fatal() {
                return Err(error.clone());
            }
            answers.push(done);
        }
        let (executions, tasks, effects) = working.into_effects();
        write::write(connection, now, &executions, &tasks, &effects)
            .map_err(|error| self.database.write_error(error))?;
        after.work = added(&effects.outbox).next().is_some();
        after.earliest_timer = added(&effects.timers).map(|timer| timer.due_at).min();
        after.ended = effects.ended.iter().map(|ended| ended.id).collect();
        if answers.iter().any(|done| matches!(done, Done::Fired(_))) {
            let next = next_due(connection).map_err(|error| self.database.error(error, false))?;
            after.timers_read = Some(next);
            for done in &mut answers {
                if let Done::Fired(Ok(fired)) = done {
                    fired.next_due = next;
                }
            }
        }
        Ok((answers, after))
    }
}

fn added<T>(changes: &[Change<T>]) -> impl Iterator<Item = &T> {
    changes.iter().filter_map(|change| match change {
        Change::Add(row) => Some(row),
        Change::Remove(_) => None,
    })
}

/// SQLite's count of what other connections committed.
pub(crate) fn foreign(connection: &Connection) -> rusqlite::Result<i64> {
    let mut statement = connection.prepare_cached("PRAGMA data_version")?;
    statement.query_row([], |row| row.get(0))
}

fn roll_back(connection: &Connection) {
    // SQLite has rolled back by itself after some errors; then there is nothing to do.
    if !connection.is_autocommit()
        && let Err(error) = connection.execute_batch("ROLLBACK")
    {
        tracing::error!(%error, "a transaction could not be rolled back");
    }
}

/// What follows a commit.
#[derive(Default)]
struct After {
    work: bool,
    earliest_timer: Option<Timestamp>,
    timers_read: Option<Option<Timestamp>>,
    ended: Vec<ExecutionId>,
}

impl After {
    fn tell(self, hints: &Hints, waker: &mut Waker) {
        if let Some(next) = self.timers_read {
            hints.timers_read(next);
        }
        if let Some(due) = self.earliest_timer {
            hints.timer_set(due);
        }
        if self.work {
            hints.work.notify_one();
        }
        if self.work || self.earliest_timer.is_some() {
            waker.wake_others();
        }
        for id in self.ended {
            hints.ended(id);
        }
    }
}

fn gather(jobs: &Receiver<Job>, closing: &mut Option<Answer<()>>) -> Result<Vec<Job>, RecvError> {
    let mut batch = Vec::new();
    let mut next = Some(receive(jobs)?);
    while let Some(job) = next {
        match job {
            Job::Close(answer) => {
                *closing = Some(answer);
                break;
            }
            job => batch.push(job),
        }
        next = if batch.len() < MAX_BATCH {
            jobs.try_recv().ok()
        } else {
            None
        };
    }
    Ok(batch)
}

/// The next job. Looks for a moment before it lets the processor go: whoever takes one step after
/// the other asks again at once, and waking a thread costs as much as a small transaction.
fn receive(jobs: &Receiver<Job>) -> Result<Job, RecvError> {
    let begun = Instant::now();
    loop {
        match jobs.try_recv() {
            Ok(job) => return Ok(job),
            Err(TryRecvError::Disconnected) => return Err(RecvError),
            Err(TryRecvError::Empty) if begun.elapsed() > LINGER => return jobs.recv(),
            Err(TryRecvError::Empty) => std::hint::spin_loop(),
        }
    }
}

fn run(loader: &Loader<'_>, working: &mut Working, request: &Request) -> Result<Reply, ApplyError> {
    flush::run(working, request, &mut |working, need| {
        loader.load(working, need)
    })
}

/// Claims what the outbox has for anyone, in key order over the worker's queues, and empties the
/// worker's inbox.
fn claim(
    loader: &Loader<'_>,
    working: &mut Working,
    worker: WorkerId,
    queues: &[VersionId],
    max: u32,
) -> Result<Claims, StoreError> {
    let read = |error| loader.database.error(error, false);
    let mut claims = Claims::default();
    for row in outbox_rows(loader.connection, Some(worker), None, i64::MAX).map_err(read)? {
        match run(loader, working, &Request::Inbox(Inbox { row })) {
            Ok(Reply::Notice(notice)) => claims.notices.extend(notice),
            Ok(_) => {}
            Err(error) => quarantine(loader, row, error)?,
        }
    }
    // One more than asked for tells whether there is more.
    let mut found: Vec<OutboxRow> = Vec::new();
    for queue in queues {
        found.extend(
            outbox_rows(loader.connection, None, Some(*queue), i64::from(max) + 1).map_err(read)?,
        );
    }
    found.sort_unstable_by_key(|row| (std::cmp::Reverse(row.priority), row.ready_at, row.key));
    claims.more = found.len() > max as usize;
    found.truncate(max as usize);
    for row in found {
        match run(
            loader,
            working,
            &Request::Claim(Claim {
                key: row.key,
                worker,
                row,
            }),
        ) {
            Ok(Reply::Claimed(Some(claimed))) => claims.claimed.push(*claimed),
            // A row that was dropped made room for another.
            Ok(_) => claims.more = true,
            Err(error) => quarantine(loader, row, error)?,
        }
    }
    Ok(claims)
}

/// A row of the outbox whose task cannot be read must not stop the others: it is taken out, and
/// `verify` finds the task.
fn quarantine(loader: &Loader<'_>, row: OutboxRow, error: ApplyError) -> Result<(), StoreError> {
    match error {
        ApplyError::Store(error) if !matches!(error, StoreError::Undecodable { .. }) => Err(error),
        error => {
            tracing::error!(task = %row.key, %error, "a task cannot be claimed and is left aside");
            write::write_outbox(loader.connection, &[Change::Remove(row)])
                .map_err(|error| loader.database.error(error, false))
        }
    }
}

fn outbox_rows(
    connection: &Connection,
    worker: Option<WorkerId>,
    queue: Option<VersionId>,
    limit: i64,
) -> rusqlite::Result<Vec<OutboxRow>> {
    let columns = "SELECT queue, priority, ready_at, execution, task FROM task_outbox";
    let sql = match queue {
        None => format!("{columns} WHERE worker = ?1 LIMIT ?2"),
        Some(_) => format!(
            "{columns} WHERE worker = ?1 AND queue = ?3 ORDER BY priority DESC, ready_at, execution, task LIMIT ?2"
        ),
    };
    let mut statement = connection.prepare_cached(&sql)?;
    let whose = worker.map_or(0, |worker| worker.0);
    let mut rows = match queue {
        None => statement.query(params![whose, limit])?,
        Some(queue) => statement.query(params![whose, limit, queue.0])?,
    };
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(OutboxRow {
            worker,
            queue: VersionId(row.get(0)?),
            priority: row.get(1)?,
            ready_at: Timestamp(row.get(2)?),
            key: TaskKey::new(ExecutionId(row.get(3)?), row.get(4)?),
        });
    }
    Ok(found)
}

/// Timers of a kind beyond are left alone; `verify` finds them.
const LAST_KIND: i64 = TimerKind::ALL.len() as i64;

/// Fires the timers that are due, earliest first. Those that an earlier job of the same batch fired
/// are still stored, but must not fire twice.
fn fire(
    loader: &Loader<'_>,
    working: &mut Working,
    limit: u32,
    fired_before: &mut FxHashSet<Timer>,
) -> Result<Fired, StoreError> {
    let read = |error| loader.database.error(error, false);
    let due = {
        let mut statement = loader
            .connection
            .prepare_cached(
                "SELECT due_at, kind, execution, task, piece FROM timers \
                 WHERE due_at <= ?1 AND kind BETWEEN 1 AND ?3 \
                 ORDER BY due_at, kind, execution, task, piece LIMIT ?2",
            )
            .map_err(read)?;
        let rows = statement
            .query_map(params![working.now.0, limit, LAST_KIND], rows::timer)
            .map_err(read)?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
            .map_err(|error| loader.database.read_error(error, "a timer"))?
    };
    let mut fired = 0;
    for timer in due {
        if !fired_before.insert(timer) {
            fired += 1;
            continue;
        }
        match run(loader, working, &Request::Fire(timer)) {
            Ok(_) => fired += 1,
            Err(ApplyError::Store(error)) if !matches!(error, StoreError::Undecodable { .. }) => {
                return Err(error);
            }
            Err(error) => {
                tracing::error!(?timer, %error, "a timer cannot be acted on and is removed");
                loader
                    .connection
                    .prepare_cached(
                        "DELETE FROM timers WHERE due_at = ?1 AND kind = ?2 AND execution = ?3 AND task = ?4 AND piece = ?5",
                    )
                    .and_then(|mut statement| {
                        statement.execute(params![timer.due_at.0, timer.kind.code(), timer.execution.0, timer.task, timer.from])
                    })
                    .map_err(read)?;
            }
        }
    }
    Ok(Fired {
        fired,
        next_due: None,
    })
}

/// The earliest timer that a clock reaches.
fn next_due(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let due: Option<i64> = connection
        .prepare_cached(
            "SELECT due_at FROM timers WHERE due_at < ?1 AND kind BETWEEN 1 AND ?2 ORDER BY due_at LIMIT 1",
        )?
        .query_row(params![abide_core::timer::NEVER.0, LAST_KIND], |row| {
            row.get(0)
        })
        .optional()?;
    Ok(due.map(Timestamp))
}

/// Whether the error may be one request's fault, so that the others deserve another try.
fn is_singled_out(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Internal(_) | StoreError::IdTaken | StoreError::Full(_)
    )
}

fn send(job: Job, done: Done) {
    // A receiver that is gone no longer wants the answer; what was written stays written.
    match (job, done) {
        (Job::Apply(_, answer), Done::Apply(reply)) => drop(answer.send(reply)),
        (Job::Claim { answer, .. }, Done::Claim(claims)) => drop(answer.send(claims)),
        (Job::FireTimers { answer, .. }, Done::Fired(fired)) => drop(answer.send(fired)),
        (Job::Errand(_, answer), Done::Errand(result)) => drop(answer.send(result)),
        _ => unreachable!("answers are made in the order of the jobs"),
    }
}

fn refuse(job: Job, error: StoreError) {
    match job {
        Job::Apply(_, answer) => drop(answer.send(Err(error.into()))),
        Job::Claim { answer, .. } => drop(answer.send(Err(error))),
        Job::FireTimers { answer, .. } => drop(answer.send(Err(error))),
        Job::Errand(_, answer) => drop(answer.send(Err(error))),
        Job::Close(answer) => answer.send(()).unwrap_or_default(),
    }
}
