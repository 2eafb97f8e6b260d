//! The writer: it owns the write connection. Whoever has it (see [`desk`](super::desk)) drains everything that
//! waits, runs it in one `BEGIN IMMEDIATE`, and one fsync acknowledges all. Nothing is delayed to make a batch
//! larger: while one batch is written, the next gathers.
//!
//! Invariant: an answer is sent after the commit that makes it durable, and only if the database's name
//! still leads to the file that was written. An unexpected error rolls
//! the batch back and runs it one by one, so that one bad request harms no other.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use abide_core::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId};
use abide_core::kernel::OutboxRow;
use abide_core::timer::{Timer, TimerKind};
use rusqlite::{Connection, OptionalExtension, params};

use crate::Clock;
use crate::error::StoreError;
use crate::flush::{self, After, Fill, Flush, Flushed, Picked};
use crate::graphs::GraphCache;
use crate::hints::Hints;
use crate::job::{Answer, Done, Job, MOST_TOLD_AT_ONCE};
use crate::net::Net;
use crate::rows::{FromColumns, TIMER};
use crate::stats::Counters;

use super::checkpoint::Checkpoints;
use super::connection::Database;
use super::load::Loader;
use super::rows::Cells;
use super::turnstile::{Turn, Turnstile};
use super::wake::Waker;
use super::workers::WorkerFiles;
use super::{maintenance, write};

/// The most jobs in one transaction: bounds how long the first of them waits for the last.
pub(crate) const MAX_BATCH: usize = 2048;
/// A caller writes on its own thread while transactions take less than this: otherwise it would keep the other tasks of
/// its thread waiting.
pub(crate) const QUICK: Duration = Duration::from_millis(1);
/// The last transaction's part in what transactions take.
const NEWEST_PART: u32 = 4;

/// Work on the write connection that is no transition: it runs inside the batch's transaction, and
/// again if that is rolled back because of another job.
pub(crate) type Errand = Box<dyn Fn(&Database, &Connection, Timestamp) -> ErrandResult + Send>;
pub(crate) type ErrandResult = Result<Box<dyn std::any::Any + Send>, StoreError>;

/// What the writer is sent.
pub(crate) enum Sent {
    Job(Job),
    Errand(Errand, Answer<ErrandResult>),
    /// Answers once the log is written back, or cannot be because somebody reads.
    Checkpoint(Answer<()>),
    /// Answers once everything sent before is done and the file is closed.
    Close(Answer<()>),
}

impl Sent {
    pub(crate) fn is_small(&self) -> bool {
        matches!(self, Sent::Job(job) if job.is_small())
    }
}

/// A batch: everything that waited.
#[derive(Default)]
pub(crate) struct Batch {
    jobs: Vec<Job>,
    errands: Vec<(Errand, Answer<ErrandResult>)>,
    /// Who waits for a checkpoint after it.
    pub(crate) checkpoints: Vec<Answer<()>>,
    /// Who waits until the file is closed after it.
    pub(crate) closing: Option<Answer<()>>,
}

impl Batch {
    /// What waits, from the first: so many, and nothing after the wish to close.
    pub(crate) fn gather(sent: &mut VecDeque<Sent>, most: usize) -> Batch {
        let mut batch = Batch::default();
        while batch.len() < most && batch.closing.is_none() {
            match sent.pop_front() {
                None => break,
                Some(Sent::Job(job)) => batch.jobs.push(job),
                Some(Sent::Errand(errand, answer)) => batch.errands.push((errand, answer)),
                Some(Sent::Checkpoint(answer)) => batch.checkpoints.push(answer),
                Some(Sent::Close(answer)) => batch.closing = Some(answer),
            }
        }
        batch
    }

    fn len(&self) -> usize {
        self.jobs.len() + self.errands.len()
    }

    /// Whether others are woken before the answers.
    fn is_told_at_once(&self) -> bool {
        self.len() <= MOST_TOLD_AT_ONCE && self.jobs.iter().any(Job::is_from_outside)
    }

    /// One batch for each of its members.
    fn split(self) -> impl Iterator<Item = Batch> {
        let jobs = self.jobs.into_iter().map(|job| Batch {
            jobs: vec![job],
            ..Batch::default()
        });
        let errands = self.errands.into_iter().map(|errand| Batch {
            errands: vec![errand],
            ..Batch::default()
        });
        errands.chain(jobs)
    }

    fn refuse(self, error: &StoreError) {
        for job in self.jobs {
            job.refuse(error.clone());
        }
        for (_, answer) in self.errands {
            drop(answer.send(Err(error.clone())));
        }
    }

    fn answer(self, answers: Answers) {
        for (job, done) in self.jobs.into_iter().zip(answers.done) {
            job.answer(done);
        }
        for ((_, answer), result) in self.errands.into_iter().zip(answers.errands) {
            drop(answer.send(result));
        }
    }
}

/// What a batch came to, kept until the commit.
struct Answers {
    done: Vec<Done>,
    errands: Vec<ErrandResult>,
}

/// The answers to a batch. They are sent when the writer is free again: who gets one often asks for something else at
/// once.
struct Unsent {
    batch: Batch,
    answers: Result<Answers, StoreError>,
}

/// What was written, and what is left to do.
#[must_use = "the answers are to be sent"]
pub(crate) struct Written {
    unsent: Vec<Unsent>,
    /// How long to wait at most until other processes have to be woken.
    pub(crate) patience: Option<Duration>,
    /// Whether the thread has to write the log back.
    pub(crate) log_is_long: bool,
}

impl Written {
    /// Sends the answers.
    pub(crate) fn send(self) {
        for Unsent { batch, answers } in self.unsent {
            match answers {
                Ok(answers) => batch.answer(answers),
                Err(error) => batch.refuse(&error),
            }
        }
    }
}

pub(crate) struct Writer {
    pub(crate) database: Database,
    pub(crate) connection: Connection,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) clock: Clock,
    pub(crate) graphs: Arc<GraphCache>,
    pub(crate) hints: Arc<Hints>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) workers: Arc<WorkerFiles>,
    pub(crate) waker: Waker,
    pub(crate) turnstile: Turnstile,
    /// [`foreign`], when it was last looked at.
    pub(crate) foreign: i64,
    /// What transactions take, the latest ones most.
    pub(crate) pace: Duration,
    /// See [`QUICK`].
    pub(crate) quick: Duration,
}

impl Writer {
    /// Writes a batch, however long that takes.
    pub(crate) fn work_off(&mut self, batch: Batch) -> Written {
        let mut unsent = Vec::new();
        if batch.len() > 0 {
            self.write(batch, None, &mut unsent);
        }
        self.written(unsent)
    }

    /// Writes the batch that `take` gives, if that is likely to be quick and nobody else is writing. `None` if it is for
    /// the thread.
    pub(crate) fn write_here(&mut self, take: impl FnOnce() -> Option<Batch>) -> Option<Written> {
        if self.pace >= self.quick || self.checkpoints.is_pressing() {
            return None;
        }
        let turn = self.try_open()?;
        let mut unsent = Vec::new();
        match take() {
            Some(batch) => self.write(batch, Some(turn), &mut unsent),
            None => roll_back(&self.connection),
        }
        Some(self.written(unsent))
    }

    fn written(&mut self, unsent: Vec<Unsent>) -> Written {
        Written {
            unsent,
            patience: self.waker.wake(),
            log_is_long: self.checkpoints.is_pressing(),
        }
    }

    /// Writes the log back as far as it has to be, or all of it.
    pub(crate) fn checkpoint(&mut self, all: bool) {
        self.checkpoints.keep_bounded(&self.connection);
        if all {
            self.checkpoints.empty_log(&self.connection);
        }
    }

    /// Closes the file.
    pub(crate) fn finish(mut self) {
        self.waker.wake_at_last();
        self.checkpoints.finish(&self.connection);
        self.database.close(self.connection);
    }

    /// Writes a batch, in the transaction that is open if there is one.
    fn write(&mut self, batch: Batch, open: Option<Turn>, unsent: &mut Vec<Unsent>) {
        let answers = match self.commit(&batch, open) {
            Ok(answers) => {
                if batch.is_told_at_once() {
                    self.waker.wake_at_last();
                }
                Ok(answers)
            }
            Err(error) if batch.len() == 1 || !is_singled_out(&error) => {
                if let Err(gone) = self.database.require_same_file(false) {
                    self.hints.lose(gone);
                } else if error.is_for_good() {
                    self.hints.lose(error.clone());
                }
                Err(error)
            }
            Err(error) => {
                tracing::warn!(%error, jobs = batch.len(), "a batch failed and is run one by one");
                return batch.split().for_each(|one| self.write(one, None, unsent));
            }
        };
        unsent.push(Unsent { batch, answers });
    }

    /// Runs a batch in one transaction. After an error nothing of it is written.
    fn commit(&mut self, batch: &Batch, open: Option<Turn>) -> Result<Answers, StoreError> {
        let before = self.connection.total_changes();
        self.checkpoints.before_commit();
        let begun = Instant::now();
        let done = self.transact(batch, open);
        let newest = begun.elapsed();
        let writes = self.connection.total_changes() > before;
        // What writes nothing tells nothing about the disk.
        if writes || newest > self.pace {
            self.pace = self.pace * (NEWEST_PART - 1) / NEWEST_PART + newest / NEWEST_PART;
        }
        let (answers, after) = done?;
        self.counters.add_commit(batch.len(), writes);
        self.checkpoints.after_commit();
        if !batch.errands.is_empty() {
            self.look_for_others();
        }
        after.tell(&self.hints);
        self.waker.note(&after);
        Ok(answers)
    }

    /// Begins a transaction, when it is this process's turn to write.
    fn open(&mut self) -> Result<Turn, StoreError> {
        let turn = self.turnstile.pass();
        self.database.require_same_file(false)?;
        self.database.begin(&self.connection)?;
        Ok(turn)
    }

    /// The same if it needs no waiting. What is in the way otherwise is for [`open`](Writer::open) to find.
    fn try_open(&mut self) -> Option<Turn> {
        let turn = self.turnstile.try_pass()?;
        self.database.require_same_file(false).ok()?;
        self.database.try_begin(&self.connection).ok()?;
        Some(turn)
    }

    /// Runs a batch in a transaction: the one that is open, or its own.
    fn transact(
        &mut self,
        batch: &Batch,
        open: Option<Turn>,
    ) -> Result<(Answers, After), StoreError> {
        let turn = match open {
            Some(turn) => turn,
            None => self.open()?,
        };
        let connection = &self.connection;
        let run = catch_unwind(AssertUnwindSafe(|| {
            self.database.require_version(connection)?;
            self.run_batch(batch)
        }));
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
        drop(turn);
        self.database.require_same_file(true)?;
        Ok((answers, after))
    }

    /// Whether other processes committed something, in case that their wake-up was lost. Looked at
    /// with errands, since a heartbeat is one.
    fn look_for_others(&mut self) {
        match foreign(&self.connection) {
            Ok(foreign) if foreign == self.foreign => {}
            Ok(foreign) => {
                self.foreign = foreign;
                self.hints.timer_set(Timestamp(0));
                self.hints.work.notify_one();
            }
            Err(error) => tracing::warn!(%error, "can't tell what other processes wrote"),
        }
    }

    fn run_batch(&self, batch: &Batch) -> Result<(Answers, After), StoreError> {
        let connection = &self.connection;
        let now = (self.clock)();
        let mut errands = Vec::with_capacity(batch.errands.len());
        for (errand, _) in &batch.errands {
            let result = errand(&self.database, connection, now);
            if let Err(error) = &result
                && !error.is_content()
            {
                return Err(error.clone());
            }
            errands.push(result);
        }
        let mut flush = Flush::new(now);
        for job in &batch.jobs {
            match self.pick(now, job) {
                Ok(picked) => flush.add(job, picked),
                Err(error) if error.is_content() => flush.refuse(error),
                Err(error) => return Err(error),
            }
        }
        if let Some(fill) = Fill::of(batch.jobs.iter()) {
            let rows = pick_to_fill(connection, &fill);
            flush.fill(
                fill.worker,
                rows.map_err(|error| self.database.error(error, false))?,
            );
        }
        let loader = Loader {
            database: &self.database,
            connection,
            graphs: &self.graphs,
            workers: &self.workers,
        };
        loader.run_through(&mut flush)?;
        let Flushed {
            mut done,
            executions,
            tasks,
            effects,
        } = flush.finish()?;
        let net = Net::of(now, &executions, &tasks, &effects)?;
        write::write(connection, &net).map_err(|error| self.database.write_error(error))?;
        let mut after = After::of(&effects);
        if done.iter().any(|done| matches!(done, Done::Fired(_))) {
            let sets = self.hints.timer_sets();
            let next = next_due(connection).map_err(|error| self.database.error(error, false))?;
            after.timers_read = Some((next, sets));
            for done in &mut done {
                if let Done::Fired(fired) = done {
                    fired.next_due = next;
                }
            }
        }
        Ok((Answers { done, errands }, after))
    }

    /// What the outbox or the timers have for a job.
    fn pick(&self, now: Timestamp, job: &Job) -> Result<Picked, StoreError> {
        let connection = &self.connection;
        let read = |error| self.database.error(error, false);
        let mut picked = Picked::default();
        match job {
            Job::Apply(..) => {}
            Job::Claim {
                worker,
                queues,
                max,
                ..
            } => {
                // Others take back what it holds, and would not look again.
                if !maintenance::is_registered(connection, *worker).map_err(read)? {
                    return Ok(picked);
                }
                picked.inbox =
                    outbox_rows(connection, Some(*worker), None, i64::MAX).map_err(read)?;
                picked.ready = ready_rows(connection, queues, *max).map_err(read)?;
            }
            Job::FireTimers { limit, .. } => {
                picked.due = due_timers(connection, now, *limit)
                    .map_err(|error| self.database.read_error(error, "a timer"))?;
            }
        }
        Ok(picked)
    }
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

fn outbox_rows(
    connection: &Connection,
    worker: Option<WorkerId>,
    queue: Option<VersionId>,
    limit: i64,
) -> rusqlite::Result<Vec<OutboxRow>> {
    let columns = "SELECT queue, -rank, ready_at, execution, task FROM task_outbox";
    let sql = match queue {
        None => format!("{columns} WHERE worker = ?1 LIMIT ?2"),
        Some(_) => format!(
            "{columns} WHERE worker = ?1 AND queue = ?3 ORDER BY rank, ready_at, execution, task LIMIT ?2"
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

/// What the slots that finished tasks leave are filled with. Nothing for a worker that was declared dead: others
/// take back what it holds, and would not look again.
fn pick_to_fill(connection: &Connection, fill: &Fill) -> rusqlite::Result<Vec<OutboxRow>> {
    match maintenance::is_registered(connection, fill.worker)? {
        true => ready_rows(connection, &fill.queues, fill.most),
        false => Ok(Vec::new()),
    }
}

/// The first rows of each of these queues: so many, and one more if there is one.
fn ready_rows(
    connection: &Connection,
    queues: &[VersionId],
    most: u32,
) -> rusqlite::Result<Vec<OutboxRow>> {
    let limit = i64::from(most) + 1;
    let of_queue = |queue: &VersionId| outbox_rows(connection, None, Some(*queue), limit);
    let rows = queues.iter().map(of_queue).collect::<Result<Vec<_>, _>>()?;
    Ok(rows.into_iter().flatten().collect())
}

/// Timers of a kind beyond are left alone; `verify` finds them.
const LAST_KIND: i64 = TimerKind::ALL.len() as i64;

/// The timers that are due, earliest first.
fn due_timers(connection: &Connection, now: Timestamp, limit: u32) -> rusqlite::Result<Vec<Timer>> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "SELECT {TIMER} FROM timers WHERE due_at <= ?1 AND kind BETWEEN 1 AND ?3 \
             ORDER BY due_at, kind, execution, task, piece LIMIT ?2"
        )
    });
    let mut statement = connection.prepare_cached(&SQL)?;
    let rows = statement.query_map(params![now.0, limit, LAST_KIND], |row| {
        Timer::from_columns(&mut Cells::new(connection, row))
    })?;
    rows.collect()
}

/// The earliest timer that a clock reaches.
pub(crate) fn next_due(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
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
        StoreError::Internal(_)
            | StoreError::Unexpected { .. }
            | StoreError::IdTaken
            | StoreError::Full(_)
    )
}
