//! Every kind of request, to a subject in whatever situation.

use abide_core::ids::{ExecutionId, TaskKey, VersionId, WorkerId};
use abide_core::kernel::{
    Act, Action, AddTasks, Claim, Evict, Held, IfExists, Inbox, OutboxRow, Outcome, Progress,
    Publish, Record, Request, Resume, Signal, Start, Watch,
};
use abide_core::payload::Payload;
use abide_core::step::{StepEnd, StepKind, StepRecord};
use abide_core::timer::{NEVER, Timer, TimerKind};

use crate::home::{
    SECOND_US, await_operations, completed, failed, failed_once, finish, signal, step_id,
};
use crate::situations::{Subject, defer, recover};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ask {
    Claim,
    Complete,
    FailForGood,
    FailOnce,
    Release,
    StopByItself,
    Differ,
    Defer,
    Resume,
    Await,
    AwaitEvicted,
    Watch,
    Evict,
    Record,
    Progress,
    Recover,
    Inbox,
    Fire(TimerKind),
    Signal,
    Cancel,
    SetPriority,
    StartAgain,
    StartWithOtherInput,
    StartRejecting,
    StartAnew,
    Publish,
    AddTasks,
}

pub(crate) fn asks() -> Vec<Ask> {
    let mut asks = vec![
        Ask::Claim,
        Ask::Complete,
        Ask::FailForGood,
        Ask::FailOnce,
        Ask::Release,
        Ask::StopByItself,
        Ask::Differ,
        Ask::Defer,
        Ask::Resume,
        Ask::Await,
        Ask::AwaitEvicted,
        Ask::Watch,
        Ask::Evict,
        Ask::Record,
        Ask::Progress,
        Ask::Recover,
        Ask::Inbox,
        Ask::Signal,
        Ask::Cancel,
        Ask::SetPriority,
        Ask::StartAgain,
        Ask::StartWithOtherInput,
        Ask::StartRejecting,
        Ask::StartAnew,
        Ask::Publish,
        Ask::AddTasks,
    ];
    asks.extend(TimerKind::ALL.iter().map(|kind| Ask::Fire(*kind)));
    asks
}

impl Ask {
    /// The requests that only the task's holder may make.
    pub(crate) fn is_the_holders(self) -> bool {
        (Ask::Complete..=Ask::Progress).contains(&self)
    }

    pub(crate) fn is_result(self) -> bool {
        matches!(self, Ask::Complete | Ask::FailForGood | Ask::FailOnce)
    }

    pub(crate) async fn request(self, subject: &Subject, held: Held) -> Request {
        let home = &subject.home;
        match self {
            Ask::Claim => {
                let row = outbox_row(subject, held.key, None);
                let (key, worker) = (held.key, home.worker);
                Request::Claim(Claim { key, worker, row })
            }
            Ask::Complete => finish(held, completed()),
            Ask::FailForGood => finish(held, failed()),
            Ask::FailOnce => finish(held, failed_once()),
            Ask::Release => {
                let reason = "shutdown".to_owned();
                finish(held, Outcome::Released { reason })
            }
            Ask::StopByItself => finish(held, Outcome::Cancelled),
            Ask::Differ => {
                let difference = "another step".to_owned();
                finish(held, Outcome::Nondeterministic { difference })
            }
            Ask::Defer => defer(held),
            Ask::Resume => Request::Resume(Resume {
                held,
                given_back: Vec::new(),
                always: true,
                next_order: 1,
            }),
            Ask::Await => await_operations(held, vec![signal(9, "never")], false),
            Ask::AwaitEvicted => await_operations(held, vec![signal(9, "never")], true),
            Ask::Watch => Request::Watch(Watch {
                held,
                given_back: Vec::new(),
                operations: vec![signal(9, "never")],
                next_order: 1,
            }),
            Ask::Evict => Evict {
                held,
                next_order: 1,
            }
            .into(),
            Ask::Record => Request::Record(Record {
                held,
                given_back: Vec::new(),
                steps: vec![StepRecord {
                    id: step_id(9, StepKind::Step, "charge"),
                    end: StepEnd::Done(Payload::from_json("1")),
                    order: 9,
                }],
            }),
            Ask::Progress => Request::Progress(Progress {
                held,
                value: r#"{"percent":50}"#.into(),
            }),
            Ask::Recover => recover(held, 3),
            Ask::Inbox => Request::Inbox(Inbox {
                row: outbox_row(subject, held.key, Some(held.worker)),
            }),
            Ask::Fire(kind) => Request::Fire(timer(subject, held.key, kind).await),
            Ask::Signal => Request::Signal(Signal {
                instance: subject.start.instance.clone(),
                name: "other".into(),
                payload: Payload::from_json("1"),
                actor: None,
            }),
            Ask::Cancel => {
                let grace_us = SECOND_US;
                Act::on(held.key.execution, Action::Cancel { grace_us }, "test").into()
            }
            Ask::SetPriority => {
                let priority = 9;
                Act::on(held.key.execution, Action::SetPriority { priority }, "test").into()
            }
            Ask::StartAgain => self.start(subject, IfExists::UseExisting, "input"),
            Ask::StartWithOtherInput => self.start(subject, IfExists::UseExisting, "other"),
            Ask::StartRejecting => self.start(subject, IfExists::Reject, "input"),
            Ask::StartAnew => self.start(subject, IfExists::StartAnew, "input"),
            Ask::Publish => Request::Publish(Publish {
                execution: held.key.execution,
                input_hash: "input".into(),
                if_exists: IfExists::UseExisting,
            }),
            Ask::AddTasks => Request::AddTasks(AddTasks {
                execution: held.key.execution,
                graph: subject.start.graph.clone(),
                first: 1,
                last: subject.start.graph.len(),
                node_inputs: Vec::new(),
            }),
        }
    }

    fn start(self, subject: &Subject, if_exists: IfExists, input_hash: &str) -> Request {
        Request::Start(Box::new(Start {
            id: ExecutionId(subject.home.next_id()),
            if_exists,
            input_hash: input_hash.into(),
            ..subject.start.clone()
        }))
    }
}

/// The row that a worker would have found, had there been one.
pub(crate) fn outbox_row(subject: &Subject, key: TaskKey, worker: Option<WorkerId>) -> OutboxRow {
    OutboxRow {
        worker,
        queue: VersionId(subject.start.workflow.0),
        priority: 0,
        ready_at: subject.home.now(),
        key,
    }
}

/// The timer of this kind as the store would have set it, as far as there is anything to set it by.
pub(crate) async fn timer(subject: &Subject, key: TaskKey, kind: TimerKind) -> Timer {
    let home = &subject.home;
    let task = home
        .store
        .task(key)
        .await
        .expect("reads")
        .map(|view| view.task);
    let now = home.now();
    let task_time = |time: Option<_>| time.unwrap_or(now);
    let of_task = |due, from| Timer::of_task(due, kind, key, from);
    let of_execution = |due| Timer::of_execution(due, kind, key.execution, 0);
    match kind {
        TimerKind::Start => of_execution(subject.start.start_at.unwrap_or(now)),
        TimerKind::Deadline => of_execution(subject.start.deadline_at.unwrap_or(now)),
        TimerKind::Cancel => of_execution(now),
        TimerKind::Retry => of_task(task_time(task.and_then(|task| task.ready_at)), 0),
        TimerKind::Wait => of_task(task_time(task.and_then(|task| task.wake_at)), 0),
        TimerKind::Code => of_task(NEVER, 0),
        TimerKind::Propagate => {
            let told = task.is_some_and(|task| task.phase.is_terminal());
            of_task(now, if told { 1 } else { 0 })
        }
    }
}
