//! Graphs of executions: those of workflow versions are kept while they are few, one that was built
//! at run time lives as long as its execution is looked at.

use std::collections::HashMap;
use std::sync::Arc;

use abide_core::graph::Graph;
use rusqlite::{Connection, OptionalExtension};

use super::payloads::Payloads;
use super::report::{Invariant, Problems};
use super::rows::ExecutionCells;

/// The most nodes of workflow versions' graphs that are kept.
const KEPT_NODES: u64 = 1_000_000;

#[derive(Default)]
pub(super) struct Graphs {
    /// By workflow version; none if it cannot be read.
    versions: HashMap<i64, Option<Arc<Graph>>>,
    nodes: u64,
}

impl Graphs {
    /// The graph of an execution, if it can be read.
    pub(super) fn load(
        &mut self,
        connection: &Connection,
        payloads: &mut Payloads<'_>,
        row: &ExecutionCells,
        problems: &mut Problems,
    ) -> rusqlite::Result<Option<Arc<Graph>>> {
        let version = self.version(connection, payloads, row.workflow)?;
        let Some(version) = version else {
            let what = format!("its workflow version {} is not stored", row.workflow);
            problems.add(Invariant::I1, what);
            return Ok(None);
        };
        match row.graph.as_deref() {
            None => Ok(version),
            Some(own) => {
                let json = payloads.text("its graph", Some(own), problems)?;
                Ok(json
                    .and_then(|json| parse("its graph", &json, problems))
                    .map(Arc::new))
            }
        }
    }

    /// The graph of a workflow version: outer none if there is no such version; inner none if its
    /// graph cannot be read, which is said where versions are checked.
    fn version(
        &mut self,
        connection: &Connection,
        payloads: &mut Payloads<'_>,
        id: i64,
    ) -> rusqlite::Result<Option<Option<Arc<Graph>>>> {
        if let Some(known) = self.versions.get(&id) {
            return Ok(Some(known.clone()));
        }
        let stored: Option<String> = connection
            .prepare_cached("SELECT graph FROM workflow_versions WHERE id = ?1")?
            .query_row([id], |row| row.get(0))
            .optional()?;
        let Some(stored) = stored else {
            return Ok(None);
        };
        let mut said_elsewhere = Problems::default();
        let json = payloads.text("its graph", Some(&stored), &mut said_elsewhere)?;
        let graph = json
            .and_then(|json| parse("its graph", &json, &mut said_elsewhere))
            .map(Arc::new);
        self.nodes += graph.as_ref().map_or(0, |graph| u64::from(graph.len()));
        if self.nodes > KEPT_NODES {
            self.versions.clear();
            self.nodes = graph.as_ref().map_or(0, |graph| u64::from(graph.len()));
        }
        self.versions.insert(id, graph.clone());
        Ok(Some(graph))
    }
}

/// A graph from its stored form.
pub(super) fn parse(what: &str, json: &str, problems: &mut Problems) -> Option<Graph> {
    match Graph::from_json(json) {
        Ok(graph) => Some(graph),
        Err(error) => {
            problems.add(Invariant::I1, format!("{what} cannot be read: {error}"));
            None
        }
    }
}
