//! `abide list`.

use std::ops::RangeInclusive;

use abide::{BlockedOn, Client, Cursor, ExecutionFilter, Timestamp};
use clap::Args;

use crate::output::{Rows, note};
use crate::problem::{Outcome, Problem};
use crate::records::EXECUTION_COLUMNS;
use crate::session::Session;
use crate::values::{self, ExecutionState};

/// List executions, newest first.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only executions with this status or sub-status; may be given more than once
    #[arg(long, short, value_parser = ExecutionState::parser(), ignore_case = true)]
    status: Vec<ExecutionState>,

    /// Only executions that wait for this, perhaps among others; may be given more than once
    #[arg(long, value_name = "WHAT", value_parser = values::blocked_on(), ignore_case = true)]
    blocked_on: Vec<BlockedOn>,

    /// Only executions of this workflow
    #[arg(long, short, value_name = "NAME")]
    workflow: Option<String>,

    /// Only executions whose instance id begins with this
    #[arg(long, short, value_name = "PREFIX")]
    instance: Option<String>,

    /// Only executions with this tag
    #[arg(long, short)]
    tag: Option<String>,

    /// Only executions with this priority, or one in a range: `5..`, `..-1`, `0..9`
    #[arg(long, value_name = "RANGE", value_parser = priorities, allow_hyphen_values = true)]
    priority: Option<RangeInclusive<i16>>,

    /// Only executions created since: a duration ago (`1h`), or a time
    #[arg(long, value_name = "TIME", value_parser = values::moment)]
    since: Option<Timestamp>,

    /// Only executions created before: a duration ago (`1h`), or a time
    #[arg(long, value_name = "TIME", value_parser = values::moment)]
    until: Option<Timestamp>,

    /// At most this many; 0 for all
    #[arg(long, short = 'n', default_value_t = 50, value_name = "N")]
    limit: u32,

    /// Continue where an earlier list ended
    #[arg(long, value_parser = cursor)]
    cursor: Option<Cursor>,
}

/// Executions read at a time.
const PAGE: u32 = 200;

fn cursor(text: &str) -> Result<Cursor, String> {
    text.parse()
        .map_err(|_| "it is not one that `abide list` wrote".to_owned())
}

/// A number, or two numbers with `..` between them: both belong to the range, and either may be left out.
fn priorities(text: &str) -> Result<RangeInclusive<i16>, String> {
    let (low, high) = text.split_once("..").unwrap_or((text, text));
    let number = |text: &str, otherwise| match text {
        "" => Ok(otherwise),
        text => text.parse::<i16>(),
    };
    let range = match (number(low, i16::MIN), number(high, i16::MAX)) {
        (Ok(low), Ok(high)) if !text.is_empty() => low..=high,
        _ => {
            return Err(
                "say it like `5`, `5..`, `..-1` or `0..9`, from -32768 to 32767".to_owned(),
            );
        }
    };
    match range.is_empty() {
        true => Err("its end is before its beginning".to_owned()),
        false => Ok(range),
    }
}

impl List {
    pub(crate) async fn run(&self, session: &Session) -> Result<Outcome, Problem> {
        let client = session.open().await?;
        let mut rows = Rows::new(session.format, EXECUTION_COLUMNS);
        let more = self.write(client, &mut rows).await?;
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

    /// Writes the executions that match. Answers where to go on if there are more.
    async fn write(&self, client: &Client, rows: &mut Rows) -> Result<Option<Cursor>, Problem> {
        let filter = self.filter();
        let mut cursor = self.cursor.clone();
        loop {
            let limit = match self.limit {
                0 => PAGE,
                limit => (limit - rows.written() as u32).min(PAGE),
            };
            let page = client.list(&filter, cursor.as_ref(), limit).await?;
            for record in &page.items {
                rows.push(record)?;
            }
            cursor = page.next;
            if cursor.is_none() || self.limit != 0 && rows.written() == self.limit as usize {
                return Ok(cursor);
            }
        }
    }

    fn filter(&self) -> ExecutionFilter {
        let mut filter = ExecutionFilter {
            blocked_on: self.blocked_on.clone(),
            workflow: self.workflow.clone(),
            instance_prefix: self.instance.clone(),
            tag: self.tag.clone(),
            priority: self.priority.clone(),
            created_from: self.since,
            created_before: self.until,
            ..ExecutionFilter::default()
        };
        for state in &self.status {
            match *state {
                ExecutionState::Status(status) => filter.statuses.push(status),
                ExecutionState::SubStatus(sub_status) => filter.sub_statuses.push(sub_status),
            }
        }
        filter
    }
}
