//! What there is: executions with their nodes, what happened to each, and signals.

use std::collections::BTreeMap;
use std::sync::Arc;

use abide_core::event::EventType;
use abide_core::graph::Graph;
use abide_core::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId};
use abide_core::kernel::Held;
use abide_core::payload::Payload;
use abide_core::status::{ExecutionStatus, Phase};
use abide_core::step::{StepId, StepState};
use serde_json::Value;

/// An execution.
pub(super) struct Run {
    pub(super) id: ExecutionId,
    pub(super) instance: Arc<str>,
    pub(super) generation: u32,
    pub(super) workflow: VersionId,
    pub(super) graph: Arc<Graph>,
    pub(super) own_graph: bool,
    pub(super) input: Option<Payload>,
    pub(super) input_hash: String,
    pub(super) node_inputs: BTreeMap<u32, Payload>,
    pub(super) tags: Option<String>,
    pub(super) priority: i16,
    pub(super) start_at: Option<Timestamp>,
    pub(super) deadline_at: Option<Timestamp>,
    pub(super) grace_until: Option<Timestamp>,
    /// Its start time is still to come.
    pub(super) held_back: bool,
    /// The deadline, the end of the grace period: whether that time was acted on.
    pub(super) deadline_passed: bool,
    pub(super) grace_passed: bool,
    pub(super) status: ExecutionStatus,
    pub(super) reason: Option<String>,
    pub(super) stop_cause: Option<&'static str>,
    pub(super) failed_task: Option<u32>,
    pub(super) history: Vec<Fact>,
    pub(super) nodes: Vec<Node>,
}

/// A task.
pub(super) struct Node {
    pub(super) number: u32,
    pub(super) phase: Phase,
    pub(super) attempt: u32,
    pub(super) epoch: u32,
    pub(super) crashes: u32,
    pub(super) crash_steps: u32,
    pub(super) worker: Option<WorkerId>,
    pub(super) ready_at: Option<Timestamp>,
    /// Its next attempt waits for a time that is still to come.
    pub(super) waits_to_retry: bool,
    pub(super) wake_at: Option<Timestamp>,
    pub(super) next_order: Option<u32>,
    pub(super) wait: Told,
    pub(super) steps: BTreeMap<u32, Step>,
    pub(super) output: Option<Payload>,
    pub(super) changes: BTreeMap<String, Option<Value>>,
    pub(super) error: Option<Value>,
    pub(super) progress: Option<String>,
    pub(super) history: Vec<Fact>,
}

/// A recorded operation.
#[derive(Clone)]
pub(super) struct Step {
    pub(super) id: StepId,
    pub(super) state: StepState,
    pub(super) order: u32,
    pub(super) due_at: Option<Timestamp>,
    pub(super) result: Option<String>,
    pub(super) recorded_at: Timestamp,
}

/// A signal.
pub(super) struct Letter {
    pub(super) instance: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) number: i64,
    pub(super) execution: ExecutionId,
    pub(super) payload: Payload,
    pub(super) actor: Option<Arc<str>>,
    pub(super) sent_at: Timestamp,
    pub(super) read_by: Option<(TaskKey, u32)>,
}

/// An event.
#[derive(Clone)]
pub(super) struct Fact {
    pub(super) kind: EventType,
    pub(super) at: Timestamp,
    pub(super) who: Who,
    pub(super) attempt: Option<u32>,
    pub(super) epoch: Option<u32>,
    pub(super) from: Option<&'static str>,
    pub(super) to: &'static str,
    pub(super) data: Told,
}

/// What is told besides.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Told {
    Nothing,
    Value(Value),
    /// Something, in words that nobody but a reader relies on.
    Words,
}

/// Who did it.
#[derive(Clone, Default)]
pub(super) struct Who {
    pub(super) worker: Option<WorkerId>,
    pub(super) actor: Option<Arc<str>>,
}

impl Who {
    pub(super) fn engine() -> Who {
        Who::default()
    }

    pub(super) fn worker(worker: WorkerId) -> Who {
        Who {
            worker: Some(worker),
            actor: None,
        }
    }

    pub(super) fn actor(actor: Option<Arc<str>>) -> Who {
        Who {
            worker: None,
            actor,
        }
    }
}

impl Run {
    pub(super) fn key(&self, number: u32) -> TaskKey {
        TaskKey::new(self.id, number)
    }

    pub(super) fn node(&self, number: u32) -> &Node {
        &self.nodes[number as usize - 1]
    }

    pub(super) fn node_mut(&mut self, number: u32) -> &mut Node {
        &mut self.nodes[number as usize - 1]
    }

    /// The execution's and the node's together.
    pub(super) fn priority_of(&self, number: u32) -> i32 {
        i32::from(self.priority) + i32::from(self.graph.priority_of(number))
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.status == ExecutionStatus::Cancelling
    }

    pub(super) fn may_run(&self) -> bool {
        matches!(
            self.status,
            ExecutionStatus::Pending | ExecutionStatus::Running
        )
    }

    pub(super) fn becomes(
        &mut self,
        status: ExecutionStatus,
        kind: EventType,
        data: Told,
        who: Who,
        at: Timestamp,
    ) {
        self.history.push(Fact {
            kind,
            at,
            who,
            attempt: None,
            epoch: None,
            from: Some(self.status.as_str()),
            to: status.as_str(),
            data,
        });
        self.status = status;
    }
}

impl Node {
    /// A node of an execution that is being recorded.
    pub(super) fn new(number: u32, at: Timestamp) -> Node {
        let mut node = Node {
            number,
            phase: Phase::Pending,
            attempt: 1,
            epoch: 0,
            crashes: 0,
            crash_steps: 0,
            worker: None,
            ready_at: None,
            waits_to_retry: false,
            wake_at: None,
            next_order: None,
            wait: Told::Nothing,
            steps: BTreeMap::new(),
            output: None,
            changes: BTreeMap::new(),
            error: None,
            progress: None,
            history: Vec::new(),
        };
        node.happened(
            EventType::TaskCreated,
            None,
            Told::Nothing,
            Who::engine(),
            at,
        );
        node
    }

    /// Something happened to it that left it in the phase it is in.
    pub(super) fn happened(
        &mut self,
        kind: EventType,
        from: Option<Phase>,
        data: Told,
        who: Who,
        at: Timestamp,
    ) {
        self.history.push(Fact {
            kind,
            at,
            who,
            attempt: Some(self.attempt),
            epoch: Some(self.epoch),
            from: from.map(Phase::as_str),
            to: self.phase.as_str(),
            data,
        });
    }

    /// It goes into another phase; what only tasks in certain phases have goes with the old one.
    pub(super) fn becomes(
        &mut self,
        phase: Phase,
        kind: EventType,
        data: Told,
        who: Who,
        at: Timestamp,
    ) {
        let from = std::mem::replace(&mut self.phase, phase);
        self.happened(kind, Some(from), data, who, at);
        if !phase.is_held() {
            self.worker = None;
        }
        if !matches!(phase, Phase::Deferred | Phase::Evicted) {
            self.wait = Told::Nothing;
            self.wake_at = None;
            self.next_order = None;
        }
    }

    /// It can be claimed.
    pub(super) fn becomes_ready(&mut self, kind: EventType, data: Told, who: Who, at: Timestamp) {
        self.becomes(Phase::Ready, kind, data, who, at);
        self.ready_at = Some(at);
        self.waits_to_retry = false;
    }

    pub(super) fn is_held_as(&self, held: Held) -> bool {
        self.phase.is_held() && self.epoch == held.epoch && self.worker == Some(held.worker)
    }

    pub(super) fn is_in_the_queue(&self) -> bool {
        self.phase == Phase::Ready && !self.waits_to_retry
    }

    pub(super) fn has_failed(&self) -> bool {
        matches!(self.phase, Phase::Failed | Phase::Abandoned)
    }

    /// The operations it waits for, by number.
    pub(super) fn waits(&self) -> impl Iterator<Item = &Step> {
        let steps = self.steps.values();
        steps.filter(|step| step.state == StepState::Waiting)
    }
}
