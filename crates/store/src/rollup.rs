//! What the tasks of an execution add up to: counts, times, progress, and the sub-status that
//! follows from them. Derived when read, never stored. Pure: queries bring the rows and the time.

use abide_core::execution::Execution;
use abide_core::ids::Timestamp;
use abide_core::status::{ExecutionStatus, SubStatus, TaskStatus};
use abide_core::texts;

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

/// Time that tasks spent, in microseconds. What they have spent of the state they are in now
/// counts up to the moment of the query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskTimes {
    /// Ready and due.
    pub queued_us: i64,
    /// Active.
    pub active_us: i64,
    /// Deferred.
    pub deferred_us: i64,
    /// Waiting for a retry to fall due.
    pub retry_wait_us: i64,
}

impl TaskTimes {
    /// Adds another task's times, or another group's.
    pub fn add(&mut self, other: TaskTimes) {
        self.queued_us += other.queued_us;
        self.active_us += other.active_us;
        self.deferred_us += other.deferred_us;
        self.retry_wait_us += other.retry_wait_us;
    }

    /// Adds the time since the last change to the state it was spent in. `ready_at` is when a
    /// Ready task is, or was, due.
    pub fn add_current(
        &mut self,
        status: TaskStatus,
        sub_status: Option<SubStatus>,
        changed_at: Timestamp,
        ready_at: Option<Timestamp>,
        now: Timestamp,
    ) {
        let elapsed = now.since_us(changed_at);
        match (status, sub_status) {
            (TaskStatus::Ready, _) => {
                let waited = ready_at.map_or(0, |due| due.min(now).since_us(changed_at));
                self.retry_wait_us += waited;
                self.queued_us += elapsed - waited;
            }
            (TaskStatus::Running, Some(SubStatus::Active)) => self.active_us += elapsed,
            (TaskStatus::Running, _) => self.deferred_us += elapsed,
            _ => {}
        }
    }
}

/// Tasks that are in the same state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TaskGroup {
    /// The status.
    pub status: TaskStatus,
    /// The sub-status of Running ones.
    pub sub_status: Option<SubStatus>,
    /// Whether they are Ready only once their retry falls due.
    pub retry_wait: bool,
    /// How many.
    pub tasks: u32,
    /// Their times together.
    pub times: TaskTimes,
    /// Their reported progress together, in percent. Tasks that never reported count 0.
    pub percent: f64,
}

/// The tasks of an execution, grouped by state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rollup {
    /// The groups that have tasks, in the order of [`TaskStatus::ALL`].
    pub groups: Vec<TaskGroup>,
}

/// The most that an execution that has not completed can have done, in percent.
const MOST_PERCENT: f64 = 99.0;

impl Rollup {
    /// How many tasks there are.
    pub fn tasks(&self) -> u32 {
        self.groups.iter().map(|group| group.tasks).sum()
    }

    /// How many tasks are in groups of this kind.
    pub fn count(&self, is: impl Fn(&TaskGroup) -> bool) -> u32 {
        let groups = self.groups.iter().filter(|group| is(group));
        groups.map(|group| group.tasks).sum()
    }

    /// The times of all tasks together.
    pub fn times(&self) -> TaskTimes {
        let mut times = TaskTimes::default();
        for group in &self.groups {
            times.add(group.times);
        }
        times
    }

    /// What an execution with these tasks does, if its status leaves that open.
    pub fn sub_status(&self, execution: &Execution, now: Timestamp) -> Option<ExecutionSubStatus> {
        match execution.status {
            ExecutionStatus::Pending if execution.start_at.is_some_and(|at| at > now) => {
                Some(ExecutionSubStatus::Scheduled)
            }
            ExecutionStatus::Pending => Some(ExecutionSubStatus::Queued),
            ExecutionStatus::Running => Some(self.running()),
            _ => None,
        }
    }

    fn running(&self) -> ExecutionSubStatus {
        let any = |is: fn(&TaskGroup) -> bool| self.count(is) > 0;
        let is_active = |group: &TaskGroup| {
            group.sub_status == Some(SubStatus::Active)
                || group.status == TaskStatus::Ready && !group.retry_wait
        };
        if any(is_active) {
            ExecutionSubStatus::Active
        } else if any(|group| group.sub_status == Some(SubStatus::Deferred)) {
            ExecutionSubStatus::Deferred
        } else if any(|group| group.retry_wait) {
            ExecutionSubStatus::RetryWait
        } else {
            ExecutionSubStatus::Active
        }
    }

    /// What part of the work is done, in percent: 100 for each task that Completed or was Skipped,
    /// else what the task reported last, all tasks weighing the same. Below 100 until the
    /// execution has Completed.
    pub fn percent(&self, status: ExecutionStatus) -> f64 {
        if status == ExecutionStatus::Completed {
            return 100.0;
        }
        let of = |group: &TaskGroup| match group.status {
            TaskStatus::Completed | TaskStatus::Skipped => 100.0 * f64::from(group.tasks),
            _ => group.percent,
        };
        let sum: f64 = self.groups.iter().map(of).sum();
        let tasks = f64::from(self.tasks().max(1));
        (sum / tasks).clamp(0.0, MOST_PERCENT)
    }

    /// Adds a task to the group it belongs to.
    pub(crate) fn add(
        &mut self,
        status: TaskStatus,
        sub_status: Option<SubStatus>,
        retry_wait: bool,
        times: TaskTimes,
        percent: f64,
    ) {
        let key = (status, sub_status, retry_wait);
        let of = |group: &TaskGroup| (group.status, group.sub_status, group.retry_wait);
        let at = match self.groups.binary_search_by_key(&key, of) {
            Ok(at) => at,
            Err(at) => {
                let group = TaskGroup {
                    status,
                    sub_status,
                    retry_wait,
                    tasks: 0,
                    times: TaskTimes::default(),
                    percent: 0.0,
                };
                self.groups.insert(at, group);
                at
            }
        };
        let group = &mut self.groups[at];
        group.tasks += 1;
        group.times.add(times);
        group.percent += percent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTIVE: (TaskStatus, Option<SubStatus>, bool) =
        (TaskStatus::Running, Some(SubStatus::Active), false);
    const DEFERRED: (TaskStatus, Option<SubStatus>, bool) =
        (TaskStatus::Running, Some(SubStatus::Deferred), false);
    const RETRYING: (TaskStatus, Option<SubStatus>, bool) = (TaskStatus::Ready, None, true);
    const DUE: (TaskStatus, Option<SubStatus>, bool) = (TaskStatus::Ready, None, false);
    const PENDING: (TaskStatus, Option<SubStatus>, bool) = (TaskStatus::Pending, None, false);

    fn rollup(tasks: &[(TaskStatus, Option<SubStatus>, bool)]) -> Rollup {
        let mut rollup = Rollup::default();
        for &(status, sub_status, retry_wait) in tasks {
            rollup.add(status, sub_status, retry_wait, TaskTimes::default(), 0.0);
        }
        rollup
    }

    #[test]
    fn a_running_execution_is_deferred_only_while_every_open_task_waits() {
        let check = |tasks: &[_], expected| assert_eq!(rollup(tasks).running(), expected);
        check(&[ACTIVE, DEFERRED], ExecutionSubStatus::Active);
        check(&[DUE, DEFERRED, RETRYING], ExecutionSubStatus::Active);
        check(&[DEFERRED, PENDING], ExecutionSubStatus::Deferred);
        check(&[DEFERRED, RETRYING], ExecutionSubStatus::Deferred);
        check(&[RETRYING, PENDING], ExecutionSubStatus::RetryWait);
        check(&[], ExecutionSubStatus::Active);
    }

    #[test]
    fn groups_keep_one_order_whatever_the_order_of_tasks() {
        let one = rollup(&[RETRYING, PENDING, ACTIVE, DUE, DEFERRED, PENDING]);
        let other = rollup(&[PENDING, DEFERRED, DUE, PENDING, ACTIVE, RETRYING]);
        assert_eq!(one, other);
        assert_eq!(one.tasks(), 6);
        assert_eq!(one.count(|group| group.status == TaskStatus::Pending), 2);
    }

    #[test]
    fn progress_is_below_100_until_the_execution_has_completed() {
        let mut tasks = rollup(&[(TaskStatus::Completed, None, false); 3]);
        assert_eq!(tasks.percent(ExecutionStatus::Running), 99.0);
        assert_eq!(tasks.percent(ExecutionStatus::Completed), 100.0);
        let (status, sub_status, _) = ACTIVE;
        tasks.add(status, sub_status, false, TaskTimes::default(), 50.0);
        assert_eq!(tasks.percent(ExecutionStatus::Running), 87.5);
        assert_eq!(Rollup::default().percent(ExecutionStatus::Pending), 0.0);
    }

    #[test]
    fn time_in_the_present_state_is_counted_up_to_now() {
        let mut times = TaskTimes::default();
        let (changed, due) = (Timestamp(100), Some(Timestamp(130)));
        times.add_current(TaskStatus::Ready, None, changed, due, Timestamp(150));
        assert_eq!((times.retry_wait_us, times.queued_us), (30, 20));
        let (status, sub_status, _) = DEFERRED;
        times.add_current(status, sub_status, changed, None, Timestamp(107));
        assert_eq!(times.deferred_us, 7);
        times.add_current(TaskStatus::Completed, None, changed, due, Timestamp(900));
        let sum = times.queued_us + times.active_us + times.deferred_us + times.retry_wait_us;
        assert_eq!(sum, 57);
    }
}
