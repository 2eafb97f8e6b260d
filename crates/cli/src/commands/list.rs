//! `abide list`.

use abide_core::ids::{ExecutionId, Timestamp};
use abide_core::status::ExecutionStatus;
use abide_store::{ExecutionFilter, ExecutionView, Rollup, Store};
use clap::Args;

use crate::output::{Rows, note};
use crate::problem::{Outcome, Problem};
use crate::records::ExecutionRecord;
use crate::session::Session;
use crate::values::{self, ExecutionState};

/// List executions, newest first.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only with this status or sub-status; may be given more than once
    #[arg(long, short, value_parser = ExecutionState::parser(), ignore_case = true)]
    status: Vec<ExecutionState>,

    /// Only of this workflow
    #[arg(long, short, value_name = "NAME")]
    workflow: Option<String>,

    /// Only of instances whose id begins so
    #[arg(long, short, value_name = "PREFIX")]
    instance: Option<String>,

    /// Only with this tag
    #[arg(long, short)]
    tag: Option<String>,

    /// Only those created since: a duration ago (`1h`), or a time
    #[arg(long, value_name = "TIME", value_parser = values::moment)]
    since: Option<Timestamp>,

    /// Only those created before: a duration ago (`1h`), or a time
    #[arg(long, value_name = "TIME", value_parser = values::moment)]
    until: Option<Timestamp>,

    /// At most so many; 0 for all
    #[arg(long, short = 'n', default_value_t = 50, value_name = "N")]
    limit: u32,

    /// Go on where an earlier list ended
    #[arg(long, value_parser = cursor)]
    cursor: Option<ExecutionId>,
}

/// Executions read at a time.
const PAGE: u32 = 200;

fn cursor(text: &str) -> Result<ExecutionId, String> {
    text.parse()
        .map_err(|_| "it is not one that `abide list` wrote".to_owned())
}

impl List {
    pub(crate) async fn run(&self, session: &Session) -> Result<Outcome, Problem> {
        let store = session.open().await?;
        let mut rows = Rows::new(session.format, ExecutionRecord::COLUMNS);
        let more = self.write(store, &mut rows).await?;
        let written = rows.written();
        rows.finish()?;
        if written == 0 {
            note("no executions match");
        }
        if let Some(last) = more {
            note(format_args!(
                "there are more: go on with `--cursor {last}`, or raise `--limit`"
            ));
        }
        Ok(Outcome::Good)
    }

    /// Writes what matches. Answers the last one if there are more.
    async fn write(&self, store: &Store, rows: &mut Rows) -> Result<Option<ExecutionId>, Problem> {
        let filter = self.filter();
        let now = store.now();
        let mut before = self.cursor;
        let mut last = None;
        loop {
            let page = store.executions(&filter, before, PAGE).await?;
            for view in &page {
                let Some(record) = self.record(store, view, now).await? else {
                    continue;
                };
                if self.limit != 0 && rows.written() == self.limit as usize {
                    return Ok(last);
                }
                rows.push(&record)?;
                last = Some(view.execution.id);
            }
            match page.last() {
                Some(view) if page.len() == PAGE as usize => before = Some(view.execution.id),
                _ => return Ok(None),
            }
        }
    }

    fn filter(&self) -> ExecutionFilter {
        ExecutionFilter {
            statuses: self.status.iter().map(|state| state.status()).collect(),
            workflow: self.workflow.clone(),
            instance_prefix: self.instance.clone(),
            tag: self.tag.clone(),
            created_from: self.since,
            created_before: self.until,
        }
    }

    /// The record of an execution, unless its sub-status is not one of those asked for.
    async fn record(
        &self,
        store: &Store,
        view: &ExecutionView,
        now: Timestamp,
    ) -> Result<Option<ExecutionRecord>, Problem> {
        // Only the sub-status of running executions depends on their tasks.
        let record = match view.execution.status {
            ExecutionStatus::Running => super::record(store, view.execution.id).await?,
            _ => ExecutionRecord::new(view, &Rollup::default(), now),
        };
        let is_asked_for = |state: &ExecutionState| match *state {
            ExecutionState::Status(status) => status == record.status,
            ExecutionState::SubStatus(sub_status) => Some(sub_status) == record.sub_status,
        };
        let matches = self.status.is_empty() || self.status.iter().any(is_asked_for);
        Ok(matches.then_some(record))
    }
}
