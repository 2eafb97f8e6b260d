//! Signals: a durable message to an instance, and the wake-up of whoever waits for it.

use std::sync::Arc;

use crate::ids::{ExecutionId, TaskKey};
use crate::status::Phase;
use crate::table::By;
use crate::transition::Cause;

use super::Need;
use super::effects::SignalWrite;
use super::need::Stop;
use super::refusal::Refusal;
use super::request::{Signal, Signalled};
use super::working::Working;

impl Working {
    pub(super) fn signal(&mut self, signal: &Signal) -> Result<Signalled, Stop> {
        let latest = self.instance(&signal.instance)?.cloned();
        let latest = latest.ok_or_else(|| Refusal::UnknownInstance(signal.instance.to_string()))?;
        let execution = self.execution(latest.id)?;
        if execution.status.is_terminal() {
            let (instance, status) = (signal.instance.to_string(), execution.status);
            return Err(Refusal::InstanceEnded { instance, status }.into());
        }
        let waiters = self.known_waiters(latest.id, &signal.name)?;

        let number = self.next_signal_number(&signal.instance, &signal.name)?;
        self.send_signal(SignalWrite {
            instance: signal.instance.clone(),
            execution: latest.id,
            name: signal.name.clone(),
            number,
            payload: signal.payload.clone(),
            actor: signal.actor.clone(),
            sent_at: self.now,
        });
        let cause = Cause {
            at: self.now,
            by: By::Sender,
            worker: None,
            actor: signal.actor.clone(),
        };
        self.wake_waiters(waiters, &cause)?;
        Ok(Signalled {
            execution: latest.id,
            number,
        })
    }

    /// The tasks that wait for a signal, with all that waking them takes.
    pub(super) fn known_waiters(
        &self,
        id: ExecutionId,
        name: &Arc<str>,
    ) -> Result<Vec<TaskKey>, Stop> {
        let waiters = self.signal_waiters(id, name)?;
        self.require_tasks(waiters.iter().copied())?;
        if !waiters.is_empty() {
            let execution = self.execution(id)?;
            self.graph_of(execution)
                .map_err(|_| Need::Graph(execution.id, execution.workflow, execution.own_graph))?;
        }
        Ok(waiters)
    }

    /// Wakes tasks that wait for a signal, since one is there.
    pub(super) fn wake_waiters(
        &mut self,
        waiters: Vec<TaskKey>,
        cause: &Cause,
    ) -> Result<(), Stop> {
        for key in waiters {
            match self.task(key)?.phase {
                Phase::Evicted => self.wake_task(key, cause)?,
                Phase::Active | Phase::Deferred => self.notify_holder(key)?,
                _ => {}
            }
        }
        Ok(())
    }
}
