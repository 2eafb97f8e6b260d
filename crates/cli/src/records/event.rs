//! An event of an execution's history.

use abide_core::event::EventType;
use abide_core::ids::{ExecutionId, WorkerId};
use abide_core::status::Phase;
use abide_store::EventView;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::output::text::{self, Time};
use crate::output::{Cell, Record, Tone, json};

/// One event. The execution's own have no task.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct EventRecord {
    pub(crate) position: i64,
    pub(crate) at: Time,
    pub(crate) execution: ExecutionId,
    pub(crate) task: Option<u32>,
    pub(crate) node: Option<String>,
    /// Its place in its stream.
    pub(crate) n: u32,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) from: Option<String>,
    pub(crate) to: String,
    pub(crate) attempt: Option<u32>,
    pub(crate) epoch: Option<u32>,
    pub(crate) worker: Option<WorkerId>,
    pub(crate) actor: Option<String>,
    pub(crate) data: Option<Box<RawValue>>,
}

impl EventRecord {
    /// The record of an event of this node.
    pub(crate) fn new(view: EventView, node: Option<String>) -> EventRecord {
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
            data: view.data.as_deref().map(json::raw),
        }
    }

    /// The columns of a table of events.
    pub(crate) const COLUMNS: &'static [&'static str] =
        &["TIME", "EVENT", "NODE", "ATTEMPT", "STATUS", "BY", "DATA"];

    /// How wide the columns mostly become, if nodes are so long.
    pub(crate) fn usual_widths(node: usize) -> [usize; 6] {
        let worker = "worker:".len() + 13;
        let event = EventType::ALL.iter().map(|kind| kind.as_str().len());
        let usual_event = event.max().unwrap_or_default().min(20);
        [
            24,
            usual_event,
            node.min(40),
            7,
            Phase::Deferred.as_str().len(),
            worker,
        ]
    }

    fn by(&self) -> String {
        match (&self.actor, self.worker) {
            (Some(actor), _) => actor.clone(),
            (None, Some(worker)) => format!("worker:{worker}"),
            (None, None) => "-".to_owned(),
        }
    }
}

impl Record for EventRecord {
    fn name(&self) -> String {
        self.position.to_string()
    }

    fn cells(&self) -> Vec<Cell> {
        let dash = || "-".to_owned();
        let data = self
            .data
            .as_ref()
            .map(|data| json::lay_out(data.get(), json::Layout::Line));
        vec![
            text::utc(self.at.0).into(),
            self.kind.into(),
            self.node.clone().unwrap_or_else(dash).into(),
            self.attempt
                .map_or_else(dash, |attempt| attempt.to_string())
                .into(),
            Cell::new(&self.to, Tone::Plain),
            self.by().into(),
            data.unwrap_or_default().into(),
        ]
    }
}
