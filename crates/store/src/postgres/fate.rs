//! What became of a transaction whose commit was sent and never answered. Its id alone does not
//! tell: a server that crashed gives ids that never reached its log a second time. So a flush
//! remembers one thing that it wrote and nobody else could have written, and looks for it once the
//! transaction is known to be over.

use abide_core::event::Event;
use abide_core::ids::Timestamp;
use abide_core::kernel::{Change, Effects, SignalWrite, StepChange, StepWrite};

use crate::error::StoreError;

use super::statement::{Execute, Param, Statement, Value};

/// Writes to the server's log what nobody reads. The log goes to a standby in its order: when the
/// transaction of this is acknowledged, so is all that was committed before.
pub(crate) const CONFIRM: &str =
    "SELECT pg_logical_emit_message(true, 'abide'::text, ''::text)::text";

/// The same, only where commits wait for a standby.
pub(crate) const CONFIRM_TO_STANDBY: &str = "SELECT CASE WHEN current_setting('synchronous_standby_names') <> '' \
     THEN pg_logical_emit_message(true, 'abide'::text, ''::text)::text END";

/// The id of the transaction that this is run in, the server process that runs it, and the version of the store's
/// schema (`version`).
pub(crate) const SELECT_XID: &str = "SELECT pg_current_xact_id()::text::bigint, pg_backend_pid()::bigint, (SELECT schema FROM ~store)";

/// What is known of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Committed,
    Aborted,
    /// Its server process has not noticed yet that nobody is there any more.
    Open,
}

/// Something that a flush wrote and nobody else could have.
#[derive(Clone, Debug)]
pub(crate) enum Mark {
    /// A row that is there if the flush was committed.
    Row(Statement<'static>),
    /// Nothing of lasting interest, so that it does no harm to write it again.
    Again,
    /// Nothing but that wake-ups and timers were taken: those who asked are told in any case.
    Nothing,
}

impl Mark {
    /// The mark of a flush at `now`, which changed rows of executions and tasks or not.
    pub(crate) fn of(now: Timestamp, changes_rows: bool, effects: &Effects) -> Mark {
        let written = |change: &StepChange| match change {
            StepChange::Write(write) => Some(step(now, write)),
            _ => None,
        };
        let row = effects.events.first().map(event);
        let row = row.or_else(|| effects.signals.first().map(signal));
        let row = row.or_else(|| effects.steps.iter().find_map(written));
        let writes = changes_rows
            || !effects.progress.is_empty()
            || !effects.steps.is_empty()
            || effects.outbox.iter().any(|it| matches!(it, Change::Add(_)))
            || effects.timers.iter().any(|it| matches!(it, Change::Add(_)));
        match row {
            Some(row) => Mark::Row(row),
            None if writes => Mark::Again,
            None => Mark::Nothing,
        }
    }

    /// What became of the transaction of that id, whose flush left this mark.
    pub(crate) async fn fate(&self, execute: &impl Execute, xid: i64) -> Result<Fate, StoreError> {
        if is_open(execute, xid).await? {
            return Ok(Fate::Open);
        }
        let found = match self {
            Mark::Nothing => true,
            Mark::Again => false,
            Mark::Row(row) => !execute.run(vec![row.clone()]).await?.concat().is_empty(),
        };
        Ok(if found {
            Fate::Committed
        } else {
            Fate::Aborted
        })
    }
}

/// Whether a transaction is under way. An id that the server has not given yet (since it crashed)
/// is of none. What has been given is told by taking the next id: a snapshot only knows the ids of
/// transactions that were over when it was taken, and the one in question may be the newest of all.
async fn is_open(execute: &impl Execute, xid: i64) -> Result<bool, StoreError> {
    let ask = Statement::new(
        "SELECT CASE WHEN $1::text::xid8 < pg_current_xact_id() \
         THEN coalesce(pg_xact_status($1::text::xid8) = 'in progress', false) ELSE false END",
        vec![Param::Text(Some(xid.to_string().into()))],
    );
    let answers = execute.run(vec![ask]).await?;
    let value = answers.into_iter().flatten().flatten().next();
    Ok(value == Some(Value::Bool(true)))
}

fn event(event: &Event) -> Statement<'static> {
    Statement::new(
        "SELECT 1 FROM ~execution_events \
         WHERE execution = $1 AND task = $2 AND n = $3 AND type = $4 AND at = $5 AND worker IS NOT DISTINCT FROM $6",
        vec![
            Param::Int(Some(event.execution.0)),
            Param::Int(Some(event.task.into())),
            Param::Int(Some(event.n.into())),
            Param::Int(Some(event.kind.code())),
            Param::Int(Some(event.at.0)),
            Param::Int(event.worker.map(|worker| worker.0)),
        ],
    )
}

fn signal(signal: &SignalWrite) -> Statement<'static> {
    Statement::new(
        "SELECT 1 FROM ~signals WHERE instance = $1 AND name = $2 AND number = $3 AND sent_at = $4 AND payload = $5",
        vec![
            Param::Text(Some(signal.instance.to_string().into())),
            Param::Text(Some(signal.name.to_string().into())),
            Param::Int(Some(signal.number)),
            Param::Int(Some(signal.sent_at.0)),
            Param::Text(Some(signal.payload.as_str().to_owned().into())),
        ],
    )
}

fn step(now: Timestamp, write: &StepWrite) -> Statement<'static> {
    Statement::new(
        "SELECT 1 FROM ~steps WHERE execution = $1 AND task = $2 AND number = $3 AND recorded_at = $4",
        vec![
            Param::Int(Some(write.key.execution.0)),
            Param::Int(Some(write.key.number.into())),
            Param::Int(Some(write.step.id.number.into())),
            Param::Int(Some(now.0)),
        ],
    )
}

#[cfg(test)]
mod tests {
    use abide_core::ids::{ExecutionId, TaskKey};
    use abide_core::timer::{Timer, TimerKind};

    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000_000);

    fn timer() -> Timer {
        Timer::of_task(
            NOW,
            TimerKind::Propagate,
            TaskKey::new(ExecutionId(1), 1),
            0,
        )
    }

    #[test]
    fn only_a_flush_that_writes_nothing_is_taken_for_committed_unseen() {
        let mark = |changes_rows, effects: &Effects| Mark::of(NOW, changes_rows, effects);
        let mut effects = Effects::default();
        effects.timers.push(Change::Remove(timer()));
        assert!(matches!(mark(false, &effects), Mark::Nothing));
        // The publication of a large graph that starts later makes no event.
        assert!(matches!(mark(true, &effects), Mark::Again));
        effects.timers.push(Change::Add(timer()));
        assert!(matches!(mark(false, &effects), Mark::Again));
    }
}
