//! Starting executions: once per instance, small graphs in one transaction, large ones in pieces
//! under an execution that nobody sees until it is published.

use crate::context;
use crate::execution::{Execution, NewExecution};
use crate::ids::{ExecutionId, TaskKey, VersionId};
use crate::status::ExecutionStatus;
use crate::task::Task;
use crate::timer::{Timer, TimerKind};
use crate::transition::Cause;
use crate::trigger::Trigger;

use super::effects::{NewExecutionRow, NewTaskRow};
use super::need::Stop;
use super::offer::Offer;
use super::propagate::Spread;
use super::refusal::Refusal;
use super::request::{AddTasks, Claimed, IfExists, Publish, Start, Started};
use super::working::{ContextParts, Latest, Working};
use super::{Need, PIECE};

impl Working {
    pub(super) fn start(&mut self, start: &Start) -> Result<Started, Stop> {
        let asked = Asked {
            instance: &start.instance,
            workflow: start.workflow,
            input_hash: &start.input_hash,
            if_exists: start.if_exists,
        };
        let generation = match self.existing(&asked)? {
            Existing::Is(started) => return Ok(started),
            Existing::Next(generation) => generation,
        };
        let whole = start.graph.len() <= PIECE;
        self.make(start, whole.then_some(generation))?;
        if !whole {
            return Ok(Started {
                id: start.id,
                generation: 0,
                status: ExecutionStatus::Pending,
                created: true,
                claimed: Vec::new(),
            });
        }
        let claimed = self.open_whole(start, generation)?;
        let status = self.execution(start.id)?.status;
        Ok(Started {
            id: start.id,
            generation,
            status,
            created: true,
            claimed,
        })
    }

    /// Records the execution, without a generation if its tasks are still to come.
    fn make(&mut self, start: &Start, generation: Option<u32>) -> Result<(), Stop> {
        let cause = Cause {
            at: self.now,
            by: start.by,
            worker: None,
            actor: start.actor.clone(),
        };
        let execution = Execution::create(
            NewExecution {
                id: start.id,
                instance: start.instance.clone(),
                generation,
                workflow: start.workflow,
                tasks: start.graph.len(),
                input: start.input.as_ref().map(|input| input.digest()),
                priority: start.priority,
                start_at: start.start_at.filter(|at| *at > self.now),
                deadline_at: start.deadline_at,
                own_graph: start.own_graph,
            },
            &cause,
            &mut self.effects.events,
        )?;
        let graph = start.graph.clone();
        self.load_graph(start.id, start.workflow, start.own_graph, graph);
        self.add_execution(execution);
        self.effects.new_executions.push(NewExecutionRow {
            id: start.id,
            input: start.input.clone(),
            input_hash: start.input_hash.clone(),
            tags: start.tags.clone(),
            graph: start.own_graph.then(|| start.graph.clone()),
        });
        Ok(())
    }

    /// Makes all tasks, and claims what the start's offer takes, with its input.
    fn open_whole(&mut self, start: &Start, generation: u32) -> Result<Vec<Claimed>, Stop> {
        self.begin_context(start);
        let (id, inputs) = (start.id, &start.node_inputs);
        self.create_tasks(id, &start.graph, 1, start.graph.len(), inputs)?;
        let mut claimed = self.open_up(id, generation, &start.input_hash, start.offer.as_ref())?;
        for task in &mut claimed {
            let own = inputs.binary_search_by_key(&task.task.key.number, |(number, _)| *number);
            let own = own.ok().map(|at| inputs[at].1.clone());
            task.input = own.or_else(|| start.input.clone());
        }
        Ok(claimed)
    }

    /// The rules of roots read what the execution begins with, which is not in the store yet.
    fn begin_context(&mut self, start: &Start) {
        let mut rules = start.graph.tasks().iter().flat_map(|task| &task.trigger);
        if rules.any(Trigger::uses_context) {
            let parts = ContextParts {
                // The door lets only JSON through.
                base: context::base(start.input.as_ref()).unwrap_or_default(),
                ..ContextParts::default()
            };
            self.load_context(start.id, parts);
        }
    }

    pub(super) fn add_tasks(&mut self, piece: &AddTasks) -> Result<(), Stop> {
        self.require_unpublished(piece.execution)?;
        self.create_tasks(
            piece.execution,
            &piece.graph,
            piece.first,
            piece.last,
            &piece.node_inputs,
        )?;
        Ok(())
    }

    pub(super) fn publish(&mut self, publish: &Publish) -> Result<Started, Stop> {
        let id = publish.execution;
        let execution = self.execution(id)?;
        let (instance, workflow) = (execution.instance.clone(), execution.workflow);
        if let Some(generation) = execution.generation {
            // Asked again after an answer that got lost.
            let status = self.execution(id)?.status;
            return Ok(Started {
                id,
                generation,
                status,
                created: true,
                claimed: Vec::new(),
            });
        }
        let asked = Asked {
            instance: &instance,
            workflow,
            input_hash: &publish.input_hash,
            if_exists: publish.if_exists,
        };
        let generation = match self.existing(&asked)? {
            Existing::Is(started) => return Ok(started),
            Existing::Next(generation) => generation,
        };
        self.change_execution(id, |execution, _| {
            execution.generation = Some(generation);
            Ok(())
        })?;
        self.open_up(id, generation, &publish.input_hash, None)?;
        let status = self.execution(id)?.status;
        Ok(Started {
            id,
            generation,
            status,
            created: true,
            claimed: Vec::new(),
        })
    }

    fn require_unpublished(&self, id: ExecutionId) -> Result<(), Stop> {
        let execution = self.execution(id)?;
        match execution.generation {
            None => Ok(()),
            Some(_) => Err(Refusal::Ended {
                execution: id,
                status: execution.status,
                action: "extended",
            }
            .into()),
        }
    }

    fn create_tasks(
        &mut self,
        id: ExecutionId,
        graph: &std::sync::Arc<crate::graph::Graph>,
        first: u32,
        last: u32,
        inputs: &[(u32, crate::payload::Payload)],
    ) -> Result<(), Stop> {
        let cause = Cause::engine(self.now);
        for number in first..=last {
            let key = TaskKey::new(id, number);
            let waiting = graph.dependencies(number).len() as u32;
            let task = Task::create(key, waiting, &cause, &mut self.effects.events)?;
            self.add_task(task);
            let own = inputs
                .binary_search_by_key(&number, |(number, _)| *number)
                .ok();
            let input = own.map(|at| inputs[at].1.clone());
            self.effects.new_tasks.push(NewTaskRow {
                key,
                graph: graph.clone(),
                input,
            });
        }
        Ok(())
    }

    /// Makes a recorded execution known, arms its timers, and sets its roots going.
    fn open_up(
        &mut self,
        id: ExecutionId,
        generation: u32,
        input_hash: &str,
        offer: Option<&Offer>,
    ) -> Result<Vec<Claimed>, Stop> {
        let execution = self.execution(id)?;
        let (instance, start_at, deadline_at) = (
            execution.instance.clone(),
            execution.start_at,
            execution.deadline_at,
        );
        self.set_instance(
            instance,
            Latest {
                id,
                generation,
                input_hash: input_hash.to_owned(),
            },
        );
        if let Some(at) = deadline_at {
            self.add_timer(Timer::of_execution(at, TimerKind::Deadline, id, 0));
        }
        if let Some(at) = start_at {
            self.add_timer(Timer::of_execution(at, TimerKind::Start, id, 0));
            return Ok(Vec::new());
        }
        self.start_roots(id, 0, offer)
    }

    /// Decides the tasks without dependencies, from the n-th on.
    pub(super) fn start_roots(
        &mut self,
        id: ExecutionId,
        from: u32,
        offer: Option<&Offer>,
    ) -> Result<Vec<Claimed>, Stop> {
        let graph = self.graph_of(self.execution(id)?)?;
        let mut roots = graph.roots().skip(from as usize);
        let piece: Vec<u32> = roots.by_ref().take(PIECE as usize).collect();
        if roots.next().is_some() {
            let timer = Timer::of_execution(self.now, TimerKind::Start, id, from + PIECE);
            self.add_timer(timer);
        }
        // A root of an execution that was already published may have been cancelled meanwhile.
        self.require_tasks(piece.iter().map(|&number| TaskKey::new(id, number)))?;
        let mut spread = Spread::new(id, graph.clone(), offer);
        for number in piece {
            self.decide(&mut spread, number)?;
        }
        self.spread(&mut spread)?;
        self.end_if_done(id)?;
        Ok(spread.claimed)
    }

    fn existing(&self, asked: &Asked<'_>) -> Result<Existing, Stop> {
        let Some(latest) = self.instance(asked.instance)?.cloned() else {
            return Ok(Existing::Next(1));
        };
        let row = self.executions.get(&latest.id).and_then(Option::as_ref);
        let Some(row) = row else {
            return Err(Need::Execution(latest.id).into());
        };
        let (status, workflow) = (row.value.status, row.value.workflow);
        let instance = || asked.instance.to_string();
        if asked.if_exists == IfExists::Reject {
            return Err(Refusal::InstanceExists {
                instance: instance(),
                execution: latest.id,
                status,
            }
            .into());
        }
        let (found, name) = self.workflow_names(workflow, asked.workflow)?;
        if found != name {
            return Err(Refusal::OtherWorkflow {
                instance: instance(),
                execution: latest.id,
                found: found.to_owned(),
                asked: name.to_owned(),
            }
            .into());
        }
        if asked.if_exists == IfExists::StartAnew && status.is_terminal() {
            return Ok(Existing::Next(latest.generation + 1));
        }
        if latest.input_hash != asked.input_hash {
            return Err(Refusal::DifferentInput {
                instance: instance(),
                execution: latest.id,
            }
            .into());
        }
        Ok(Existing::Is(Started {
            id: latest.id,
            generation: latest.generation,
            status,
            created: false,
            claimed: Vec::new(),
        }))
    }

    /// The names of two versions' workflows; of one and the same version they need not be read.
    fn workflow_names(&self, one: VersionId, other: VersionId) -> Result<(&str, &str), Stop> {
        if one == other {
            return Ok(("", ""));
        }
        let name = |version| self.workflow_names.get(&version).map(|name| &**name);
        match (name(one), name(other)) {
            (Some(one), Some(other)) => Ok((one, other)),
            _ => Err(Stop::Missing(vec![
                Need::WorkflowName(one),
                Need::WorkflowName(other),
            ])),
        }
    }
}

/// What a start asks for, as far as an execution that is there may differ.
struct Asked<'a> {
    instance: &'a std::sync::Arc<str>,
    workflow: VersionId,
    input_hash: &'a str,
    if_exists: IfExists,
}

enum Existing {
    Is(Started),
    Next(u32),
}
