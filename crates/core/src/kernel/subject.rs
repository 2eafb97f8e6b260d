//! The subject of a request. The store orders, locks and groups requests by their subjects.
//!
//! Invariant: a request changes the rows of one subject. It reads no row of another subject, except that
//! publishing a large execution reads and replaces the latest execution of its instance.

use std::sync::Arc;

use crate::ids::ExecutionId;

use super::need::Need;

/// The one thing that a request is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// An execution, by its id.
    Execution(ExecutionId),
    /// The latest execution of an instance, or the first one to come.
    Instance(Arc<str>),
}

impl Subject {
    /// Reads the row whose lock stands for everything in the subject.
    pub fn need(&self) -> Need {
        match self {
            Subject::Execution(id) => Need::Execution(*id),
            Subject::Instance(instance) => Need::Instance(instance.clone()),
        }
    }
}

impl Need {
    /// What it is about, if it belongs to something that requests are about.
    pub fn subject(&self) -> Option<Subject> {
        match self {
            Need::Instance(instance) | Need::SignalNumber(instance, _) => {
                Some(Subject::Instance(instance.clone()))
            }
            Need::Execution(id)
            | Need::Graph(id, _, _)
            | Need::Tasks(id, _)
            | Need::Context(id)
            | Need::Mailbox(id, _)
            | Need::SignalWaiters(id, _) => Some(Subject::Execution(*id)),
            Need::Task(key)
            | Need::Waits(key)
            | Need::StepCount(key)
            | Need::Step(key, _)
            | Need::SignalRead(key, _) => Some(Subject::Execution(key.execution)),
            Need::WorkflowName(_) | Need::Worker(_) | Need::ReadyHead(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{TaskKey, Timestamp, VersionId, WorkerId};
    use crate::kernel::{
        Act, Action, Claim, Evict, GivenBack, Held, Latest, OutboxRow, Record, Request, Signal,
        Working,
    };
    use crate::payload::Payload;
    use crate::timer::{Timer, TimerKind};

    fn requests() -> Vec<Request> {
        let key = TaskKey::new(ExecutionId(7), 3);
        let (epoch, worker, at) = (1, WorkerId(9), Timestamp(1));
        let held = Held { key, epoch, worker };
        let row = OutboxRow {
            worker: None,
            queue: VersionId(1),
            priority: 0,
            ready_at: at,
            key,
        };
        vec![
            Request::Signal(Signal {
                instance: "order-42".into(),
                name: "paid".into(),
                payload: Payload::from_json("null"),
                actor: None,
            }),
            Request::Claim(Claim { key, worker, row }),
            Request::Record(Record {
                held,
                given_back: vec![GivenBack {
                    operations: vec![1],
                    heirs: vec![2],
                }],
                steps: Vec::new(),
            }),
            Evict {
                held,
                next_order: 1,
            }
            .into(),
            Act::on(key.execution, Action::Cancel { grace_us: 1 }, "not needed").into(),
            Request::Fire(Timer::of_task(at, TimerKind::Retry, key, 0)),
            Request::Fire(Timer::of_execution(at, TimerKind::Start, key.execution, 0)),
        ]
    }

    #[test]
    fn a_request_needs_its_subject_and_no_other() {
        for request in requests() {
            let (subject, needs) = (request.subject(), request.needs());
            assert!(needs.contains(&subject.need()), "{request:?}");
            let of_others = needs.iter().filter_map(Need::subject);
            let of_others: Vec<_> = of_others.filter(|other| *other != subject).collect();
            assert!(of_others.is_empty(), "{request:?}: {of_others:?}");
        }
    }

    #[test]
    fn an_instance_is_its_latest_execution_once_that_is_known() {
        let mut working = Working::new(Timestamp(1));
        let instance = Subject::Instance("order-42".into());
        assert_eq!(working.resolve(&instance), instance);
        let id = ExecutionId(7);
        let latest = Latest {
            id,
            generation: 1,
            input_hash: String::new(),
        };
        working.load_instance("order-42".into(), Some(latest));
        assert_eq!(working.resolve(&instance), Subject::Execution(id));
    }
}
