//! `abide tasks`.

use abide_core::ids::ExecutionId;
use abide_core::status::TaskStatus;
use abide_store::{Store, TaskView};
use clap::Args;

use crate::output::{Rows, note};
use crate::problem::{Outcome, Problem};
use crate::records::TaskRecord;
use crate::reference;
use crate::session::Session;
use crate::values::TaskState;

/// List the tasks of an execution by number, which is the order its graph declares them in.
#[derive(Debug, Args)]
pub(crate) struct Tasks {
    #[arg(help = reference::HELP, value_name = "EXEC")]
    execution: String,

    /// Only with this status or sub-status; may be given more than once
    #[arg(long, short, value_parser = TaskState::parser(), ignore_case = true)]
    status: Vec<TaskState>,

    /// Only those that Failed or were Abandoned
    #[arg(long)]
    failed: bool,

    /// Only those that have not ended
    #[arg(long)]
    open: bool,

    /// Only nodes whose id begins so
    #[arg(long, value_name = "PREFIX")]
    node: Option<String>,

    /// At most so many; 0 for all
    #[arg(long, short = 'n', default_value_t = 0, value_name = "N")]
    limit: u32,

    /// Only those numbered higher
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    after: u32,
}

/// Tasks read at a time.
const PAGE: u32 = 1000;

impl Tasks {
    pub(crate) async fn run(&self, session: &Session) -> Result<Outcome, Problem> {
        let store = session.open().await?;
        let id = reference::resolve(store, &self.execution)
            .await?
            .execution
            .id;
        let mut rows = Rows::new(session.format, TaskRecord::COLUMNS);
        let mut more = None;
        let mut last = self.after;
        let now = store.now();
        each(store, id, self.after, |view| {
            if !self.is_asked_for(&view) {
                return Ok(true);
            }
            if self.limit != 0 && rows.written() == self.limit as usize {
                more = Some(last);
                return Ok(false);
            }
            last = view.task.key.number;
            rows.push(&TaskRecord::new(&view, now))?;
            Ok(true)
        })
        .await?;
        let written = rows.written();
        rows.finish()?;
        if written == 0 {
            note("no tasks match");
        }
        if let Some(last) = more {
            note(format_args!(
                "there are more: go on with `--after {last}`, or raise `--limit`"
            ));
        }
        Ok(Outcome::Good)
    }

    fn is_asked_for(&self, view: &TaskView) -> bool {
        let (status, sub_status) = view.task.phase.status();
        let has_state = |state: &TaskState| match *state {
            TaskState::Status(asked) => asked == status,
            TaskState::SubStatus(asked) => Some(asked) == sub_status,
        };
        let is_failed = matches!(status, TaskStatus::Failed | TaskStatus::Abandoned);
        let any = self.status.is_empty() && !self.failed && !self.open;
        let by_status = any
            || self.status.iter().any(has_state)
            || self.failed && is_failed
            || self.open && !status.is_terminal();
        let by_node = |prefix: &str| view.node.starts_with(prefix);
        by_status && self.node.as_deref().is_none_or(by_node)
    }
}

/// Gives the tasks of an execution to `take`, a page at a time, until it says that it has enough.
pub(super) async fn each(
    store: &Store,
    id: ExecutionId,
    mut after: u32,
    mut take: impl FnMut(TaskView) -> Result<bool, Problem>,
) -> Result<(), Problem> {
    loop {
        let page = store.tasks(id, after, PAGE).await?;
        let is_last = page.len() < PAGE as usize;
        for view in page {
            after = view.task.key.number;
            if !take(view)? {
                return Ok(());
            }
        }
        if is_last {
            return Ok(());
        }
    }
}
