//! What the tasks of an execution add up to: counts, times, progress. Derived when read, never
//! stored. Pure: queries bring the rows and the time.

use abide_core::ids::Timestamp;
use abide_core::status::{ExecutionStatus, SubStatus, TaskStatus};

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

    /// What part of the work is done, in percent: 100 for each task that Completed or was Skipped,
    /// else what the task reported last, all tasks weighing the same. Below 100 until the
    /// execution has Completed. None once the execution has ended in another way: it makes no
    /// progress any more.
    pub fn percent(&self, status: ExecutionStatus) -> Option<f64> {
        match status {
            ExecutionStatus::Completed => return Some(100.0),
            ended if ended.is_terminal() => return None,
            _ => {}
        }
        let of = |group: &TaskGroup| match group.status {
            TaskStatus::Completed | TaskStatus::Skipped => 100.0 * f64::from(group.tasks),
            _ => group.percent,
        };
        let sum: f64 = self.groups.iter().map(of).sum();
        let tasks = f64::from(self.tasks().max(1));
        Some((sum / tasks).clamp(0.0, MOST_PERCENT))
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
        assert_eq!(tasks.percent(ExecutionStatus::Running), Some(99.0));
        assert_eq!(tasks.percent(ExecutionStatus::Completed), Some(100.0));
        let (status, sub_status, _) = ACTIVE;
        tasks.add(status, sub_status, false, TaskTimes::default(), 50.0);
        assert_eq!(tasks.percent(ExecutionStatus::Running), Some(87.5));
        assert_eq!(
            Rollup::default().percent(ExecutionStatus::Pending),
            Some(0.0)
        );
        for ended in [
            ExecutionStatus::Failed,
            ExecutionStatus::TimedOut,
            ExecutionStatus::Cancelled,
        ] {
            assert_eq!(tasks.percent(ended), None, "{ended}");
        }
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
