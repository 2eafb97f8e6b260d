//! That the work of a flush grows with its requests, counted in rows that lookups walk over; and
//! what a flush knows of the heads of queues.

use std::sync::Arc;

use super::*;
use crate::graph::{Graph, GraphBuilder, TaskSpec};
use crate::kernel::{
    Act, Action, Await, Change, Claim, Claimed, Finish, Held, IfExists, Need, Offer, OutboxRow,
    Outcome, Recover, Reply, Request, Resume, Signal, Start, Stop, apply,
};
use crate::status::ExecutionStatus;
use crate::step::{Operation, StepId, StepKind};

/// Answers needs as a store does that has only what this flush makes, and live workers.
fn load_nothing(working: &mut Working, need: &Need) {
    match need {
        Need::Instance(instance) => working.load_instance(instance.clone(), None),
        Need::Execution(id) => working.load_execution(*id, None),
        Need::Task(key) => working.load_task(*key, None),
        Need::Tasks(id, set) => working.load_tasks(*id, *set, Vec::new(), false),
        Need::Context(id) => working.load_context(*id, ContextParts::default()),
        Need::Waits(key) => working.load_waits(*key, Vec::new()),
        Need::StepCount(key) => working.load_step_count(*key, 0),
        Need::Step(key, number) => working.load_step(*key, *number, None),
        Need::SignalRead(key, operation) => working.load_signal_read(*key, *operation, None),
        Need::Mailbox(id, name) => working.load_mailbox(*id, name.clone(), Vec::new(), false),
        Need::SignalNumber(instance, name) => {
            working.load_signal_number(instance.clone(), name.clone(), 1);
        }
        Need::SignalWaiters(id, name) => {
            working.load_signal_waiters(*id, name.clone(), Vec::new());
        }
        Need::Worker(id) => working.load_worker(*id, true),
        Need::ReadyHead(queues) => {
            let unread: Vec<_> = working.unread_heads(queues).collect();
            for queue in unread {
                working.load_ready_head(queue, None);
            }
        }
        Need::WorkflowName(_) | Need::Graph(..) => panic!("{need:?} is not stored"),
    }
}

fn run(working: &mut Working, request: &Request) -> Reply {
    loop {
        match apply(working, request) {
            Ok(reply) => return reply,
            Err(Stop::Missing(needs)) => {
                for need in &needs {
                    load_nothing(working, need);
                }
            }
            Err(Stop::Refused(refusal)) => panic!("{request:?}: {refusal}"),
        }
    }
}

const WORKER: WorkerId = WorkerId(9);
const QUEUE: VersionId = VersionId(1);

fn graph() -> Arc<Graph> {
    let mut graph = GraphBuilder::new();
    for node in ["a", "b", "c", "d"] {
        graph.task(TaskSpec::new(node)).node(node, node);
    }
    Arc::new(graph.build().expect("sound"))
}

fn start(id: i64, queue: VersionId, priority: i16, offer: Option<Offer>) -> Request {
    Request::Start(Box::new(Start {
        priority,
        offer,
        ..Start::of(ExecutionId(id), format!("order-{id}"), queue, &graph())
    }))
}

fn offer(queues: &[VersionId]) -> Option<Offer> {
    Some(Offer {
        worker: WORKER,
        slots: 4,
        hop: 0,
        queues: queues.into(),
        fills: false,
    })
}

fn claimed(reply: Reply) -> Vec<Claimed> {
    match reply {
        Reply::Started(started) => started.claimed,
        other => panic!("{other:?}"),
    }
}

fn held(task: &Task) -> Held {
    Held {
        key: task.key,
        epoch: task.epoch,
        worker: WORKER,
    }
}

fn complete(task: &Task, offer: Option<Offer>) -> Request {
    let outcome = Outcome::Completed {
        output: None,
        changes: None,
        checkpoint: None,
    };
    Request::from(Finish {
        held: held(task),
        given_back: Vec::new(),
        outcome,
        offer,
    })
}

fn wait_for(number: u32, name: &str) -> Operation {
    Operation {
        id: StepId {
            number,
            kind: StepKind::Signal,
            name: name.to_owned(),
            fingerprint: None,
        },
        due_at: None,
    }
}

/// One flush over so many executions: started and claimed, waiting for a signal and for another,
/// signalled, answered, recovered, cancelled.
fn walked_by(executions: i64) -> usize {
    let mut working = Working::new(Timestamp(1_000_000));
    let ids = 1..=executions;
    let mut held_tasks = Vec::new();
    for id in ids.clone() {
        let reply = run(&mut working, &start(id, QUEUE, 0, offer(&[QUEUE])));
        held_tasks.push(held(&claimed(reply).remove(0).task));
    }
    for names in [vec!["paid", "sent"], vec!["paid"]] {
        for &held in &held_tasks {
            let operations = names.iter().zip(1..).map(|(name, n)| wait_for(n, name));
            let request = Await {
                held,
                given_back: Vec::new(),
                operations: operations.collect(),
                next_order: 1,
                evict: false,
            };
            run(&mut working, &Request::Await(request));
        }
    }
    for id in ids.clone() {
        let signal = Signal {
            instance: format!("order-{id}").into(),
            name: "paid".into(),
            payload: Payload::from_json("1"),
            actor: None,
        };
        run(&mut working, &Request::Signal(signal));
    }
    for &held in &held_tasks {
        let resume = Resume {
            held,
            given_back: Vec::new(),
            always: false,
            next_order: 1,
        };
        match run(&mut working, &Request::Resume(resume)) {
            Reply::Answered(answered) => assert_eq!(answered.results.len(), 1),
            other => panic!("{other:?}"),
        }
    }
    for held in &held_tasks {
        let recover = Recover {
            key: held.key,
            worker: WORKER,
            crash_cap: 3,
            alone: true,
            reason: "the process that held it is gone".to_owned(),
        };
        run(&mut working, &Request::Recover(recover));
    }
    for id in ids {
        let cancel = Action::Cancel { grace_us: 1 };
        let act = Act::on(ExecutionId(id), cancel, "no longer needed");
        run(&mut working, &act.into());
    }
    working.walked.get()
}

#[test]
fn twice_the_executions_in_a_flush_are_twice_the_work() {
    let (few, many) = (walked_by(50), walked_by(100));
    assert!(few > 0);
    assert_eq!(many, 2 * few);
}

#[test]
fn neither_an_end_nor_the_next_generation_writes_a_signal() {
    let mut working = Working::new(Timestamp(1_000_000));
    let reply = run(&mut working, &start(1, QUEUE, 0, offer(&[QUEUE])));
    let signal = Signal {
        instance: "order-1".into(),
        name: "paid".into(),
        payload: Payload::from_json("1"),
        actor: None,
    };
    run(&mut working, &Request::Signal(signal));
    for Claimed { task, .. } in claimed(reply) {
        run(&mut working, &complete(&task, None));
    }
    let mut anew = start(2, QUEUE, 0, None);
    if let Request::Start(start) = &mut anew {
        start.instance = "order-1".into();
        start.if_exists = IfExists::StartAnew;
    }
    match run(&mut working, &anew) {
        Reply::Started(started) => assert_eq!(started.generation, 2),
        other => panic!("{other:?}"),
    }
    let effects = &working.effects;
    assert_eq!(effects.signals.len(), 1, "the one that was sent");
    assert_eq!((effects.signals_read.len(), effects.steps.len()), (0, 0));
}

fn pause(working: &mut Working, id: i64) {
    let row = working.executions.get_mut(&ExecutionId(id));
    let row = row.and_then(Option::as_mut).expect("it is loaded");
    row.value.status = ExecutionStatus::Paused;
}

#[test]
fn nothing_of_a_paused_execution_is_claimed_from_the_outbox_or_past_it() {
    let mut working = Working::new(Timestamp(1_000_000));
    let chain = VersionId(3);
    let mut request = start(1, chain, 0, offer(&[chain]));
    if let Request::Start(start) = &mut request {
        let mut graph = GraphBuilder::new();
        graph.task(TaskSpec::new("a")).task(TaskSpec::new("b"));
        graph.node("a", "a").node("b", "b").edge("a", "b");
        start.graph = Arc::new(graph.build().expect("sound"));
    }
    let task = claimed(run(&mut working, &request)).remove(0).task;
    pause(&mut working, 1);
    match run(&mut working, &complete(&task, offer(&[chain]))) {
        Reply::Finished(finished) => assert_eq!(finished.claimed.len(), 0),
        other => panic!("{other:?}"),
    }
    let row = outbox_row(&working, 1).remove(0);
    assert_eq!(row.key.number, 2, "it waits in the outbox");
    let claim = Claim {
        key: row.key,
        worker: WORKER,
        row,
    };
    match run(&mut working, &claim.into()) {
        Reply::Claimed(claimed) => assert!(claimed.is_none()),
        other => panic!("{other:?}"),
    }
}

fn outbox_row(working: &Working, id: i64) -> Vec<OutboxRow> {
    let rows = working.effects.outbox.iter().filter_map(|row| match row {
        Change::Add(row) if row.key.execution == ExecutionId(id) => Some(*row),
        _ => None,
    });
    rows.collect()
}

#[test]
fn what_is_ready_in_a_queue_stands_in_the_way_of_those_alone_who_claim_from_it() {
    let (mine, other) = (VersionId(1), VersionId(2));
    let mut working = Working::new(Timestamp(1_000_000));
    working.load_ready_head(other, Some(7));
    // Another worker of the process asks first, for both queues.
    let reply = run(&mut working, &start(1, mine, 5, offer(&[mine, other])));
    assert_eq!(claimed(reply).len(), 0, "7 is ready in its other queue");
    assert_eq!(outbox_row(&working, 1).len(), 4);
    // What just went to the outbox counts for whoever claims from that queue.
    let reply = run(&mut working, &start(2, mine, 4, offer(&[mine])));
    assert_eq!(claimed(reply).len(), 0, "5 is ready in its queue");
    let reply = run(&mut working, &start(3, mine, 5, offer(&[mine])));
    assert_eq!(claimed(reply).len(), 4, "7 is ready in a queue of others");
}

#[test]
fn a_start_that_stops_half_way_leaves_no_head_behind() {
    let mut working = Working::new(Timestamp(1_000_000));
    let result: Result<(), Stop> = working.attempt(|working| {
        working.add_to_outbox(OutboxRow {
            worker: None,
            queue: QUEUE,
            priority: 9,
            ready_at: Timestamp(1),
            key: TaskKey::new(ExecutionId(1), 1),
        });
        Err(Need::Worker(WORKER).into())
    });
    result.expect_err("it stops");
    let reply = run(&mut working, &start(2, QUEUE, 0, offer(&[QUEUE])));
    assert_eq!(claimed(reply).len(), 4);
}

#[test]
fn a_claimed_task_is_taken_out_of_the_outbox_once() {
    let mut working = Working::new(Timestamp(1_000_000));
    run(&mut working, &start(1, QUEUE, 0, None));
    let row = outbox_row(&working, 1).remove(0);
    let claim = Claim {
        key: row.key,
        worker: WORKER,
        row,
    };
    for expected in [true, false] {
        match run(&mut working, &Request::Claim(claim.clone())) {
            Reply::Claimed(claimed) => assert_eq!(claimed.is_some(), expected),
            other => panic!("{other:?}"),
        }
    }
}
