//! The transition tables, as data: the specification from which the rules, the refusals, the docs
//! and the tests are derived. A transition that is not in a table cannot be written.

use std::fmt;

use crate::event::EventType;
use crate::status::{ExecutionStatus, Phase};
use crate::texts;

texts! {
    /// The parties that may cause a transition.
    By {
        /// A person or program, through the library or the command line.
        User = "user",
        /// A schedule.
        Schedule = "schedule",
        /// The execution that started this one.
        Parent = "parent",
        /// The worker that holds the task, or claims it.
        Worker = "worker",
        /// The engine's own rules, whichever process applies them.
        Engine = "engine",
        /// The deadline of the execution.
        Deadline = "deadline",
        /// A timer that fell due.
        Timer = "timer",
        /// The sender of a signal.
        Sender = "sender",
        /// A child that ended.
        Child = "child",
    }
}

texts! {
    /// Whether a row is in use. Reserved rows are part of the specification, but are refused like
    /// transitions that are not in the table.
    Built {
        /// In use.
        Now = "now",
        /// Reserved.
        Later = "later",
    }
}

/// One row: the states before and after a move, the parties that may make it, and its events.
#[derive(Debug)]
pub struct Row<S: 'static, M: 'static> {
    /// The move's name.
    pub name: M,
    /// The states in which the move may start; none means creation.
    pub from: &'static [Option<S>],
    /// The states to which the move may lead. If there are several, the rule that makes the move
    /// chooses one. If there is none, the state stays as it is.
    pub to: &'static [S],
    /// The parties that may make the move.
    pub by: &'static [By],
    /// The events it appends, in order.
    pub events: &'static [EventType],
    /// Whether the move is in use.
    pub built: Built,
}

texts! {
    /// The moves of a task.
    TaskMove {
        /// Recorded with its execution.
        Create = "create",
        /// Its dependencies have ended and its rule holds.
        MarkReady = "mark ready",
        /// Its dependencies have ended and its rule does not hold.
        Skip = "skip",
        /// Claimed by a worker.
        Claim = "claim",
        /// Waits, slot released.
        Defer = "defer",
        /// Holds a slot again.
        Resume = "resume",
        /// Dropped from memory while waiting.
        Evict = "evict",
        /// Its wait is over.
        Wake = "wake",
        /// Ended with a result.
        Complete = "complete",
        /// An attempt failed, and another attempt follows.
        Retry = "retry",
        /// Failed for good.
        Fail = "fail",
        /// Given back at shutdown.
        Release = "release",
        /// Taken back from a dead worker.
        Recover = "recover",
        /// Taken back too often.
        Abandon = "abandon",
        /// Stopped with its execution.
        Cancel = "cancel",
        /// Put back by a user's retry.
        Reset = "reset",
    }
}

texts! {
    /// The moves of an execution.
    ExecutionMove {
        /// Recorded.
        Create = "create",
        /// Its first task was claimed.
        Start = "start",
        /// Stopped before it started.
        CancelPending = "cancel before start",
        /// Deadline passed before it started.
        TimeOutPending = "time out before start",
        /// No new claims.
        Pause = "pause",
        /// Claims again.
        Resume = "resume",
        /// A cancellation was requested.
        RequestCancel = "cancel",
        /// Stopped on request.
        FinishCancelled = "finish cancelled",
        /// Stopped by its deadline.
        FinishTimedOut = "finish timed out",
        /// Completed.
        Complete = "complete",
        /// Failed.
        Fail = "fail",
        /// Ended by starting its next generation.
        ContinueAsNew = "continue as new",
        /// Its failed tasks were reset.
        Retry = "retry",
        /// Its tasks got another priority.
        SetPriority = "set priority",
    }
}

use Built::{Later, Now};
use By::{Child, Deadline, Engine, Parent, Schedule, Sender, Timer, User, Worker};
use EventType as E;
use ExecutionStatus as X;
use Phase as P;

const OPEN: &[Option<Phase>] = &[
    Some(P::Pending),
    Some(P::Ready),
    Some(P::Active),
    Some(P::Deferred),
    Some(P::Evicted),
];
const HELD: &[Option<Phase>] = &[Some(P::Active), Some(P::Deferred)];

const fn row<S, M>(
    built: Built,
    name: M,
    from: &'static [Option<S>],
    to: &'static [S],
    by: &'static [By],
    events: &'static [EventType],
) -> Row<S, M> {
    Row {
        name,
        from,
        to,
        by,
        events,
        built,
    }
}

/// The tasks' table.
#[rustfmt::skip]
pub static TASKS: &[Row<Phase, TaskMove>] = &[
    row(Now,   TaskMove::Create,    &[None],               &[P::Pending],   &[Engine],               &[E::TaskCreated]),
    row(Now,   TaskMove::MarkReady, &[Some(P::Pending)],   &[P::Ready],     &[Engine],               &[E::TaskMarkedReady]),
    row(Now,   TaskMove::Skip,      &[Some(P::Pending)],   &[P::Skipped],   &[Engine],               &[E::TaskSkipped]),
    row(Now,   TaskMove::Claim,     &[Some(P::Ready)],     &[P::Active],    &[Worker],               &[E::TaskClaimed, E::TaskStarted]),
    row(Now,   TaskMove::Defer,     &[Some(P::Active)],    &[P::Deferred],  &[Worker],               &[E::TaskDeferred]),
    row(Now,   TaskMove::Resume,    &[Some(P::Deferred)],  &[P::Active],    &[Worker],               &[E::TaskResumed]),
    row(Now,   TaskMove::Evict,     &[Some(P::Deferred)],  &[P::Evicted],   &[Worker],               &[E::TaskEvicted]),
    row(Now,   TaskMove::Wake,      &[Some(P::Evicted)],   &[P::Ready],     &[Sender, Timer, Child, Engine], &[E::TaskWoken]),
    row(Now,   TaskMove::Complete,  HELD,                  &[P::Completed], &[Worker],               &[E::TaskCompleted]),
    row(Now,   TaskMove::Retry,     HELD,                  &[P::Ready],     &[Worker],               &[E::TaskFailed, E::TaskRetryScheduled]),
    row(Now,   TaskMove::Fail,      HELD,                  &[P::Failed],    &[Worker],               &[E::TaskFailed]),
    row(Now,   TaskMove::Release,   HELD,                  &[P::Ready],     &[Worker],               &[E::TaskReleased]),
    row(Now,   TaskMove::Recover,   HELD,                  &[P::Ready],     &[Engine],               &[E::TaskRecovered]),
    row(Now,   TaskMove::Abandon,   &[Some(P::Active)],    &[P::Abandoned], &[Engine],               &[E::TaskAbandoned]),
    row(Now,   TaskMove::Cancel,    OPEN,                  &[P::Cancelled], &[Engine, Worker],       &[E::TaskCancelled]),
    row(Later, TaskMove::Reset,   &[Some(P::Failed), Some(P::Abandoned), Some(P::Skipped), Some(P::Cancelled), Some(P::Completed)],
                                                    &[P::Pending], &[User],                 &[E::TaskReset]),
];

/// The executions' table.
#[rustfmt::skip]
pub static EXECUTIONS: &[Row<ExecutionStatus, ExecutionMove>] = &[
    row(Now,   ExecutionMove::Create,          &[None],                                   &[X::Pending],    &[User, Schedule, Parent], &[E::ExecutionCreated]),
    row(Now,   ExecutionMove::Start,           &[Some(X::Pending)],                       &[X::Running],    &[Worker],                 &[E::ExecutionStarted]),
    row(Now,   ExecutionMove::CancelPending,   &[Some(X::Pending)],                       &[X::Cancelled],  &[User, Parent],           &[E::ExecutionCancelled]),
    row(Now,   ExecutionMove::TimeOutPending,  &[Some(X::Pending)],                       &[X::TimedOut],   &[Deadline],               &[E::ExecutionTimedOut]),
    row(Now,   ExecutionMove::RequestCancel,   &[Some(X::Pending), Some(X::Running), Some(X::Paused)], &[X::Cancelling], &[User, Parent, Deadline], &[E::ExecutionCancelling]),
    row(Now,   ExecutionMove::FinishCancelled, &[Some(X::Cancelling)],                    &[X::Cancelled],  &[Engine],                 &[E::ExecutionCancelled]),
    row(Now,   ExecutionMove::FinishTimedOut,  &[Some(X::Cancelling)],                    &[X::TimedOut],   &[Engine],                 &[E::ExecutionTimedOut]),
    row(Now,   ExecutionMove::Complete,        &[Some(X::Pending), Some(X::Running), Some(X::Paused)], &[X::Completed], &[Engine],     &[E::ExecutionCompleted]),
    row(Now,   ExecutionMove::Fail,            &[Some(X::Running), Some(X::Paused)],      &[X::Failed],     &[Engine],                 &[E::ExecutionFailed]),
    row(Now,   ExecutionMove::SetPriority,     &[Some(X::Pending), Some(X::Running), Some(X::Paused)], &[], &[User],                  &[E::ExecutionPriorityChanged]),
    row(Later, ExecutionMove::Pause,         &[Some(X::Pending), Some(X::Running)],     &[X::Paused],     &[User],                   &[E::ExecutionPaused]),
    row(Later, ExecutionMove::Resume,        &[Some(X::Paused)],                        &[X::Pending, X::Running],    &[User],                   &[E::ExecutionResumed]),
    row(Later, ExecutionMove::ContinueAsNew, &[Some(X::Running)],                       &[X::ContinuedAsNew], &[Engine],             &[E::ExecutionContinuedAsNew]),
    row(Later, ExecutionMove::Retry,         &[Some(X::Failed), Some(X::TimedOut), Some(X::Cancelled)], &[X::Pending], &[User],      &[E::ExecutionRetried]),
];

/// A move that the table does not have, or does not allow from that state or for that party.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot {attempted} from {}: allowed there: {}", from.unwrap_or("nothing"), list(allowed))]
pub struct Illegal {
    /// The move's name.
    pub attempted: &'static str,
    /// The state in which it was attempted.
    pub from: Option<&'static str>,
    /// The moves that the table allows from that state.
    pub allowed: Vec<&'static str>,
}

fn list(names: &[&str]) -> String {
    if names.is_empty() {
        "nothing".to_owned()
    } else {
        names.join(", ")
    }
}

impl<S: Copy, M: fmt::Debug> Row<S, M> {
    /// The state after the move from that state, for moves that lead to one state only.
    ///
    /// # Panics
    ///
    /// If the table names several states.
    pub fn target(&self, from: Option<S>) -> S {
        match (self.to, from) {
            ([only], _) => *only,
            ([], Some(from)) => from,
            (several, _) => panic!("{:?} leads to one of {} states", self.name, several.len()),
        }
    }

    /// Each state in which the move may start, with each state to which it may lead from there.
    pub fn pairs(&self) -> impl Iterator<Item = (Option<S>, S)> {
        self.from.iter().flat_map(|&from| {
            let stays = from.filter(|_| self.to.is_empty());
            let to = self.to.iter().copied().chain(stays);
            to.map(move |to| (from, to))
        })
    }
}

/// The table row of a move, or the reason why there is none.
pub fn find<S, M>(
    table: &'static [Row<S, M>],
    name: M,
    from: Option<S>,
    by: By,
) -> Result<&'static Row<S, M>, Illegal>
where
    S: Copy + PartialEq + fmt::Display + AsText,
    M: Copy + PartialEq + AsText,
{
    let row = table.iter().find(|row| {
        row.name == name
            && row.built == Built::Now
            && row.from.contains(&from)
            && row.by.contains(&by)
    });
    row.ok_or_else(|| Illegal {
        attempted: name.text(),
        from: from.map(AsText::text),
        allowed: table
            .iter()
            .filter(|row| row.built == Built::Now && row.from.contains(&from))
            .map(|row| row.name.text())
            .collect(),
    })
}

/// Whether an execution can have this status: a move that is in use leads to it.
pub fn is_status_in_use(status: ExecutionStatus) -> bool {
    let mut built = EXECUTIONS.iter().filter(|row| row.built == Built::Now);
    built.any(|row| row.to.contains(&status))
}

/// Whether an event of this type can be appended: by a move that is in use, or for a late result,
/// which makes no move.
pub fn is_event_in_use(kind: EventType) -> bool {
    let of_execution = EXECUTIONS.iter().map(|row| (row.built, row.events));
    let of_task = TASKS.iter().map(|row| (row.built, row.events));
    let mut built = of_execution
        .chain(of_task)
        .filter(|(built, _)| *built == Built::Now);
    kind == EventType::TaskLateResultDiscarded || built.any(|(_, events)| events.contains(&kind))
}

/// A value with a fixed text.
pub trait AsText {
    /// The text.
    fn text(self) -> &'static str;
}

macro_rules! as_text {
    ($($name:ty),+) => { $(impl AsText for $name { fn text(self) -> &'static str { self.as_str() } })+ };
}
as_text!(Phase, ExecutionStatus, TaskMove, ExecutionMove);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_states_have_no_way_out_that_is_built() {
        for row in TASKS.iter().filter(|row| row.built == Built::Now) {
            assert!(
                row.from.iter().flatten().all(|phase| !phase.is_terminal()),
                "{:?}",
                row.name
            );
        }
        for row in EXECUTIONS.iter().filter(|row| row.built == Built::Now) {
            assert!(
                row.from
                    .iter()
                    .flatten()
                    .all(|status| !status.is_terminal()),
                "{:?}",
                row.name
            );
        }
    }

    #[test]
    fn statuses_and_events_that_only_later_moves_make_are_not_in_use() {
        let unused = |status: &&ExecutionStatus| !is_status_in_use(**status);
        let statuses: Vec<_> = ExecutionStatus::ALL.iter().filter(unused).collect();
        assert_eq!(
            statuses,
            [&ExecutionStatus::Paused, &ExecutionStatus::ContinuedAsNew]
        );
        let unused = |kind: &&EventType| !is_event_in_use(**kind);
        let kinds: Vec<_> = EventType::ALL.iter().filter(unused).collect();
        let expected = [
            &EventType::ExecutionPaused,
            &EventType::ExecutionResumed,
            &EventType::ExecutionContinuedAsNew,
            &EventType::ExecutionRetried,
            &EventType::ExecutionForced,
            &EventType::TaskReset,
        ];
        assert_eq!(kinds, expected);
    }

    #[test]
    fn every_move_has_one_row() {
        for &name in TaskMove::ALL {
            assert_eq!(
                TASKS.iter().filter(|row| row.name == name).count(),
                1,
                "{name}"
            );
        }
        for &name in ExecutionMove::ALL {
            assert_eq!(
                EXECUTIONS.iter().filter(|row| row.name == name).count(),
                1,
                "{name}"
            );
        }
    }

    #[test]
    fn a_refusal_names_the_state_and_what_it_allows() {
        let error =
            find(TASKS, TaskMove::Claim, Some(Phase::Completed), By::Worker).expect_err("terminal");
        assert_eq!(
            error.to_string(),
            "cannot claim from Completed: allowed there: nothing"
        );
        let error =
            find(TASKS, TaskMove::Claim, Some(Phase::Pending), By::Worker).expect_err("not ready");
        assert_eq!(
            error.to_string(),
            "cannot claim from Pending: allowed there: mark ready, skip, cancel"
        );
        find(TASKS, TaskMove::Reset, Some(Phase::Failed), By::User).expect_err("not built yet");
        find(TASKS, TaskMove::Claim, Some(Phase::Ready), By::User).expect_err("only workers claim");
    }
}
