//! Results that the function has not taken: which of the handed-out results it may take next, and
//! what becomes of a result whose future it drops. A dropped signal goes back to its mailbox and
//! keeps its place there: other waits for the same mailbox get the older signals.

use std::collections::{BTreeMap, BTreeSet};

use abide_core::kernel::GivenBack;
use abide_core::step::{StepId, StepKind};

use super::{OperationEnd, Operations, Stage, wake};

impl Operations {
    /// Takes a result that was handed out, if it is its turn.
    pub(super) fn take_ready(&mut self, number: u32) -> Option<OperationEnd> {
        self.settle_dropped();
        let place = self.ready.iter().position(|(ready, _)| *ready == number)?;
        let in_turn = match self.offered {
            Some(offered) => offered == number,
            None => place == 0,
        };
        // `select!` asks in an order of its own, which a replay would not repeat. So of the results
        // that the function asks for in one poll, the first in their order is taken. Polls by tasks
        // that the function spawned have no order.
        if !in_turn && self.polling {
            self.passed_over.push(number);
            return None;
        }
        self.ready.remove(place).map(|(_, end)| end)
    }

    /// After a poll in which the function asked only for results before their turn: lets it take
    /// the first of them next, and returns whether there is one.
    pub(super) fn offer_passed_over(&mut self) -> bool {
        let asked = std::mem::take(&mut self.passed_over);
        let mut ready = self.ready.iter().map(|(number, _)| *number);
        self.offered = ready.find(|number| asked.contains(number));
        let alive = self.offered.and_then(|number| self.alive.get_mut(&number));
        if let Some(alive) = alive {
            wake(&mut alive.waker);
        }
        self.offered.is_some()
    }

    /// The future of an operation at this stage is gone.
    pub(super) fn drop_untaken(&mut self, id: StepId, stage: &Stage) {
        let number = id.number;
        let answered = match stage {
            Stage::Ready => true,
            Stage::Built | Stage::Ended => self.results.iter().any(|(result, _)| *result == number),
            _ => false,
        };
        if !answered || self.left {
            return;
        }
        if id.kind == StepKind::Signal {
            self.dropped.insert(number, id);
        } else {
            self.ready.retain(|(ready, _)| *ready != number);
        }
    }

    /// A wait was answered: its future may have been dropped before the store knew that.
    pub(super) fn note_if_dropped(&mut self, number: u32) {
        let is_to_come = number >= self.number;
        if is_to_come || self.alive.contains_key(&number) {
            return;
        }
        let id = self.awaited.iter().find(|id| id.number == number);
        if let Some(id) = id.filter(|id| id.kind == StepKind::Signal) {
            self.dropped.insert(number, id.clone());
        }
    }

    /// Decides which signals go back: those of dropped operations, in the order of their mailbox.
    /// Later answers from the same mailbox move up.
    pub(super) fn settle_dropped(&mut self) {
        if self.dropped.is_empty() {
            return;
        }
        let dropped = std::mem::take(&mut self.dropped);
        self.compare_dropped(&dropped);
        let mut mailboxes: BTreeMap<String, GivenBack> = BTreeMap::new();
        let untaken = self.ready.iter().chain(&self.results);
        for number in untaken.map(|(number, _)| *number) {
            if let Some(id) = dropped.get(&number) {
                let given_back = mailboxes.entry(id.name.clone()).or_default();
                given_back.operations.push(number);
            } else if let Some(id) = self.id(number)
                && id.kind == StepKind::Signal
                && let Some(given_back) = mailboxes.get_mut(&id.name)
            {
                given_back.heirs.push(number);
            }
        }
        for number in dropped.keys() {
            self.done.remove(number);
        }
        for given_back in mailboxes.into_values() {
            self.move_up(&given_back);
            self.given_back.push(given_back);
        }
        let is_left = |(number, _): &(u32, OperationEnd)| !dropped.contains_key(number);
        self.ready.retain(is_left);
        self.results.retain(is_left);
    }

    /// The return of a dropped signal is recorded before any later operation. So if its return is not recorded, but
    /// operations are that the code has not built yet, the recorded run took the signal.
    fn compare_dropped(&mut self, dropped: &BTreeMap<u32, StepId>) {
        let is_behind = self.recorded.range(self.number..).next().is_some();
        let answered = |number: &&u32| {
            let recorded = self.recorded.get(number);
            recorded.is_some_and(|recorded| recorded.waits_until.is_none())
        };
        let taken = dropped.keys().find(answered);
        if let (true, Some(number)) = (is_behind && self.of_one_attempt, taken) {
            let difference = format!(
                "operation {number}: recorded {} was taken, but the code drops it",
                dropped[number]
            );
            self.difference.get_or_insert(difference);
        }
    }

    /// The heirs get the first of the answers, in order.
    fn move_up(&mut self, given_back: &GivenBack) {
        let operations: BTreeSet<u32> = given_back.operations.iter().copied().collect();
        let heirs: BTreeSet<u32> = given_back.heirs.iter().copied().collect();
        if heirs.is_empty() {
            return;
        }
        let mut answers = Vec::new();
        let mut places = Vec::new();
        for (number, end) in self.ready.iter_mut().chain(&mut self.results) {
            let is_heir = heirs.contains(number);
            if is_heir || operations.contains(number) {
                answers.push(end.clone());
            }
            if is_heir {
                places.push(end);
            }
        }
        for (place, answer) in places.into_iter().zip(answers) {
            *place = answer;
        }
    }

    fn id(&self, number: u32) -> Option<&StepId> {
        let alive = self.alive.get(&number).map(|alive| &alive.id);
        alive.or_else(|| Some(&self.recorded.get(&number)?.id))
    }

    /// Signals that go back with the next request.
    pub(crate) fn take_given_back(&mut self) -> Vec<GivenBack> {
        let given_back = std::mem::take(&mut self.given_back);
        match self.difference {
            None => given_back,
            // Code that differs from the record does not decide about its signals.
            Some(_) => Vec::new(),
        }
    }

    /// The function leaves memory. If it has ended, the signals that it has not taken go back.
    /// Otherwise only those that it dropped by itself do: another run will take the rest.
    pub(crate) fn leave(&mut self, ended: bool) {
        if ended {
            let untaken = self.ready.iter().chain(&self.results);
            let alive = untaken.filter_map(|(number, _)| self.alive.get(number));
            let signals = alive.filter(|alive| alive.id.kind == StepKind::Signal);
            let dropped = signals.map(|alive| (alive.id.number, alive.id.clone()));
            self.dropped.extend(dropped);
        }
        self.settle_dropped();
        self.left = true;
    }
}
