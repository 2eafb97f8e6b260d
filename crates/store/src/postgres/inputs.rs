//! What a claimed task is given to work with: its input, its dependencies' outputs, its context.

use abide_core::context::{self, Sources, fold};
use abide_core::graph::{Graph, Uses};
use abide_core::ids::{ExecutionId, TaskKey};
use abide_core::kernel::Claimed;
use abide_core::payload::Payload;
use abide_core::trigger::Ending;
use rustc_hash::FxHashMap;
use serde_json::{Map, Value};

use crate::error::StoreError;
use crate::queries::{self, changes, context_base};
use crate::rows::{Columns, FromColumns};
use crate::views::{ContextView, TaskInputs};
use crate::words::input_of;

use super::queries::{Reader, all, int, one};
use super::rows::{Cells, Content};
use super::statement::{Execute, Param, Statement};

/// How many ancestors are asked at first whether they have a checkpoint. On a chain one of the first
/// few has; where none is found, four times as many are asked next.
const ASKED_FIRST: usize = 16;

/// What a source of a context has stored.
struct Source {
    changes: Option<Payload>,
    checkpoint: bool,
}

impl<E: Execute + Sync> Reader<'_, E> {
    /// What a claimed task is given to work with, as far as its code asks for it.
    pub(crate) async fn inputs(
        &self,
        claimed: &Claimed,
        uses: &Uses,
    ) -> Result<TaskInputs, StoreError> {
        let task = claimed.task.key;
        let what = input_of(task);
        let mut inputs = TaskInputs::default();
        if uses.input {
            inputs.input = match &claimed.input {
                Some(input) => Some(input.clone()),
                None => self
                    .task_inputs(&[task])
                    .await?
                    .pop()
                    .transpose()?
                    .flatten(),
            };
        }
        if uses.outputs {
            inputs.outputs = self.outputs(task, &claimed.graph, &what).await?;
        }
        if uses.context {
            inputs.context = Some(self.context(task, &claimed.graph, &what).await?);
        }
        Ok(inputs)
    }

    async fn outputs(
        &self,
        task: TaskKey,
        graph: &Graph,
        what: &str,
    ) -> Result<Vec<(u32, Ending, Option<Payload>)>, StoreError> {
        let dependencies = graph.dependencies(task.number);
        if dependencies.is_empty() {
            return Ok(Vec::new());
        }
        let statement = Statement::new(
            "SELECT t.number, t.status, t.output FROM unnest($2::bigint[]) WITH ORDINALITY AS u (number, at) \
             JOIN ~task_executions t ON t.execution = $1::bigint AND t.number = u.number ORDER BY u.at",
            vec![int(task.execution.0), numbers(dependencies)],
        );
        all(self.execute, statement, what, FromColumns::from_columns).await
    }

    async fn context(
        &self,
        task: TaskKey,
        graph: &Graph,
        what: &str,
    ) -> Result<ContextView, StoreError> {
        let id = task.execution;
        let base = self.base(id, what).await?;
        let checkpoint = self.checkpoint(task, graph, what).await?;
        let sources = context::sources(graph, task.number, &|number| Some(number) == checkpoint);
        let mut parts = Vec::with_capacity(sources.changes.len() + 1);
        if let Some(number) = sources.checkpoint {
            let checkpoint = queries::checkpoint(TaskKey::new(id, number), what.to_owned());
            parts.extend(self.one(checkpoint).await?.flatten());
        }
        let stored = self.sources(id, &sources, what).await?;
        let has = |number: u32| stored.get(&number).is_some_and(|source| source.checkpoint);
        let charged = context::chargeable(graph, task.number, &sources, &has);
        let mut charged_bytes = 0;
        for number in &sources.changes {
            let changes = stored
                .get(number)
                .and_then(|source| source.changes.as_ref());
            let Some(changes) = changes else { continue };
            if charged.contains(number) {
                charged_bytes += changes.len() + context::SOURCE_COST;
            }
            parts.push(changes.clone());
        }
        let parts: Result<Vec<_>, String> = parts.iter().map(changes).collect();
        let parts = parts.map_err(|detail| Content::new(detail).of(what))?;
        Ok(ContextView {
            map: fold(base.clone(), &parts),
            base,
            charged_bytes,
        })
    }

    /// The context that an execution began with.
    async fn base(&self, id: ExecutionId, what: &str) -> Result<Map<String, Value>, StoreError> {
        let input = self.one(queries::input(id, what.to_owned())).await?;
        let base = context_base(input.flatten().as_ref());
        base.map_err(|detail| Content::new(detail).of(what))
    }

    /// The checkpoint that stands in for what came before it. Asks for those that could, latest first,
    /// some at a time: an execution may have more tasks than anybody wants to look at.
    async fn checkpoint(
        &self,
        task: TaskKey,
        graph: &Graph,
        what: &str,
    ) -> Result<Option<u32>, StoreError> {
        let (mut asked, mut next) = (0, ASKED_FIRST);
        loop {
            let candidates = context::candidates(graph, task.number).skip(asked);
            let candidates: Vec<u32> = candidates.take(next).collect();
            if candidates.is_empty() {
                return Ok(None);
            }
            let statement = Statement::new(
                "SELECT t.number FROM unnest($2::bigint[]) WITH ORDINALITY AS u (number, at) \
                 JOIN ~task_executions t ON t.execution = $1::bigint AND t.number = u.number \
                 WHERE t.checkpoint IS NOT NULL ORDER BY u.at LIMIT 1",
                vec![int(task.execution.0), numbers(&candidates)],
            );
            let found = one(self.execute, statement, what, Cells::int).await?;
            if found.is_some() || candidates.len() < next {
                return Ok(found);
            }
            asked += next;
            next *= 4;
        }
    }

    async fn sources(
        &self,
        id: ExecutionId,
        sources: &Sources,
        what: &str,
    ) -> Result<FxHashMap<u32, Source>, StoreError> {
        if sources.changes.is_empty() {
            return Ok(FxHashMap::default());
        }
        let statement = Statement::new(
            "SELECT t.number, t.changes, t.checkpoint IS NOT NULL FROM unnest($2::bigint[]) AS u (number) \
             JOIN ~task_executions t ON t.execution = $1::bigint AND t.number = u.number",
            vec![int(id.0), numbers(&sources.changes)],
        );
        let read = |cells: &mut Cells| {
            let number = cells.int()?;
            let source = Source {
                changes: cells.payload()?,
                checkpoint: cells.truth()?,
            };
            Ok((number, source))
        };
        let found = all(self.execute, statement, what, read).await?;
        Ok(found.into_iter().collect())
    }
}

fn numbers(numbers: &[u32]) -> Param<'static> {
    Param::Ints(numbers.iter().map(|&number| Some(number.into())).collect())
}
