//! `abide tasks`.

use abide::{TaskFilter, TaskStatus};
use clap::Args;

use crate::output::{Rows, note};
use crate::problem::{Outcome, Problem};
use crate::records::TASK_COLUMNS;
use crate::session::Session;
use crate::values::{self, TaskState};

/// List the tasks of an execution by number, which is the order in which the graph declares them.
#[derive(Debug, Args)]
pub(crate) struct Tasks {
    #[arg(help = values::EXECUTION_HELP, value_name = "EXEC")]
    execution: String,

    /// Only tasks with this status or sub-status; may be given more than once
    #[arg(long, short, value_parser = TaskState::parser(), ignore_case = true)]
    status: Vec<TaskState>,

    /// Only tasks that Failed or were Abandoned
    #[arg(long)]
    failed: bool,

    /// Only tasks that have not ended
    #[arg(long)]
    open: bool,

    /// Only nodes whose id begins with this
    #[arg(long, value_name = "PREFIX")]
    node: Option<String>,

    /// At most this many; 0 for all
    #[arg(long, short = 'n', default_value_t = 0, value_name = "N")]
    limit: u32,

    /// Only tasks with a higher number
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    after: u32,
}

/// Tasks read at a time.
const PAGE: u32 = 1000;

impl Tasks {
    pub(crate) async fn run(&self, session: &Session) -> Result<Outcome, Problem> {
        let client = session.open().await?;
        let id = client.resolve(&self.execution).await?.execution.id;
        let filter = self.filter();
        let mut rows = Rows::new(session.format, TASK_COLUMNS);
        let mut last = self.after;
        let mut cursor = None;
        let is_full = |rows: &Rows| self.limit != 0 && rows.written() == self.limit as usize;
        loop {
            let limit = match self.limit {
                0 => PAGE,
                limit => (limit - rows.written() as u32).min(PAGE),
            };
            let page = client.tasks(id, &filter, cursor.as_ref(), limit).await?;
            for record in &page.items {
                rows.push(record)?;
                last = record.number;
            }
            cursor = page.next;
            if cursor.is_none() || is_full(&rows) {
                break;
            }
        }
        let written = rows.written();
        rows.finish()?;
        if written == 0 {
            note("no tasks match");
        }
        if cursor.is_some() {
            note(format_args!(
                "there are more: go on with `--after {last}`, or raise `--limit`"
            ));
        }
        Ok(Outcome::Good)
    }

    fn filter(&self) -> TaskFilter {
        let mut filter = TaskFilter {
            node_prefix: self.node.clone(),
            after: self.after,
            ..TaskFilter::default()
        };
        for state in &self.status {
            match *state {
                TaskState::Status(status) => filter.statuses.push(status),
                TaskState::SubStatus(sub_status) => filter.sub_statuses.push(sub_status),
            }
        }
        if self.failed {
            let failed = [TaskStatus::Failed, TaskStatus::Abandoned];
            filter.statuses.extend(failed);
        }
        if self.open {
            let open = TaskStatus::ALL
                .iter()
                .filter(|status| !status.is_terminal());
            filter.statuses.extend(open);
        }
        filter
    }
}
