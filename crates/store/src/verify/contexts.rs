//! The context along the graph: what a checkpoint says is compared with what the changes before it come
//! to. Where a fold may start is asked of core, which tests that apart; the fold is done here.

use abide_core::context::{self, Changes};
use abide_core::ids::{ExecutionId, TaskKey};
use abide_core::payload::Payload;
use rusqlite::{OptionalExtension, params};
use serde_json::{Map, Value};

use super::executions::Run;
use super::report::{Invariant, Problems, Subject};
use super::walk::Walk;

impl Walk<'_, '_> {
    /// Checks every checkpoint of an execution whose tasks were read. Each is compared with the one
    /// before it and the changes since, so that all of them together are no more work than one pass.
    pub(super) fn contexts(&mut self, run: &Run<'_>) -> rusqlite::Result<()> {
        let Some(graph) = run.home.graph.filter(|_| !run.checkpoints.is_empty()) else {
            return Ok(());
        };
        // Payloads that can't be read were told, and counted, with their rows.
        let (mut told, read) = (Problems::default(), self.payloads.read);
        let input = self
            .payloads
            .text("", run.home.row.input.as_deref(), &mut told)?;
        let base = context::base(input.map(|json| Payload::from_json(&*json)).as_ref());
        if let Ok(base) = base {
            for &number in run
                .checkpoints
                .iter()
                .filter(|number| **number <= graph.len())
            {
                let has_checkpoint = |node: u32| run.checkpoints.binary_search(&node).is_ok();
                let sources = context::sources(graph, number, &has_checkpoint);
                let parts = sources.checkpoint.map(|node| (CHECKPOINT, node));
                let changes = sources.changes.into_iter().chain([number]);
                let parts = parts.into_iter().chain(changes.map(|node| (CHANGES, node)));
                self.checkpoint(run, number, &base, parts)?;
            }
        }
        self.payloads.read = read;
        Ok(())
    }

    fn checkpoint(
        &mut self,
        run: &Run<'_>,
        number: u32,
        base: &Map<String, Value>,
        parts: impl Iterator<Item = (&'static str, u32)>,
    ) -> rusqlite::Result<()> {
        let key = |number| TaskKey::new(ExecutionId(run.home.id), number);
        let mut folded = Changes::default();
        for (column, node) in parts {
            match self.part(column, key(node))? {
                Part::Nothing => {}
                Part::Unreadable => return Ok(()),
                Part::Changes(changes) => folded.0.extend(changes.0),
            }
        }
        let Part::Changes(stored) = self.part(CHECKPOINT, key(number))? else {
            return Ok(());
        };
        let wrong: Vec<&str> = folded
            .0
            .keys()
            .chain(stored.0.keys())
            .filter(|name| effective(base, &stored, name) != effective(base, &folded, name))
            .map(String::as_str)
            .collect();
        if let Some(name) = wrong.first() {
            let shown = |value: Option<&Value>| {
                value.map_or_else(|| "nothing".to_owned(), ToString::to_string)
            };
            let what = format!(
                "its checkpoint has {} for `{}`, the changes up to it come to {}",
                shown(effective(base, &stored, name)),
                name.escape_debug(),
                shown(effective(base, &folded, name))
            );
            self.findings
                .add(Invariant::I6, Subject::task(key(number)), what);
        }
        Ok(())
    }

    /// Relies on the tables' primary key.
    fn part(&mut self, column: &str, key: TaskKey) -> rusqlite::Result<Part> {
        let sql =
            format!("SELECT {column} FROM task_executions WHERE execution = ?1 AND number = ?2");
        let stored = self
            .connection
            .prepare_cached(&sql)?
            .query_row(params![key.execution.0, key.number], |row| row.get(0))
            .optional()?;
        let Some(stored) = stored else {
            return Ok(Part::Unreadable);
        };
        let stored: Option<String> = stored;
        let Some(stored) = stored else {
            return Ok(Part::Nothing);
        };
        let text = self
            .payloads
            .text("", Some(&stored), &mut Problems::default())?;
        let changes = text.and_then(|json| serde_json::from_str(&json).ok());
        Ok(changes.map_or(Part::Unreadable, Part::Changes))
    }
}

const CHECKPOINT: &str = "checkpoint";
const CHANGES: &str = "changes";

/// What a task's column adds to a context.
enum Part {
    Nothing,
    Changes(Changes),
    /// That was told with its row.
    Unreadable,
}

/// The value of a name after these changes of the execution's own context.
fn effective<'a>(
    base: &'a Map<String, Value>,
    changes: &'a Changes,
    name: &str,
) -> Option<&'a Value> {
    match changes.0.get(name) {
        Some(changed) => changed.as_ref(),
        None => base.get(name),
    }
}
