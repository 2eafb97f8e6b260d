//! A store with something of everything: executions that ended in each way, and open ones that
//! wait for each thing there is to wait for. Built through the doors.

use std::collections::BTreeMap;

use abide_core::context::Changes;
use abide_core::graph::TaskSpec;
use abide_core::ids::{ExecutionId, TaskKey};
use abide_core::kernel::{Act, Action, Finish, IfExists, Outcome, Request};
use abide_core::payload::Payload;
use abide_core::retry::{Backoff, RetryPolicy};
use abide_core::status::{ExecutionStatus, Phase};
use abide_core::step::StepEnd;
use abide_core::trigger::Trigger;
use abide_store::{Subject, VerifyReport};
use serde_json::json;

use crate::backend::Database;
use crate::fixture::{SECOND, failed, graph, signal, sleep};
use crate::home::Home;
use crate::kept::SPELT_HERE;

/// A store with something of everything, closed, and the executions in it by what they show.
pub(crate) struct Scenario {
    executions: BTreeMap<&'static str, ExecutionId>,
    workers: Vec<i64>,
    pub(crate) report: VerifyReport,
}

impl Scenario {
    /// Built in a database of its own.
    pub(crate) async fn new() -> (Scenario, Database) {
        let home = Home::new().await;
        let workers = vec![home.worker.0];
        let mut builder = Builder {
            home,
            executions: BTreeMap::new(),
            workers,
        };
        builder.build().await;
        let Builder {
            home,
            executions,
            workers,
        } = builder;
        let report = home.assert_clean().await;
        home.store.close().await;
        let scenario = Scenario {
            executions,
            workers,
            report,
        };
        (scenario, home.into_database())
    }

    fn id(&self, name: &str) -> ExecutionId {
        *self
            .executions
            .get(name)
            .unwrap_or_else(|| panic!("no execution shows `{name}`"))
    }

    pub(crate) fn execution(&self, name: &str) -> Subject {
        Subject::execution(self.id(name))
    }

    pub(crate) fn task(&self, name: &str, number: u32) -> Subject {
        Subject::task(TaskKey::new(self.id(name), number))
    }

    /// SQL with `{name}` replaced by the id of the execution that shows it, `{worker0}` and so on by
    /// those of workers, and what backends spell in their own way.
    pub(crate) fn sql(&self, template: &str) -> String {
        let mut sql = template.to_owned();
        for (name, id) in &self.executions {
            sql = sql.replace(&format!("{{{name}}}"), &id.0.to_string());
        }
        for (at, worker) in self.workers.iter().enumerate() {
            sql = sql.replace(&format!("{{worker{at}}}"), &worker.to_string());
        }
        for (word, here) in SPELT_HERE {
            sql = sql.replace(word, here);
        }
        sql
    }
}

fn retries(count: u32, delay_us: i64) -> RetryPolicy {
    let backoff = Backoff::Fixed { delay_us };
    RetryPolicy {
        retries: count,
        backoff,
        ..RetryPolicy::default()
    }
}

fn retrying(id: &str, count: u32, delay_us: i64) -> TaskSpec {
    let retry = retries(count, delay_us);
    TaskSpec {
        retry,
        ..TaskSpec::new(id)
    }
}

fn ruled(id: &str, trigger: Trigger) -> TaskSpec {
    TaskSpec {
        trigger: Some(trigger),
        ..TaskSpec::new(id)
    }
}

struct Builder {
    home: Home,
    executions: BTreeMap<&'static str, ExecutionId>,
    workers: Vec<i64>,
}

impl Builder {
    async fn build(&mut self) {
        // What a dead worker leaves comes first: recovery takes back all that is held.
        self.crashed().await;
        self.ended().await;
        self.contexts().await;
        self.stopped().await;
        self.functions().await;
        self.waiting().await;
        self.held().await;
    }

    /// Starts an execution of a workflow of the same name.
    async fn start(
        &mut self,
        name: &'static str,
        tasks: Vec<TaskSpec>,
        edges: &[(&str, &str)],
    ) -> abide_core::ids::VersionId {
        let graph = graph(tasks, edges);
        let version = self.home.version(name, &graph).await;
        let mut start = self.home.start_request(name, version, &graph);
        start.own_graph = true;
        let started = self.home.start_with(start).await;
        self.executions.insert(name, started.id);
        self.home.advance(1000);
        version
    }

    async fn crashed(&mut self) {
        let abandoned = self.start("abandoned", vec![TaskSpec::new("a")], &[]).await;
        for _ in 0..2 {
            self.home.claim_one(abandoned).await;
            self.home.advance(5000);
            self.home.crash(1).await;
            self.workers.push(self.home.worker.0);
        }
        assert_eq!(
            self.home.status(self.executions["abandoned"]).await,
            ExecutionStatus::Failed
        );
        let crashed = self.start("crashed", vec![TaskSpec::new("a")], &[]).await;
        let lost = self.home.claim_one(crashed).await;
        self.home.crash(3).await;
        self.workers.push(self.home.worker.0);
        // What the dead worker still says is discarded.
        assert!(!self.home.complete(lost, "1").await.recorded);
        let held = self.home.claim_one(crashed).await;
        self.home.advance(700);
        self.home.complete(held, "2").await;
    }

    /// Executions that ran to their end.
    async fn ended(&mut self) {
        let caught = vec![
            TaskSpec::new("a"),
            retrying("b", 2, 0),
            TaskSpec::new("c"),
            ruled("handler", Trigger::Failed("c".into())),
            TaskSpec::new("skipped"),
            ruled(
                "last",
                Trigger::Any(vec![
                    Trigger::Skipped("skipped".into()),
                    Trigger::Success("b".into()),
                ]),
            ),
        ];
        let edges = [
            ("a", "b"),
            ("a", "c"),
            ("c", "handler"),
            ("c", "skipped"),
            ("skipped", "last"),
            ("b", "last"),
        ];
        let version = self.start("caught", caught, &edges).await;
        let a = self.home.claim_node(version, "a").await;
        self.home.advance(300);
        self.home
            .complete(a, &format!("\"{}\"", "large ".repeat(500)))
            .await;
        let b = self.home.claim_node(version, "b").await;
        self.home.advance(10);
        self.home.fail(b, "the first time").await;
        let c = self.home.claim_node(version, "c").await;
        self.home.advance(10);
        self.home.fail(c, &"for good ".repeat(300)).await;
        self.home.advance(10);
        while let Some(claimed) = self.home.claim(version, 1).await.first() {
            self.home
                .complete(crate::fixture::held(claimed), "{\"done\":true}")
                .await;
        }
        assert_eq!(
            self.home.status(self.executions["caught"]).await,
            ExecutionStatus::Completed
        );

        let version = self
            .start(
                "failed",
                vec![TaskSpec::new("a"), TaskSpec::new("b")],
                &[("a", "b")],
            )
            .await;
        let held = self.home.claim_one(version).await;
        self.home.fail(held, "no").await;
        assert_eq!(
            self.home.status(self.executions["failed"]).await,
            ExecutionStatus::Failed
        );

        // Two generations of one instance; the second is open.
        let version = self.start("first", vec![TaskSpec::new("a")], &[]).await;
        let held = self.home.claim_one(version).await;
        self.home.complete(held, "null").await;
        let plain = graph(vec![TaskSpec::new("a")], &[]);
        let mut again = self.home.start_request("first", version, &plain);
        again.if_exists = IfExists::StartAnew;
        let second = self.home.start_with(again).await;
        assert_eq!(second.generation, 2);
        self.executions.insert("second", second.id);
    }

    /// Tasks that change their context, on a chain, with checkpoints of it.
    async fn contexts(&mut self) {
        let tasks = ["a", "b", "c"].map(TaskSpec::new).to_vec();
        let version = self
            .start("context", tasks, &[("a", "b"), ("b", "c")])
            .await;
        for (node, set, removed, checkpoint) in [
            (
                "a",
                Some(("x", json!(1))),
                None,
                Some("{\"set\":{\"x\":1}}"),
            ),
            (
                "b",
                Some(("y", json!("large ".repeat(300)))),
                Some("for"),
                None,
            ),
            (
                "c",
                Some(("y", json!(2))),
                Some("x"),
                Some("{\"set\":{\"y\":2},\"removed\":[\"for\"]}"),
            ),
        ] {
            let held = self.home.claim_node(version, node).await;
            let mut changes = Changes::default();
            if let Some((key, value)) = set {
                changes.set(key, value);
            }
            if let Some(key) = removed {
                changes.remove(key);
            }
            let outcome = Outcome::Completed {
                output: None,
                changes: Some(changes),
                checkpoint: checkpoint.map(Payload::from_json),
            };
            self.home.finish(held, outcome).await;
        }
    }

    /// Executions that were stopped, or are being stopped.
    async fn stopped(&mut self) {
        self.start(
            "cancelled",
            vec![TaskSpec::new("a"), TaskSpec::new("b")],
            &[("a", "b")],
        )
        .await;
        self.home.cancel(self.executions["cancelled"], 0).await;

        let one = graph(vec![TaskSpec::new("a")], &[]);
        let version = self.home.version("timed_out", &one).await;
        let mut start = self.home.start_request("timed_out", version, &one);
        start.deadline_at = Some(self.home.now().plus_us(SECOND));
        let id = self.home.start_with(start).await.id;
        self.executions.insert("timed_out", id);
        self.home.advance(2 * SECOND);
        self.home.fire().await;
        assert_eq!(self.home.status(id).await, ExecutionStatus::TimedOut);

        let version = self
            .start(
                "cancelling",
                vec![TaskSpec::new("a"), TaskSpec::new("b")],
                &[("a", "b")],
            )
            .await;
        self.home.claim_one(version).await;
        let status = self
            .home
            .cancel(self.executions["cancelling"], 3600 * SECOND)
            .await;
        assert_eq!(status, ExecutionStatus::Cancelling);
    }

    /// A function that ran through, and those that wait for each thing.
    async fn functions(&mut self) {
        let f = || vec![retrying("f", 3, SECOND)];
        let version = self.start("function", f(), &[]).await;
        let home = &self.home;
        let held = home.claim_one(version).await;
        for number in 1..=3 {
            let result = Payload::from_json(format!("\"{}\"", "r".repeat(number as usize * 600)));
            home.record(held, number, StepEnd::Done(result)).await;
        }
        home.await_operations(held, vec![signal(4, "go")], false)
            .await;
        home.advance(20_000);
        for json in ["{\"by\":1}", "{\"by\":2}", "{\"by\":3}"] {
            home.signal("function", "go", json).await;
        }
        home.resume(held).await;
        home.await_operations(held, vec![sleep(5, home.now().plus_us(SECOND))], true)
            .await;
        home.advance(2 * SECOND);
        home.fire().await;
        let held = home.claim_one(version).await;
        home.complete(held, "\"through\"").await;

        let version = self.start("signal", f(), &[]).await;
        let held = self.home.claim_one(version).await;
        let left = self
            .home
            .await_operations(held, vec![signal(1, "approval")], true)
            .await;
        assert_eq!(left.phase, Phase::Evicted);

        let version = self.start("asleep", f(), &[]).await;
        let held = self.home.claim_one(version).await;
        let until = self.home.now().plus_us(900 * SECOND);
        self.home
            .await_operations(held, vec![sleep(1, until)], true)
            .await;

        let version = self.start("code", f(), &[]).await;
        let held = self.home.claim_one(version).await;
        let difference = "another step".to_owned();
        self.home
            .finish(held, Outcome::Nondeterministic { difference })
            .await;

        let version = self.start("retrying", f(), &[]).await;
        let held = self.home.claim_one(version).await;
        self.home.fail(held, "later").await;
    }

    /// Executions that nobody has begun.
    async fn waiting(&mut self) {
        let low = TaskSpec {
            priority: -3,
            ..TaskSpec::new("a")
        };
        self.start("ready", vec![low, TaskSpec::new("b")], &[("a", "b")])
            .await;
        let one = graph(vec![TaskSpec::new("a")], &[]);
        for name in ["scheduled", "watched"] {
            let version = self.home.version(name, &one).await;
            let mut start = self.home.start_request(name, version, &one);
            let at = self.home.now().plus_us(3600 * SECOND);
            match name {
                "scheduled" => start.start_at = Some(at),
                _ => start.deadline_at = Some(at),
            }
            let id = self.home.start_with(start).await.id;
            self.executions.insert(name, id);
        }
        let action = Action::SetPriority { priority: 7 };
        let act = Act::on(self.executions["scheduled"], action, "in a hurry");
        self.home.store.act(act).await.expect("acts");
    }

    /// Tasks that a live worker holds.
    async fn held(&mut self) {
        let version = self.start("active", vec![retrying("a", 1, 0)], &[]).await;
        let held = self.home.claim_one(version).await;
        self.home.advance(100);
        self.home.fail(held, "once").await;
        let held = self.home.claim_one(version).await;
        // A result of the first attempt, long after it was taken for failed.
        let stale = abide_core::kernel::Held { epoch: 1, ..held };
        let late = Finish {
            held: stale,
            given_back: Vec::new(),
            outcome: failed("late"),
            offer: None,
        };
        self.home
            .store
            .apply(Request::Finish(Box::new(late)))
            .await
            .expect("answers");

        let version = self.start("polling", vec![TaskSpec::new("a")], &[]).await;
        let held = self.home.claim_one(version).await;
        self.home.defer(held, "a file").await;

        // Last, since a claim empties the inbox that its signal leaves a wake-up in.
        let version = self.start("parked", vec![TaskSpec::new("a")], &[]).await;
        let held = self.home.claim_one(version).await;
        self.home
            .await_operations(held, vec![signal(1, "go")], false)
            .await;
        self.home.signal("parked", "go", "true").await;
    }
}
