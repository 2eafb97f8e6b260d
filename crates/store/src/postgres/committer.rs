//! A committer: takes everything that waits, runs it in one transaction, answers after the commit.
//! A few of them work side by side, so that while one waits for the disk the next one reads.
//!
//! Invariant: the locks of all executions that a flush touches are taken in one statement, in the
//! order of their ids, before anything else of them is read; a request that turns out to need
//! another one makes the flush begin anew with that one among them. So two flushes never wait for
//! each other.

mod apart;
mod lost_commit;

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use abide_core::ids::{Timestamp, made_at};
use abide_core::kernel::{Need, Request, Subject};
use rustc_hash::FxHashSet;

use crate::error::StoreError;
use crate::flush::{After, Fill, Flush, Flushed, panic_text};
use crate::job::{Done, Job, MOST_TOLD_AT_ONCE};
use crate::net::Net;

use super::Shared;
use super::connect::Session;
use super::fate::{CONFIRM_TO_STANDBY, Mark, SELECT_XID};
use super::load::Plan;
use super::news::{self, Pending};
use super::pool::{FIRST_PAUSE, LONGEST_PAUSE};
use super::prefetch::prefetch;
use super::queue::{Batch, Queued};
use super::statement::{Execute, Row, Statement, Value};
use super::{claimed_inputs, pick, write};

/// How often a flush is run again because another process came between, before its jobs are tried
/// one by one.
const MAX_COLLISIONS: u32 = 16;
/// How much longer than somebody is patient a request may wait for its one try.
const LAST_TRIES: Duration = Duration::from_secs(10);
/// How many requests wait at once, each on a connection of its own, for what somebody keeps locked.
pub(super) const MOST_APART: usize = 4;

/// One of the committers.
pub(crate) struct Committer {
    shared: Arc<Shared>,
    session: Option<Session>,
    /// What the last flush needed locked and something of which it could not get.
    contended: Locks,
    /// The last try was made on a connection of its own, on which nothing had been asked before.
    was_fresh: bool,
    /// Why the server could not be reached, until it can.
    away: Option<StoreError>,
    /// It is there for one request that waits, and no other waits behind that.
    is_apart: bool,
}

/// The subjects that a flush locks before it reads anything else.
#[derive(Default)]
struct Locks(FxHashSet<Subject>);

/// What a committed flush came to.
struct Committed {
    done: Vec<Done>,
    after: After,
    /// Whether it changed anything.
    writes: bool,
}

/// Why a flush was not committed.
enum Failed {
    /// Nothing of it was written.
    Definitely(StoreError),
    /// It needs more locks.
    Short,
    /// Nothing of it was written, maybe since one of the inputs that it brings along can't be read.
    /// These are none of its business.
    Bringing(StoreError),
    /// The connection was lost after the commit was sent: the transaction tells what became of it.
    Unknown(i64, Mark, Committed),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Failed {
        Failed::Definitely(error)
    }
}

impl Committer {
    pub(crate) fn new(shared: Arc<Shared>, session: Session) -> Committer {
        Committer {
            session: Some(session),
            ..Committer::without_session(shared)
        }
    }

    fn without_session(shared: Arc<Shared>) -> Committer {
        Committer {
            shared,
            session: None,
            contended: Locks::default(),
            was_fresh: false,
            away: None,
            is_apart: false,
        }
    }

    /// The connection, or a new one. After an error it is not put back.
    async fn take_session(&mut self) -> Result<Session, StoreError> {
        match self.session.take() {
            Some(session) => Ok(session),
            None => self.shared.connect().await,
        }
    }

    /// Runs until nobody can ask any more and everything asked is done.
    pub(crate) async fn run(mut self) {
        while let Some(batch) = self.shared.queue.take().await {
            if let Err(panic) = guarded(self.work_off(batch)).await {
                let panic = panic_text(&*panic);
                tracing::error!(panic, "a defect: the writer panicked, and goes on");
                self = Committer::without_session(self.shared);
            }
        }
    }

    async fn work_off(&mut self, batch: Batch) {
        let Batch {
            jobs,
            mut under_way,
        } = batch;
        // In their order from the back.
        let mut waiting = vec![jobs];
        let mut collisions = 0;
        let mut pause = FIRST_PAUSE;
        let mut was_tried = false;
        while let Some(jobs) = waiting.pop() {
            let jobs = self.give_up_late(jobs, was_tried);
            if jobs.is_empty() {
                continue;
            }
            was_tried = true;
            let (error, jobs) = match self.commit(jobs).await {
                Ok(()) => {
                    pause = FIRST_PAUSE;
                    if self.away.take().is_some() {
                        self.shared.hints.reconnected.notify_one();
                    }
                    continue;
                }
                Err(failed) => failed,
            };
            match error {
                StoreError::Raced { .. } | StoreError::Deadlock(_)
                    if collisions < MAX_COLLISIONS =>
                {
                    collisions += 1;
                    waiting.push(jobs);
                }
                StoreError::Busy(_) if self.is_apart => waiting.push(jobs),
                StoreError::Busy(_) => match self.stuck_among(&jobs).await {
                    Ok(locked) if locked.is_empty() && jobs.len() > 1 => {
                        waiting.extend(one_by_one(jobs));
                    }
                    Ok(locked) => {
                        waiting.push(jobs);
                        self.set_aside(&locked, &mut waiting, &mut under_way);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "can't tell which executions are locked");
                        waiting.push(self.give_up_late(jobs, was_tried));
                    }
                },
                StoreError::Unavailable { .. } => {
                    tracing::warn!(%error, "the database is away; trying again");
                    self.session = None;
                    self.away = Some(error);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    waiting.push(jobs);
                }
                // What the connection was used for before may be the cause.
                error if jobs.len() == 1 && !self.was_fresh && is_unexplained(&error) => {
                    tracing::warn!(%error, "a request failed and is run again on a new connection");
                    self.session = None;
                    waiting.push(jobs);
                }
                error if jobs.len() == 1 || error.is_for_good() => refuse(jobs, &error),
                error => {
                    tracing::warn!(%error, jobs = jobs.len(), "a batch failed and is run one by one");
                    collisions = 0;
                    waiting.extend(one_by_one(jobs));
                }
            }
        }
    }

    /// How long a request may have waited and is still tried. While the server answers, one about an execution gets
    /// more than patience allows: it may have waited only for others that stand in somebody's way. What does so
    /// itself is set aside after one try.
    fn limit(&self, queued: &Queued, was_tried: bool) -> Duration {
        let patience = self.shared.patience;
        if self.is_apart && !was_tried {
            Duration::MAX
        } else if self.is_apart || self.away.is_some() || queued.subject().is_none() {
            patience
        } else {
            patience.saturating_add(LAST_TRIES)
        }
    }

    /// Answers whoever waited in vain for so long that it should know.
    fn give_up_late(&self, batch: Vec<Queued>, was_tried: bool) -> Vec<Queued> {
        let (late, rest): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .partition(|queued| queued.waited() > self.limit(queued, was_tried));
        if !late.is_empty() {
            // Unless the server is away, it is somebody's lock that keeps them waiting.
            let busy = || StoreError::Busy(self.shared.address.database());
            refuse(late, &self.away.clone().unwrap_or_else(busy));
        }
        rest
    }

    /// Commits a batch and answers it, or gives it back.
    async fn commit(&mut self, batch: Vec<Queued>) -> Result<(), (StoreError, Vec<Queued>)> {
        let kept = self.session.take();
        self.was_fresh = kept.is_none();
        let mut session = match kept {
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
        let mut brings_inputs = true;
        let failed = loop {
            let flush = self.flush(&session, &batch, &mut locks, brings_inputs);
            match flush.await {
                Ok(committed) => {
                    self.session = Some(session);
                    self.answer(batch, committed).await;
                    return Ok(());
                }
                Err(Failed::Short) => {
                    if let Err(error) = roll_back(&session).await {
                        break error;
                    }
                }
                Err(Failed::Bringing(error)) => {
                    tracing::warn!(%error, "a batch is run again without the inputs of what it claims");
                    brings_inputs = false;
                    if let Err(error) = roll_back(&session).await {
                        break error;
                    }
                }
                Err(Failed::Definitely(error)) => {
                    match error {
                        StoreError::Deadlock(_) => self.shared.counters.add_deadlock(),
                        StoreError::Busy(_) => self.contended = locks,
                        _ => {}
                    }
                    let lost = session.is_closed();
                    if !lost && roll_back(&session).await.is_ok() {
                        let error = self.shared.explained(&session, error).await;
                        self.session = Some(session);
                        break error;
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
        let started = batch.iter().filter_map(|queued| match queued.job() {
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

    /// Tells who may have something to do now, and answers. The others are told before the answer where the
    /// process may end as soon as it has that.
    async fn answer(&mut self, batch: Vec<Queued>, committed: Committed) {
        let Committed {
            done,
            after,
            writes,
        } = committed;
        // This process waits for no server to go on.
        after.tell(&self.shared.hints);
        if !is_told_at_once(&batch) || !self.tell_at_once(&after).await {
            self.shared.news.add(&after);
        }
        self.shared.counters.add_commit(batch.len(), writes);
        for (queued, done) in batch.into_iter().zip(done) {
            queued.answer(done);
        }
    }

    /// Tells the others. Answers whether that is done. It is no part of the transaction, which would commit
    /// under a lock of the whole server then. Where it fails it is left to the listener for a while: the
    /// answers must not wait for whoever holds that lock.
    async fn tell_at_once(&mut self, after: &After) -> bool {
        let news = &self.shared.news;
        let (Some(told), true) = (Pending::of_flush(after), news.may_tell_at_once()) else {
            return false;
        };
        let Some(session) = self.session.take() else {
            return false;
        };
        let sent = told.send(&session, &self.shared);
        let sent = tokio::time::timeout(news::AT_ONCE, sent).await;
        match sent {
            Ok(Ok(())) => {
                self.session = Some(session);
                return true;
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "news could not be told at once");
                self.session = Some(session).filter(|session| !session.is_closed());
            }
            // Dropped with the answer outstanding, the session ends.
            Err(_) => tracing::debug!("news could not be told at once: the server is silent"),
        }
        news.tells_later();
        false
    }

    /// One transaction, up to and including its commit.
    async fn flush(
        &self,
        session: &Session,
        batch: &[Queued],
        locks: &mut Locks,
        brings_inputs: bool,
    ) -> Result<Committed, Failed> {
        let now = self.shared.clock.now();
        let mut flush = Flush::new(now);
        let mut statements = vec![Statement::new("BEGIN", Vec::new())];
        let (low_water, locked) = (&self.shared.low_water, self.shared.locked_executions.now());
        let picks: Vec<_> = batch
            .iter()
            .map(|queued| pick::statements(queued.job(), now, low_water, &locked))
            .collect();
        // What waits for a lock must not wait for one of what it would claim as well.
        let fill = match self.is_apart {
            true => None,
            false => Fill::of(batch.iter().map(Queued::job)),
        };
        let must_pick = fill.is_some() || picks.iter().any(|of_job| !of_job.is_empty());
        if must_pick {
            let counts: Vec<usize> = picks.iter().map(Vec::len).collect();
            statements.extend(picks.into_iter().flatten());
            let fills = fill.as_ref();
            statements.extend(fills.map(|fill| pick::fill(fill, low_water, &locked)));
            let mut answers = session
                .run(std::mem::take(&mut statements))
                .await?
                .into_iter();
            answers.next();
            for (queued, count) in batch.iter().zip(counts) {
                let of_job: Vec<_> = answers.by_ref().take(count).collect();
                match pick::picked(queued.job(), now, low_water, of_job.into_iter()) {
                    Ok(picked) => flush.add(queued.job(), picked),
                    Err(error) if error.is_content() => flush.refuse(error),
                    Err(error) => return Err(error.into()),
                }
            }
            if let Some(fill) = &fill {
                let answer = answers.next().unwrap_or_default();
                let rows = pick::filled(fill, low_water, now, answer)?;
                flush.fill(fill.worker, rows);
            }
        } else {
            for queued in batch {
                flush.add(queued.job(), Default::default());
            }
        }
        locks.add(&flush.missing(), &flush);
        let mut prefetched = Vec::new();
        for queued in batch {
            if let Job::Apply(request, _) = queued.job() {
                prefetch(request, &self.shared.graphs, &mut prefetched);
            }
        }
        let xid = self
            .read_through(session, &mut flush, statements, locks, prefetched)
            .await?;
        let left = flush.left_behind();
        let flushed = flush.finish()?;
        self.write(session, now, flushed, xid, left, brings_inputs)
            .await
    }

    /// Writes what a flush came to, and commits.
    async fn write(
        &self,
        session: &Session,
        now: Timestamp,
        flushed: Flushed,
        xid: i64,
        left: bool,
        brings_inputs: bool,
    ) -> Result<Committed, Failed> {
        let (low_water, sets) = (&self.shared.low_water, self.shared.hints.timer_sets());
        let Flushed {
            mut done,
            executions,
            tasks,
            effects,
        } = flushed;
        let net = Net::of(now, &executions, &tasks, &effects)?;
        let mut statements = write::statements(&net);
        let writes = !statements.is_empty();
        low_water.added(&effects);
        let changes_rows = !executions.is_empty() || !tasks.is_empty();
        let mark = Mark::of(now, changes_rows, &effects);
        let inputs_at = statements.len();
        if brings_inputs {
            statements.extend(claimed_inputs::statement(&mut done));
        }
        let claimed = statements.len() > inputs_at;
        let is_applied = |done: &Done| matches!(done, Done::Apply(Ok(_)));
        if !writes && done.iter().any(is_applied) {
            // The answer tells of what is there, as of something durable.
            statements.push(Statement::new(CONFIRM_TO_STANDBY, Vec::new()));
        }
        let fired = done.iter().any(|done| matches!(done, Done::Fired(_)));
        if fired {
            statements.push(pick::next_due(low_water));
        }
        let mut after = After::of(&effects);
        // Rows that were picked and not taken were invisible to others meanwhile.
        after.work |= left;
        statements.push(Statement::new("COMMIT", Vec::new()));
        let count = statements.len();
        let mut answers = match session.run(statements).await {
            Ok(answers) => answers,
            Err(error) if writes && !error.is_definite() => {
                let committed = Committed {
                    done,
                    after,
                    writes,
                };
                return Err(Failed::Unknown(xid, mark, committed));
            }
            // Nothing was to be written, so nothing is in doubt: it is run again.
            Err(StoreError::Io { path, detail, .. }) => {
                let database = path;
                return Err(StoreError::Unavailable { database, detail }.into());
            }
            Err(
                error @ (StoreError::Corrupt { .. }
                | StoreError::Internal(_)
                | StoreError::Unexpected { .. }
                | StoreError::Unavailable { .. }),
            ) if claimed && !session.is_closed() => return Err(Failed::Bringing(error)),
            Err(error) => return Err(error.into()),
        };
        if claimed {
            claimed_inputs::hand_out(&mut done, std::mem::take(&mut answers[inputs_at]));
        }
        if fired {
            let next = answers.into_iter().nth(count - 2).unwrap_or_default();
            let next = match next.into_iter().flatten().next() {
                Some(Value::Int(due)) => Some(Timestamp(due)),
                _ => None,
            };
            after.timers_read = Some((next, sets));
            for done in &mut done {
                if let Done::Fired(fired) = done {
                    fired.next_due = next;
                }
            }
        }
        Ok(Committed {
            done,
            after,
            writes,
        })
    }

    /// Locks, reads and runs until every request has run through. Answers the transaction's id.
    async fn read_through(
        &self,
        session: &Session,
        flush: &mut Flush<'_>,
        begin: Vec<Statement<'static>>,
        locks: &mut Locks,
        prefetched: Vec<Need>,
    ) -> Result<i64, Failed> {
        if flush.is_done() {
            session.run(begin).await?;
            return Ok(0);
        }
        let mut needs: Vec<Need> = locks.0.iter().map(Subject::need).collect();
        needs.extend(flush.missing());
        needs.extend(prefetched);
        let mut statements: Vec<Statement<'_>> = begin;
        statements.push(Statement::new(SELECT_XID, Vec::new()));
        let before = statements.len();
        let mut answers = self.read(session, flush, statements, &needs).await?;
        let (xid, process, version) = three_ints(answers.drain(..before).next_back())?;
        session.check_process(process)?;
        self.shared.require_version(version)?;
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

    /// Tells this process and the others what a flush left to do.
    fn tell(&self, after: After) {
        after.tell(&self.shared.hints);
        self.shared.news.add(&after);
    }
}

impl Locks {
    /// Adds what these needs are about and the flush has not locked. Answers whether there was any.
    fn add(&mut self, needs: &[Need], flush: &Flush<'_>) -> bool {
        let before = self.0.len();
        let subjects = needs.iter().filter_map(Need::subject);
        self.0
            .extend(subjects.filter(|subject| !flush.working.has(&subject.need())));
        self.0.len() > before
    }
}

/// What a future comes to, or what it panicked with.
async fn guarded<T>(future: impl Future<Output = T>) -> std::thread::Result<T> {
    let mut future = pin!(future);
    poll_fn(|context| {
        let poll = || future.as_mut().poll(context);
        match catch_unwind(AssertUnwindSafe(poll)) {
            Ok(done) => done.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    })
    .await
}

/// Whether others are told before the answers.
fn is_told_at_once(batch: &[Queued]) -> bool {
    let mut jobs = batch.iter().map(Queued::job);
    batch.len() <= MOST_TOLD_AT_ONCE && jobs.any(Job::is_from_outside)
}

/// Each alone, in their order from the back.
fn one_by_one(jobs: Vec<Queued>) -> impl Iterator<Item = Vec<Queued>> {
    jobs.into_iter().rev().map(|one| vec![one])
}

/// Whether an error does not say what is to be done about it.
fn is_unexplained(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Unexpected { .. } | StoreError::Internal(_)
    )
}

fn refuse(batch: Vec<Queued>, error: &StoreError) {
    for queued in batch {
        queued.refuse(error.clone());
    }
}

async fn roll_back(session: &Session) -> Result<(), StoreError> {
    session
        .run(vec![Statement::new("ROLLBACK", Vec::new())])
        .await
        .map(drop)
}

fn three_ints(rows: Option<Vec<Row>>) -> Result<(i64, i64, i64), StoreError> {
    match rows.into_iter().flatten().next().as_deref() {
        Some([Value::Int(first), Value::Int(second), Value::Int(third)]) => {
            Ok((*first, *second, *third))
        }
        other => Err(StoreError::Internal(format!("no numbers but {other:?}"))),
    }
}
