//! Executions, tasks, and what belongs to them as a whole: instance, graph, context.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::context::Changes;
use crate::event::Event;
use crate::execution::Execution;
use crate::graph::Graph;
use crate::ids::{ExecutionId, TaskKey};
use crate::kernel::effects::{Row, TaskEnd};
use crate::kernel::need::{Need, Stop, TaskSet};
use crate::kernel::refusal::Refusal;
use crate::status::Phase;
use crate::table::Illegal;
use crate::task::Task;

use super::undo::Undo;
use super::{ContextParts, Latest, Working};

impl Working {
    pub(in crate::kernel) fn execution(&self, id: ExecutionId) -> Result<&Execution, Stop> {
        match self.executions.get(&id) {
            Some(Some(row)) => Ok(&row.value),
            Some(None) => Err(Refusal::UnknownExecution(id).into()),
            None => Err(Need::Execution(id).into()),
        }
    }

    pub(in crate::kernel) fn find_task(&self, key: TaskKey) -> Result<Option<&Task>, Stop> {
        match self.tasks.get(&key) {
            Some(row) => Ok(row.as_ref().map(|row| &row.value)),
            None => Err(Need::Task(key).into()),
        }
    }

    pub(in crate::kernel) fn task(&self, key: TaskKey) -> Result<&Task, Stop> {
        self.find_task(key)?
            .ok_or_else(|| Refusal::UnknownExecution(key.execution).into())
    }

    /// That all these tasks are loaded, or every one that is missing.
    pub(in crate::kernel) fn require_tasks(
        &self,
        keys: impl Iterator<Item = TaskKey>,
    ) -> Result<(), Stop> {
        let missing: Vec<Need> = keys
            .filter(|key| !self.tasks.contains_key(key))
            .map(Need::Task)
            .collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(Stop::Missing(missing))
        }
    }

    pub(in crate::kernel) fn change_execution<R>(
        &mut self,
        id: ExecutionId,
        change: impl FnOnce(&mut Execution, &mut Vec<Event>) -> Result<R, Illegal>,
    ) -> Result<R, Stop> {
        match self.executions.get_mut(&id) {
            Some(Some(row)) => {
                self.undo.push(Undo::Execution(id, Some(row.clone())));
                row.dirty = true;
                Ok(change(&mut row.value, &mut self.effects.events)?)
            }
            Some(None) => Err(Refusal::UnknownExecution(id).into()),
            None => Err(Need::Execution(id).into()),
        }
    }

    pub(in crate::kernel) fn change_task<R>(
        &mut self,
        key: TaskKey,
        change: impl FnOnce(&mut Task, &mut Vec<Event>) -> Result<R, Illegal>,
    ) -> Result<R, Stop> {
        match self.tasks.get_mut(&key) {
            Some(Some(row)) => {
                self.undo.push(Undo::Task(key, Some(row.clone())));
                row.dirty = true;
                Ok(change(&mut row.value, &mut self.effects.events)?)
            }
            Some(None) => Err(Refusal::UnknownExecution(key.execution).into()),
            None => Err(Need::Task(key).into()),
        }
    }

    pub(in crate::kernel) fn add_execution(&mut self, value: Execution) {
        let id = value.id;
        self.undo.push(Undo::Execution(id, None));
        self.executions.insert(
            id,
            Some(Row {
                value,
                new: true,
                dirty: true,
            }),
        );
    }

    pub(in crate::kernel) fn add_task(&mut self, value: Task) {
        let key = value.key;
        let row = Row {
            value,
            new: true,
            dirty: true,
        };
        let before = self.put_task(key, Some(row));
        self.undo.push(Undo::Task(key, before));
    }

    /// Takes up a task's row, and that the task is one of its execution's.
    pub(super) fn put_task(&mut self, key: TaskKey, row: Option<Row<Task>>) -> Option<Row<Task>> {
        match self.tasks.entry(key) {
            Entry::Occupied(mut known) => known.insert(row),
            Entry::Vacant(place) => {
                place.insert(row);
                self.tasks_of.entry(key.execution).or_default().push(key);
                None
            }
        }
    }

    pub(in crate::kernel) fn instance(&self, instance: &Arc<str>) -> Result<Option<&Latest>, Stop> {
        match self.instances.get(instance) {
            Some(latest) => Ok(latest.as_ref()),
            None => Err(Need::Instance(instance.clone()).into()),
        }
    }

    pub(in crate::kernel) fn set_instance(&mut self, instance: Arc<str>, latest: Latest) {
        let before = self
            .instances
            .insert(instance.clone(), Some(latest))
            .flatten();
        self.undo.push(Undo::Instance(instance, before));
    }

    pub(in crate::kernel) fn graph_of(&self, execution: &Execution) -> Result<Arc<Graph>, Stop> {
        let found = match execution.own_graph {
            true => self.own_graphs.get(&execution.id),
            false => self.graphs.get(&execution.workflow),
        };
        let need = || Need::Graph(execution.id, execution.workflow, execution.own_graph).into();
        found.cloned().ok_or_else(need)
    }

    /// The keys of those tasks of the execution that are loaded, in order, and whether more are not.
    pub(in crate::kernel) fn tasks(
        &self,
        id: ExecutionId,
        set: TaskSet,
    ) -> Result<(Vec<TaskKey>, bool), Stop> {
        let more = self.task_sets.get(&(id, set));
        let more = *more.ok_or(Need::Tasks(id, set))?;
        let which = |phase: Phase| match set {
            TaskSet::Open => !phase.is_terminal(),
            TaskSet::Ready => phase == Phase::Ready,
            TaskSet::Failed => matches!(phase, Phase::Failed | Phase::Abandoned),
        };
        let keys = self.tasks_of.get(&id).map_or(&[][..], Vec::as_slice);
        self.walked(keys.len());
        let is_wanted = |key: &&TaskKey| {
            let row = self.tasks.get(key).and_then(Option::as_ref);
            row.is_some_and(|row| which(row.value.phase))
        };
        let mut keys: Vec<TaskKey> = keys.iter().filter(is_wanted).copied().collect();
        keys.sort_unstable();
        Ok((keys, more))
    }

    pub(in crate::kernel) fn context(&self, id: ExecutionId) -> Result<&ContextParts, Stop> {
        self.contexts
            .get(&id)
            .ok_or_else(|| Need::Context(id).into())
    }

    /// What a task changed, as far as it is known to this flush.
    pub(in crate::kernel) fn changes<'a>(
        &'a self,
        key: TaskKey,
        parts: &'a ContextParts,
    ) -> Option<&'a Changes> {
        self.fresh_changes
            .get(&key)
            .or_else(|| parts.changes.get(&key.number))
    }

    pub(in crate::kernel) fn end_task(&mut self, key: TaskKey, end: TaskEnd) {
        if let Some(changes) = &end.changes {
            self.undo.push(Undo::Fresh(key));
            self.fresh_changes.insert(key, changes.clone());
        }
        self.effects.task_ends.push((key, end));
    }
}
