//! Kinds of reads that rules need, each declared once: the table, the columns, the key, which rows, in
//! which order, and how many; and what is done with the rows. A driver makes the text in its dialect:
//! SQLite reads one need at a time, PostgreSQL all needs of a kind.
//!
//! Absent are the reads that differ in kind: executions, by id or instance, which PostgreSQL locks; graphs,
//! which a cache has nearly always; whether a worker is alive, which its lock tells on SQLite and its lease on
//! PostgreSQL; and the heads of the queues, which PostgreSQL looks for above its low-water marks.

use std::sync::Arc;

use abide_core::ids::{ExecutionId, TaskKey, VersionId};
use abide_core::kernel::{ContextParts, Message, Need, PIECE, TaskSet, Working};
use abide_core::payload::Payload;
use abide_core::step::{Operation, StepEnd, StepRecord};
use abide_core::task::Task;

use crate::columns::{Column, Field, Head, Role, columns};
use crate::queries::{changes, context_base};
use crate::rows::{Columns, FromColumns, List, STEP, TASK};
use crate::tables::{STEP_NUMBER, STEP_TASK, TASK_KEY};
use crate::writes::{Sink, Text};

/// Unread signals that are read at once: a task takes few of what may be many.
const UNREAD_AT_ONCE: usize = 64;

/// Which rows are read, and what of them.
#[derive(Clone, Copy)]
pub(crate) struct Select {
    pub(crate) table: &'static str,
    pub(crate) columns: List,
    /// Which of the rows that have the key, with `t` for the row and `u` for what is asked for.
    pub(crate) when: Option<&'static str>,
    /// The column that the rows are ordered by.
    pub(crate) order: Option<&'static str>,
    pub(crate) limit: Option<usize>,
    /// Further rows of as many columns, found by the same key.
    pub(crate) and: Option<&'static Select>,
    /// Whether the columns sum up all of the rows, so that there is always one.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(dead_code, reason = "one need at a time")
    )]
    pub(crate) sums_up: bool,
    /// The index that SQLite is told to take: it knows of no statistics, and reads the whole record of
    /// a task for the few operations that it waits for.
    #[cfg_attr(
        not(feature = "sqlite"),
        expect(dead_code, reason = "PostgreSQL finds it")
    )]
    pub(crate) sqlite_index: Option<&'static str>,
}

const ALL: Select = Select {
    table: "",
    columns: TASK,
    when: None,
    order: None,
    limit: None,
    and: None,
    sums_up: false,
    sqlite_index: None,
};

/// A kind of read.
pub(crate) trait Read {
    /// What identifies the rows that are asked for.
    type Key: Send + 'static;
    type Row: FromColumns + Send + 'static;

    const SELECT: Select;

    /// What a need asks for, if it is one of this kind.
    fn of(need: &Need, working: &Working) -> Option<Self::Key>;

    /// The columns of the key, in the order of their values.
    fn heads() -> Vec<Head>;

    /// Gives the values of a key.
    fn put<'r, S: Sink<'r>>(key: &'r Self::Key, sink: &mut S) -> Result<(), S::Error>;

    /// Takes the rows that were found, or says what is wrong with them.
    fn load(working: &mut Working, key: Self::Key, rows: Vec<Self::Row>) -> Result<(), String>;

    fn text() -> &'static Text;
}

/// Is shown every kind of read.
pub(crate) trait Kinds {
    type Error;

    fn kind<R: Read>(&mut self) -> Result<(), Self::Error>;
}

/// Which rows are meant, in the words of [`Select::when`].
pub(crate) fn on<R: Read>(select: &Select) -> String {
    let heads = R::heads();
    let key = heads.iter().filter(|head| head.role == Role::Key);
    let key = key.map(|head| format!("t.{name} = u.{name}", name = head.name));
    let when = select.when.map(str::to_owned);
    key.chain(when).collect::<Vec<_>>().join(" AND ")
}

/// The text that reads the rows of one need, in the words of [`Select::when`] and with `~` before the names of
/// tables. What `hint` says of a select follows the name of its table.
pub(crate) fn of_one_need<R: Read>(hint: fn(&Select) -> String) -> String {
    let (mut parts, select) = (Vec::new(), R::SELECT);
    let mut next = Some(&select);
    while let Some(select) = next {
        let Select { table, columns, .. } = select;
        let (hint, on) = (hint(select), on::<R>(select));
        let mut part = format!("SELECT {columns} FROM ~{table} AS t{hint} WHERE {on}");
        if let Some(order) = select.order {
            part += &format!(" ORDER BY t.{order}");
        }
        if let Some(limit) = select.limit {
            part += &format!(" LIMIT {limit}");
        }
        parts.push(part);
        next = select.and;
    }
    match &*parts {
        [part] => part.clone(),
        // SQLite takes no order and no limit of a part by itself.
        _ => format!(
            "SELECT * FROM ({}) AS s",
            parts.join(") AS s UNION ALL SELECT * FROM (")
        ),
    }
}

/// Declares the kinds of reads: the need that asks, with what it asks for; the columns of that key, each list with
/// its part of the key; which rows; what they are read as; and what becomes of them.
macro_rules! reads {
    ($(
        $(#[$doc:meta])*
        $Read:ident {
            need: $need:pat, $working:ident => $key:expr;
            key: $Key:ty = $($COLUMNS:ident of |$k:ident| $part:expr),+;
            select: $select:expr;
            row: $Row:ty;
            load: |$loading:ident, $at:pat_param, $rows:pat_param| $load:expr;
        }
    )+) => {
        $(
            $(#[$doc])*
            pub(crate) struct $Read;

            impl Read for $Read {
                type Key = $Key;
                type Row = $Row;

                const SELECT: Select = $select;

                fn of(need: &Need, $working: &Working) -> Option<Self::Key> {
                    match need {
                        $need => Some($key),
                        _ => None,
                    }
                }

                fn heads() -> Vec<Head> {
                    let mut heads = Vec::new();
                    $(heads.extend($COLUMNS.iter().map(|column| column.head));)+
                    heads
                }

                fn put<'r, S: Sink<'r>>(key: &'r Self::Key, sink: &mut S) -> Result<(), S::Error> {
                    $({
                        let $k = key;
                        sink.add(|_| true, $COLUMNS, $part)?;
                    })+
                    Ok(())
                }

                fn load($loading: &mut Working, $at: $Key, $rows: Vec<$Row>) -> Result<(), String> {
                    $load
                }

                fn text() -> &'static Text {
                    static TEXT: Text = Text::new();
                    &TEXT
                }
            }
        )+

        /// Shows every kind of read.
        pub(crate) fn each<K: Kinds>(kinds: &mut K) -> Result<(), K::Error> {
            $(kinds.kind::<$Read>()?;)+
            Ok(())
        }
    };
}

columns! {
    VERSION: VersionId;
    fields {}
    parts {
        Key id: VersionId = |version| version.cell(),
    }
}

columns! {
    OF_EXECUTION: ExecutionId;
    fields {}
    parts {
        Key execution: ExecutionId = |id| id.cell(),
    }
}

columns! {
    READ_BY: (TaskKey, u32);
    fields {}
    parts {
        Key read_execution: ExecutionId = |(key, _)| key.execution.cell(),
        Key read_task: u32 = |(key, _)| key.number.cell(),
        Key read_operation: u32 = |(_, operation)| operation.cell(),
    }
}

columns! {
    INSTANCE: Arc<str>;
    fields {}
    parts {
        Key instance: Arc<str> = |instance| instance.cell(),
    }
}

columns! {
    NAME: Arc<str>;
    fields {}
    parts {
        Key name: Arc<str> = |name| name.cell(),
    }
}

columns! {
    AFTER: i64;
    fields {}
    parts {
        Told after: i64 = |number| number.cell(),
    }
}

columns! {
    /// For tables that have it in columns of different names.
    TOLD_EXECUTION: ExecutionId;
    fields {}
    parts {
        Told execution: ExecutionId = |id| id.cell(),
    }
}

impl FromColumns for Message {
    fn from_columns<C: Columns>(columns: &mut C) -> Result<Message, C::Error> {
        Ok(Message {
            name: Field::read(columns)?,
            number: Field::read(columns)?,
            payload: Field::read(columns)?,
        })
    }
}

reads! {
    WorkflowName {
        need: Need::WorkflowName(version), _working => *version;
        key: VersionId = VERSION of |version| version;
        select: Select { table: "workflow_versions", columns: List(|| vec!["name"]), ..ALL };
        row: String;
        load: |working, version, names| {
            let name = names.into_iter().next().ok_or("it is not stored")?;
            working.load_workflow_name(version, name.into());
            Ok(())
        };
    }

    OneTask {
        need: Need::Task(key), _working => *key;
        key: TaskKey = TASK_KEY of |key| key;
        select: Select { table: "task_executions", ..ALL };
        row: Task;
        load: |working, key, tasks| {
            working.load_task(key, tasks.into_iter().next());
            Ok(())
        };
    }

    FailedTasks {
        need: Need::Tasks(id, TaskSet::Failed), _working => *id;
        key: ExecutionId = OF_EXECUTION of |id| id;
        select: Select { table: "task_executions", when: Some("t.status IN ('Failed', 'Abandoned')"), ..ALL };
        row: Task;
        load: |working, id, tasks| {
            working.load_tasks(id, TaskSet::Failed, tasks, false);
            Ok(())
        };
    }

    /// Those that a worker holds are no more than its slots and what it has parked; the rest may be a whole
    /// graph.
    OpenTasks {
        need: Need::Tasks(id, TaskSet::Open), _working => *id;
        key: ExecutionId = OF_EXECUTION of |id| id;
        select: Select {
            table: "task_executions",
            when: Some("t.closed_at IS NULL AND t.worker IS NOT NULL"),
            and: Some(&Select {
                table: "task_executions",
                when: Some("t.closed_at IS NULL AND t.worker IS NULL"),
                order: Some("number"),
                limit: Some(PIECE as usize + 1),
                ..ALL
            }),
            ..ALL
        };
        row: Task;
        load: |working, id, tasks| {
            let not_held = tasks.iter().filter(|task| task.worker.is_none()).count();
            working.load_tasks(id, TaskSet::Open, tasks, not_held > PIECE as usize);
            Ok(())
        };
    }

    ReadyTasks {
        need: Need::Tasks(id, TaskSet::Ready), _working => *id;
        key: ExecutionId = OF_EXECUTION of |id| id;
        select: Select {
            table: "task_executions",
            when: Some("t.closed_at IS NULL AND t.status = 'Ready'"),
            order: Some("number"),
            limit: Some(PIECE as usize + 1),
            ..ALL
        };
        row: Task;
        load: |working, id, tasks| {
            let more = tasks.len() > PIECE as usize;
            working.load_tasks(id, TaskSet::Ready, tasks, more);
            Ok(())
        };
    }

    /// What each task changed, and its checkpoint. The execution's input comes as that of number 0.
    Context {
        need: Need::Context(id), _working => *id;
        key: ExecutionId = TOLD_EXECUTION of |id| id;
        select: Select {
            table: "executions",
            columns: List(|| vec!["0", "input", "NULL"]),
            when: Some("t.id = u.execution"),
            and: Some(&Select {
                table: "task_executions",
                columns: List(|| vec!["number", "changes", "checkpoint"]),
                when: Some("t.execution = u.execution AND (t.changes IS NOT NULL OR t.checkpoint IS NOT NULL)"),
                ..ALL
            }),
            ..ALL
        };
        row: (u32, Option<Payload>, Option<Payload>);
        load: |working, id, found| {
            let mut parts = ContextParts::default();
            for (number, first, checkpoint) in found {
                if number == 0 {
                    parts.base = context_base(first.as_ref())?;
                    continue;
                }
                if let Some(stored) = first {
                    parts.changes.insert(number, changes(&stored)?);
                }
                if let Some(stored) = checkpoint {
                    parts.checkpoints.insert(number, changes(&stored)?);
                }
            }
            working.load_context(id, parts);
            Ok(())
        };
    }

    /// What a task waits for. Relies on steps_waiting, which speaks of the state on SQLite and of the
    /// ordinal on PostgreSQL.
    Waits {
        need: Need::Waits(key), _working => *key;
        key: TaskKey = STEP_TASK of |key| key;
        select: Select {
            table: "steps",
            columns: STEP,
            when: Some("t.state = 'waiting' AND t.ordinal = 0"),
            order: Some("number"),
            sqlite_index: Some("steps_waiting"),
            ..ALL
        };
        row: StepRecord;
        load: |working, key, records| {
            let wait = |StepRecord { id, end, .. }| match end {
                StepEnd::Waiting { due_at } => Some(Operation { id, due_at }),
                _ => None,
            };
            working.load_waits(key, records.into_iter().filter_map(wait).collect());
            Ok(())
        };
    }

    StepCount {
        need: Need::StepCount(key), _working => *key;
        key: TaskKey = STEP_TASK of |key| key;
        select: Select { table: "steps", columns: List(|| vec!["count(*)"]), sums_up: true, ..ALL };
        row: u32;
        load: |working, key, counts| {
            working.load_step_count(key, counts.first().copied().unwrap_or(0));
            Ok(())
        };
    }

    OneStep {
        need: Need::Step(key, number), _working => (*key, *number);
        key: (TaskKey, u32) = STEP_TASK of |at| &at.0, STEP_NUMBER of |at| &at.1;
        select: Select { table: "steps", columns: STEP, ..ALL };
        row: StepRecord;
        load: |working, (key, number), records| {
            working.load_step(key, number, records.first());
            Ok(())
        };
    }

    /// Relies on signals_read.
    SignalRead {
        need: Need::SignalRead(key, operation), _working => (*key, *operation);
        key: (TaskKey, u32) = READ_BY of |by| by;
        select: Select { table: "signals", columns: List(|| vec!["name", "number", "payload"]), ..ALL };
        row: Message;
        load: |working, (key, operation), messages| {
            working.load_signal_read(key, operation, messages.into_iter().next());
            Ok(())
        };
    }

    /// Relies on signals_unread.
    Mailbox {
        need: Need::Mailbox(id, name), working => (*id, name.clone(), working.mailbox_loaded_to(*id, name));
        key: (ExecutionId, Arc<str>, i64) =
            OF_EXECUTION of |mailbox| &mailbox.0, NAME of |mailbox| &mailbox.1, AFTER of |mailbox| &mailbox.2;
        select: Select {
            table: "signals",
            columns: List(|| vec!["number", "payload"]),
            when: Some("t.number > u.after AND t.read_execution IS NULL"),
            order: Some("number"),
            limit: Some(UNREAD_AT_ONCE),
            ..ALL
        };
        row: (i64, Payload);
        load: |working, (id, name, _), unread| {
            let more = unread.len() == UNREAD_AT_ONCE;
            working.load_mailbox(id, name, unread, more);
            Ok(())
        };
    }

    SignalNumber {
        need: Need::SignalNumber(instance, name), _working => (instance.clone(), name.clone());
        key: (Arc<str>, Arc<str>) = INSTANCE of |mailbox| &mailbox.0, NAME of |mailbox| &mailbox.1;
        select: Select { table: "signals", columns: List(|| vec!["coalesce(max(number), 0) + 1"]), sums_up: true, ..ALL };
        row: i64;
        load: |working, (instance, name), next| {
            working.load_signal_number(instance, name, next.first().copied().unwrap_or(1));
            Ok(())
        };
    }

    /// Relies on steps_waiting, as [`Waits`] does.
    SignalWaiters {
        need: Need::SignalWaiters(id, name), _working => (*id, name.clone());
        key: (ExecutionId, Arc<str>) = OF_EXECUTION of |at| &at.0, NAME of |at| &at.1;
        select: Select {
            table: "steps",
            columns: List(|| vec!["task"]),
            when: Some("t.state = 'waiting' AND t.ordinal = 0 AND t.kind = 'signal'"),
            sqlite_index: Some("steps_waiting"),
            ..ALL
        };
        row: u32;
        load: |working, (id, name), numbers| {
            let mut numbers = numbers;
            // A task may wait for the same signal twice.
            numbers.sort_unstable();
            numbers.dedup();
            let tasks = numbers.into_iter().map(|number| TaskKey::new(id, number));
            working.load_signal_waiters(id, name, tasks.collect());
            Ok(())
        };
    }
}
