//! A task in every phase and an execution in every status, all reached through the doors.

use std::sync::Arc;

use abide_core::graph::{Graph, TaskSpec};
use abide_core::ids::TaskKey;
use abide_core::kernel::{Defer, Held, Outcome, PIECE, Recover, Request, Start};
use abide_core::retry::{Backoff, RetryPolicy};
use abide_core::status::{ExecutionStatus, Phase};

use crate::home::{
    Home, SECOND_US, await_operations, completed, failed, failed_once, graph, held, signal, sleep,
};

/// A task in an execution, and who held it last.
pub(crate) struct Subject {
    pub(crate) home: Home,
    pub(crate) held: Held,
    pub(crate) start: Start,
    pub(crate) phase: Option<Phase>,
    pub(crate) status: ExecutionStatus,
}

/// Every phase of a task, and every status of an execution, that the doors lead to today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Situation {
    Scheduled,
    Pending,
    Ready,
    ReadyAgain,
    RetryNotDue,
    Active,
    Polling,
    Waiting,
    Asleep,
    Evicted,
    NeedsOtherCode,
    Completed,
    Failed,
    Skipped,
    Abandoned,
    Cancelled,
    StoppingActive,
    StoppingDeferred,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionTimedOut,
    ExecutionCancelled,
    Unpublished,
}

use Situation as S;

pub(crate) const SITUATIONS: &[Situation] = &[
    S::Scheduled,
    S::Pending,
    S::Ready,
    S::ReadyAgain,
    S::RetryNotDue,
    S::Active,
    S::Polling,
    S::Waiting,
    S::Asleep,
    S::Evicted,
    S::NeedsOtherCode,
    S::Completed,
    S::Failed,
    S::Skipped,
    S::Abandoned,
    S::Cancelled,
    S::StoppingActive,
    S::StoppingDeferred,
    S::ExecutionCompleted,
    S::ExecutionFailed,
    S::ExecutionTimedOut,
    S::ExecutionCancelled,
    S::Unpublished,
];

/// `other` keeps the execution open; `first` comes before the subject, `last` after it.
pub(crate) fn subject_graph() -> Arc<Graph> {
    let subject = TaskSpec {
        retry: RetryPolicy {
            retries: 1,
            backoff: Backoff::Fixed {
                delay_us: SECOND_US,
            },
            ..RetryPolicy::default()
        },
        ..TaskSpec::new("subject")
    };
    let tasks = vec![
        TaskSpec::new("other"),
        TaskSpec::new("first"),
        subject,
        TaskSpec::new("last"),
    ];
    graph(tasks, &[("first", "subject"), ("subject", "last")])
}

pub(crate) const SUBJECT: u32 = 3;

impl Subject {
    /// Takes a store without executions.
    pub(crate) async fn in_(home: Home, situation: Situation) -> Subject {
        if situation == S::Unpublished {
            return Subject::unpublished(home).await;
        }
        let mut start = home.request(&subject_graph()).await;
        start.deadline_at = Some(home.now().plus_us(100 * SECOND_US));
        if situation == S::Scheduled {
            start.start_at = Some(home.now().plus_us(10 * SECOND_US));
        }
        let id = home.store.start(start.clone()).await.expect("starts").id;
        let mut subject = Subject {
            held: Held {
                key: TaskKey::new(id, SUBJECT),
                epoch: 1,
                worker: home.worker,
            },
            home,
            start,
            phase: None,
            status: ExecutionStatus::Pending,
        };
        subject.bring_to(situation).await;
        subject.home.advance(1000);
        let execution = subject.home.store.execution(id).await;
        subject.status = execution.expect("reads").expect("exists").execution.status;
        subject.phase = Some(subject.home.phase(id, subject.held.key.number).await);
        subject
    }

    /// A graph of many pieces, of which none but the execution is written.
    async fn unpublished(home: Home) -> Subject {
        let tasks = (0..=PIECE).map(|n| TaskSpec::new(format!("t{n}")));
        let start = home.request(&graph(tasks.collect(), &[])).await;
        home.apply(Request::Start(Box::new(start.clone()))).await;
        Subject {
            held: Held {
                key: TaskKey::new(start.id, SUBJECT),
                epoch: 1,
                worker: home.worker,
            },
            home,
            start,
            phase: None,
            status: ExecutionStatus::Pending,
        }
    }

    async fn bring_to(&mut self, situation: Situation) {
        let home = &self.home;
        let id = self.held.key.execution;
        match situation {
            S::Scheduled => return,
            S::Ready => {
                // A root is as ready as any; the execution is Pending still.
                self.held.key.number = 1;
                return;
            }
            S::ExecutionTimedOut => {
                home.advance(100 * SECOND_US);
                return home.fire_timers().await;
            }
            S::ExecutionCancelled => return home.cancel(id).await,
            _ => {}
        }
        let claimed = home.claim_all().await;
        let [other, first] = [1, 2].map(|number| {
            let found = claimed
                .iter()
                .find(|claimed| claimed.task.key.number == number);
            held(found.expect("both roots are ready"))
        });
        match situation {
            S::Pending => return,
            S::Skipped => drop(home.finish(first, failed()).await),
            _ => {
                home.finish(first, completed()).await;
                self.held = held(&home.claim().await);
            }
        }
        self.go_on(situation, other).await;
    }

    async fn go_on(&mut self, situation: Situation, other: Held) {
        let (home, held) = (&self.home, self.held);
        let due = home.now().plus_us(10 * SECOND_US);
        let waits = |operation, evict| await_operations(held, vec![operation], evict);
        match situation {
            S::Active | S::Skipped => {}
            S::ReadyAgain => {
                let reason = "shutdown".to_owned();
                home.finish(held, Outcome::Released { reason }).await;
            }
            S::RetryNotDue => drop(home.finish(held, failed_once()).await),
            S::Polling => drop(home.apply(defer(held)).await),
            S::Waiting => drop(home.apply(waits(signal(1, "go"), false)).await),
            S::Asleep => drop(home.apply(waits(sleep(1, due), false)).await),
            S::Evicted => drop(home.apply(waits(sleep(1, due), true)).await),
            S::NeedsOtherCode => {
                let difference = "another step".to_owned();
                home.finish(held, Outcome::Nondeterministic { difference })
                    .await;
            }
            S::Completed => drop(home.finish(held, completed()).await),
            S::Failed => drop(home.finish(held, failed()).await),
            S::Abandoned => drop(home.apply(recover(held, 0)).await),
            S::Cancelled => {
                home.cancel(held.key.execution).await;
                home.finish(held, Outcome::Cancelled).await;
            }
            S::StoppingActive => home.cancel(held.key.execution).await,
            S::StoppingDeferred => {
                home.apply(defer(held)).await;
                home.cancel(held.key.execution).await;
            }
            S::ExecutionCompleted | S::ExecutionFailed => {
                let outcome = match situation {
                    S::ExecutionCompleted => completed(),
                    _ => failed(),
                };
                home.finish(held, outcome).await;
                for claimed in home.claim_all().await {
                    home.finish(crate::home::held(&claimed), completed()).await;
                }
                home.finish(other, completed()).await;
            }
            _ => unreachable!("{situation:?} was reached before"),
        }
    }
}

pub(crate) fn defer(held: Held) -> Request {
    let wait = "a condition".to_owned();
    Request::Defer(Defer {
        held,
        given_back: Vec::new(),
        wait,
    })
}

pub(crate) fn recover(held: Held, crash_cap: u32) -> Request {
    Request::Recover(Recover {
        key: held.key,
        worker: held.worker,
        crash_cap,
        alone: true,
        reason: "test".into(),
    })
}
