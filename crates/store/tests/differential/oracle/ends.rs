//! How tasks end, for now or for good: results, failures and retries, deaths of their workers.

use abide_core::event::EventType;
use abide_core::failure::{Failure, RetryHint, kinds};
use abide_core::ids::{TaskKey, Timestamp, WorkerId};
use abide_core::kernel::{Finish, Held, Outcome as End, Recovered, Rerun, Supersede};
use abide_core::payload::Payload;
use abide_core::retry::{Backoff, RetryPolicy};
use abide_core::status::Phase;
use abide_core::task::Death;
use abide_core::timer::NEVER;
use serde_json::json;

use super::offers::Offers;
use super::said::Said;
use super::state::{Told, Who};
use super::{Oracle, Outcome};

/// What a store says of tasks whose worker's process died.
const GONE: &str = "the process that held it is gone";

impl Oracle {
    pub(super) fn finish(&mut self, finish: &Finish, offers: &mut Offers) -> Outcome {
        let (held, key) = (finish.held, finish.held.key);
        if self.require_held(held).is_err() {
            return Ok(self.finish_late(held, &finish.outcome));
        }
        self.give_back(key, &finish.given_back);
        let mut ready = Vec::new();
        if self.run(key.execution).is_stopping() {
            // Whatever came of it.
            self.cancel_node(key, Who::worker(held.worker));
            self.end_if_over(key.execution);
        } else {
            self.end(held, &finish.outcome);
            ready = self.settle(key.execution);
        }
        let offer = finish.offer.as_ref();
        let claimed = self.hand_out(key.execution, &ready, offer, offers);
        Ok(Said::Finished {
            recorded: true,
            phase: self.node(key).phase,
            claimed,
        })
    }

    /// The task is no longer the sender's. The claim that ended it may ask twice; another one's
    /// result is discarded, and history says so.
    fn finish_late(&mut self, held: Held, outcome: &End) -> Said {
        let now = self.now;
        let node = self.node(held.key);
        let recorded = node.phase.is_terminal() && node.epoch == held.epoch;
        let word = match outcome {
            End::Completed { .. } => Some("completed"),
            End::Failed { .. } => Some("failed"),
            _ => None,
        };
        if let (Some(word), false) = (word, recorded) {
            let data = Told::Value(json!({ "epoch": held.epoch, "outcome": word }));
            let kind = EventType::TaskLateResultDiscarded;
            node.happened(kind, Some(node.phase), data, Who::worker(held.worker), now);
            // That process had not died.
            if !node.phase.is_terminal() && node.crashes > 0 {
                node.crashes -= 1;
            }
        }
        Said::Finished {
            recorded,
            phase: node.phase,
            claimed: Vec::new(),
        }
    }

    fn end(&mut self, held: Held, outcome: &End) {
        let (now, who) = (self.now, Who::worker(held.worker));
        match outcome {
            End::Completed {
                output,
                changes,
                checkpoint,
            } => {
                let node = self.node(held.key);
                let changed = changes.as_ref().filter(|changes| !changes.0.is_empty());
                let changed = changed.map(|changes| json!(changes).to_string());
                let mut left = serde_json::Map::new();
                for (name, payload) in [
                    ("output", output.clone()),
                    ("changes", changed.map(Payload::from_json)),
                    ("checkpoint", checkpoint.clone()),
                ] {
                    if let Some(payload) = payload {
                        left.insert(name.to_owned(), json!(payload.digest()));
                    }
                }
                let data = match left.is_empty() {
                    true => Told::Nothing,
                    false => Told::Value(left.into()),
                };
                node.becomes(Phase::Completed, EventType::TaskCompleted, data, who, now);
                node.output.clone_from(output);
                node.changes = changes.clone().unwrap_or_default().0;
            }
            End::Failed { failure, rerun, .. } => self.fail(held, failure, rerun.as_ref()),
            End::Cancelled => {
                let said = "the task stopped although nobody asked it to";
                self.fail(held, &Failure::fatal(kinds::CANCELLED, said), None);
            }
            End::Released { reason } => {
                let data = Told::Value(json!({ "reason": reason }));
                let node = self.node(held.key);
                node.becomes_ready(EventType::TaskReleased, data, who, now);
            }
            End::Nondeterministic { difference } => {
                let wait = format!("code that matches the record: {difference}");
                let node = self.node(held.key);
                if node.phase == Phase::Active {
                    let data = Told::Value(json!({ "wait": wait }));
                    let kind = EventType::TaskDeferred;
                    node.becomes(Phase::Deferred, kind, data, who.clone(), now);
                    node.wait = Told::Value(json!(wait));
                }
                let data = Told::Value(json!({ "wake_at": NEVER }));
                node.becomes(Phase::Evicted, EventType::TaskEvicted, data, who, now);
                node.wake_at = Some(NEVER);
            }
        }
    }

    fn fail(&mut self, held: Held, failure: &Failure, rerun: Option<&Rerun>) {
        let (now, who) = (self.now, Who::worker(held.worker));
        let graph = self.run(held.key.execution).graph.clone();
        let policy = &graph.task_of(held.key.number).retry;
        let node = self.node(held.key);
        node.error = Some(json!(failure));
        let failed = Told::Value(json!({ "error": failure }));
        let Some(delay_us) = delay_us(policy, node.attempt, failure) else {
            node.becomes(Phase::Failed, EventType::TaskFailed, failed, who, now);
            return;
        };
        let (retry_at, from) = (now.plus_us(delay_us), node.phase);
        let mut next = json!({ "retry_at": retry_at, "next_attempt": node.attempt + 1 });
        if let Some(rerun) = rerun.filter(|rerun| !rerun.operations.is_empty()) {
            next["runs_again"] = json!(rerun.operations);
        }
        node.becomes_ready(EventType::TaskFailed, failed, who.clone(), now);
        let kind = EventType::TaskRetryScheduled;
        node.happened(kind, Some(from), Told::Value(next), who, now);
        node.attempt += 1;
        node.crashes = 0;
        node.ready_at = Some(retry_at);
        node.waits_to_retry = retry_at > now;
        if let Some(rerun) = rerun {
            let Supersede { failed, from } = rerun.supersede;
            self.forget(held.key, |number| number == failed || number >= from);
        }
    }

    /// Records that no longer count go; the signals that they read are unread again.
    fn forget(&mut self, key: TaskKey, which: impl Fn(u32) -> bool) {
        self.node(key).steps.retain(|number, _| !which(*number));
        for letter in &mut self.letters {
            let read = letter.read_by;
            if read.is_some_and(|(by, operation)| by == key && which(operation)) {
                letter.read_by = None;
            }
        }
    }

    /// What the dead held is taken back; nobody reads their inboxes any more.
    pub(super) fn take_back(&mut self, now: Timestamp, crash_cap: u32) {
        self.now = now;
        let dead = std::mem::take(&mut self.dead);
        let mut held = Vec::new();
        for run in self.runs.values() {
            for node in &run.nodes {
                let worker = node.worker.filter(|worker| dead.contains(worker));
                held.extend(worker.map(|worker| (run.key(node.number), worker)));
            }
        }
        let active = |worker: WorkerId| {
            let nodes = self.runs.values().flat_map(|run| &run.nodes);
            let held = nodes.filter(|node| node.worker == Some(worker));
            held.filter(|node| node.phase == Phase::Active).count()
        };
        let company: Vec<usize> = held.iter().map(|(_, worker)| active(*worker)).collect();
        for ((key, worker), active) in held.into_iter().zip(company) {
            let death = Death {
                alone: active <= 1,
                crash_cap,
                reason: GONE,
            };
            self.recover(key, worker, &death);
        }
        self.inbox.retain(|note| !dead.contains(&note.worker));
    }

    /// A task of a dead worker can be claimed again. An attempt is charged if it was Active. A third crash
    /// without a new step in between, and each after it, counts only if nothing else was Active there; if
    /// it happened too often, and nothing else can be to blame, the task is abandoned.
    pub(super) fn recover(
        &mut self,
        key: TaskKey,
        worker: WorkerId,
        death: &Death<'_>,
    ) -> Recovered {
        let now = self.now;
        let stopping = self.run(key.execution).is_stopping();
        let node = self.node(key);
        if !node.phase.is_held() || node.worker != Some(worker) {
            return Recovered::Unchanged;
        }
        if stopping {
            self.cancel_node(key, Who::engine());
            self.end_if_over(key.execution);
            return Recovered::Cancelled;
        }
        let (was_active, steps) = (node.phase == Phase::Active, node.steps.len() as u32);
        if was_active {
            if steps > node.crash_steps {
                node.crashes = 0;
            }
            if death.alone || node.crashes <= 1 {
                node.crashes += 1;
            }
            node.crash_steps = steps;
        }
        let mut data = json!({
            "reason": death.reason, "crashes": node.crashes, "steps": steps, "lost_by": worker,
        });
        if was_active {
            data["alone"] = json!(death.alone);
        }
        if was_active && death.alone && node.crashes > death.crash_cap {
            let kind = EventType::TaskAbandoned;
            node.becomes(
                Phase::Abandoned,
                kind,
                Told::Value(data),
                Who::engine(),
                now,
            );
            self.settle(key.execution);
            return Recovered::Abandoned;
        }
        if was_active {
            data["next_attempt"] = json!(node.attempt + 1);
        }
        node.becomes_ready(
            EventType::TaskRecovered,
            Told::Value(data),
            Who::engine(),
            now,
        );
        node.attempt += u32::from(was_active);
        Recovered::Recovered
    }
}

/// How long the next attempt waits, if there is one.
fn delay_us(policy: &RetryPolicy, attempt: u32, failure: &Failure) -> Option<i64> {
    let wanted = policy.retry_if.is_empty() || policy.retry_if.contains(&failure.kind);
    if attempt > policy.retries || !wanted {
        return None;
    }
    let grown = match (failure.retry, policy.backoff) {
        (RetryHint::Fatal, _) => return None,
        (RetryHint::After(delay_us), _) => return Some(delay_us),
        (RetryHint::Default, Backoff::Fixed { delay_us }) => delay_us,
        (RetryHint::Default, Backoff::Linear { delay_us }) => delay_us * i64::from(attempt),
        (RetryHint::Default, Backoff::Exponential { delay_us, factor }) => {
            let mut grown = delay_us as f64;
            for _ in 1..attempt {
                grown *= factor;
            }
            grown as i64
        }
    };
    Some(policy.max_delay_us.map_or(grown, |most| grown.min(most)))
}
