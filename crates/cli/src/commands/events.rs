//! `abide events`.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use abide_core::graph::Graph;
use abide_core::ids::TaskKey;
use abide_core::text::nearest;
use abide_store::{EventFilter, EventView, ExecutionView, Store};
use clap::Args;

use crate::history::History;
use crate::live::Live;
use crate::output::text::escape;
use crate::output::{Rows, note};
use crate::problem::{Outcome, Problem};
use crate::records::EventRecord;
use crate::reference;
use crate::session::Session;
use crate::values::EventKind;

/// Show the history of an execution, oldest first.
#[derive(Debug, Args)]
pub(crate) struct Events {
    #[arg(help = reference::HELP, value_name = "EXEC")]
    execution: String,

    /// Only of this task: its node's id, or its number
    #[arg(long, value_name = "NODE")]
    task: Option<String>,

    /// Only of this type, or family of types; may be given more than once
    #[arg(long = "type", value_name = "TYPE", value_parser = EventKind::parser(), ignore_case = true)]
    types: Vec<EventKind>,

    /// Only those after this position, which `-o name` and the formats for machines show
    #[arg(long, default_value_t = 0, value_name = "POSITION")]
    after: i64,

    /// Go on with new events as they are written, until the execution has ended
    #[arg(long, short)]
    follow: bool,
}

impl Events {
    pub(crate) async fn run(&self, session: &Session) -> Result<Outcome, Problem> {
        let store = session.open().await?;
        let view = reference::resolve(store, &self.execution).await?;
        let execution = &view.execution;
        let graph = store
            .graph(execution.id, execution.workflow, execution.own_graph)
            .await?;
        let filter = EventFilter {
            execution: Some(execution.id),
            task: self.task_key(&view, &graph)?,
        };
        let mut pages = Pages {
            events: self,
            history: History::new(store, filter, self.after),
            rows: Rows::new(session.format, EventRecord::COLUMNS),
            graph,
        };
        if self.follow {
            pages.follow(store, &view).await?;
        } else {
            pages.write().await?;
        }
        let written = pages.rows.written();
        pages.rows.finish()?;
        if written == 0 {
            note("no events match");
        }
        Ok(Outcome::Good)
    }

    /// The task that was asked for, by its node's id or else by its number.
    fn task_key(&self, view: &ExecutionView, graph: &Graph) -> Result<Option<TaskKey>, Problem> {
        let Some(text) = &self.task else {
            return Ok(None);
        };
        let by_number = || {
            text.parse()
                .ok()
                .filter(|number| (1..=graph.len()).contains(number))
        };
        if let Some(number) = graph.number_of(text).or_else(by_number) {
            return Ok(Some(TaskKey::new(view.execution.id, number)));
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

    fn is_asked_for(&self, event: &EventView) -> bool {
        self.types.is_empty() || self.types.iter().any(|kind| kind.covers(event.kind))
    }
}

/// Events on their way to standard output.
struct Pages<'a> {
    events: &'a Events,
    history: History<'a>,
    rows: Rows,
    graph: Arc<Graph>,
}

impl Pages<'_> {
    /// Writes what there is and was not written yet.
    async fn write(&mut self) -> Result<(), Problem> {
        loop {
            let page = self.history.next_page().await?;
            if page.is_empty() {
                return Ok(());
            }
            for event in page {
                if self.events.is_asked_for(&event) {
                    let node = (1..=self.graph.len())
                        .contains(&event.task)
                        .then(|| self.graph.node_id(event.task).to_owned());
                    self.rows.push(&EventRecord::new(event, node))?;
                }
            }
        }
    }

    /// Writes events as they come, until the execution has ended.
    async fn follow(&mut self, store: &Store, view: &ExecutionView) -> Result<(), Problem> {
        let graph = &self.graph;
        let node = graph.numbers().map(|number| graph.node_id(number).len());
        self.rows
            .widen(&EventRecord::usual_widths(node.max().unwrap_or_default()));
        let look = async || {
            // Read first: if it has ended by now, all of its events are there to be read.
            let now = store.execution(view.execution.id).await?;
            let has_ended = now.is_none_or(|view| view.execution.status.is_terminal());
            self.write().await?;
            self.rows.flush()?;
            Ok(match has_ended {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            })
        };
        Live::new(store).until(Duration::ZERO, None, look).await?;
        Ok(())
    }
}
