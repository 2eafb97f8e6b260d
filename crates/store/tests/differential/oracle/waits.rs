//! Waits: slots given away, signals and sleeps that are waited for, recorded steps, progress.

use abide_core::event::EventType;
use abide_core::ids::TaskKey;
use abide_core::kernel::{
    Await, Defer, Evict, GivenBack, Held, Progress, Record, Refusal, Resume, Signal, Watch,
};
use abide_core::status::Phase;
use abide_core::step::{Operation, StepEnd, StepKind, StepState};
use serde_json::json;

use super::said::Said;
use super::state::{Letter, Run, Step, Told, Who};
use super::{Oracle, Outcome};

impl Oracle {
    pub(super) fn defer(&mut self, defer: &Defer) -> Outcome {
        self.require_held(defer.held)?;
        self.give_back(defer.held.key, &defer.given_back);
        let wait = Told::Value(json!(defer.wait));
        self.give_slot_away(defer.held, wait);
        Ok(self.answer(defer.held.key, Vec::new()))
    }

    pub(super) fn resume(&mut self, resume: &Resume) -> Outcome {
        let held = resume.held;
        self.require_held(held)?;
        self.give_back(held.key, &resume.given_back);
        let results = self.take_over(held.key, resume.next_order);
        let stopping = self.run(held.key.execution).is_stopping();
        let goes_on = resume.always || !results.is_empty() || stopping;
        let now = self.now;
        let node = self.node(held.key);
        if goes_on && node.phase == Phase::Deferred {
            let (kind, who) = (EventType::TaskResumed, Who::worker(held.worker));
            node.becomes(Phase::Active, kind, Told::Nothing, who, now);
        }
        Ok(self.answer(held.key, results))
    }

    /// Waits that are not named any more are withdrawn, new ones are recorded, and what is over is
    /// answered at once. Only if nothing is, the task waits.
    pub(super) fn await_operations(&mut self, request: &Await) -> Outcome {
        let (held, key) = (request.held, request.held.key);
        self.require_held(held)?;
        self.record_waits(key, &request.operations, &request.given_back)?;
        let results = self.take_over(key, request.next_order);
        if results.is_empty() {
            self.give_slot_away(held, Told::Words);
            if request.evict && !self.run(key.execution).is_stopping() {
                self.leave_memory(held, request.next_order);
            }
        }
        Ok(self.answer(key, results))
    }

    /// The same, but the task stays where it is.
    pub(super) fn watch(&mut self, watch: &Watch) -> Outcome {
        let key = watch.held.key;
        self.require_held(watch.held)?;
        self.record_waits(key, &watch.operations, &watch.given_back)?;
        let results = self.take_over(key, watch.next_order);
        Ok(self.answer(key, results))
    }

    fn record_waits(
        &mut self,
        key: TaskKey,
        operations: &[Operation],
        given_back: &[GivenBack],
    ) -> Result<(), Refusal> {
        let node = self.node(key);
        for Operation { id, .. } in operations {
            let recorded = node.steps.get(&id.number);
            let recorded = recorded.filter(|step| step.state != StepState::Waiting);
            if let Some(step) = recorded.filter(|step| step.state != StepState::GivenBack) {
                return Err(taken(key, step));
            }
        }
        self.give_back(key, given_back);
        let node = self.node(key);
        let named = |number| operations.iter().any(|of| of.id.number == number);
        node.steps
            .retain(|number, step| step.state != StepState::Waiting || named(*number));
        let now = self.now;
        for Operation { id, due_at } in operations {
            let step = Step {
                id: id.clone(),
                state: StepState::Waiting,
                order: 0,
                due_at: *due_at,
                result: None,
                recorded_at: now,
            };
            let steps = &mut self.node(key).steps;
            let stands = steps.get(&id.number);
            if stands.is_none_or(|step| step.state == StepState::GivenBack) {
                steps.insert(id.number, step);
            }
        }
        Ok(())
    }

    pub(super) fn evict(&mut self, evict: &Evict) -> Outcome {
        let held = evict.held;
        self.require_held(held)?;
        if self.node(held.key).phase == Phase::Deferred {
            if self.run(held.key.execution).is_stopping() {
                self.cancel_node(held.key, Who::worker(held.worker));
                self.end_if_over(held.key.execution);
            } else {
                self.leave_memory(held, evict.next_order);
            }
        }
        Ok(self.answer(held.key, Vec::new()))
    }

    /// An Active task of an execution that doesn't stop becomes Deferred.
    fn give_slot_away(&mut self, held: Held, wait: Told) {
        let (now, stopping) = (self.now, self.run(held.key.execution).is_stopping());
        let node = self.node(held.key);
        if node.phase != Phase::Active || stopping {
            return;
        }
        let data = match &wait {
            Told::Value(wait) => Told::Value(json!({ "wait": wait })),
            _ => Told::Words,
        };
        let (kind, who) = (EventType::TaskDeferred, Who::worker(held.worker));
        node.becomes(Phase::Deferred, kind, data, who, now);
        node.wait = wait;
    }

    /// Its waits are all that is left of it; if one of them is over, it can be claimed at once. What
    /// waits for nothing that is recorded stays.
    fn leave_memory(&mut self, held: Held, next_order: u32) {
        let now = self.now;
        let node = self.node(held.key);
        if node.waits().next().is_none() {
            return;
        }
        let wake_at = node.waits().filter_map(|wait| wait.due_at).min();
        let is_sole = node.waits().count() == 1;
        let data = match wake_at {
            Some(at) if is_sole => {
                node.next_order = Some(next_order);
                Told::Value(json!({ "wake_at": at, "next_order": next_order }))
            }
            Some(at) => Told::Value(json!({ "wake_at": at })),
            None => Told::Nothing,
        };
        let (kind, who) = (EventType::TaskEvicted, Who::worker(held.worker));
        node.becomes(Phase::Evicted, kind, data, who, now);
        node.wake_at = wake_at;
        let waits: Vec<Step> = node.waits().cloned().collect();
        if waits.iter().any(|wait| self.is_over(held.key, wait)) {
            self.wake(held.key, Who::engine());
        }
    }

    /// A sleep for which alone an evicted task waited is over: its result comes before whatever the task does next.
    pub(super) fn wake_in_time(&mut self, key: TaskKey, who: Who) {
        if let Some(next_order) = self.node(key).next_order {
            self.take_over(key, next_order);
        }
        self.wake(key, who);
    }

    pub(super) fn wake(&mut self, key: TaskKey, who: Who) {
        let now = self.now;
        let node = self.node(key);
        node.becomes_ready(EventType::TaskWoken, Told::Nothing, who, now);
    }

    /// Gives the task the results of its waits that are over, by their numbers.
    fn take_over(&mut self, key: TaskKey, next_order: u32) -> Vec<(u32, String)> {
        let waits: Vec<Step> = self.node(key).waits().cloned().collect();
        let mut results = Vec::new();
        for wait in waits {
            if !self.is_over(key, &wait) {
                continue;
            }
            let number = wait.id.number;
            let result = match self.unread(key, &wait.id.name) {
                Some(letter) if wait.id.kind == StepKind::Signal => {
                    letter.read_by = Some((key, number));
                    letter.payload.as_str().to_owned()
                }
                _ => "null".to_owned(),
            };
            let order = next_order + results.len() as u32;
            results.push((number, result.clone()));
            let now = self.now;
            let step = self.node(key).steps.get_mut(&number);
            let step = step.expect("it waits for it");
            step.state = StepState::Done;
            step.order = order;
            step.result = Some(result);
            step.recorded_at = now;
        }
        results
    }

    fn is_over(&mut self, key: TaskKey, wait: &Step) -> bool {
        match wait.id.kind {
            StepKind::Signal => self.unread(key, &wait.id.name).is_some(),
            _ => wait.due_at.is_some_and(|due| due <= self.now),
        }
    }

    /// The oldest signal that nobody read, of those sent to this very execution.
    fn unread(&mut self, key: TaskKey, name: &str) -> Option<&mut Letter> {
        let mut letters = self.letters.iter_mut();
        letters.find(|letter| {
            letter.execution == key.execution && *letter.name == *name && letter.read_by.is_none()
        })
    }

    fn answer(&self, key: TaskKey, results: Vec<(u32, String)>) -> Said {
        let (run, node) = self.find(key).expect("it is held");
        Said::Answered {
            results,
            phase: node.phase,
            cancelling: run.is_stopping(),
        }
    }

    pub(super) fn record(&mut self, record: &Record) -> Outcome {
        let (key, now) = (record.held.key, self.now);
        self.require_held(record.held)?;
        let node = self.node(key);
        let mut numbers = record.steps.iter().map(|step| step.id.number);
        let stands = |number| {
            let step: Option<&Step> = node.steps.get(&number);
            step.filter(|step| step.state != StepState::GivenBack)
        };
        if let Some(step) = numbers.find_map(stands) {
            return Err(taken(key, step));
        }
        self.give_back(key, &record.given_back);
        let node = self.node(key);
        for step in &record.steps {
            let result = match &step.end {
                StepEnd::Done(payload) => payload.as_str().to_owned(),
                StepEnd::Failed(failure) => json!(failure).to_string(),
                StepEnd::Waiting { .. } | StepEnd::GivenBack => {
                    panic!("waits are recorded by those who wait")
                }
            };
            let recorded = Step {
                id: step.id.clone(),
                state: step.end.state(),
                order: step.order,
                due_at: None,
                result: Some(result),
                recorded_at: now,
            };
            node.steps.insert(step.id.number, recorded);
        }
        Ok(Said::Done)
    }

    pub(super) fn progress(&mut self, progress: &Progress) -> Outcome {
        self.require_held(progress.held)?;
        self.node(progress.held.key).progress = Some(progress.value.clone());
        Ok(Said::Done)
    }

    /// The latest execution of the instance gets it, if it lives: who waits for it is woken, or told.
    pub(super) fn signal(&mut self, signal: &Signal) -> Outcome {
        let instance = || signal.instance.to_string();
        let of_instance = |run: &&Run| run.instance == signal.instance;
        let latest = self.runs.values().filter(of_instance);
        let latest = latest.max_by_key(|run| run.generation);
        let latest = latest.ok_or_else(|| Refusal::UnknownInstance(instance()))?;
        if latest.status.is_terminal() {
            return Err(Refusal::InstanceEnded {
                instance: instance(),
                status: latest.status,
            });
        }
        let execution = latest.id;
        let waiters = waiters(latest, &signal.name);
        let number = 1 + self.mailbox(signal).max().unwrap_or(0);
        self.letters.push(Letter {
            instance: signal.instance.clone(),
            name: signal.name.clone(),
            number,
            execution,
            payload: signal.payload.clone(),
            actor: signal.actor.clone(),
            sent_at: self.now,
            read_by: None,
        });
        self.wake_or_notify(waiters, &Who::actor(signal.actor.clone()));
        Ok(Said::Signalled { execution, number })
    }

    /// The operations take nothing. What they and their heirs were given goes to the heirs, the
    /// oldest first; the rest is unread, and others who wait for it hear of it.
    pub(super) fn give_back(&mut self, key: TaskKey, given_back: &[GivenBack]) {
        for GivenBack { operations, heirs } in given_back {
            let reads = |letter: &&mut Letter, numbers: &[u32]| match letter.read_by {
                Some((by, number)) => by == key && numbers.contains(&number),
                None => false,
            };
            let all: Vec<u32> = operations.iter().chain(heirs).copied().collect();
            let mut letters: Vec<&mut Letter> = self.letters.iter_mut().collect();
            if !letters.iter_mut().any(|letter| reads(letter, operations)) {
                continue;
            }
            letters.retain_mut(|letter| reads(letter, &all));
            letters.sort_by_key(|letter| letter.number);
            let had = |number: &u32| letters.iter().any(|of| of.read_by == Some((key, *number)));
            let heirs: Vec<u32> = heirs.iter().copied().filter(had).collect();
            let given_up: Vec<u32> = operations.iter().copied().filter(had).collect();
            let name = letters[0].name.clone();
            let mut kept = Vec::new();
            for (at, letter) in letters.into_iter().enumerate() {
                letter.read_by = heirs.get(at).map(|heir| (key, *heir));
                kept.extend(heirs.get(at).map(|heir| (*heir, letter.payload.clone())));
            }
            let steps = &mut self.node(key).steps;
            for (heir, payload) in kept {
                let step = steps.get_mut(&heir).expect("it was answered");
                step.result = Some(payload.as_str().to_owned());
            }
            for number in given_up {
                let step = steps.get_mut(&number).expect("it was answered");
                (step.state, step.result) = (StepState::GivenBack, None);
            }
            let mut waiters = waiters(self.run(key.execution), &name);
            waiters.retain(|waiter| *waiter != key);
            self.wake_or_notify(waiters, &Who::engine());
        }
    }

    fn wake_or_notify(&mut self, waiters: Vec<TaskKey>, who: &Who) {
        for key in waiters {
            match self.node(key).phase {
                Phase::Evicted => self.wake(key, who.clone()),
                Phase::Active | Phase::Deferred => self.notify(key),
                _ => {}
            }
        }
    }

    /// The numbers of what was sent to the same mailbox.
    fn mailbox<'a>(&'a self, signal: &'a Signal) -> impl Iterator<Item = i64> + 'a {
        let sent = self
            .letters
            .iter()
            .filter(|letter| letter.instance == signal.instance && letter.name == signal.name);
        sent.map(|letter| letter.number)
    }
}

/// The tasks that wait for a signal of that name.
fn waiters(run: &Run, name: &str) -> Vec<TaskKey> {
    let waits_for_it = |step: &Step| step.id.kind == StepKind::Signal && step.id.name == name;
    let nodes = run.nodes.iter();
    let waiters = nodes.filter(|node| node.waits().any(waits_for_it));
    waiters.map(|node| run.key(node.number)).collect()
}

fn taken(key: TaskKey, step: &Step) -> Refusal {
    Refusal::StepTaken {
        key,
        number: step.id.number,
        recorded: step.id.to_string(),
    }
}
