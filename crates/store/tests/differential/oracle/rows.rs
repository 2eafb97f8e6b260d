//! The rows that a store should hold, made from what the oracle holds: counters by counting,
//! versions and times from the history.

use abide_core::event::EventType;
use abide_core::ids::Timestamp;
use abide_core::payload::Payload;
use abide_core::status::Phase;
use serde_json::{Value, json};

use super::Oracle;
use super::compare::{Expected, Row, Table};
use super::state::{Fact, Letter, Node, Run, Step, Told};

impl Oracle {
    /// Every table that requests write. The others are filled before: versions and workers.
    pub(super) fn tables(&self) -> Vec<Table> {
        let nodes = |make: fn(&Run, &Node) -> Vec<Row>| {
            let of_run = move |run| nodes_of(run).flat_map(move |node| make(run, node));
            self.runs.values().flat_map(of_run).collect::<Vec<_>>()
        };
        let queued = self
            .queue()
            .into_iter()
            .map(|row| outbox_row(0, row.queue.0, row.rank, row.ready_at, row.key));
        let notes = self.inbox.iter();
        let notes = notes.map(|note| outbox_row(note.worker.0, note.queue.0, 0, note.at, note.key));
        let timers = self.timers().into_iter().map(|timer| {
            Row::new()
                .with("due_at", timer.due_at.0)
                .with("kind", timer.kind.code())
                .with("execution", timer.execution.0)
                .with("task", timer.task)
                .with("piece", timer.from)
        });
        let events_of_runs = self
            .runs
            .values()
            .flat_map(|run| events(run, 0, &run.history));
        let mut events_of_all: Vec<Row> = events_of_runs.collect();
        events_of_all.extend(nodes(|run, node| events(run, node.number, &node.history)));
        vec![
            Table::new("executions", self.runs.values().map(execution).collect()),
            Table::new("task_executions", nodes(|run, node| vec![task(run, node)])),
            Table::new("task_outbox", queued.chain(notes).collect()),
            Table::new("timers", timers.collect()),
            Table::new("execution_events", events_of_all),
            Table::new("steps", nodes(steps)),
            Table::new("signals", self.letters.iter().map(signal).collect()),
        ]
    }
}

fn nodes_of(run: &Run) -> impl Iterator<Item = &Node> {
    run.nodes.iter()
}

fn outbox_row(
    worker: i64,
    queue: i64,
    rank: i32,
    ready_at: Timestamp,
    key: abide_core::ids::TaskKey,
) -> Row {
    Row::new()
        .with("worker", worker)
        .with("queue", queue)
        .with("priority", -rank)
        .with("ready_at", ready_at.0)
        .with("execution", key.execution.0)
        .with("task", key.number)
}

fn execution(run: &Run) -> Row {
    let open = run.nodes.iter().filter(|node| !node.phase.is_terminal());
    let failed = run.nodes.iter().filter(|node| node.has_failed());
    let graph = run.own_graph.then(|| run.graph.to_json());
    Row::new()
        .with("id", run.id.0)
        .with("instance", &*run.instance)
        .with("generation", run.generation)
        .with("workflow_version", run.workflow.0)
        .with("status", run.status.as_str())
        .with("reason", run.reason.as_deref())
        .with("stop_cause", run.stop_cause)
        .with("failed_task", run.failed_task)
        .with("open", open.count())
        .with("failed", failed.count())
        .with("priority", run.priority)
        .with("start_at", time(run.start_at))
        .with("deadline_at", time(run.deadline_at))
        .with("grace_until", time(run.grace_until))
        .with("graph", graph.as_deref())
        .with("input", text(run.input.as_ref()))
        .with("input_hash", &*run.input_hash)
        .with("tags", run.tags.as_deref())
        .with("version", run.history.len())
        .with("created_at", first(&run.history, |_| true))
        .with(
            "started_at",
            first(&run.history, |fact| {
                fact.kind == EventType::ExecutionStarted
            }),
        )
        .with(
            "closed_at",
            first(&run.history, |fact| fact.kind.ends_execution()),
        )
        .with("changed_at", last(&run.history))
        // Nothing prunes here.
        .with("history_pruned_at", None::<i64>)
}

fn task(run: &Run, node: &Node) -> Row {
    let (status, sub_status) = node.phase.status();
    let before = run.graph.dependencies(node.number).len();
    let unmet = run
        .ended_before(node.number)
        .filter(|phase| *phase != Phase::Completed);
    let spent = spent(&node.history, node.attempt);
    let closes = |fact: &Fact| {
        let to = Phase::parse(fact.to);
        to.is_some_and(Phase::is_terminal)
    };
    Row::new()
        .with("execution", run.id.0)
        .with("number", node.number)
        .with("node", run.graph.node_id(node.number))
        .with("status", status.as_str())
        .with("sub_status", sub_status.map(|sub| sub.as_str()))
        .with("attempt", node.attempt)
        .with("epoch", node.epoch)
        .with("crashes", node.crashes)
        .with("crash_steps", node.crash_steps)
        .with("worker", node.worker.map(|worker| worker.0))
        .with("waiting", before - run.ended_before(node.number).count())
        .with("unmet", unmet.count())
        .with("ready_at", time(node.ready_at))
        .with("wake_at", time(node.wake_at))
        .with("next_order", node.next_order)
        .expecting("wait", told(&node.wait))
        .with("version", node.history.len())
        .with("created_at", first(&node.history, |_| true))
        .with(
            "started_at",
            first(&node.history, |fact| fact.kind == EventType::TaskStarted),
        )
        .with("closed_at", first(&node.history, closes))
        .with("changed_at", last(&node.history))
        .with("queued_us", spent.queued)
        .with("active_us", spent.active)
        .with("attempt_active_us", spent.attempt_active)
        .with("deferred_us", spent.deferred)
        .with("retry_wait_us", spent.retry_wait)
        .with("input", text(run.node_inputs.get(&node.number)))
        .with("output", text(node.output.as_ref()))
        .expecting("changes", changes(node))
        // No world writes any.
        .with("checkpoint", None::<i64>)
        .expecting(
            "error",
            node.error.clone().map_or(Expected::NULL, Expected::Json),
        )
        .with("progress", node.progress.as_deref())
}

fn changes(node: &Node) -> Expected {
    if node.changes.is_empty() {
        return Expected::NULL;
    }
    let mut changes = json!({});
    for (key, value) in &node.changes {
        match value {
            Some(value) => changes["set"][key] = value.clone(),
            None => changes["removed"] = json!([key]),
        }
    }
    Expected::Json(changes)
}

fn events(run: &Run, task: u32, history: &[Fact]) -> Vec<Row> {
    let event = |(at, fact): (usize, &Fact)| {
        Row::new()
            .with("execution", run.id.0)
            .with("task", task)
            .with("n", at + 1)
            .with("type", fact.kind.code())
            .with("at", fact.at.0)
            .with("worker", fact.who.worker.map(|worker| worker.0))
            .with("attempt", fact.attempt)
            .with("epoch", fact.epoch)
            .with("actor", fact.who.actor.as_deref())
            .with("from_status", fact.from)
            .with("to_status", fact.to)
            .expecting("data", told(&fact.data))
    };
    history.iter().enumerate().map(event).collect()
}

fn steps(run: &Run, node: &Node) -> Vec<Row> {
    let row = |(number, step): (&u32, &Step)| {
        Row::new()
            .with("execution", run.id.0)
            .with("task", node.number)
            .with("number", *number)
            .with("kind", step.id.kind.as_str())
            .with("name", &*step.id.name)
            .with("fingerprint", step.id.fingerprint.as_deref())
            .with("state", step.state.as_str())
            .with("ordinal", step.order)
            .with("due_at", time(step.due_at))
            .expecting("result", json_text(step.result.as_deref()))
            .with("recorded_at", step.recorded_at.0)
    };
    node.steps.iter().map(row).collect()
}

fn signal(letter: &Letter) -> Row {
    let by = letter.read_by.as_ref();
    Row::new()
        .with("instance", &*letter.instance)
        .with("name", &*letter.name)
        .with("number", letter.number)
        .with("execution", letter.execution.0)
        .with("payload", letter.payload.as_str())
        .with("actor", letter.actor.as_deref())
        .with("sent_at", letter.sent_at.0)
        .with("read_execution", by.map(|(key, _)| key.execution.0))
        .with("read_task", by.map(|(key, _)| key.number))
        .with("read_operation", by.map(|(_, operation)| *operation))
}

// ---- from the history ----

/// How long a task was in each state.
#[derive(Default)]
struct Spent {
    queued: i64,
    active: i64,
    attempt_active: i64,
    deferred: i64,
    retry_wait: i64,
}

fn spent(history: &[Fact], attempt: u32) -> Spent {
    let mut spent = Spent::default();
    // A task whose retry was scheduled waits for that first, then is queued.
    let mut due = Timestamp(0);
    for (before, after) in history.iter().zip(&history[1..]) {
        if let (EventType::TaskRetryScheduled, Told::Value(data)) = (before.kind, &before.data) {
            due = Timestamp(data["retry_at"].as_i64().expect("a time"));
        }
        let elapsed = after.at.0 - before.at.0;
        match Phase::parse(before.to) {
            Some(Phase::Ready) => {
                let waited = (due.0 - before.at.0).clamp(0, elapsed);
                spent.retry_wait += waited;
                spent.queued += elapsed - waited;
            }
            Some(Phase::Active) => {
                spent.active += elapsed;
                let is_present = after.attempt == Some(attempt);
                spent.attempt_active += if is_present { elapsed } else { 0 };
            }
            Some(Phase::Deferred | Phase::Evicted) => spent.deferred += elapsed,
            _ => {}
        }
    }
    spent
}

fn first(history: &[Fact], which: impl Fn(&Fact) -> bool) -> Option<i64> {
    let fact = history.iter().find(|fact| which(fact))?;
    Some(fact.at.0)
}

fn last(history: &[Fact]) -> Option<i64> {
    Some(history.last()?.at.0)
}

// ---- cells ----

fn time(at: Option<Timestamp>) -> Option<i64> {
    at.map(|at| at.0)
}

fn text(payload: Option<&Payload>) -> Option<&str> {
    payload.map(Payload::as_str)
}

fn told(told: &Told) -> Expected {
    match told {
        Told::Nothing => Expected::NULL,
        Told::Words => Expected::Words,
        Told::Value(Value::String(text)) => Expected::text(text),
        Told::Value(value) => Expected::Json(value.clone()),
    }
}

fn json_text(text: Option<&str>) -> Expected {
    text.map_or(Expected::NULL, |text| {
        Expected::Json(serde_json::from_str(text).expect("it is JSON"))
    })
}
