//! Mailboxes: the signals of one name that an execution may read, and who waits for them.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::ids::{ExecutionId, TaskKey};
use crate::kernel::effects::SignalWrite;
use crate::kernel::need::{Need, Stop};
use crate::payload::Payload;
use crate::step::{Operation, Wait};

use super::undo::{Address, Undo};
use super::{Message, Working};

/// What this flush knows of a mailbox.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    /// Whether stored signals were read.
    pub(super) loaded: bool,
    /// Stored signals that are unread, oldest first, as far as they were loaded.
    pub(super) unread: VecDeque<(i64, Payload)>,
    /// The number of the last one that was loaded.
    pub(super) loaded_to: i64,
    /// Whether more are stored.
    pub(super) more: bool,
    /// Signals sent in this flush, oldest first.
    pub(super) sent: Vec<(i64, Payload)>,
    /// The last one sent in this flush that was read in it too.
    pub(super) read_to: i64,
    /// The tasks that wait for it by what is stored, once that was read.
    pub(super) stored_waiting: Option<Vec<TaskKey>>,
    /// The tasks that began to wait for it in this flush.
    pub(super) waiting: Vec<TaskKey>,
}

impl Mailbox {
    /// Whether it is known which signal is the oldest.
    pub(super) fn is_known(&self) -> bool {
        self.loaded && (!self.unread.is_empty() || !self.more)
    }
}

impl Working {
    pub(super) fn mailbox(&mut self, at: Address) -> &mut Mailbox {
        self.mailboxes.entry(at).or_default()
    }

    /// The oldest unread signal of a mailbox, those sent in this flush included.
    pub(in crate::kernel) fn unread_signal(
        &self,
        id: ExecutionId,
        name: &Arc<str>,
    ) -> Result<Option<(i64, Payload)>, Stop> {
        let mailbox = self.mailboxes.get(&(id, name.clone()));
        let mailbox = mailbox
            .filter(|mailbox| mailbox.is_known())
            .ok_or_else(|| Need::Mailbox(id, name.clone()))?;
        if let Some(oldest) = mailbox.unread.front() {
            return Ok(Some(oldest.clone()));
        }
        let is_read = |(number, _): &(i64, Payload)| *number <= mailbox.read_to;
        let next = mailbox.sent.partition_point(is_read);
        Ok(mailbox.sent.get(next).cloned())
    }

    /// Takes it out.
    pub(in crate::kernel) fn read_signal(
        &mut self,
        id: ExecutionId,
        name: &Arc<str>,
    ) -> Result<Option<(i64, Payload)>, Stop> {
        let Some((number, payload)) = self.unread_signal(id, name)? else {
            return Ok(None);
        };
        let at = (id, name.clone());
        let mailbox = self.mailbox(at.clone());
        let undo = match mailbox.unread.pop_front() {
            Some(stored) => Undo::TakenStored(at, stored),
            None => Undo::TakenSent(at, std::mem::replace(&mut mailbox.read_to, number)),
        };
        self.undo.push(undo);
        Ok(Some((number, payload)))
    }

    /// Puts signals that were read back into their mailbox, before those that were sent later. It
    /// is known which signal there is the oldest.
    pub(in crate::kernel) fn unread_again(
        &mut self,
        id: ExecutionId,
        name: Arc<str>,
        signals: Vec<Message>,
    ) {
        let at = (id, name);
        let numbers = signals.iter().map(|signal| signal.number).collect();
        self.undo.push(Undo::PutBack(at.clone(), numbers));
        let mailbox = self.mailbox(at);
        let signals = signals.into_iter();
        let again = signals.map(|signal| (signal.number, signal.payload));
        mailbox.unread.extend(again);
        let unread = mailbox.unread.make_contiguous();
        unread.sort_unstable_by_key(|(number, _)| *number);
    }

    /// Adds a signal that is sent in this flush.
    pub(in crate::kernel) fn send_signal(&mut self, signal: SignalWrite) {
        let at = (signal.execution, signal.name.clone());
        self.undo.push(Undo::Sent(at.clone()));
        let sent = (signal.number, signal.payload.clone());
        self.mailbox(at).sent.push(sent);
        self.effects.signals.push(signal);
    }

    pub(in crate::kernel) fn next_signal_number(
        &mut self,
        instance: &Arc<str>,
        name: &Arc<str>,
    ) -> Result<i64, Stop> {
        let key = (instance.clone(), name.clone());
        let Some(next) = self.signal_numbers.get_mut(&key) else {
            return Err(Need::SignalNumber(key.0, key.1).into());
        };
        let number = *next;
        *next += 1;
        self.undo.push(Undo::SignalNumber(key, number));
        Ok(number)
    }

    /// Notes that a task waits for a signal from now on.
    pub(in crate::kernel) fn add_waiter(&mut self, key: TaskKey, name: Arc<str>) {
        let at = (key.execution, name);
        self.undo.push(Undo::Waiting(at.clone()));
        self.mailbox(at).waiting.push(key);
    }

    /// Who waits for a signal, whether recorded before or in this flush.
    pub(in crate::kernel) fn signal_waiters(
        &self,
        id: ExecutionId,
        name: &Arc<str>,
    ) -> Result<Vec<TaskKey>, Stop> {
        let mailbox = self.mailboxes.get(&(id, name.clone()));
        let stored = mailbox.and_then(|mailbox| {
            let stored = mailbox.stored_waiting.as_ref()?;
            Some(stored.iter().chain(&mailbox.waiting))
        });
        let all = stored.ok_or_else(|| Need::SignalWaiters(id, name.clone()))?;
        let mut waiters: Vec<TaskKey> = all.copied().collect();
        self.walked(waiters.len());
        // What was withdrawn or answered in this flush is still recorded.
        waiters.retain(|key| match self.waits(*key) {
            Ok(waits) => waits.iter().any(|wait| waits_for(wait, name)),
            Err(_) => true,
        });
        waiters.sort_unstable();
        waiters.dedup();
        Ok(waiters)
    }
}

fn waits_for(wait: &Operation, signal: &str) -> bool {
    wait.wait() == Some(Wait::Message(signal))
}
