//! Every statement that a flush may write with, declared once: its table, its columns, what it does. A
//! driver makes the text in its dialect and runs it over the rows: SQLite over one at a time,
//! PostgreSQL over all at once.

use std::sync::OnceLock;

use abide_core::event::Event;
use abide_core::execution::Execution;
use abide_core::ids::TaskKey;
use abide_core::kernel::{NewExecutionRow, NewTaskRow, OutboxRow, SignalRead, Supersede};
use abide_core::payload::Payload;
use abide_core::task::Task;
use abide_core::timer::Timer;

use crate::columns::{Column, Head, Role};
use crate::net::{Net, Sent, StepRow, TaskEnds};
use crate::tables::*;

/// What a statement does with the rows it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    /// Inserts them, in their order.
    Insert,
    /// Inserts those that are not there.
    Add,
    /// Updates those that are there: the columns as their roles say, or as a text says.
    Update(Option<&'static str>),
    /// Deletes them.
    Delete,
    /// Deletes rows of a queue, which somebody else may have picked.
    Unqueue,
}

impl Does {
    /// Whether a column is given to the statement.
    pub(crate) fn takes(self, head: &Head) -> bool {
        match self {
            Does::Insert | Does::Add => head.role != Role::Seen,
            _ => !matches!(head.role, Role::Fixed | Role::Seen),
        }
    }
}

/// A statement that writes rows.
pub(crate) trait Write {
    /// What it is given of each row.
    type Row<'a>;

    const DOES: Does;
    const TABLE: &'static str;
    /// Which rows that have the key it leaves alone, with `t` for the row that is stored and `u` for
    /// the one that is given.
    const WHEN: Option<&'static str>;

    /// Its columns, in the order of their values.
    fn heads() -> Vec<Head>;

    /// Gives the values of a row.
    fn put<'r, S: Sink<'r>>(row: &'r Self::Row<'_>, sink: &mut S) -> Result<(), S::Error>;

    fn text() -> &'static Text;
}

/// What an update sets, in the words of [`Write::WHEN`].
pub(crate) fn set<W: Write>() -> String {
    match W::DOES {
        Does::Update(Some(set)) => set.to_owned(),
        _ => {
            let set: Vec<String> = W::heads().iter().filter_map(Head::set).collect();
            set.join(", ")
        }
    }
}

/// Which rows are meant, in the words of [`Write::WHEN`].
pub(crate) fn on<W: Write>() -> String {
    let heads = W::heads();
    let key = heads.iter().filter(|head| head.role == Role::Key);
    let key = key.map(|head| format!("t.{name} = u.{name}", name = head.name));
    let when = W::WHEN.map(str::to_owned);
    key.chain(when).collect::<Vec<_>>().join(" AND ")
}

/// The text of a statement in each dialect, made when it is first needed.
pub(crate) struct Text {
    #[cfg(feature = "sqlite")]
    pub(crate) sqlite: OnceLock<String>,
    /// For many rows at once.
    #[cfg(feature = "sqlite")]
    pub(crate) sqlite_many: OnceLock<String>,
    #[cfg(feature = "postgres")]
    pub(crate) postgres: OnceLock<String>,
}

impl Text {
    pub(crate) const fn new() -> Text {
        Text {
            #[cfg(feature = "sqlite")]
            sqlite: OnceLock::new(),
            #[cfg(feature = "sqlite")]
            sqlite_many: OnceLock::new(),
            #[cfg(feature = "postgres")]
            postgres: OnceLock::new(),
        }
    }
}

/// Takes the values of rows.
pub(crate) trait Sink<'r> {
    type Error;

    /// The values of those of these columns that the statement takes.
    fn add<T>(
        &mut self,
        takes: impl Fn(&Head) -> bool,
        columns: &[Column<T>],
        row: &'r T,
    ) -> Result<(), Self::Error>;
}

/// Runs statements over rows.
pub(crate) trait Writer<'r> {
    type Error;

    /// Nothing is run over no rows.
    fn rows<W: Write>(&mut self, rows: &'r [W::Row<'_>]) -> Result<(), Self::Error>;
}

/// Writes everything that a flush came to.
pub(crate) fn write<'r, W: Writer<'r>>(net: &'r Net<'_>, writer: &mut W) -> Result<(), W::Error> {
    writer.rows::<InsertExecution>(&net.new_executions)?;
    writer.rows::<UpdateExecution>(&net.executions)?;
    writer.rows::<InsertTask>(&net.new_tasks)?;
    writer.rows::<MoveTask>(&net.moved)?;
    writer.rows::<MoveAndEndTask>(&net.moved_and_ended)?;
    writer.rows::<EndTask>(&net.ended)?;
    writer.rows::<InsertEvent>(net.events)?;
    writer.rows::<RemoveFromOutbox>(&net.outbox.removed)?;
    writer.rows::<AddToOutbox>(&net.outbox.added)?;
    writer.rows::<RemoveTimer>(&net.timers.removed)?;
    writer.rows::<AddTimer>(&net.timers.added)?;
    writer.rows::<SendSignal>(&net.sent)?;
    writer.rows::<ReadSignal>(&net.signals_read)?;
    writer.rows::<SupersedeSteps>(&net.steps.superseded)?;
    writer.rows::<UnreadSignals>(&net.steps.superseded)?;
    writer.rows::<RewriteStep>(&net.steps.rewritten)?;
    writer.rows::<WithdrawStep>(&net.steps.withdrawn)?;
    writer.rows::<AnswerStep>(&net.steps.answered)?;
    writer.rows::<InsertStep>(&net.steps.inserted)
}

macro_rules! writes {
    ($(
        $(#[$doc:meta])*
        $Write:ident of $Row:ty: $does:expr, $table:literal, $when:expr;
        { $($COLUMNS:ident of |$row:ident| $part:expr),+ $(,)? }
    )+) => {
        $(
            $(#[$doc])*
            pub(crate) struct $Write;

            impl Write for $Write {
                type Row<'a> = $Row;

                const DOES: Does = $does;
                const TABLE: &'static str = $table;
                const WHEN: Option<&'static str> = $when;

                fn heads() -> Vec<Head> {
                    let mut heads = Vec::new();
                    $(heads.extend($COLUMNS.iter().map(|column| column.head));)+
                    heads.retain(|head| Self::DOES.takes(head));
                    heads
                }

                fn put<'r, S: Sink<'r>>(row: &'r Self::Row<'_>, sink: &mut S) -> Result<(), S::Error> {
                    $({
                        let $row = row;
                        sink.add(|head| Self::DOES.takes(head), $COLUMNS, $part)?;
                    })+
                    Ok(())
                }

                fn text() -> &'static Text {
                    static TEXT: Text = Text::new();
                    &TEXT
                }
            }
        )+
    };
}

const UPDATE: Does = Does::Update(None);

/// An answer that has no result is one that was given back.
const REWRITE: &str =
    "result = u.result, state = CASE WHEN u.result IS NULL THEN 'given_back' ELSE t.state END";

writes! {
    InsertExecution of (&'a Execution, &'a NewExecutionRow): Does::Insert, "executions", None;
    { EXECUTION of |e| e.0, NEW_EXECUTION of |e| e.1 }

    UpdateExecution of &'a Execution: UPDATE, "executions", None;
    { EXECUTION of |e| *e }

    InsertTask of (&'a Task, &'a NewTaskRow): Does::Insert, "task_executions", None;
    { TASK of |t| t.0, NEW_TASK of |t| t.1 }

    MoveTask of &'a Task: UPDATE, "task_executions", None;
    { TASK of |t| *t }

    MoveAndEndTask of (&'a Task, TaskEnds): UPDATE, "task_executions", None;
    { TASK of |t| t.0, TASK_END of |t| &t.1 }

    EndTask of (TaskKey, TaskEnds): UPDATE, "task_executions", None;
    { TASK_KEY of |t| &t.0, TASK_END of |t| &t.1 }

    /// On PostgreSQL the positions come from a sequence, in the order of the rows.
    InsertEvent of Event: Does::Insert, "execution_events", None;
    { EVENT of |e| e }

    RemoveFromOutbox of OutboxRow: Does::Unqueue, "task_outbox", None;
    { OUTBOX of |row| row }

    AddToOutbox of OutboxRow: Does::Add, "task_outbox", None;
    { OUTBOX of |row| row }

    RemoveTimer of Timer: Does::Unqueue, "timers", None;
    { TIMER of |timer| timer }

    AddTimer of Timer: Does::Add, "timers", None;
    { TIMER of |timer| timer }

    SendSignal of Sent<'a>: Does::Insert, "signals", None;
    { SIGNAL of |s| s.sent, READER of |s| &s.by }

    ReadSignal of &'a SignalRead: UPDATE, "signals", None;
    { SIGNAL_KEY of |s| *s, READER of |s| &s.by }

    /// Steps that no longer count go, with their results.
    SupersedeSteps of (TaskKey, Supersede): Does::Delete, "steps",
        Some("(t.number = u.failed OR t.number >= u.since)");
    { SUPERSEDED of |s| s }

    /// Signals that they read are unread again. Relies on signals_read.
    UnreadSignals of (TaskKey, Supersede):
        Does::Update(Some("read_execution = NULL, read_task = NULL, read_operation = NULL")), "signals",
        Some("(t.read_operation = u.failed OR t.read_operation >= u.since)");
    { READ_BY of |s| s }

    RewriteStep of (TaskKey, u32, Option<Payload>): Does::Update(Some(REWRITE)), "steps",
        Some("t.state = 'done'");
    { STEP_TASK of |s| &s.0, STEP_NUMBER of |s| &s.1, RESULT of |s| &s.2 }

    WithdrawStep of (TaskKey, u32): Does::Delete, "steps", Some("t.state IN ('waiting', 'given_back')");
    { STEP_TASK of |s| &s.0, STEP_NUMBER of |s| &s.1 }

    AnswerStep of StepRow<'a>: UPDATE, "steps", Some("t.state = 'waiting'");
    { STEP_TASK of |s| &s.key, STEP_ID of |s| s.id, STEP_END of |s| &s.ending, STEP_RECORDED of |s| &s.recorded_at }

    InsertStep of StepRow<'a>: Does::Insert, "steps", None;
    { STEP_TASK of |s| &s.key, STEP_ID of |s| s.id, STEP_END of |s| &s.ending, STEP_RECORDED of |s| &s.recorded_at }
}
