//! A store with something of everything: executions that ended in each way, and open ones that
//! wait for each thing there is to wait for. Built once, through the doors; tests work on copies.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use abide_core::graph::TaskSpec;
use abide_core::ids::{ExecutionId, TaskKey};
use abide_core::kernel::{Finish, IfExists, Outcome, Request};
use abide_core::payload::Payload;
use abide_core::retry::{Backoff, RetryPolicy};
use abide_core::status::{ExecutionStatus, Phase};
use abide_core::step::StepEnd;
use abide_core::trigger::Trigger;
use abide_store::{Subject, VerifyReport};
use tempfile::TempDir;

use crate::fixture::{Fixture, SECOND, failed, graph, signal, sleep};

/// The store's file, closed, and the executions in it by what they show.
pub(crate) struct Scenario {
    directory: TempDir,
    executions: BTreeMap<&'static str, ExecutionId>,
    workers: Vec<i64>,
    pub(crate) report: VerifyReport,
}

impl Scenario {
    /// The scenario, built by whoever asks first.
    pub(crate) fn get() -> &'static Scenario {
        static SCENARIO: OnceLock<Scenario> = OnceLock::new();
        SCENARIO.get_or_init(|| {
            let build = || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                runtime.expect("a runtime").block_on(build())
            };
            // The caller may be on a runtime already.
            std::thread::spawn(build).join().expect("builds")
        })
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

    /// SQL with `{name}` replaced by the id of the execution that shows it, and `{worker0}` and so
    /// on by those of workers.
    pub(crate) fn sql(&self, template: &str) -> String {
        let mut sql = template.to_owned();
        for (name, id) in &self.executions {
            sql = sql.replace(&format!("{{{name}}}"), &id.0.to_string());
        }
        for (at, worker) in self.workers.iter().enumerate() {
            sql = sql.replace(&format!("{{worker{at}}}"), &worker.to_string());
        }
        sql
    }

    /// A copy of the file.
    pub(crate) fn copy(&self, to: &Path) -> PathBuf {
        let path = to.join("copy.db");
        std::fs::copy(self.directory.path().join("store.db"), &path).expect("copied");
        path
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
    fixture: Fixture,
    executions: BTreeMap<&'static str, ExecutionId>,
    workers: Vec<i64>,
}

async fn build() -> Scenario {
    let fixture = Fixture::new().await;
    let workers = vec![fixture.worker.0];
    let mut builder = Builder {
        fixture,
        executions: BTreeMap::new(),
        workers,
    };
    // What a dead worker leaves comes first: recovery takes back all that is held.
    builder.crashed().await;
    builder.ended().await;
    builder.stopped().await;
    builder.functions().await;
    builder.waiting().await;
    builder.held().await;
    let Builder {
        fixture,
        executions,
        workers,
    } = builder;
    let report = fixture.assert_clean().await;
    fixture.store.close().await;
    Scenario {
        directory: fixture.directory.expect("it is in a file"),
        executions,
        workers,
        report,
    }
}

impl Builder {
    /// Starts an execution of a workflow of the same name.
    async fn start(
        &mut self,
        name: &'static str,
        tasks: Vec<TaskSpec>,
        edges: &[(&str, &str)],
    ) -> abide_core::ids::VersionId {
        let graph = graph(tasks, edges);
        let version = self.fixture.version(name, &graph).await;
        let mut start = self.fixture.start_request(name, version, &graph);
        start.own_graph = true;
        let started = self.fixture.start_with(start).await;
        self.executions.insert(name, started.id);
        self.fixture.advance(1000);
        version
    }

    async fn crashed(&mut self) {
        let abandoned = self.start("abandoned", vec![TaskSpec::new("a")], &[]).await;
        for _ in 0..2 {
            self.fixture.claim_one(abandoned).await;
            self.fixture.advance(5000);
            self.fixture.crash(1).await;
            self.workers.push(self.fixture.worker.0);
        }
        assert_eq!(
            self.fixture.status(self.executions["abandoned"]).await,
            ExecutionStatus::Failed
        );
        let crashed = self.start("crashed", vec![TaskSpec::new("a")], &[]).await;
        let lost = self.fixture.claim_one(crashed).await;
        self.fixture.crash(3).await;
        self.workers.push(self.fixture.worker.0);
        // What the dead worker still says is discarded.
        assert!(!self.fixture.complete(lost, "1").await.recorded);
        let held = self.fixture.claim_one(crashed).await;
        self.fixture.advance(700);
        self.fixture.complete(held, "2").await;
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
        let a = self.fixture.claim_node(version, "a").await;
        self.fixture.advance(300);
        self.fixture
            .complete(a, &format!("\"{}\"", "large ".repeat(500)))
            .await;
        let b = self.fixture.claim_node(version, "b").await;
        self.fixture.advance(10);
        self.fixture.fail(b, "the first time").await;
        let c = self.fixture.claim_node(version, "c").await;
        self.fixture.advance(10);
        self.fixture.fail(c, &"for good ".repeat(300)).await;
        self.fixture.advance(10);
        while let Some(claimed) = self.fixture.claim(version, 1).await.first() {
            self.fixture
                .complete(crate::fixture::held(claimed), "{\"done\":true}")
                .await;
        }
        assert_eq!(
            self.fixture.status(self.executions["caught"]).await,
            ExecutionStatus::Completed
        );

        let version = self
            .start(
                "failed",
                vec![TaskSpec::new("a"), TaskSpec::new("b")],
                &[("a", "b")],
            )
            .await;
        let held = self.fixture.claim_one(version).await;
        self.fixture.fail(held, "no").await;
        assert_eq!(
            self.fixture.status(self.executions["failed"]).await,
            ExecutionStatus::Failed
        );

        // Two generations of one instance; the second is open.
        let version = self.start("first", vec![TaskSpec::new("a")], &[]).await;
        let held = self.fixture.claim_one(version).await;
        self.fixture.complete(held, "null").await;
        let plain = graph(vec![TaskSpec::new("a")], &[]);
        let mut again = self.fixture.start_request("first", version, &plain);
        again.if_exists = IfExists::StartAnew;
        let second = self.fixture.start_with(again).await;
        assert_eq!(second.generation, 2);
        self.executions.insert("second", second.id);
    }

    /// Executions that were stopped, or are being stopped.
    async fn stopped(&mut self) {
        self.start(
            "cancelled",
            vec![TaskSpec::new("a"), TaskSpec::new("b")],
            &[("a", "b")],
        )
        .await;
        self.fixture.cancel(self.executions["cancelled"], 0).await;

        let one = graph(vec![TaskSpec::new("a")], &[]);
        let version = self.fixture.version("timed_out", &one).await;
        let mut start = self.fixture.start_request("timed_out", version, &one);
        start.deadline_at = Some(self.fixture.now().plus_us(SECOND));
        let id = self.fixture.start_with(start).await.id;
        self.executions.insert("timed_out", id);
        self.fixture.advance(2 * SECOND);
        self.fixture.fire().await;
        assert_eq!(self.fixture.status(id).await, ExecutionStatus::TimedOut);

        let version = self
            .start(
                "cancelling",
                vec![TaskSpec::new("a"), TaskSpec::new("b")],
                &[("a", "b")],
            )
            .await;
        self.fixture.claim_one(version).await;
        let status = self
            .fixture
            .cancel(self.executions["cancelling"], 3600 * SECOND)
            .await;
        assert_eq!(status, ExecutionStatus::Cancelling);
    }

    /// A function that ran through, and those that wait for each thing.
    async fn functions(&mut self) {
        let f = || vec![retrying("f", 3, SECOND)];
        let version = self.start("function", f(), &[]).await;
        let fixture = &self.fixture;
        let held = fixture.claim_one(version).await;
        for number in 1..=3 {
            let result = Payload::from_json(format!("\"{}\"", "r".repeat(number as usize * 600)));
            fixture.record(held, number, StepEnd::Done(result)).await;
        }
        fixture
            .await_operations(held, vec![signal(4, "go")], false)
            .await;
        fixture.advance(20_000);
        for json in ["{\"by\":1}", "{\"by\":2}", "{\"by\":3}"] {
            fixture.signal("function", "go", json).await;
        }
        fixture.resume(held).await;
        fixture
            .await_operations(held, vec![sleep(5, fixture.now().plus_us(SECOND))], true)
            .await;
        fixture.advance(2 * SECOND);
        fixture.fire().await;
        let held = fixture.claim_one(version).await;
        let over = fixture
            .await_operations(held, vec![sleep(5, fixture.now())], true)
            .await;
        assert_eq!(over.results.len(), 1);
        fixture.complete(held, "\"through\"").await;

        let version = self.start("signal", f(), &[]).await;
        let held = self.fixture.claim_one(version).await;
        let left = self
            .fixture
            .await_operations(held, vec![signal(1, "approval")], true)
            .await;
        assert_eq!(left.phase, Phase::Evicted);

        let version = self.start("asleep", f(), &[]).await;
        let held = self.fixture.claim_one(version).await;
        let until = self.fixture.now().plus_us(900 * SECOND);
        self.fixture
            .await_operations(held, vec![sleep(1, until)], true)
            .await;

        let version = self.start("code", f(), &[]).await;
        let held = self.fixture.claim_one(version).await;
        let difference = "another step".to_owned();
        self.fixture
            .finish(held, Outcome::Nondeterministic { difference })
            .await;

        let version = self.start("retrying", f(), &[]).await;
        let held = self.fixture.claim_one(version).await;
        self.fixture.fail(held, "later").await;
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
            let version = self.fixture.version(name, &one).await;
            let mut start = self.fixture.start_request(name, version, &one);
            let at = self.fixture.now().plus_us(3600 * SECOND);
            match name {
                "scheduled" => start.start_at = Some(at),
                _ => start.deadline_at = Some(at),
            }
            let id = self.fixture.start_with(start).await.id;
            self.executions.insert(name, id);
        }
    }

    /// Tasks that a live worker holds.
    async fn held(&mut self) {
        let version = self.start("active", vec![retrying("a", 1, 0)], &[]).await;
        let held = self.fixture.claim_one(version).await;
        self.fixture.advance(100);
        self.fixture.fail(held, "once").await;
        let held = self.fixture.claim_one(version).await;
        // A result of the first attempt, long after it was taken for failed.
        let stale = abide_core::kernel::Held { epoch: 1, ..held };
        let late = Finish {
            held: stale,
            outcome: failed("late"),
            offer: None,
        };
        self.fixture
            .store
            .apply(Request::Finish(Box::new(late)))
            .await
            .expect("answers");

        let version = self.start("polling", vec![TaskSpec::new("a")], &[]).await;
        let held = self.fixture.claim_one(version).await;
        self.fixture.defer(held, "a file").await;

        // Last, since a claim empties the inbox that its signal leaves a wake-up in.
        let version = self.start("parked", vec![TaskSpec::new("a")], &[]).await;
        let held = self.fixture.claim_one(version).await;
        self.fixture
            .await_operations(held, vec![signal(1, "go")], false)
            .await;
        self.fixture.signal("parked", "go", "true").await;
    }
}
