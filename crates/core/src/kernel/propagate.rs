//! What the end of a task does to the rest of its graph: dependents count down, the last
//! dependency decides, a no skips and spreads on. Bounded: at most [`PIECE`] dependents a request,
//! the rest from a timer that is due at once.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashSet;

use crate::context::{fold, sources};
use crate::graph::Graph;
use crate::ids::{ExecutionId, TaskKey};
use crate::status::{ExecutionStatus, Phase};
use crate::timer::{Timer, TimerKind};
use crate::transition::Cause;
use crate::trigger::{self, Decision, Ending};

use super::PIECE;
use super::need::Stop;
use super::offer::Offer;
use super::request::Claimed;
use super::working::Working;

/// One request's walk over a graph.
pub(super) struct Spread<'a> {
    execution: ExecutionId,
    graph: Arc<Graph>,
    offer: Option<&'a Offer>,
    ended: VecDeque<(u32, u32)>,
    budget: u32,
    /// A task was skipped, and those after it may be too.
    skips: bool,
    /// What became Ready, to be handed out once all is decided.
    ready: Vec<TaskKey>,
    pub(super) claimed: Vec<Claimed>,
}

impl<'a> Spread<'a> {
    pub(super) fn new(
        execution: ExecutionId,
        graph: Arc<Graph>,
        offer: Option<&'a Offer>,
    ) -> Spread<'a> {
        Spread {
            execution,
            graph,
            offer,
            ended: VecDeque::new(),
            budget: PIECE,
            skips: false,
            ready: Vec::new(),
            claimed: Vec::new(),
        }
    }

    /// A task ended; its dependents from the n-th on are to be told.
    pub(super) fn ended(&mut self, number: u32, from: u32) {
        self.ended.push_back((number, from));
    }

    fn key(&self, number: u32) -> TaskKey {
        TaskKey::new(self.execution, number)
    }
}

impl Working {
    /// Tells dependents until nothing more follows or the budget is used up, then hands out what
    /// became Ready.
    pub(super) fn spread(&mut self, spread: &mut Spread<'_>) -> Result<(), Stop> {
        self.tell(spread)?;
        self.hand_out(spread)
    }

    fn tell(&mut self, spread: &mut Spread<'_>) -> Result<(), Stop> {
        while let Some((number, from)) = spread.ended.pop_front() {
            let completed = self.task(spread.key(number))?.phase == Phase::Completed;
            let graph = spread.graph.clone();
            let dependents = &graph.dependents(number)[from as usize..];
            let now_told = dependents.len().min(spread.budget as usize);
            self.require_told(spread, &dependents[..now_told], completed)?;
            for &dependent in &dependents[..now_told] {
                let last = self.change_task(spread.key(dependent), |task, _| {
                    Ok(task.lower_waiting(completed))
                })?;
                if last {
                    self.decide(spread, dependent)?;
                }
            }
            spread.budget -= now_told as u32;
            if now_told < dependents.len() {
                let timer = Timer::of_task(
                    self.now,
                    TimerKind::Propagate,
                    spread.key(number),
                    from + now_told as u32,
                );
                self.add_timer(timer);
            }
        }
        Ok(())
    }

    /// That all that is read to tell these dependents is loaded, so that a request is not run again
    /// for each of them.
    fn require_told(
        &self,
        spread: &Spread<'_>,
        dependents: &[u32],
        completed: bool,
    ) -> Result<(), Stop> {
        let key = |number: u32| spread.key(number);
        let is_loaded = |number: &u32| self.tasks.contains_key(&key(*number));
        if !dependents.iter().all(is_loaded) {
            let ahead = self.ahead(spread, dependents);
            return self.require_tasks(ahead.into_iter().map(key));
        }
        let graph = &spread.graph;
        let mut looks_at = Vec::new();
        for &dependent in dependents {
            let task = self.task(key(dependent))?;
            let met = task.unmet == 0 && completed;
            let by_rule = graph.task_of(dependent).trigger.is_some();
            if task.waiting == 1 && (by_rule || !met) {
                looks_at.extend(graph.dependencies(dependent).iter().copied().map(key));
            }
        }
        self.require_tasks(looks_at.into_iter())
    }

    /// Tasks to read for telling these: themselves; and once a skip spreads, what it comes to next
    /// and what that is decided by, about as much again as was told so far. So a long chain is read
    /// in a few rounds, and little is read that is not told.
    fn ahead(&self, spread: &Spread<'_>, dependents: &[u32]) -> Vec<u32> {
        let mut found: Vec<u32> = dependents.to_vec();
        if !spread.skips {
            return found;
        }
        let graph = &spread.graph;
        let told = (PIECE - spread.budget) as usize;
        let mut seen: FxHashSet<u32> = found.iter().copied().collect();
        let ended = spread.ended.iter().map(|(number, _)| *number);
        let mut next: VecDeque<u32> = found.iter().copied().chain(ended).collect();
        while found.len() < told
            && let Some(number) = next.pop_front()
        {
            let is_new = |number: &&u32| {
                let loaded = self.tasks.contains_key(&spread.key(**number));
                !loaded && seen.insert(**number)
            };
            let room = told - found.len();
            let after = graph.dependents(number).iter();
            let before = graph.dependencies(number).iter();
            let more: Vec<u32> = after
                .chain(before)
                .filter(is_new)
                .take(room)
                .copied()
                .collect();
            let follows = |other: &u32| graph.dependents(number).binary_search(other).is_ok();
            next.extend(more.iter().copied().filter(follows));
            found.extend(more);
        }
        found
    }

    /// Decides a task whose dependencies have all ended: it becomes Ready, or is skipped and that
    /// spreads on.
    pub(super) fn decide(&mut self, spread: &mut Spread<'_>, number: u32) -> Result<(), Stop> {
        let key = spread.key(number);
        let task = self.task(key)?;
        if task.phase != Phase::Pending {
            return Ok(());
        }
        let execution = self.execution(spread.execution)?;
        if execution.status == ExecutionStatus::Cancelling || execution.status.is_terminal() {
            // The stop that is under way cancels it.
            return Ok(());
        }
        let all_met = task.unmet == 0;
        let cause = Cause::engine(self.now);
        match self.verdict(&spread.graph, key, all_met)? {
            Decision::Run => {
                self.change_task(key, |task, log| task.mark_ready(&cause, log))?;
                spread.ready.push(key);
                Ok(())
            }
            Decision::Skip(reason) => {
                self.change_task(key, |task, log| task.skip(&reason, &cause, log))?;
                self.change_execution(spread.execution, |execution, _| {
                    execution.open = execution.open.saturating_sub(1);
                    Ok(())
                })?;
                spread.skips = true;
                spread.ended(number, 0);
                Ok(())
            }
        }
    }

    /// What the task's trigger rule says.
    fn verdict(&self, graph: &Arc<Graph>, key: TaskKey, all_met: bool) -> Result<Decision, Stop> {
        let rule = graph.task_of(key.number).trigger.as_ref();
        if rule.is_none() && all_met {
            return Ok(Decision::Run);
        }
        let of = |number: u32| TaskKey::new(key.execution, number);
        self.require_tasks(
            graph
                .dependencies(key.number)
                .iter()
                .map(|&number| of(number)),
        )?;
        let context = match rule.is_some_and(|rule| rule.uses_context()) {
            true => Some(self.context_of(graph, key)?),
            false => None,
        };
        let ending_of = |number: u32| match self.task(of(number)).map(|task| task.phase) {
            Ok(Phase::Completed) => Ending::Completed,
            Ok(Phase::Failed) => Ending::Failed,
            Ok(Phase::Abandoned) => Ending::Abandoned,
            Ok(Phase::Skipped) => Ending::Skipped,
            // Every dependency is loaded and has ended, so nothing else is left.
            _ => Ending::Cancelled,
        };
        Ok(trigger::decide(graph, key.number, &ending_of, &|| {
            context.clone().unwrap_or_default()
        }))
    }

    fn context_of(
        &self,
        graph: &Arc<Graph>,
        key: TaskKey,
    ) -> Result<serde_json::Map<String, serde_json::Value>, Stop> {
        let parts = self.context(key.execution)?;
        let sources = sources(graph, key.number, &|number| {
            parts.checkpoints.contains_key(&number)
        });
        let checkpoint = sources
            .checkpoint
            .and_then(|number| parts.checkpoints.get(&number));
        let changed = sources
            .changes
            .iter()
            .filter_map(|&number| self.changes(TaskKey::new(key.execution, number), parts));
        let changes = checkpoint.into_iter().chain(changed);
        Ok(fold(parts.base.clone(), changes))
    }

    /// Tasks that became Ready are claimed into offered slots, those of higher priority first, or
    /// go to the outbox.
    fn hand_out(&mut self, spread: &mut Spread<'_>) -> Result<(), Stop> {
        let mut ready = Vec::with_capacity(spread.ready.len());
        for key in std::mem::take(&mut spread.ready) {
            ready.push((self.priority_of(&spread.graph, key)?, key));
        }
        ready.sort_by_key(|(priority, _)| Reverse(*priority));
        for (priority, key) in ready {
            if let Some(offer) = spread.offer
                && spread.claimed.len() < offer.slots as usize
                && self.may_bypass_outbox(offer, priority)?
                && let Some(claimed) = self.claim_ready(key, offer.worker, offer.hop)?
            {
                spread.claimed.push(claimed);
            } else {
                self.queue(key)?;
            }
        }
        Ok(())
    }
}
