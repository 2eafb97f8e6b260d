//! What an execution does at the moment, if its status leaves that open: its sub-status, and what
//! keeps it from going on. A query computes it from the open tasks as one number, so that lists and
//! their filters need no further query. Nothing of it is stored.

use abide_core::status::ExecutionStatus;
use abide_core::texts;
use abide_core::timer::NEVER;

use crate::views::ExecutionFilter;

texts! {
    /// What an execution that is Pending or Running does. Any other status says it all.
    ExecutionSubStatus {
        /// Pending: its start time is still to come.
        Scheduled = "Scheduled",
        /// Pending: it waits for a worker.
        Queued = "Queued",
        /// Running: a task holds a slot, or could be claimed.
        Active = "Active",
        /// Running: every open task waits, some of them for something other than a retry.
        Deferred = "Deferred",
        /// Running: every open task waits, and all that will happen is a retry.
        RetryWait = "RetryWait",
    }
}

impl ExecutionSubStatus {
    /// The status that it refines.
    pub const fn status(self) -> ExecutionStatus {
        match self {
            Self::Scheduled | Self::Queued => ExecutionStatus::Pending,
            Self::Active | Self::Deferred | Self::RetryWait => ExecutionStatus::Running,
        }
    }
}

texts! {
    /// What has to happen before an execution goes on. Tasks that wait for a dependency are left
    /// out: what that dependency waits for is named instead.
    BlockedOn {
        /// Its start time.
        StartTime = "StartTime",
        /// A task is ready: a worker that knows the workflow's version has to have a free slot.
        Worker = "Worker",
        /// The next attempt of a task that failed has to fall due.
        Retry = "Retry",
        /// A signal.
        Signal = "Signal",
        /// The end of a durable sleep.
        Timer = "Timer",
        /// A condition that a task polls.
        Condition = "Condition",
        /// A program whose code matches what the task has recorded.
        Code = "Code",
    }
}

/// An execution's activity: one bit for each state that an open task of it is in. Zero if its status
/// says all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Activity(u8);

const ACTIVE: u8 = 1;
const READY: u8 = 2;
const RETRY: u8 = 4;
const SIGNAL: u8 = 8;
const TIMER: u8 = 16;
const CONDITION: u8 = 32;
const CODE: u8 = 64;
/// The execution is Pending, and starts later.
const SCHEDULED: u8 = 128;

const WAITS: u8 = SIGNAL | TIMER | CONDITION | CODE;

/// What each bit means, if no task is active.
const BLOCKED: [(u8, BlockedOn); 7] = [
    (SCHEDULED, BlockedOn::StartTime),
    (READY, BlockedOn::Worker),
    (RETRY, BlockedOn::Retry),
    (SIGNAL, BlockedOn::Signal),
    (TIMER, BlockedOn::Timer),
    (CONDITION, BlockedOn::Condition),
    (CODE, BlockedOn::Code),
];

impl Activity {
    /// The activity with this number.
    pub(crate) fn of(number: u8) -> Activity {
        Activity(number)
    }

    fn any(self, bits: u8) -> bool {
        self.0 & bits != 0
    }

    /// What an execution with this status does.
    pub(crate) fn sub_status(self, status: ExecutionStatus) -> Option<ExecutionSubStatus> {
        match status {
            ExecutionStatus::Pending if self.any(SCHEDULED) => Some(ExecutionSubStatus::Scheduled),
            ExecutionStatus::Pending => Some(ExecutionSubStatus::Queued),
            ExecutionStatus::Running if self.any(ACTIVE | READY) => {
                Some(ExecutionSubStatus::Active)
            }
            ExecutionStatus::Running if self.any(WAITS) => Some(ExecutionSubStatus::Deferred),
            ExecutionStatus::Running if self.any(RETRY) => Some(ExecutionSubStatus::RetryWait),
            ExecutionStatus::Running => Some(ExecutionSubStatus::Active),
            _ => None,
        }
    }

    /// What has to happen before it goes on; nothing while a task is active.
    pub(crate) fn blocked_on(self) -> Vec<BlockedOn> {
        if self.any(ACTIVE) {
            return Vec::new();
        }
        let bits = BLOCKED.iter().filter(|(bit, _)| self.any(*bit));
        bits.map(|&(_, blocked_on)| blocked_on).collect()
    }

    /// The numbers that executions with this status can have.
    fn all(status: ExecutionStatus) -> Vec<Activity> {
        match status {
            ExecutionStatus::Pending => vec![Activity(READY), Activity(SCHEDULED)],
            ExecutionStatus::Running => (0..SCHEDULED).map(Activity).collect(),
            _ => vec![Activity(0)],
        }
    }
}

/// The number, as an expression over an execution `e`. `{now}` stands for the time. Looks at the open
/// tasks of Running executions only. Relies on the primary key of `task_executions` and on
/// steps_waiting.
pub(crate) fn expression(now: &str) -> String {
    let waits = |kinds: &str| {
        format!(
            "EXISTS (SELECT 1 FROM ~steps s WHERE s.execution = t.execution AND s.task = t.number \
             AND s.state = 'waiting' AND s.ordinal = 0{kinds})"
        )
    };
    let never = NEVER.0;
    let code = format!("t.worker IS NULL AND coalesce(t.wake_at, 0) = {never}");
    let deferred = "t.sub_status = 'Deferred'";
    let waiting = format!("{deferred} AND NOT ({code})");
    let ready = "t.status = 'Ready'";
    let bits = [
        (ACTIVE, "t.sub_status = 'Active'".to_owned()),
        (
            READY,
            format!("{ready} AND coalesce(t.ready_at, 0) <= {now}"),
        ),
        (RETRY, format!("{ready} AND t.ready_at > {now}")),
        (
            SIGNAL,
            format!("{waiting} AND {}", waits(" AND s.kind = 'signal'")),
        ),
        (
            TIMER,
            format!("{waiting} AND {}", waits(" AND s.kind = 'sleep'")),
        ),
        (CONDITION, format!("{waiting} AND NOT {}", waits(""))),
        (CODE, format!("{deferred} AND {code}")),
    ];
    let sum = bits
        .map(|(bit, is)| format!("max(CASE WHEN {is} THEN {bit} ELSE 0 END)"))
        .join(" + ");
    format!(
        "CAST(CASE e.status WHEN 'Running' THEN (SELECT coalesce({sum}, 0) FROM ~task_executions t \
         WHERE t.execution = e.id AND t.closed_at IS NULL) \
         WHEN 'Pending' THEN CASE WHEN e.start_at > {now} THEN {SCHEDULED} ELSE {READY} END ELSE 0 END AS bigint)"
    )
}

/// What a filter says of status and activity, as a condition on an execution `e`, with `activity`
/// for its number. None if every execution will do.
pub(crate) fn condition(filter: &ExecutionFilter, activity: &str) -> Option<String> {
    if filter.statuses.is_empty() && filter.sub_statuses.is_empty() && filter.blocked_on.is_empty()
    {
        return None;
    }
    let (mut whole, mut parts, mut is_open) = (Vec::new(), Vec::new(), true);
    for &status in ExecutionStatus::ALL {
        let mut asked_for = Activity::all(status);
        let all = asked_for.len();
        asked_for.retain(|activity| is_asked_for(filter, status, *activity));
        if asked_for.is_empty() {
            continue;
        }
        is_open &= !status.is_terminal();
        if asked_for.len() == all {
            whole.push(format!("'{status}'"));
        } else {
            let numbers: Vec<String> = asked_for.iter().map(|it| it.0.to_string()).collect();
            let numbers = numbers.join(", ");
            parts.push(format!(
                "e.status = '{status}' AND {activity} IN ({numbers})"
            ));
        }
    }
    if !whole.is_empty() {
        parts.push(format!("e.status IN ({})", whole.join(", ")));
    }
    let any = match parts.is_empty() {
        true => "1 = 0".to_owned(),
        false => parts.join(" OR "),
    };
    // Lets the query use executions_open.
    let open = if is_open {
        " AND e.closed_at IS NULL"
    } else {
        ""
    };
    Some(format!("({any}){open}"))
}

fn is_asked_for(filter: &ExecutionFilter, status: ExecutionStatus, activity: Activity) -> bool {
    let any_status = filter.statuses.is_empty() && filter.sub_statuses.is_empty();
    let has_sub_status = || {
        let sub_status = activity.sub_status(status);
        sub_status.is_some_and(|sub_status| filter.sub_statuses.contains(&sub_status))
    };
    let by_status = any_status || filter.statuses.contains(&status) || has_sub_status();
    let blocked_on = activity.blocked_on();
    let by_block =
        filter.blocked_on.is_empty() || blocked_on.iter().any(|it| filter.blocked_on.contains(it));
    by_status && by_block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_execution_is_deferred_only_while_every_open_task_waits() {
        let check = |bits, expected| {
            assert_eq!(
                Activity(bits).sub_status(ExecutionStatus::Running),
                Some(expected),
                "{bits}"
            );
        };
        check(ACTIVE | SIGNAL, ExecutionSubStatus::Active);
        check(READY | TIMER | RETRY, ExecutionSubStatus::Active);
        check(CONDITION, ExecutionSubStatus::Deferred);
        check(CODE | RETRY, ExecutionSubStatus::Deferred);
        check(RETRY, ExecutionSubStatus::RetryWait);
        check(0, ExecutionSubStatus::Active);
    }

    #[test]
    fn nothing_blocks_an_execution_while_a_task_is_active() {
        assert_eq!(Activity(ACTIVE | SIGNAL | RETRY).blocked_on(), []);
        let expected = [BlockedOn::Retry, BlockedOn::Signal];
        assert_eq!(Activity(SIGNAL | RETRY).blocked_on(), expected);
        assert_eq!(Activity(SCHEDULED).blocked_on(), [BlockedOn::StartTime]);
    }

    #[test]
    fn the_number_is_asked_for_only_where_the_status_leaves_the_answer_open() {
        let check = |filter: ExecutionFilter, expected: Option<&str>| {
            assert_eq!(condition(&filter, "A").as_deref(), expected);
        };
        let any = ExecutionFilter::default;
        check(any(), None);
        let statuses = vec![ExecutionStatus::Running, ExecutionStatus::Failed];
        check(
            ExecutionFilter { statuses, ..any() },
            Some("(e.status IN ('Running', 'Failed'))"),
        );
        let sub_statuses = vec![ExecutionSubStatus::RetryWait, ExecutionSubStatus::Scheduled];
        check(
            ExecutionFilter {
                sub_statuses,
                ..any()
            },
            Some(
                "(e.status = 'Pending' AND A IN (128) OR e.status = 'Running' AND A IN (4)) AND e.closed_at IS NULL",
            ),
        );
        let (statuses, blocked_on) = (vec![ExecutionStatus::Failed], vec![BlockedOn::Signal]);
        check(
            ExecutionFilter {
                statuses,
                blocked_on,
                ..any()
            },
            Some("(1 = 0) AND e.closed_at IS NULL"),
        );
    }
}
