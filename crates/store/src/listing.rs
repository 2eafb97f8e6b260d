//! The list of executions, page by page: one meaning of a filter for every database.

use abide_core::ids::{ExecutionId, Timestamp};

use crate::activity;
use crate::queries::Operand;
use crate::rows::{Columns, FromColumns};
use crate::views::{ExecutionFilter, ExecutionView};

/// A list that is being filled, newest first. What cannot be read is left out and its place filled,
/// so that a short list is still the last one.
pub(crate) struct Listing {
    found: Vec<ExecutionView>,
    limit: u32,
    before: Option<ExecutionId>,
    is_last: bool,
}

/// What is to be read next: at most `limit`, before that one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    before: Option<ExecutionId>,
    limit: u32,
}

impl Listing {
    /// At most `limit`; `before` is the last of the list before.
    pub(crate) fn new(before: Option<ExecutionId>, limit: u32) -> Listing {
        Listing {
            found: Vec::new(),
            limit,
            before,
            is_last: false,
        }
    }

    /// The page to read next, or none if the list is done.
    pub(crate) fn next(&self) -> Option<Page> {
        let page = Page {
            before: self.before,
            limit: self.limit - self.found.len() as u32,
        };
        (page.limit > 0 && !self.is_last).then_some(page)
    }

    /// Takes what was read of a page.
    pub(crate) fn add(&mut self, page: Page, rows: Vec<Listed>) {
        self.is_last = rows.len() < page.limit as usize;
        for Listed { id, view } in rows {
            self.before = Some(id);
            match view {
                Ok(view) => self.found.push(view),
                Err(error) => {
                    tracing::error!(execution = %id, %error, "an execution is left out of a list");
                }
            }
        }
    }

    pub(crate) fn done(self) -> Vec<ExecutionView> {
        self.found
    }
}

/// An execution in a list, or what is wrong with it.
pub(crate) struct Listed {
    id: ExecutionId,
    view: Result<ExecutionView, String>,
}

impl FromColumns for Listed {
    fn from_columns<C: Columns>(columns: &mut C) -> Result<Listed, C::Error> {
        let id = ExecutionId::from_columns(columns)?;
        let view = match ExecutionView::from_columns(columns) {
            Ok(view) => Ok(view),
            Err(error) => Err(C::content(error)?),
        };
        Ok(Listed { id, view })
    }
}

/// How a database says what a filter means, with `??` for the operand.
pub(crate) struct Dialect {
    /// That the instance begins with a text.
    pub(crate) begins: &'static str,
    /// That a text is among the tags.
    pub(crate) tagged: &'static str,
}

impl Page {
    /// What follows `WHERE` in a query of executions `e` and their workflow versions `w`. The first
    /// parameter is the time.
    pub(crate) fn conditions<'f>(
        self,
        filter: &'f ExecutionFilter,
        now: Timestamp,
        dialect: &Dialect,
    ) -> (String, Vec<Operand<'f>>) {
        let mut conditions = vec!["e.generation IS NOT NULL".to_owned()];
        // What an execution does depends on the time.
        let mut operands = vec![Operand::Number(now.0)];
        let mut add = |condition: &str, operand| {
            operands.push(operand);
            let parameter = match operand {
                Operand::Number(_) => format!("${}::bigint", operands.len()),
                Operand::Text(_) => format!("${}::text", operands.len()),
            };
            conditions.push(condition.replace("??", &parameter));
        };
        if let Some(before) = self.before {
            add("e.id < ??", Operand::Number(before.0));
        }
        if let Some(workflow) = &filter.workflow {
            add("w.name = ??", Operand::Text(workflow));
        }
        if let Some(prefix) = &filter.instance_prefix {
            add(dialect.begins, Operand::Text(prefix));
        }
        if let Some(tag) = &filter.tag {
            add(dialect.tagged, Operand::Text(tag));
        }
        if let Some(range) = &filter.priority {
            add("e.priority >= ??", Operand::Number((*range.start()).into()));
            add("e.priority <= ??", Operand::Number((*range.end()).into()));
        }
        if let Some(from) = filter.created_from {
            add("e.created_at >= ??", Operand::Number(from.0));
        }
        if let Some(before) = filter.created_before {
            add("e.created_at < ??", Operand::Number(before.0));
        }
        let activity = activity::expression("$1::bigint");
        conditions.extend(activity::condition(filter, &activity));
        let conditions = conditions.join(" AND ");
        let limit = self.limit;
        (
            format!("{conditions} ORDER BY e.id DESC LIMIT {limit}"),
            operands,
        )
    }
}
