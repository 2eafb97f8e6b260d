//! A row of a table of events.

use abide::client::EventRecord;
use abide_core::event::EventType;
use abide_core::status::Phase;

use crate::output::text;
use crate::output::{Cell, Record, Tone, json};

/// The columns of a table of events.
pub(crate) const EVENT_COLUMNS: &[&str] =
    &["TIME", "EVENT", "NODE", "ATTEMPT", "STATUS", "BY", "DATA"];

/// The usual width of the columns, if node ids have this length.
pub(crate) fn usual_event_widths(node: usize) -> [usize; 6] {
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

fn by(event: &EventRecord) -> String {
    match (&event.actor, event.worker) {
        (Some(actor), _) => actor.clone(),
        (None, Some(worker)) => format!("worker:{worker}"),
        (None, None) => "-".to_owned(),
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
            by(self).into(),
            data.unwrap_or_default().into(),
        ]
    }
}
