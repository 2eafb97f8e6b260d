//! A committer: takes everything that waits, runs it in one transaction, answers after the commit.
//! A few of them work side by side, so that while one waits for the disk the next one reads.
//!
//! Invariant: the locks of all executions that a flush touches are taken in one statement, in the
//! order of their ids, before anything else of them is read; a request that turns out to need
//! another one makes the flush begin anew with that one among them. So two flushes never wait for
//! each other.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use abide_core::ids::{ExecutionId, made_at};
use abide_core::kernel::{Need, Request};
use rustc_hash::FxHashSet;
use tokio::sync::{Mutex, mpsc};

use crate::error::StoreError;
use crate::flush::{After, Flush, Flushed};
use crate::job::{Done, Job};

use super::Shared;
use super::connect::Session;
use super::fate::{Fate, Mark, SELECT_XID};
use super::load::{self, Plan};
use super::low_water::LowWater;
use super::statement::{Execute, Param, Row, Statement, Value};
use super::{pick, write};

/// The most jobs in one transaction: bounds how long the first of them waits for the last.
const MAX_BATCH: usize = 1024;
/// How often a flush is run again because another process came between, before its jobs are tried
/// one by one.
const MAX_COLLISIONS: u32 = 16;
/// How many requests wait at once, each on a connection of its own, for what somebody keeps locked.
pub(super) const MOST_APART: usize = 4;
/// Pauses between two attempts to reach a server that is away.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// A job and when it was asked.
pub(crate) struct Queued {
    pub(crate) job: Job,
    pub(crate) since: Instant,
}

/// Where the committers take their jobs.
pub(crate) type Queue = Arc<Mutex<mpsc::UnboundedReceiver<Queued>>>;

/// One of the committers.
pub(crate) struct Committer {
    shared: Arc<Shared>,
    queue: Queue,
    session: Option<Session>,
    /// The executions that the last flush could not lock, or one of them.
    contended: Vec<ExecutionId>,
    /// Why the server could not be reached, until it can.
    away: Option<StoreError>,
    /// It is there for one request that waits, and no other waits behind that.
    is_apart: bool,
}

/// The executions that a flush locks before it reads anything else, as what they are needed for.
#[derive(Default)]
struct Locks(FxHashSet<Need>);

/// What a committed flush came to.
struct Committed {
    done: Vec<Done>,
    after: After,
}

/// Why a flush was not committed.
enum Failed {
    /// Nothing of it was written.
    Definitely(StoreError),
    /// It needs more locks.
    Short,
    /// The connection was lost after the commit was sent: the transaction tells what became of it.
    Unknown(i64, Mark, Committed),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Failed {
        Failed::Definitely(error)
    }
}

impl Committer {
    pub(crate) fn new(shared: Arc<Shared>, queue: Queue, session: Session) -> Committer {
        Committer {
            shared,
            queue,
            session: Some(session),
            contended: Vec::new(),
            away: None,
            is_apart: false,
        }
    }

    /// Waits for what somebody keeps locked on behalf of one request. Boxed, since it is begun by a
    /// committer and is one.
    fn wait_apart(
        shared: Arc<Shared>,
        queue: Queue,
        queued: Queued,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            // An error would mean that it was closed, which nobody does.
            let place = shared.apart.acquire().await;
            let mut committer = Committer {
                shared: shared.clone(),
                queue,
                session: None,
                contended: Vec::new(),
                away: None,
                is_apart: true,
            };
            committer.work_off(vec![queued]).await;
            drop(place);
        })
    }

    /// Runs until nobody can ask any more and everything asked is done.
    pub(crate) async fn run(mut self) {
        while let Some(batch) = gather(&self.queue).await {
            self.work_off(batch).await;
        }
    }

    async fn work_off(&mut self, batch: Vec<Queued>) {
        let mut waiting = vec![batch];
        let mut collisions = 0;
        let mut pause = FIRST_PAUSE;
        while let Some(batch) = waiting.pop() {
            let batch = self.give_up_late(batch);
            if batch.is_empty() {
                continue;
            }
            let (error, batch) = match self.commit(batch).await {
                Ok(()) => {
                    pause = FIRST_PAUSE;
                    self.away = None;
                    continue;
                }
                Err(failed) => failed,
            };
            match error {
                StoreError::Raced { .. } | StoreError::Deadlock(_)
                    if collisions < MAX_COLLISIONS =>
                {
                    collisions += 1;
                    waiting.push(batch);
                }
                StoreError::Busy(_) => waiting.extend(self.set_stuck_aside(batch).await),
                StoreError::Unavailable { .. } => {
                    tracing::warn!(%error, "the database is away; trying again");
                    self.session = None;
                    self.away = Some(error);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    waiting.push(batch);
                }
                error if batch.len() == 1 => refuse(batch, &error),
                error => {
                    tracing::warn!(%error, jobs = batch.len(), "a batch failed and is run one by one");
                    collisions = 0;
                    waiting.extend(batch.into_iter().rev().map(|one| vec![one]));
                }
            }
        }
    }

    /// Answers whoever waited in vain for so long that it should know.
    fn give_up_late(&self, batch: Vec<Queued>) -> Vec<Queued> {
        let patience = self.shared.patience;
        let (late, rest): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .partition(|queued| queued.since.elapsed() > patience);
        if !late.is_empty() {
            // Unless the server is away, it is somebody's lock that keeps them waiting.
            let busy = || StoreError::Busy(self.shared.address.database());
            refuse(late, &self.away.clone().unwrap_or_else(busy));
        }
        rest
    }

    /// Commits a batch and answers it, or gives it back.
    async fn commit(&mut self, batch: Vec<Queued>) -> Result<(), (StoreError, Vec<Queued>)> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => match self.shared.connect().await {
                Ok(session) => session,
                Err(error) => return Err((error, batch)),
            },
        };
        if let Err(error) = self.make_room(&mut session, &batch).await {
            return Err((error, batch));
        }
        let mut locks = Locks::default();
        let failed = loop {
            match self.flush(&session, &batch, &mut locks).await {
                Ok(committed) => {
                    self.session = Some(session);
                    self.answer(batch, committed);
                    return Ok(());
                }
                Err(Failed::Short) => {
                    if let Err(error) = roll_back(&session).await {
                        break error;
                    }
                }
                Err(Failed::Definitely(error)) => {
                    match error {
                        StoreError::Deadlock(_) => self.shared.counters.add_deadlock(),
                        StoreError::Busy(_) => self.contended = locks.executions(),
                        _ => {}
                    }
                    let lost = session.is_closed();
                    if !lost && roll_back(&session).await.is_ok() {
                        self.session = Some(session);
                    }
                    break error;
                }
                Err(Failed::Unknown(xid, mark, committed)) => {
                    drop(session);
                    return self.find_out(xid, &mark, committed, batch).await;
                }
            }
        };
        Err((failed, batch))
    }

    /// Partitions of the history are made ahead of time; but a clock may jump, or be a test's.
    async fn make_room(&self, session: &mut Session, batch: &[Queued]) -> Result<(), StoreError> {
        let started = batch.iter().filter_map(|queued| match &queued.job {
            Job::Apply(request, _) => match &**request {
                Request::Start(start) => Some(start.id),
                _ => None,
            },
            _ => None,
        });
        match started.max() {
            Some(newest) if newest.0 >= self.shared.events_end.load(Ordering::Relaxed) => {
                self.shared.make_room(session, made_at(newest.0)).await
            }
            _ => Ok(()),
        }
    }

    fn answer(&self, batch: Vec<Queued>, committed: Committed) {
        self.shared.counters.add_commit(batch.len());
        committed.after.tell(&self.shared.hints);
        self.shared.news.add(&committed.after);
        for (queued, done) in batch.into_iter().zip(committed.done) {
            queued.job.answer(done);
        }
    }

    /// One transaction, up to and including its commit.
    async fn flush(
        &self,
        session: &Session,
        batch: &[Queued],
        locks: &mut Locks,
    ) -> Result<Committed, Failed> {
        let now = self.shared.clock.now();
        let mut flush = Flush::new(now);
        let mut statements = vec![Statement::new("BEGIN", Vec::new())];
        let (low_water, stuck) = (&self.shared.low_water, self.shared.stuck.now());
        let picks: Vec<_> = batch
            .iter()
            .map(|queued| pick::statements(&queued.job, now, low_water, &stuck))
            .collect();
        let must_pick = picks.iter().any(|of_job| !of_job.is_empty());
        if must_pick {
            let counts: Vec<usize> = picks.iter().map(Vec::len).collect();
            statements.extend(picks.into_iter().flatten());
            let mut answers = session
                .run(std::mem::take(&mut statements))
                .await?
                .into_iter();
            answers.next();
            for (queued, count) in batch.iter().zip(counts) {
                let of_job: Vec<_> = answers.by_ref().take(count).collect();
                match pick::picked(&queued.job, now, low_water, of_job.into_iter()) {
                    Ok(picked) => flush.add(&queued.job, picked),
                    Err(error) if error.is_content() => flush.refuse(error),
                    Err(error) => return Err(error.into()),
                }
            }
        } else {
            for queued in batch {
                flush.add(&queued.job, Default::default());
            }
        }
        locks.add(&flush.missing(), &flush);
        let xid = self
            .read_through(session, &mut flush, statements, locks)
            .await?;
        let left = flush.left_behind();
        let flushed = flush.finish()?;
        let sets = self.shared.hints.timer_sets();
        write(session, now, flushed, xid, left, sets, low_water).await
    }

    /// Locks, reads and runs until every request has run through. Answers the transaction's id.
    async fn read_through(
        &self,
        session: &Session,
        flush: &mut Flush<'_>,
        begin: Vec<Statement<'static>>,
        locks: &mut Locks,
    ) -> Result<i64, Failed> {
        if flush.is_done() {
            session.run(begin).await?;
            return Ok(0);
        }
        let mut needs: Vec<Need> = locks.0.iter().cloned().collect();
        needs.extend(flush.missing());
        let mut statements: Vec<Statement<'_>> = begin;
        statements.push(Statement::new(SELECT_XID, Vec::new()));
        let before = statements.len();
        let mut answers = self.read(session, flush, statements, &needs).await?;
        let xid = single_int(answers.drain(..before).next_back())?;
        flush.run()?;
        while !flush.is_done() {
            let needs = flush.missing();
            if locks.add(&needs, flush) {
                return Err(Failed::Short);
            }
            self.read(session, flush, Vec::new(), &needs).await?;
            flush.run()?;
        }
        Ok(xid)
    }

    /// Runs statements, and with them those that read these needs. Answers what the former did.
    async fn read(
        &self,
        session: &Session,
        flush: &mut Flush<'_>,
        mut statements: Vec<Statement<'_>>,
        needs: &[Need],
    ) -> Result<Vec<Vec<Row>>, Failed> {
        let graphs = &self.shared.graphs;
        let (low_water, now) = (&self.shared.low_water, flush.working.now);
        let mut plan = Plan::new(&flush.working, graphs, low_water, now, needs);
        let before = statements.len();
        statements.extend(plan.statements());
        let mut answers = session.run(statements).await?;
        let rows = answers.split_off(before);
        for (need, error) in &plan.fill(rows, &mut flush.working, graphs)? {
            flush.cannot_read(need, error);
        }
        Ok(answers)
    }

    /// What became of a transaction whose commit was sent and never answered.
    async fn find_out(
        &mut self,
        xid: i64,
        mark: &Mark,
        committed: Committed,
        batch: Vec<Queued>,
    ) -> Result<(), (StoreError, Vec<Queued>)> {
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        while begun.elapsed() < self.shared.patience {
            match self.fate_of(xid, mark).await {
                Ok(Fate::Committed) => {
                    self.answer(batch, committed);
                    return Ok(());
                }
                Ok(Fate::Aborted) => return Err((self.shared.away(), batch)),
                Ok(Fate::Open) => {}
                Err(error) => tracing::warn!(%error, "can't tell yet whether a commit happened"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        let error = StoreError::Io {
            path: self.shared.address.database(),
            detail: "the connection was lost while it committed".to_owned(),
            unknown: true,
        };
        refuse(batch, &error);
        Ok(())
    }

    async fn fate_of(&mut self, xid: i64, mark: &Mark) -> Result<Fate, StoreError> {
        let session = match self.session.take() {
            Some(session) => session,
            None => self.shared.connect().await?,
        };
        let fate = mark.fate(&session, xid).await?;
        self.session = Some(session);
        Ok(fate)
    }

    /// Somebody keeps an execution locked, such as a user's open transaction: its requests wait
    /// apart, and the others go on.
    async fn set_stuck_aside(&mut self, batch: Vec<Queued>) -> Vec<Vec<Queued>> {
        if self.is_apart {
            return vec![batch];
        }
        let stuck = match self.stuck_now().await {
            Ok(stuck) => stuck,
            Err(error) => {
                tracing::warn!(%error, "can't tell which executions are locked");
                return vec![batch];
            }
        };
        self.shared.stuck.add(&stuck);
        let is_alone = batch.len() == 1;
        let is_stuck = |queued: &Queued| match &queued.job {
            // It may be about an instance: its latest execution, or one that is being started
            // elsewhere.
            Job::Apply(..) if is_alone => true,
            Job::Apply(request, _) => request
                .needs()
                .iter()
                .any(|need| need.execution().is_some_and(|id| stuck.contains(&id))),
            // What they pick next leaves stuck executions out.
            _ => false,
        };
        let (aside, rest): (Vec<_>, Vec<_>) = batch.into_iter().partition(is_stuck);
        if aside.is_empty() && !is_alone {
            return rest.into_iter().rev().map(|one| vec![one]).collect();
        }
        for queued in aside {
            let (shared, queue) = (self.shared.clone(), self.queue.clone());
            tokio::spawn(Committer::wait_apart(shared, queue, queued));
        }
        vec![rest]
    }

    /// The executions of the last flush that cannot be locked now either.
    async fn stuck_now(&mut self) -> Result<FxHashSet<ExecutionId>, StoreError> {
        let session = match self.session.take() {
            Some(session) => session,
            None => self.shared.connect().await?,
        };
        let ids = std::mem::take(&mut self.contended);
        let known = Statement::new(
            "SELECT id FROM ~executions WHERE id = ANY ($1::bigint[])",
            vec![Param::Ints(ids.iter().map(|id| Some(id.0)).collect())],
        );
        let ask = vec![
            Statement::new("BEGIN", Vec::new()),
            known,
            load::lock_free(&ids),
            Statement::new("ROLLBACK", Vec::new()),
        ];
        let mut answers = session.run(ask).await?.into_iter();
        self.session = Some(session);
        let mut stuck: FxHashSet<ExecutionId> = ids.into_iter().collect();
        let mut ids = || {
            let rows = answers.next().unwrap_or_default();
            let ids = rows.into_iter().flatten();
            let id = |value| match value {
                Value::Int(id) => Some(ExecutionId(id)),
                _ => None,
            };
            ids.filter_map(id).collect::<FxHashSet<_>>()
        };
        ids();
        let (known, free) = (ids(), ids());
        stuck.retain(|id| known.contains(id) && !free.contains(id));
        Ok(stuck)
    }
}

/// Writes what a flush came to, and commits.
async fn write(
    session: &Session,
    now: abide_core::ids::Timestamp,
    flushed: Flushed,
    xid: i64,
    left: bool,
    sets: u64,
    low_water: &LowWater,
) -> Result<Committed, Failed> {
    let Flushed {
        mut done,
        executions,
        tasks,
        effects,
    } = flushed;
    let mut statements = write::statements(now, &executions, &tasks, &effects)?;
    let writes = !statements.is_empty();
    low_water.added(&effects);
    let mark = Mark::of(now, &effects);
    let fired = done.iter().any(|done| matches!(done, Done::Fired(_)));
    if fired {
        statements.push(pick::next_due(low_water));
    }
    let mut after = After::of(&effects);
    // Rows that were picked and not taken were invisible to others meanwhile.
    after.work |= left;
    statements.push(Statement::new("COMMIT", Vec::new()));
    let count = statements.len();
    let answers = match session.run(statements).await {
        Ok(answers) => answers,
        Err(error) if writes && !error.is_definite() => {
            return Err(Failed::Unknown(xid, mark, Committed { done, after }));
        }
        // Nothing was to be written, so nothing is in doubt: it is run again.
        Err(StoreError::Io { path, detail, .. }) => {
            let database = path;
            return Err(StoreError::Unavailable { database, detail }.into());
        }
        Err(error) => return Err(error.into()),
    };
    if fired {
        let next = answers.into_iter().nth(count - 2).unwrap_or_default();
        let next = match next.into_iter().flatten().next() {
            Some(Value::Int(due)) => Some(abide_core::ids::Timestamp(due)),
            _ => None,
        };
        after.timers_read = Some((next, sets));
        for done in &mut done {
            if let Done::Fired(fired) = done {
                fired.next_due = next;
            }
        }
    }
    Ok(Committed { done, after })
}

impl Locks {
    fn executions(&self) -> Vec<ExecutionId> {
        self.0.iter().filter_map(Need::execution).collect()
    }

    /// Adds what these needs are about and the flush has not locked. Answers whether there was any.
    fn add(&mut self, needs: &[Need], flush: &Flush<'_>) -> bool {
        let before = self.0.len();
        for need in needs {
            let lock = match need {
                Need::Instance(_) => Some(need.clone()),
                need => need.execution().map(Need::Execution),
            };
            self.0.extend(lock.filter(|lock| !flush.working.has(lock)));
        }
        self.0.len() > before
    }
}

async fn gather(queue: &Queue) -> Option<Vec<Queued>> {
    let mut queue = queue.lock().await;
    let mut batch = vec![queue.recv().await?];
    while batch.len() < MAX_BATCH
        && let Ok(next) = queue.try_recv()
    {
        batch.push(next);
    }
    Some(batch)
}

fn refuse(batch: Vec<Queued>, error: &StoreError) {
    for queued in batch {
        queued.job.refuse(error.clone());
    }
}

async fn roll_back(session: &Session) -> Result<(), StoreError> {
    session
        .run(vec![Statement::new("ROLLBACK", Vec::new())])
        .await
        .map(drop)
}

fn single_int(rows: Option<Vec<Row>>) -> Result<i64, StoreError> {
    match rows.into_iter().flatten().flatten().next() {
        Some(Value::Int(value)) => Ok(value),
        other => Err(StoreError::Internal(format!("no number but {other:?}"))),
    }
}
