//! The list of executions, page by page: one meaning of a filter for every database.

use std::fmt::Display;

use abide_core::ids::ExecutionId;

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
    pub(crate) fn add<E: Display>(
        &mut self,
        page: Page,
        rows: Vec<(ExecutionId, Result<ExecutionView, E>)>,
    ) {
        self.is_last = rows.len() < page.limit as usize;
        for (id, view) in rows {
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

/// How a database says what a filter means. `??` stands for a parameter.
pub(crate) struct Dialect {
    /// A parameter that is a number; `{n}` is its place.
    pub(crate) number: &'static str,
    /// A parameter that is text.
    pub(crate) text: &'static str,
    /// That the instance begins with a text.
    pub(crate) begins: &'static str,
    /// That a text is among the tags.
    pub(crate) tagged: &'static str,
}

/// A parameter's value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operand<'f> {
    Number(i64),
    Text(&'f str),
}

impl Page {
    /// What follows `WHERE` in a query of executions `e` and their workflow versions `w`.
    pub(crate) fn conditions<'f>(
        self,
        filter: &'f ExecutionFilter,
        dialect: &Dialect,
    ) -> (String, Vec<Operand<'f>>) {
        let mut conditions = vec!["e.generation IS NOT NULL".to_owned()];
        let mut operands = Vec::new();
        let mut add = |condition: &str, operand| {
            operands.push(operand);
            let parameter = match operand {
                Operand::Number(_) => dialect.number,
                Operand::Text(_) => dialect.text,
            };
            let parameter = parameter.replace("{n}", &operands.len().to_string());
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
        if let Some(from) = filter.created_from {
            add("e.created_at >= ??", Operand::Number(from.0));
        }
        if let Some(before) = filter.created_before {
            add("e.created_at < ??", Operand::Number(before.0));
        }
        if !filter.statuses.is_empty() {
            let names = filter.statuses.iter().map(|status| format!("'{status}'"));
            let names = names.collect::<Vec<_>>().join(", ");
            conditions.push(format!("e.status IN ({names})"));
            if filter.statuses.iter().all(|status| !status.is_terminal()) {
                // Lets the query use executions_open.
                conditions.push("e.closed_at IS NULL".to_owned());
            }
        }
        let conditions = conditions.join(" AND ");
        let limit = self.limit;
        (
            format!("{conditions} ORDER BY e.id DESC LIMIT {limit}"),
            operands,
        )
    }
}
