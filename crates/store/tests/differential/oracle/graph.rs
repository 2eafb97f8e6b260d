//! What the graph says, from the states of all nodes as they are: which nodes are decided now, what
//! their rules say, and whether the execution is over and how it ended.

use std::collections::BTreeSet;

use abide_core::event::EventType;
use abide_core::ids::ExecutionId;
use abide_core::status::{ExecutionStatus, Phase};
use abide_core::trigger::{ContextOp, Trigger};
use serde_json::{Map, Value, json};

use super::Oracle;
use super::state::{Run, Told, Who};

impl Oracle {
    /// Decides nodes until there is none left to decide, and ends the execution if everything in it
    /// has ended. Answers what became ready.
    pub(super) fn settle(&mut self, id: ExecutionId) -> Vec<u32> {
        let now = self.now;
        let run = self.run(id);
        let mut ready = Vec::new();
        while let Some(number) = run.to_decide() {
            let runs = run.says_yes(number);
            let node = run.node_mut(number);
            if runs {
                let kind = EventType::TaskMarkedReady;
                node.becomes_ready(kind, Told::Nothing, Who::engine(), now);
                ready.push(number);
            } else {
                let kind = EventType::TaskSkipped;
                node.becomes(Phase::Skipped, kind, Told::Words, Who::engine(), now);
            }
        }
        self.end_if_over(id);
        ready
    }

    /// Ends the execution if all its nodes have ended.
    pub(super) fn end_if_over(&mut self, id: ExecutionId) {
        let now = self.now;
        let run = self.run(id);
        let over = run.nodes.iter().all(|node| node.phase.is_terminal());
        if !over || run.status.is_terminal() {
            return;
        }
        let (status, kind) = match run.is_stopping() {
            true if run.stop_cause == Some("deadline") => {
                (ExecutionStatus::TimedOut, EventType::ExecutionTimedOut)
            }
            true => (ExecutionStatus::Cancelled, EventType::ExecutionCancelled),
            false => match run.uncaught() {
                None => (ExecutionStatus::Completed, EventType::ExecutionCompleted),
                Some((number, reason)) => {
                    run.reason = Some(reason);
                    run.failed_task = Some(number);
                    (ExecutionStatus::Failed, EventType::ExecutionFailed)
                }
            },
        };
        let data = match status {
            ExecutionStatus::Failed => {
                Told::Value(json!({ "reason": run.reason, "failed_task": run.failed_task }))
            }
            _ => Told::Nothing,
        };
        run.becomes(status, kind, data, Who::engine(), now);
        run.grace_until = None;
    }
}

impl Run {
    /// Dependencies that ended. One that was cancelled doesn't count: its execution stops, and
    /// nothing follows from it.
    pub(super) fn ended_before(&self, number: u32) -> impl Iterator<Item = Phase> {
        let before = self.graph.dependencies(number).iter();
        let phases = before.map(|&before| self.node(before).phase);
        phases.filter(|phase| phase.is_terminal() && *phase != Phase::Cancelled)
    }

    /// A node that waits although all its dependencies have ended.
    fn to_decide(&self) -> Option<u32> {
        if !self.may_run() || self.held_back {
            return None;
        }
        let numbers = self.graph.numbers();
        let mut pending = numbers.filter(|&number| self.node(number).phase == Phase::Pending);
        pending.find(|&number| {
            self.ended_before(number).count() == self.graph.dependencies(number).len()
        })
    }

    /// Whether a node runs: by its rule, or if every dependency completed.
    fn says_yes(&self, number: u32) -> bool {
        match &self.graph.task_of(number).trigger {
            Some(rule) => self.holds(rule, number),
            None => self
                .ended_before(number)
                .all(|phase| phase == Phase::Completed),
        }
    }

    fn holds(&self, rule: &Trigger, number: u32) -> bool {
        match rule {
            Trigger::All(parts) => parts.iter().all(|part| self.holds(part, number)),
            Trigger::Any(parts) => parts.iter().any(|part| self.holds(part, number)),
            Trigger::None(parts) => !parts.iter().any(|part| self.holds(part, number)),
            Trigger::Success(name) => self
                .named(name, number)
                .all(|of| self.node(of).phase == Phase::Completed),
            Trigger::Failed(name) => self
                .named(name, number)
                .any(|of| self.node(of).has_failed()),
            Trigger::Skipped(name) => self
                .named(name, number)
                .any(|of| self.node(of).phase == Phase::Skipped),
            Trigger::Context { key, op, value } => {
                compares(self.context_of(number).get(key), *op, value)
            }
        }
    }

    /// The dependencies that a name in a rule means: the node of that id, or the task's nodes.
    fn named<'a>(&'a self, name: &'a str, number: u32) -> impl Iterator<Item = u32> + 'a {
        let before = self.graph.dependencies(number).iter().copied();
        let is_node = before.clone().any(|of| self.graph.node_id(of) == name);
        before.filter(move |&of| match is_node {
            true => self.graph.node_id(of) == name,
            false => self.graph.task_of(of).id == name,
        })
    }

    /// The context a node sees: the input, if that is an object, then what its ancestors changed, in
    /// the order of the graph, declared order where that leaves a choice.
    fn context_of(&self, number: u32) -> Map<String, Value> {
        let input = self.input.as_ref();
        let input = input.map(|input| serde_json::from_str(input.as_str()).expect("it is JSON"));
        let mut context = match input {
            Some(Value::Object(map)) => map,
            _ => Map::new(),
        };
        let mut left = self.ancestors(number);
        while let Some(&next) = left.iter().find(|&&next| {
            let mut before = self.graph.dependencies(next).iter();
            before.all(|before| !left.contains(before))
        }) {
            left.remove(&next);
            for (key, value) in &self.node(next).changes {
                match value {
                    Some(value) => context.insert(key.clone(), value.clone()),
                    None => context.remove(key),
                };
            }
        }
        context
    }

    fn ancestors(&self, number: u32) -> BTreeSet<u32> {
        let before = self.graph.dependencies(number).iter();
        before
            .flat_map(|&before| self.ancestors(before).into_iter().chain([before]))
            .collect()
    }

    /// The first failed node that no completed dependent's rule names, in words.
    fn uncaught(&self) -> Option<(u32, String)> {
        let failed = self.nodes.iter().filter(|node| node.has_failed());
        let mut uncaught = failed.filter(|failed| {
            !self.nodes.iter().any(|handler| {
                let depends = self.graph.dependencies(handler.number);
                handler.phase == Phase::Completed
                    && depends.contains(&failed.number)
                    && self.catches(handler.number, failed.number)
            })
        });
        let node = uncaught.next()?;
        let id = self.graph.node_id(node.number);
        Some((node.number, format!("task `{id}`: {}", node.phase)))
    }

    fn catches(&self, handler: u32, failed: u32) -> bool {
        let rule = self.graph.task_of(handler).trigger.as_ref();
        rule.is_some_and(|rule| self.names_failure(rule, handler, failed))
    }

    fn names_failure(&self, rule: &Trigger, handler: u32, failed: u32) -> bool {
        match rule {
            Trigger::All(parts) | Trigger::Any(parts) | Trigger::None(parts) => {
                let mut parts = parts.iter();
                parts.any(|part| self.names_failure(part, handler, failed))
            }
            Trigger::Failed(name) => self.named(name, handler).any(|of| of == failed),
            _ => false,
        }
    }
}

fn compares(found: Option<&Value>, op: ContextOp, value: &Value) -> bool {
    match op {
        ContextOp::Exists => found.is_some(),
        ContextOp::Gt => match (found.and_then(Value::as_f64), value.as_f64()) {
            (Some(found), Some(value)) => found > value,
            _ => false,
        },
        other => panic!("no world's rule compares by {other:?}"),
    }
}
