//! Queries that both databases answer with the same statement, each declared once: its text, its values,
//! and what its rows are. A driver runs it.
//!
//! Absent are the queries that the databases answer in different ways. PostgreSQL reads what many callers
//! ask for at once as arrays, has no index of the tasks that a worker holds, and gives positions of events
//! before they are committed.

use std::borrow::Cow;
use std::marker::PhantomData;

use abide_core::context::{self, Changes};
use abide_core::failure::Failure;
use abide_core::graph::Graph;
use abide_core::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId};
use abide_core::payload::Payload;
use abide_core::step::StepRecord;
use abide_core::timer::{NEVER, Timer, TimerKind};
use serde_json::{Map, Value};

use crate::activity;
use crate::health::Ready;
use crate::listing::{Dialect, Listed, Page};
use crate::rows::{EXECUTION, FromColumns, RecordedGraph, STEP, TASK, TIMER, VersionRow, of};
use crate::views::{ExecutionFilter, ExecutionView, TaskView, WorkerRow};
use crate::words;
use crate::writes::Text;

/// A value that a query is given.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operand<'q> {
    Number(i64),
    Text(&'q str),
}

/// A query whose rows are read as `R`.
pub(crate) struct Query<'q, R> {
    sql: Sql,
    /// `$1`, `$2` and so on.
    pub(crate) operands: Vec<Operand<'q>>,
    /// What is read, in the words of a message.
    pub(crate) what: Cow<'static, str>,
    rows: PhantomData<fn() -> R>,
}

/// A text in PostgreSQL's dialect. `~` stands for the schema and its dot.
enum Sql {
    /// It never changes: a driver keeps it prepared.
    Kept(&'static Kept),
    Made(String),
}

struct Kept {
    written: Written,
    text: Text,
}

enum Written {
    Whole(&'static str),
    /// From the lists of columns.
    By(fn() -> String),
}

impl Kept {
    const fn whole(sql: &'static str) -> Kept {
        Kept {
            written: Written::Whole(sql),
            text: Text::new(),
        }
    }

    const fn by(make: fn() -> String) -> Kept {
        Kept {
            written: Written::By(make),
            text: Text::new(),
        }
    }

    fn write(&self) -> String {
        match self.written {
            Written::Whole(sql) => sql.to_owned(),
            Written::By(make) => make(),
        }
    }
}

impl<'q, R: FromColumns> Query<'q, R> {
    fn new<const N: usize>(
        sql: &'static Kept,
        operands: [Operand<'q>; N],
        what: impl Into<Cow<'static, str>>,
    ) -> Query<'q, R> {
        Query {
            sql: Sql::Kept(sql),
            operands: operands.into(),
            what: what.into(),
            rows: PhantomData,
        }
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn postgres(&self) -> Cow<'static, str> {
        match &self.sql {
            Sql::Kept(kept) => Cow::Borrowed(kept.text.postgres.get_or_init(|| kept.write())),
            Sql::Made(text) => Cow::Owned(text.clone()),
        }
    }

    #[cfg(feature = "sqlite")]
    pub(crate) fn sqlite(&self) -> Cow<'static, str> {
        match &self.sql {
            Sql::Kept(kept) => {
                Cow::Borrowed(kept.text.sqlite.get_or_init(|| in_sqlite(&kept.write())))
            }
            Sql::Made(text) => Cow::Owned(in_sqlite(text)),
        }
    }
}

/// The same in SQLite's dialect: there is no schema, and values have no types.
#[cfg(feature = "sqlite")]
fn in_sqlite(sql: &str) -> String {
    let sql = sql.replace("::bigint", "").replace("::text", "");
    sql.replace('~', "").replace('$', "?")
}

fn number(number: impl Into<i64>) -> Operand<'static> {
    Operand::Number(number.into())
}

fn key(key: TaskKey) -> [Operand<'static>; 2] {
    [number(key.execution.0), number(key.number)]
}

/// What follows `SELECT` in a query of executions `e` and their workflow versions `w` that meet a condition.
/// The first operand is the time. The latest generation relies on executions_instance.
fn views(condition: &str) -> String {
    format!(
        "{}, {}, w.name, w.version, e.tags, \
         (SELECT coalesce(max(t.number), 0) FROM ~task_executions t WHERE t.execution = e.id), \
         (SELECT max(l.generation) FROM ~executions l WHERE l.instance = e.instance), e.history_pruned_at FROM ~executions e \
         JOIN ~workflow_versions w ON w.id = e.workflow_version WHERE {condition}",
        of("e", EXECUTION),
        activity::expression("$1::bigint")
    )
}

fn executions_sql(condition: &str) -> String {
    format!("SELECT {}", views(condition))
}

/// The text of [`execution`].
pub(crate) fn execution_sql() -> String {
    executions_sql("e.id = $2::bigint AND e.generation IS NOT NULL")
}

/// An execution that is published.
pub(crate) fn execution(id: ExecutionId, now: Timestamp) -> Query<'static, ExecutionView> {
    static SQL: Kept = Kept::by(execution_sql);
    let operands = [number(now.0), number(id.0)];
    Query::new(&SQL, operands, format!("execution {id}"))
}

/// The latest execution of an instance. Relies on executions_instance.
pub(crate) fn latest(instance: &str, now: Timestamp) -> Query<'_, ExecutionView> {
    static SQL: Kept = Kept::by(|| {
        executions_sql(
            "e.instance = $2::text AND e.generation IS NOT NULL ORDER BY e.generation DESC LIMIT 1",
        )
    });
    let operands = [number(now.0), Operand::Text(instance)];
    Query::new(&SQL, operands, format!("instance `{instance}`"))
}

/// A generation of an instance. Relies on executions_instance.
pub(crate) fn generation(
    instance: &str,
    generation: u32,
    now: Timestamp,
) -> Query<'_, ExecutionView> {
    static SQL: Kept =
        Kept::by(|| executions_sql("e.instance = $2::text AND e.generation = $3::bigint"));
    let operands = [number(now.0), Operand::Text(instance), number(generation)];
    let what = format!("generation {generation} of instance `{instance}`");
    Query::new(&SQL, operands, what)
}

/// A page of a list of executions, newest first.
pub(crate) fn page<'q>(
    page: Page,
    filter: &'q ExecutionFilter,
    now: Timestamp,
    dialect: &Dialect,
) -> Query<'q, Listed> {
    let (conditions, operands) = page.conditions(filter, now, dialect);
    Query {
        // The id once more, for executions that cannot be read.
        sql: Sql::Made(format!("SELECT e.id, {}", views(&conditions))),
        operands,
        what: "an execution".into(),
        rows: PhantomData,
    }
}

/// Tasks of an execution, by number.
pub(crate) fn tasks(id: ExecutionId, after: u32, limit: u32) -> Query<'static, TaskView> {
    static SQL: Kept = Kept::by(|| {
        format!(
            "SELECT {TASK}, node, error, progress FROM ~task_executions \
             WHERE execution = $1::bigint AND number > $2::bigint ORDER BY number LIMIT $3::bigint"
        )
    });
    let operands = [number(id.0), number(after), number(limit)];
    Query::new(&SQL, operands, format!("a task of execution {id}"))
}

/// Recorded operations: those that ended in the order in which they ended, then those that are waited for.
pub(crate) fn steps(task: TaskKey) -> Query<'static, StepRecord> {
    static SQL: Kept = Kept::by(|| {
        format!(
            "SELECT {STEP} FROM ~steps WHERE execution = $1::bigint AND task = $2::bigint \
             ORDER BY ordinal = 0, ordinal, number"
        )
    });
    Query::new(&SQL, key(task), format!("an operation of task {task}"))
}

/// The graph of an execution or of its workflow version.
pub(crate) fn graph(
    id: ExecutionId,
    version: VersionId,
    own: bool,
) -> Query<'static, Option<Payload>> {
    static OWN: Kept = Kept::whole("SELECT graph FROM ~executions WHERE id = $1::bigint");
    static OF_VERSION: Kept =
        Kept::whole("SELECT graph FROM ~workflow_versions WHERE id = $1::bigint");
    let (sql, stored_at) = match own {
        true => (&OWN, id.0),
        false => (&OF_VERSION, version.0),
    };
    Query::new(sql, [number(stored_at)], words::graph(id, version, own))
}

/// The input of an execution, read for `what`.
pub(crate) fn input(id: ExecutionId, what: String) -> Query<'static, Option<Payload>> {
    static SQL: Kept = Kept::whole("SELECT input FROM ~executions WHERE id = $1::bigint");
    Query::new(&SQL, [number(id.0)], what)
}

/// A task's checkpoint, read for `what`.
pub(crate) fn checkpoint(task: TaskKey, what: String) -> Query<'static, Option<Payload>> {
    static SQL: Kept = Kept::whole(
        "SELECT checkpoint FROM ~task_executions WHERE execution = $1::bigint AND number = $2::bigint",
    );
    Query::new(&SQL, key(task), what)
}

/// What failed a task, read for `what`. An abandoned task has no error of its own, only that of an earlier
/// attempt.
pub(crate) fn failure(task: TaskKey, what: String) -> Query<'static, Option<Failure>> {
    static SQL: Kept = Kept::whole(
        "SELECT error FROM ~task_executions WHERE execution = $1::bigint AND number = $2::bigint \
         AND status = 'Failed'",
    );
    Query::new(&SQL, key(task), what)
}

/// The workflow versions, without their graphs. Relies on executions_open.
pub(crate) fn versions() -> Query<'static, VersionRow> {
    static SQL: Kept = Kept::whole(
        "SELECT w.id, w.name, w.version, w.kind, (SELECT count(*) FROM ~executions e \
         WHERE e.workflow_version = w.id AND e.closed_at IS NULL) FROM ~workflow_versions w ORDER BY w.id",
    );
    Query::new(&SQL, [], "a workflow version")
}

/// The id of a workflow version, if it is recorded with that graph.
pub(crate) fn version<'q>(
    name: &'q str,
    version: &'q str,
    fingerprint: &'q str,
) -> Query<'q, VersionId> {
    static SQL: Kept = Kept::whole(
        "SELECT id FROM ~workflow_versions WHERE name = $1::text AND version = $2::text AND fingerprint = $3::text",
    );
    let operands = [name, version, fingerprint].map(Operand::Text);
    Query::new(&SQL, operands, "a workflow version")
}

/// The graphs that are recorded for a workflow version, one for each set of options.
pub(crate) fn recorded_graphs<'q>(name: &'q str, version: &'q str) -> Query<'q, RecordedGraph> {
    static SQL: Kept = Kept::whole(
        "SELECT kind, graph FROM ~workflow_versions WHERE name = $1::text AND version = $2::text ORDER BY id",
    );
    let operands = [name, version].map(Operand::Text);
    Query::new(&SQL, operands, "a workflow version")
}

/// Workers that have not ended.
pub(crate) fn workers() -> Query<'static, WorkerRow> {
    static SQL: Kept = Kept::whole(
        "SELECT id, host, pid, started_at, lease_until FROM ~workers WHERE ended_at IS NULL ORDER BY id",
    );
    Query::new(&SQL, [], "a worker")
}

/// Records which workflow versions a worker knows. Answers the worker, if it is on record.
pub(crate) fn record_queues(id: WorkerId, list: &str) -> Query<'_, WorkerId> {
    static SQL: Kept =
        Kept::whole("UPDATE ~workers SET queues = $2::text WHERE id = $1::bigint RETURNING id");
    let operands = [number(id.0), Operand::Text(list)];
    Query::new(&SQL, operands, "a worker")
}

/// How many tasks of each queue could be claimed, and since when. Counts the whole outbox.
pub(crate) fn ready() -> Query<'static, Ready> {
    static SQL: Kept = Kept::whole(
        "SELECT queue, count(*), min(ready_at) FROM ~task_outbox WHERE worker = 0 GROUP BY queue ORDER BY queue",
    );
    Query::new(&SQL, [], "the outbox")
}

/// The timers of tasks that wait for other code.
pub(crate) fn waiting_for_code() -> Query<'static, Timer> {
    static SQL: Kept = Kept::by(|| {
        format!("SELECT {TIMER} FROM ~timers WHERE due_at = $1::bigint AND kind = $2::bigint")
    });
    let operands = [number(NEVER.0), number(TimerKind::Code.code())];
    Query::new(&SQL, operands, "a timer")
}

/// A graph from its stored form, or what is wrong with that.
pub(crate) fn parse_graph(stored: Option<Payload>) -> Result<Graph, String> {
    let json = stored.ok_or("it is not stored")?;
    Graph::from_json(json.as_str()).map_err(|error| error.to_string())
}

/// The context with which an execution began, from its input, or what is wrong with that.
pub(crate) fn context_base(input: Option<&Payload>) -> Result<Map<String, Value>, String> {
    context::base(input).map_err(|error| format!("input: {error}"))
}

/// What a task changed, from its stored form, or what is wrong with that.
pub(crate) fn changes(stored: &Payload) -> Result<Changes, String> {
    serde_json::from_str(stored.as_str()).map_err(|error| format!("changes: {error}"))
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use super::*;

    #[test]
    fn the_text_for_sqlite_has_no_schema_and_no_types() {
        let sql =
            in_sqlite("SELECT id FROM ~executions WHERE id > $1::bigint AND instance = $2::text");
        assert_eq!(
            sql,
            "SELECT id FROM executions WHERE id > ?1 AND instance = ?2"
        );
    }
}
