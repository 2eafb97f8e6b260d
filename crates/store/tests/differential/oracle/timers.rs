//! Timers: whatever waits for a time, seen from the states of those who wait.

use std::collections::BTreeSet;

use abide_core::ids::Timestamp;
use abide_core::status::Phase;
use abide_core::timer::{NEVER, Timer, TimerKind};

use super::Oracle;
use super::said::Said;
use super::state::{Run, Who};

/// What is due in a transaction. Nothing fires twice in it.
pub(super) struct Timers {
    due: Vec<Timer>,
    fired: BTreeSet<Timer>,
}

impl Timers {
    pub(super) fn new(timers: BTreeSet<Timer>, now: Timestamp) -> Timers {
        let due = timers.into_iter().filter(|timer| timer.due_at <= now);
        Timers {
            due: due.collect(),
            fired: BTreeSet::new(),
        }
    }

    /// The first so many of those that are due: all of them, and those that did not fire yet.
    pub(super) fn take(&mut self, limit: u32) -> (u32, Vec<Timer>) {
        let first = &self.due[..self.due.len().min(limit as usize)];
        let fresh = first.iter().filter(|timer| self.fired.insert(**timer));
        let fresh = fresh.copied().collect();
        (first.len() as u32, fresh)
    }
}

impl Oracle {
    pub(super) fn timers(&self) -> BTreeSet<Timer> {
        let open = self.runs.values().filter(|run| !run.status.is_terminal());
        open.flat_map(timers_of).collect()
    }

    pub(super) fn fire(&mut self, (due, timers): (u32, Vec<Timer>)) -> Said {
        for timer in timers {
            // What came before in the same transaction may have ended the wait.
            if self.timers().contains(&timer) {
                self.act_on(timer);
            }
        }
        Said::Fired(due)
    }

    /// Other code is there: whoever waits for it tries again.
    pub(super) fn deploy(&mut self, now: Timestamp) {
        self.now = now;
        for timer in self.timers() {
            if timer.kind == TimerKind::Code {
                self.wake(timer.key(), Who::actor(Some("timer".into())));
            }
        }
    }

    fn act_on(&mut self, timer: Timer) {
        let (id, key) = (timer.execution, timer.key());
        match timer.kind {
            TimerKind::Start => {
                self.run(id).held_back = false;
                self.settle(id);
            }
            TimerKind::Deadline => {
                self.run(id).deadline_passed = true;
                self.time_out(id);
            }
            TimerKind::Cancel => {
                self.run(id).grace_passed = true;
                self.cut_off(id);
            }
            TimerKind::Retry => self.node(key).waits_to_retry = false,
            TimerKind::Wait => self.wake_in_time(key, Who::actor(Some("timer".into()))),
            TimerKind::Code => panic!("no clock reaches it"),
            TimerKind::Propagate => panic!("no world's graph is large enough"),
        }
    }
}

fn timers_of(run: &Run) -> Vec<Timer> {
    let mut timers = Vec::new();
    let mut of_run = |at: Option<Timestamp>, kind| {
        timers.extend(at.map(|at| Timer::of_execution(at, kind, run.id, 0)));
    };
    of_run(run.start_at.filter(|_| run.held_back), TimerKind::Start);
    of_run(
        run.deadline_at.filter(|_| !run.deadline_passed),
        TimerKind::Deadline,
    );
    of_run(
        run.grace_until.filter(|_| !run.grace_passed),
        TimerKind::Cancel,
    );
    for node in &run.nodes {
        let (at, kind) = match node.phase {
            Phase::Ready if node.waits_to_retry => (node.ready_at, TimerKind::Retry),
            Phase::Evicted if node.wake_at == Some(NEVER) => (node.wake_at, TimerKind::Code),
            Phase::Evicted => (node.wake_at, TimerKind::Wait),
            _ => (None, TimerKind::Wait),
        };
        let key = run.key(node.number);
        timers.extend(at.map(|at| Timer::of_task(at, kind, key, 0)));
    }
    timers
}
