//! What the tests share: a schema of a test's own, and a committer that does one thing at a time.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use abide_core::graph::{Graph, GraphBuilder, TaskSpec};
use abide_core::ids::{ExecutionId, IdGenerator, TaskKey, Timestamp, VersionId, WorkerId};
use abide_core::kernel::{
    Claim, Claimed, Effects, Finish, Held, OutboxRow, Outcome, Reply, Request, Start, Stop,
    Working, apply,
};
use abide_core::payload::Payload;
use abide_test_postgres::{Schema, fresh_schema};

use crate::error::StoreError;
use crate::graphs::GraphCache;
use crate::net::Net;
use crate::views::WorkflowKind;

use super::super::address::Address;
use super::super::connect::{BEGIN, COMMIT, ROLLBACK, Session};
use super::super::load::{self, Plan};
use super::super::low_water::LowWater;
use super::super::queries::Reader;
use super::super::schema::{MIGRATIONS, migrate};
use super::super::statement::{Execute, Param, Row, Statement, Value};
use super::super::{maintenance, write};

/// The version of a home's schema.
pub(super) fn version() -> i64 {
    MIGRATIONS.newest()
}

/// A store that goes away with the test.
pub(super) struct Home {
    pub(super) session: Session,
    pub(super) graphs: GraphCache,
    pub(super) worker: WorkerId,
    now: Cell<Timestamp>,
    ids: RefCell<IdGenerator>,
    schema: Schema,
}

impl Home {
    pub(super) async fn new() -> Home {
        let schema = fresh_schema();
        let now = crate::system_now();
        let mut session = connect(&schema).await;
        let address = address(&schema);
        let database = address.database();
        let migrated = migrate(
            session.client(),
            &address.schema,
            &database,
            true,
            now,
            &MIGRATIONS,
        )
        .await;
        migrated.expect("migrates");
        let mut ids = IdGenerator::new(1);
        Home {
            session,
            graphs: GraphCache::default(),
            worker: WorkerId(ids.next(now)),
            now: Cell::new(now),
            ids: RefCell::new(ids),
            schema,
        }
    }

    /// Another connection.
    pub(super) async fn session(&self) -> Session {
        connect(&self.schema).await
    }

    pub(super) fn reader(&self) -> Reader<'_, Session> {
        Reader {
            execute: &self.session,
            graphs: &self.graphs,
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.now.get()
    }

    pub(super) fn advance(&self, us: i64) {
        self.now.set(self.now().plus_us(us));
    }

    pub(super) fn next_id(&self) -> i64 {
        self.ids.borrow_mut().next(self.now())
    }

    // ---- statements ----

    /// Writes these effects and nothing else.
    pub(super) async fn write(&self, effects: &Effects) {
        write_on(&self.session, self.now(), effects).await;
    }

    /// The first column of every row.
    pub(super) async fn numbers(&self, sql: &'static str) -> Vec<i64> {
        let rows = run(&self.session, sql, Vec::new()).await;
        let number = |row: Row| match row[0] {
            Value::Int(number) => number,
            ref other => panic!("not a number: {other:?}"),
        };
        rows.into_iter().map(number).collect()
    }

    pub(super) async fn rows(&self, sql: &'static str) -> Vec<Row> {
        run(&self.session, sql, Vec::new()).await
    }

    // ---- requests ----

    /// Applies requests in one transaction, as a flush does.
    pub(super) async fn flush(&self, requests: &[Request]) -> Vec<Reply> {
        let session = &self.session;
        run(session, BEGIN, Vec::new()).await;
        let mut working = Working::new(self.now());
        let mut replies = Vec::new();
        for request in requests {
            replies.push(self.apply_in(&mut working, request).await);
        }
        let (executions, tasks, effects) = working.into_effects();
        let net = Net::of(self.now(), &executions, &tasks, &effects).expect("sound");
        session.run(write::statements(&net)).await.expect("written");
        run(session, COMMIT, Vec::new()).await;
        replies
    }

    async fn apply_in(&self, working: &mut Working, request: &Request) -> Reply {
        loop {
            let needs = match apply(working, request) {
                Ok(reply) => return reply,
                Err(Stop::Missing(needs)) => needs,
                Err(Stop::Refused(refusal)) => panic!("refused: {refusal}"),
            };
            let failed = self.load(working, &needs).await.expect("loaded");
            assert!(failed.is_empty(), "{failed:?}");
        }
    }

    pub(super) async fn load(
        &self,
        working: &mut Working,
        needs: &[abide_core::kernel::Need],
    ) -> Result<load::Failed, StoreError> {
        let low_water = LowWater::default();
        let mut plan = Plan::new(working, &self.graphs, &low_water, self.now(), needs);
        let answers = self.session.run(plan.statements()).await?;
        plan.fill(answers, working, &self.graphs)
    }

    pub(super) async fn version(&self, graph: &Arc<Graph>) -> VersionId {
        let (session, name) = (&self.session, &graph.fingerprint());
        let kind = WorkflowKind::Graph;
        begin(session).await;
        let id = maintenance::ensure_version(session, self.now(), "w", name, kind, graph).await;
        commit(session).await;
        id.expect("recorded")
    }

    /// A start of this graph for an instance of its own.
    pub(super) async fn request(&self, graph: &Arc<Graph>) -> Start {
        let id = ExecutionId(self.next_id());
        Start::of(id, id.to_string(), self.version(graph).await, graph)
    }

    pub(super) async fn start(&self, graph: &Arc<Graph>) -> ExecutionId {
        let start = self.request(graph).await;
        let id = start.id;
        self.flush(&[Request::Start(Box::new(start))]).await;
        id
    }

    /// Claims whatever the outbox has, in the order of its key.
    pub(super) async fn claim_all(&self) -> Vec<Claimed> {
        let rows = self
            .rows("SELECT queue, rank, ready_at, execution, task FROM ~task_outbox WHERE worker = 0 ORDER BY 1, 2, 3, 4, 5")
            .await;
        let claim = |row: Row| {
            let int = |at: usize| match row[at] {
                Value::Int(number) => number,
                ref other => panic!("not a number: {other:?}"),
            };
            let key = TaskKey::new(ExecutionId(int(3)), int(4) as u32);
            let row = OutboxRow {
                worker: None,
                queue: VersionId(int(0)),
                priority: -int(1) as i16,
                ready_at: Timestamp(int(2)),
                key,
            };
            let worker = self.worker;
            Request::Claim(Claim { key, worker, row })
        };
        let claims: Vec<Request> = rows.into_iter().map(claim).collect();
        let claimed = |reply| match reply {
            Reply::Claimed(Some(claimed)) => *claimed,
            other => panic!("not claimed: {other:?}"),
        };
        self.flush(&claims).await.into_iter().map(claimed).collect()
    }
}

fn address(schema: &Schema) -> Address {
    Address::parse(&schema.url).expect("an address")
}

async fn connect(schema: &Schema) -> Session {
    let mut address = address(schema);
    address.allow_unsafe = true;
    // Tests that wait for each other's locks say themselves when these are free.
    address.lock_timeout = Duration::from_secs(60);
    let (session, link) = Session::connect(&address).await.expect("connects");
    tokio::spawn(link.run());
    session
}

/// Runs one statement.
pub(super) async fn run(session: &Session, sql: &'static str, params: Vec<Param<'_>>) -> Vec<Row> {
    let answers = session.run(vec![Statement::new(sql, params)]).await;
    answers.expect("runs").pop().expect("an answer")
}

/// How many pages a statement looks at.
pub(super) async fn pages_of(home: &Home, statement: Statement<'_>) -> u64 {
    let explain = Statement {
        sql: format!(
            "EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) {}",
            statement.sql
        )
        .into(),
        params: statement.params,
    };
    let answers = home.session.run(vec![explain]).await.expect("runs");
    let lines = answers
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|value| match value {
            Value::Text(line) => Some(line),
            _ => None,
        });
    let plan = lines.collect::<Vec<_>>().join("\n");
    let of_all = plan.split("Buffers: shared ").nth(1).expect("buffers");
    let words = of_all.lines().next().expect("a line").split(' ');
    let of_word = |word: &str| {
        let (_, number) = ["hit", "read"]
            .contains(&word.split('=').next()?)
            .then(|| word.split_once('='))??;
        Some(number.parse::<u64>().expect("a number"))
    };
    words.filter_map(of_word).sum()
}

/// The process of the server that a session has.
pub(super) async fn backend(session: &Session) -> i64 {
    let rows = run(session, "SELECT pg_backend_pid()::bigint", Vec::new()).await;
    match rows[0][0] {
        Value::Int(backend) => backend,
        ref other => panic!("{other:?}"),
    }
}

pub(super) async fn begin(session: &Session) {
    run(session, BEGIN, Vec::new()).await;
}

pub(super) async fn commit(session: &Session) {
    run(session, COMMIT, Vec::new()).await;
}

pub(super) async fn roll_back(session: &Session) {
    run(session, ROLLBACK, Vec::new()).await;
}

/// Writes effects in a transaction of their own, or in the one that is open.
pub(super) async fn write_on(session: &Session, now: Timestamp, effects: &Effects) {
    let net = Net::of(now, &[], &[], effects).expect("sound");
    session.run(write::statements(&net)).await.expect("written");
}

/// A graph with a node of the same name for each task, and these edges.
pub(super) fn graph(tasks: &[&str], edges: &[(&str, &str)]) -> Arc<Graph> {
    let mut builder = GraphBuilder::new();
    for task in tasks {
        builder.task(TaskSpec::new(*task)).node(*task, task);
    }
    for (from, to) in edges {
        builder.edge(from, to);
    }
    Arc::new(builder.build().expect("a sound graph"))
}

pub(super) fn held(claimed: &Claimed) -> Held {
    Held {
        key: claimed.task.key,
        epoch: claimed.task.epoch,
        worker: claimed.task.worker.expect("claimed"),
    }
}

pub(super) fn finish(claimed: &Claimed, outcome: Outcome) -> Request {
    Request::Finish(Box::new(Finish {
        held: held(claimed),
        given_back: Vec::new(),
        outcome,
        offer: None,
    }))
}

pub(super) fn completed(output: &str) -> Outcome {
    Outcome::Completed {
        output: Some(Payload::from_json(output)),
        changes: None,
        checkpoint: None,
    }
}
