//! One flush: the requests of many jobs run over one working set, name what they miss, run again
//! once it is read, and answer when everything is committed. Knows no SQL and waits for nothing:
//! a driver reads what is missing, in its own way, and writes the effects.
//!
//! Invariant: requests about the same subject take effect in the order in which they came.

use std::any::Any;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use abide_core::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId};
use abide_core::kernel::{
    Change, Claim, Effects, Inbox, Need, Offer, OutboxRow, Reply, Request, Stop, Subject, Working,
    apply, rehearse,
};
use abide_core::timer::{NEVER, Timer};
use rustc_hash::FxHashSet;

use crate::error::{ApplyError, StoreError};
use crate::hints::Hints;
use crate::job::{Done, Job};
use crate::{Claims, Fired};

/// The most rounds of reading that one flush may ask for. Each round reads at least one row that
/// was missing, and a request touches a bounded number, so this only stops a defect.
const MAX_ROUNDS: usize = 100_000;

/// What a driver picked for a job before the rules run.
#[derive(Debug, Default)]
pub(crate) struct Picked {
    /// For a claim: what is in the worker's inbox.
    pub(crate) inbox: Vec<OutboxRow>,
    /// For a claim: rows of its queues, in any order; one more than it wants shows that there is
    /// more.
    pub(crate) ready: Vec<OutboxRow>,
    /// For firing: what is due, earliest first.
    pub(crate) due: Vec<Timer>,
}

/// The requests of a batch of jobs, and the working set they share.
pub(crate) struct Flush<'a> {
    pub(crate) working: Working,
    jobs: Vec<Answered>,
    items: Vec<Item<'a>>,
    fired: FxHashSet<Timer>,
    /// What is in the hands of jobs that claim.
    picked: FxHashSet<TaskKey>,
    /// Whose slots are filled, in their order. One without a slot left is taken out.
    fillers: VecDeque<Filler>,
    left_behind: bool,
    rounds: usize,
}

/// What finished tasks of a batch would have their slots filled with: rows of one worker's queues. They are
/// picked once for the whole batch.
#[derive(Debug)]
pub(crate) struct Fill {
    pub(crate) worker: WorkerId,
    pub(crate) queues: Arc<[VersionId]>,
    /// How many rows to pick of each queue.
    pub(crate) most: u32,
}

/// A request whose slots are filled once it has run, and how many of them have been so far.
struct Filler {
    item: usize,
    slots: usize,
    filled: usize,
}

/// One request of a job.
struct Item<'a> {
    /// What it is part of. A claim into a slot that another request leaves gets it when it has run.
    job: Option<usize>,
    request: Cow<'a, Request>,
    about: Subject,
    /// What it stopped for.
    missing: Vec<Need>,
    /// Whether that is what it would stop for if those before it had not to come first: a guess.
    rehearsed: bool,
    result: Option<Result<Reply, ApplyError>>,
}

/// What a job's requests add up to.
enum Answered {
    Apply,
    Claim { more: bool },
    Fired { before: u32 },
    Refused(StoreError),
}

impl<'a> Flush<'a> {
    pub(crate) fn new(now: Timestamp) -> Flush<'a> {
        Flush {
            working: Working::new(now),
            jobs: Vec::new(),
            items: Vec::new(),
            fired: FxHashSet::default(),
            picked: FxHashSet::default(),
            fillers: VecDeque::new(),
            left_behind: false,
            rounds: 0,
        }
    }

    /// Adds a job with what was picked for it.
    pub(crate) fn add(&mut self, job: &'a Job, picked: Picked) {
        match job {
            Job::Apply(request, _) => self.add_request(request),
            Job::Claim { worker, max, .. } => {
                let max = *max as usize;
                let (ready, more) = first_of(picked.ready, max);
                self.left_behind |= more;
                self.jobs.push(Answered::Claim { more });
                for row in picked.inbox {
                    self.item(Cow::Owned(Request::Inbox(Inbox { row })));
                }
                for row in ready {
                    self.picked.insert(row.key);
                    self.item(Cow::Owned(claim(*worker, row)));
                }
            }
            Job::FireTimers { .. } => {
                // What an earlier job of the batch fires is still stored, but must not fire twice.
                let (fresh, before): (Vec<_>, Vec<_>) = picked
                    .due
                    .into_iter()
                    .partition(|timer| self.fired.insert(*timer));
                let before = before.len() as u32;
                self.jobs.push(Answered::Fired { before });
                for timer in fresh {
                    self.item(Cow::Owned(Request::Fire(timer)));
                }
            }
        }
    }

    /// Adds a request that nobody queued: whoever runs the flush takes its answer.
    pub(crate) fn add_request(&mut self, request: &'a Request) {
        self.jobs.push(Answered::Apply);
        self.item(Cow::Borrowed(request));
    }

    /// Adds what was picked for the slots that finished tasks leave, behind all jobs: it is claimed when they
    /// have run, for those of them that were recorded and whose successors left slots.
    pub(crate) fn fill(&mut self, worker: WorkerId, mut rows: Vec<OutboxRow>) {
        rows.retain(|row| !self.picked.contains(&row.key));
        let requests = self.items.iter().enumerate();
        let offers = requests.filter_map(|(item, of)| Some((item, offer_to_fill(&of.request)?)));
        let fillers = offers.filter(|(_, offer)| offer.worker == worker);
        self.fillers = fillers
            .map(|(item, offer)| Filler {
                item,
                slots: offer.slots as usize,
                filled: 0,
            })
            .collect();
        let slots = self.fillers.iter().map(|filler| filler.slots).sum();
        let (rows, more) = first_of(rows, slots);
        self.left_behind |= more;
        for row in rows {
            self.items.push(Item::of(Cow::Owned(claim(worker, row))));
        }
    }

    /// Adds a job for which nothing could be picked.
    pub(crate) fn refuse(&mut self, error: StoreError) {
        self.jobs.push(Answered::Refused(error));
    }

    /// Adds a request of the last job.
    fn item(&mut self, request: Cow<'a, Request>) {
        self.items.push(Item {
            job: Some(self.jobs.len() - 1),
            ..Item::of(request)
        });
    }

    /// What is to be read before the requests can run on; nothing if they are through.
    pub(crate) fn missing(&self) -> Vec<Need> {
        let mut seen = FxHashSet::default();
        let unanswered = self.items.iter().filter(|item| item.result.is_none());
        let needs = unanswered.flat_map(|item| &item.missing);
        needs
            .filter(|need| self.working.lacks(need) && seen.insert(*need))
            .cloned()
            .collect()
    }

    /// Runs every request as far as it gets. One that stops lets none of the same subject pass;
    /// those behind it only find out what they will need, so that it is read with the rest. A request
    /// that wants to pass the outbox waits for all requests before it, since they may add to the outbox.
    /// A claim into a slot that an end leaves waits for all before it, and stays undone if no slot is left.
    ///
    /// # Errors
    ///
    /// A request that never finds what it needs is a defect.
    pub(crate) fn run(&mut self) -> Result<(), StoreError> {
        self.rounds += 1;
        let mut stopped = FxHashSet::default();
        let mut are_through = true;
        for place in 0..self.items.len() {
            let (before, item) = self.items.split_at_mut(place);
            let item = &mut item[0];
            if item.result.is_some() {
                continue;
            }
            self.working.set_place(place, !stopped.is_empty());
            let fills = item.job.is_none();
            let waits = fills && !are_through;
            if waits || !stopped.is_empty() && stopped.contains(&self.working.resolve(&item.about))
            {
                are_through = false;
                item.rehearse(&mut self.working);
                continue;
            }
            while fills && self.fillers.front().is_some_and(|it| !it.has_slot(before)) {
                self.fillers.pop_front();
            }
            if fills && self.fillers.is_empty() {
                // It stays in the outbox, for whoever has a slot.
                self.left_behind = true;
                item.result = Some(Ok(Reply::Claimed(None)));
                continue;
            }
            item.run(&mut self.working);
            are_through &= item.result.is_some();
            if let (true, Some(Ok(Reply::Claimed(Some(_))))) = (fills, &item.result) {
                let filler = &mut self.fillers[0];
                item.job = before[filler.item].job;
                filler.filled += 1;
            }
            if item.result.is_none() {
                if self.rounds >= MAX_ROUNDS {
                    return Err(StoreError::Internal(format!(
                        "a request never found what it needs: {:?}",
                        item.request
                    )));
                }
                stopped.insert(self.working.resolve(&item.about));
            }
        }
        Ok(())
    }

    /// Whether rows were picked that no claim took.
    #[cfg(feature = "postgres")]
    pub(crate) fn left_behind(&self) -> bool {
        self.left_behind
    }

    /// Whether every request has run through.
    pub(crate) fn is_done(&self) -> bool {
        self.items.iter().all(|item| item.result.is_some())
    }

    /// A row cannot be read: the trouble of those who need it, and of nobody else in the flush. A timer wakes its task
    /// all the same, without the end of the wait: the task's next run reads the record, and fails with the error.
    pub(crate) fn cannot_read(&mut self, need: &Need, error: &StoreError) {
        for item in &mut self.items {
            if item.result.is_some() || item.rehearsed || !item.missing.contains(need) {
                continue;
            }
            match (need, &*item.request) {
                (Need::Waits(key), Request::Fire(_)) => self.working.load_waits(*key, Vec::new()),
                _ => item.result = Some(Err(error.clone().into())),
            }
        }
    }

    /// The answers, in the order of the jobs, and what is to be written. A row of the outbox, or a
    /// timer, that cannot be acted on must not stop the others: it is taken out, and `verify` finds
    /// its task.
    pub(crate) fn finish(mut self) -> Result<Flushed, StoreError> {
        let mut done: Vec<Done> = self.jobs.iter().map(Answered::empty).collect();
        for item in self.items {
            let result = item.result.expect("every request has run through");
            let Some(job) = item.job else {
                if let (Err(error), Request::Claim(claim)) = (result, &*item.request) {
                    set_aside(&mut self.working, claim.row, &error)?;
                }
                continue;
            };
            match (&mut done[job], &*item.request) {
                (Done::Apply(Ok(Reply::Finished(finished))), Request::Claim(_)) => {
                    if let Ok(Reply::Claimed(claimed)) = result {
                        finished.claimed.extend(claimed.map(|claimed| *claimed));
                    }
                }
                (Done::Apply(reply), _) => *reply = result,
                (Done::Claim(claims), Request::Inbox(inbox)) => match result {
                    Ok(Reply::Notice(notice)) => claims.notices.extend(notice),
                    Ok(_) => {}
                    Err(error) => set_aside(&mut self.working, inbox.row, &error)?,
                },
                (Done::Claim(claims), Request::Claim(claim)) => match result {
                    Ok(Reply::Claimed(Some(claimed))) => claims.claimed.push(*claimed),
                    // A row that was dropped made room for another.
                    Ok(_) => claims.more = true,
                    Err(error) => set_aside(&mut self.working, claim.row, &error)?,
                },
                (Done::Fired(fired), Request::Fire(timer)) => match result {
                    Ok(_) => fired.fired += 1,
                    Err(error) => {
                        only_content(&error)?;
                        tracing::error!(?timer, %error, "a timer cannot be acted on and is removed");
                        self.working.drop_timer(*timer);
                    }
                },
                _ => unreachable!("requests are made by their jobs"),
            }
        }
        let (executions, tasks, effects) = self.working.into_effects();
        Ok(Flushed {
            done,
            executions,
            tasks,
            effects,
        })
    }
}

impl<'a> Item<'a> {
    fn of(request: Cow<'a, Request>) -> Item<'a> {
        Item {
            job: None,
            about: request.subject(),
            missing: request.needs(),
            rehearsed: false,
            request,
            result: None,
        }
    }

    fn run(&mut self, working: &mut Working) {
        match catch_unwind(AssertUnwindSafe(|| apply(working, &self.request))) {
            Ok(Ok(reply)) => self.result = Some(Ok(reply)),
            Ok(Err(Stop::Refused(refusal))) => self.result = Some(Err(refusal.into())),
            Ok(Err(Stop::Missing(needs))) => (self.missing, self.rehearsed) = (needs, false),
            Err(panic) => {
                working.forget_unfinished();
                self.result = Some(Err(contradiction(&*panic).into()));
            }
        }
    }

    fn rehearse(&mut self, working: &mut Working) {
        let needs = catch_unwind(AssertUnwindSafe(|| rehearse(working, &self.request)));
        self.missing = needs.unwrap_or_else(|_| {
            // It panics again when it runs, unless what comes before it helps.
            working.forget_unfinished();
            Vec::new()
        });
        self.rehearsed = true;
    }
}

impl Fill {
    /// What these jobs would have their slots filled with. Slots of another worker than the first one's stay
    /// free: a process has one.
    pub(crate) fn of<'j>(jobs: impl Iterator<Item = &'j Job> + Clone) -> Option<Fill> {
        let offers = jobs.clone().filter_map(|job| match job {
            Job::Apply(request, _) => offer_to_fill(request),
            _ => None,
        });
        let Offer { worker, queues, .. } = offers.clone().next()?;
        // What these take is not left for the slots.
        let claims = jobs.map(|job| match job {
            Job::Claim { max, .. } => *max,
            _ => 0,
        });
        let slots = offers.filter(|offer| offer.worker == *worker);
        let most = slots.map(|offer| offer.slots).chain(claims).sum();
        (most > 0 && !queues.is_empty()).then(|| Fill {
            worker: *worker,
            queues: queues.clone(),
            most,
        })
    }
}

impl Filler {
    /// Whether it was recorded and leaves a slot.
    fn has_slot(&self, items: &[Item<'_>]) -> bool {
        match &items[self.item].result {
            Some(Ok(Reply::Finished(finished))) if finished.recorded => {
                finished.claimed.len() + self.filled < self.slots
            }
            _ => false,
        }
    }
}

/// The slots that a request leaves to what waits in the outbox.
fn offer_to_fill(request: &Request) -> Option<&Offer> {
    match request {
        Request::Finish(finish) => finish.offer.as_ref().filter(|offer| offer.fills),
        _ => None,
    }
}

/// As many of these rows, in the order of the outbox, and whether there are more.
fn first_of(mut rows: Vec<OutboxRow>, most: usize) -> (Vec<OutboxRow>, bool) {
    rows.sort_unstable_by_key(|row| (std::cmp::Reverse(row.priority), row.ready_at, row.key));
    let more = rows.len() > most;
    rows.truncate(most);
    (rows, more)
}

fn claim(worker: WorkerId, row: OutboxRow) -> Request {
    let key = row.key;
    Request::Claim(Claim { key, worker, row })
}

/// What a flush came to.
pub(crate) struct Flushed {
    pub(crate) done: Vec<Done>,
    pub(crate) executions: Vec<abide_core::kernel::Row<abide_core::execution::Execution>>,
    pub(crate) tasks: Vec<abide_core::kernel::Row<abide_core::task::Task>>,
    pub(crate) effects: Effects,
}

impl Flushed {
    /// The answer of a flush that ran one request.
    pub(crate) fn take_answer(&mut self) -> Result<Reply, ApplyError> {
        match self.done.pop() {
            Some(Done::Apply(answer)) if self.done.is_empty() => answer,
            _ => unreachable!("one request was added"),
        }
    }
}

impl Answered {
    fn empty(&self) -> Done {
        match self {
            Answered::Apply => Done::Apply(Err(StoreError::Closed.into())),
            Answered::Claim { more } => Done::Claim(Claims {
                more: *more,
                ..Claims::default()
            }),
            Answered::Fired { before } => Done::Fired(Fired {
                fired: *before,
                next_due: None,
            }),
            Answered::Refused(error) => Done::Refused(error.clone()),
        }
    }
}

fn set_aside(working: &mut Working, row: OutboxRow, error: &ApplyError) -> Result<(), StoreError> {
    only_content(error)?;
    tracing::error!(key = %row.key, %error, "a task cannot be claimed and is left aside; `abide verify` says more");
    working.drop_outbox_row(row);
    Ok(())
}

/// That an error is about what is stored, rather than about the database.
fn only_content(error: &ApplyError) -> Result<(), StoreError> {
    match error {
        ApplyError::Store(error) if !error.is_content() => Err(error.clone()),
        _ => Ok(()),
    }
}

/// What follows a commit.
#[derive(Debug, Default)]
pub(crate) struct After {
    /// The outbox got rows for anyone.
    pub(crate) work: bool,
    /// Workers whose inbox got something.
    pub(crate) inboxes: Vec<WorkerId>,
    /// The earliest of the timers that were set.
    pub(crate) earliest_timer: Option<Timestamp>,
    /// Since when the oldest of the rows is ready that the outbox got.
    pub(crate) oldest_row: Option<Timestamp>,
    /// The earliest timer there is, if the timers were read, and how often one had been set before.
    pub(crate) timers_read: Option<(Option<Timestamp>, u64)>,
    /// Executions that ended.
    pub(crate) ended: Vec<ExecutionId>,
}

impl After {
    /// Whether nobody has anything to do.
    pub(crate) fn is_nothing(&self) -> bool {
        !self.has_work() && self.earliest_timer.is_none() && self.ended.is_empty()
    }

    /// Whether the outbox got rows, whoever they are for.
    pub(crate) fn has_work(&self) -> bool {
        self.work || !self.inboxes.is_empty()
    }

    /// Both.
    pub(crate) fn and(mut self, other: After) -> After {
        self.work |= other.work;
        self.inboxes.extend(other.inboxes);
        let timers = [self.earliest_timer, other.earliest_timer];
        self.earliest_timer = timers.into_iter().flatten().min();
        let rows = [self.oldest_row, other.oldest_row];
        self.oldest_row = rows.into_iter().flatten().min();
        self.ended.extend(other.ended);
        self
    }

    pub(crate) fn of(effects: &Effects) -> After {
        let due = added(&effects.timers).map(|timer| timer.due_at);
        let mut inboxes: Vec<_> = added(&effects.outbox)
            .filter_map(|row| row.worker)
            .collect();
        inboxes.sort_unstable();
        inboxes.dedup();
        After {
            work: added(&effects.outbox).any(|row| row.worker.is_none()),
            inboxes,
            earliest_timer: due.filter(|due| *due < NEVER).min(),
            oldest_row: added(&effects.outbox).map(|row| row.ready_at).min(),
            timers_read: None,
            ended: effects.ended.iter().map(|ended| ended.id).collect(),
        }
    }

    /// Tells this process.
    pub(crate) fn tell(&self, hints: &Hints) {
        if let Some((next, sets)) = self.timers_read {
            hints.timers_read(next, sets);
        }
        if let Some(due) = self.earliest_timer {
            hints.timer_set(due);
        }
        if self.has_work() {
            hints.work.notify_one();
        }
        for id in &self.ended {
            hints.ended(*id);
        }
    }
}

fn added<T>(changes: &[Change<T>]) -> impl Iterator<Item = &T> {
    changes.iter().filter_map(|change| match change {
        Change::Add(row) => Some(row),
        Change::Remove(_) => None,
    })
}

/// Rules panic over rows that contradict each other, such as a task that its graph does not have:
/// the trouble of that execution, and of nobody else in the flush.
fn contradiction(panic: &(dyn Any + Send)) -> StoreError {
    StoreError::Undecodable {
        what: "what a request is about".into(),
        detail: panic_text(panic),
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a rule panicked").to_owned()
}
