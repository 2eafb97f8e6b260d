//! `abide events`.

use std::sync::Arc;

use abide::client::{EventRecord, Follow};
use abide::{Client, EngineError, ExecutionId, ExecutionView, HistoryFilter};
use abide_core::graph::Graph;
use abide_core::text::nearest;
use clap::Args;

use crate::output::text::{escape, local};
use crate::output::{Rows, note};
use crate::problem::{Outcome, Problem};
use crate::records::{EVENT_COLUMNS, usual_event_widths};
use crate::session::Session;
use crate::values::{self, EventKind};

/// Show the history of an execution, oldest first.
#[derive(Debug, Args)]
pub(crate) struct Events {
    #[arg(help = values::EXECUTION_HELP, value_name = "EXEC")]
    execution: String,

    /// Only events of this task, given by its node's id or its number
    #[arg(long, value_name = "NODE")]
    task: Option<String>,

    /// Only events of this type, or family of types; may be given more than once
    #[arg(long = "type", value_name = "TYPE", value_parser = EventKind::parser(), ignore_case = true)]
    types: Vec<EventKind>,

    /// Only events after this position; `-o name` and the formats for machines show positions
    #[arg(long, default_value_t = 0, value_name = "POSITION")]
    after: i64,

    /// Continue with new events as they are written, until the execution has ended
    #[arg(long, short)]
    follow: bool,
}

/// Events read at a time.
const PAGE: u32 = 4000;

impl Events {
    pub(crate) async fn run(&self, session: &Session) -> Result<Outcome, Problem> {
        let client = session.open().await?;
        let view = client.resolve(&self.execution).await?;
        let execution = &view.execution;
        let graph = client.graph(&view).await?;
        let filter = HistoryFilter {
            task: self.task_number(&view, &graph)?,
            after: self.after,
        };
        let mut pages = Pages {
            events: self,
            rows: Rows::new(session.format, EVENT_COLUMNS),
            graph,
        };
        if self.follow {
            super::note_without_workers(client, &view).await?;
            pages.follow(client.follow(execution.id, &filter)).await?;
        } else {
            pages.write(client, execution.id, &filter).await?;
        }
        let written = pages.rows.written();
        pages.rows.finish()?;
        let pruned_at = match client.execution(execution.id).await {
            Err(EngineError::UnknownExecution(_)) => None,
            view => view?.history_pruned_at,
        };
        match pruned_at {
            Some(at) => note(format_args!(
                "the history of {} was removed on {}, as the program's `history_retention` asks for",
                super::full_name(&view),
                local(at, client.now())
            )),
            None if written == 0 => note("no events match"),
            None => {}
        }
        Ok(Outcome::Good)
    }

    /// The requested task, given by its node's id or else by its number.
    fn task_number(&self, view: &ExecutionView, graph: &Graph) -> Result<Option<u32>, Problem> {
        let Some(text) = &self.task else {
            return Ok(None);
        };
        let by_number = || {
            text.parse()
                .ok()
                .filter(|number| (1..=graph.len()).contains(number))
        };
        if let Some(number) = graph.number_of(text).or_else(by_number) {
            return Ok(Some(number));
        }
        let nodes = graph.numbers().map(|number| graph.node_id(number));
        let hint = match nearest(text, nodes) {
            Some(near) => format!("did you mean `{}`?", escape(near)),
            None => format!("`abide tasks {}` shows what there is", view.execution.id),
        };
        Err(Problem::NotFound(format!(
            "execution {} has no task `{}`: {hint}",
            view.execution.id,
            escape(text)
        )))
    }

    fn is_asked_for(&self, event: &EventRecord) -> bool {
        self.types.is_empty() || self.types.iter().any(|kind| kind.covers(event.kind))
    }
}

/// Writes events to standard output.
struct Pages<'a> {
    events: &'a Events,
    rows: Rows,
    graph: Arc<Graph>,
}

impl Pages<'_> {
    fn push(&mut self, page: &[EventRecord]) -> Result<(), Problem> {
        for event in page {
            if self.events.is_asked_for(event) {
                self.rows.push(event)?;
            }
        }
        Ok(())
    }

    /// Writes the events that there are.
    async fn write(
        &mut self,
        client: &Client,
        id: ExecutionId,
        filter: &HistoryFilter,
    ) -> Result<(), Problem> {
        let mut cursor = None;
        loop {
            let page = client.history(id, filter, cursor.as_ref(), PAGE).await;
            let page = page.map_err(|error| super::gone(client, error))?;
            self.push(&page.items)?;
            cursor = page.next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    /// Writes events as they are appended, until the execution has ended.
    async fn follow(&mut self, mut events: Follow<'_>) -> Result<(), Problem> {
        super::note_trouble(events.changes());
        let graph = &self.graph;
        let node = graph.numbers().map(|number| graph.node_id(number).len());
        self.rows
            .widen(&usual_event_widths(node.max().unwrap_or_default()));
        while let Some(page) = events.next_page().await? {
            self.push(&page)?;
            self.rows.flush()?;
        }
        Ok(())
    }
}
