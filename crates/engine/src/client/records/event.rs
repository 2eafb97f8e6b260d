//! An event of an execution's history.

use abide_core::graph::Graph;
use abide_core::ids::{ExecutionId, WorkerId};
use abide_store::EventView;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::client::time::{Time, raw};

/// One event. Events of the execution itself have no task.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct EventRecord {
    /// Its place among all events of the store. Later events of an execution have a higher one.
    pub position: i64,
    /// When.
    pub at: Time,
    /// The execution.
    pub execution: ExecutionId,
    /// The task's number.
    pub task: Option<u32>,
    /// The task's node.
    pub node: Option<String>,
    /// Its number in its stream.
    pub n: u32,
    #[serde(rename = "type")]
    /// The type's name.
    pub kind: &'static str,
    /// The status before.
    pub from: Option<String>,
    /// The status after.
    pub to: String,
    /// The attempt, for task events.
    pub attempt: Option<u32>,
    /// The fencing number, for task events.
    pub epoch: Option<u32>,
    /// The worker that did it or held the task.
    pub worker: Option<WorkerId>,
    /// Who asked.
    pub actor: Option<String>,
    /// What else changed.
    pub data: Option<Box<RawValue>>,
}

impl EventRecord {
    /// The record of an event of an execution with this graph.
    pub(in crate::client) fn new(view: EventView, graph: &Graph) -> EventRecord {
        let is_task = (1..=graph.len()).contains(&view.task);
        let node = is_task.then(|| graph.node_id(view.task).to_owned());
        EventRecord {
            position: view.position,
            at: Time(view.at),
            execution: view.execution,
            task: Some(view.task).filter(|&number| number != 0),
            node,
            n: view.n,
            kind: view.kind,
            from: view.from,
            to: view.to,
            attempt: view.attempt,
            epoch: view.epoch,
            worker: view.worker,
            actor: view.actor,
            data: view.data.as_deref().map(raw),
        }
    }
}
