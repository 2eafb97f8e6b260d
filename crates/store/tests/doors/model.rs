//! Random graphs with random rules and failures, worked off in random order, end as a model says that knows
//! nothing of stores, workers and time.

use std::collections::BTreeMap;
use std::sync::Arc;

use abide_core::context::Changes;
use abide_core::failure::Failure;
use abide_core::graph::{Graph, TaskSpec, Uses};
use abide_core::ids::{ExecutionId, TaskKey, VersionId};
use abide_core::kernel::{
    Await, Claimed, Defer, Finish, Held, Offer, Outcome, Recover, Reply, Request, Resume,
};
use abide_core::payload::Payload;
use abide_core::retry::{Backoff, RetryPolicy};
use abide_core::status::{ExecutionStatus, Phase};
use abide_core::trigger::{ContextOp, Trigger};
use abide_store::VerifyOptions;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use serde_json::{Map, Value, json};

use crate::home::{Home, SECOND_US, graph, held, sleep};
use crate::value::column;

// ---- what is tried ----

/// A rule over a node's dependencies, which it names by their place, and over the context.
#[derive(Clone, Debug)]
enum Rule {
    All(Vec<Rule>),
    Any(Vec<Rule>),
    None(Vec<Rule>),
    Success(usize),
    Failed(usize),
    Skipped(usize),
    /// Some node among the ancestors set this.
    Seen(usize),
}

/// How a node's attempts go.
#[derive(Clone, Debug)]
enum Plan {
    /// So many fail, and then one completes, if there are retries enough.
    FailsTimes(u32),
    /// It takes its process down until it is given up.
    Crashes,
}

#[derive(Clone, Debug)]
struct Node {
    /// Of the nodes before it, one for each bit.
    dependencies: u16,
    rule: Option<Rule>,
    plan: Plan,
    retries: u32,
    /// Sets a value that others may set too.
    sets_shared: bool,
    removes_shared: bool,
}

#[derive(Clone, Debug)]
struct Case {
    nodes: Vec<Node>,
    /// What the worker does follows from this.
    seed: u64,
}

const MAX_NODES: usize = 10;

fn rules() -> impl Strategy<Value = Rule> {
    let leaf = prop_oneof![
        (0..MAX_NODES).prop_map(Rule::Success),
        (0..MAX_NODES).prop_map(Rule::Failed),
        (0..MAX_NODES).prop_map(Rule::Skipped),
        (0..MAX_NODES).prop_map(Rule::Seen),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        let parts = prop::collection::vec(inner, 0..3);
        prop_oneof![
            parts.clone().prop_map(Rule::All),
            parts.clone().prop_map(Rule::Any),
            parts.prop_map(Rule::None),
        ]
    })
}

fn nodes() -> impl Strategy<Value = Node> {
    let plan = prop_oneof![
        4 => Just(Plan::FailsTimes(0)),
        4 => (1..3_u32).prop_map(Plan::FailsTimes),
        1 => Just(Plan::Crashes),
    ];
    let rule = prop::option::weighted(0.5, rules());
    (
        any::<u16>(),
        any::<u16>(),
        rule,
        plan,
        0..2_u32,
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(
            |(some, others, rule, plan, retries, sets_shared, removes_shared)| Node {
                // Both: fewer, so that graphs are not nearly complete.
                dependencies: some & others,
                rule,
                plan,
                retries,
                sets_shared,
                removes_shared,
            },
        )
}

fn cases() -> impl Strategy<Value = Case> {
    let nodes = prop::collection::vec(nodes(), 1..=MAX_NODES);
    (nodes, any::<u64>()).prop_map(|(nodes, seed)| Case { nodes, seed })
}

// ---- the model ----

/// How a node ends, and what it sees.
#[derive(Clone, Debug, PartialEq)]
struct Ended {
    phase: Phase,
    attempts: u32,
    context: Map<String, Value>,
}

impl Case {
    fn dependencies(&self, node: usize) -> Vec<usize> {
        let bits = self.nodes[node].dependencies;
        (0..node).filter(|other| bits & 1 << other != 0).collect()
    }

    /// Everything that comes before a node, in the order of numbers, which is one that edges follow.
    fn ancestors(&self, node: usize) -> Vec<usize> {
        let mut found = vec![false; node];
        for at in (0..node).rev() {
            let is_wanted = |by: usize| self.dependencies(by).contains(&at);
            found[at] = is_wanted(node) || (at + 1..node).any(|by| found[by] && is_wanted(by));
        }
        (0..node).filter(|at| found[*at]).collect()
    }

    /// What a node does to the context.
    fn change(&self, node: usize, context: &mut Map<String, Value>) {
        context.insert(format!("n{node}"), json!(node));
        if self.nodes[node].removes_shared {
            context.remove("shared");
        }
        if self.nodes[node].sets_shared {
            context.insert("shared".to_owned(), json!(node));
        }
    }

    fn holds(
        &self,
        rule: &Rule,
        node: usize,
        ended: &[Ended],
        context: &Map<String, Value>,
    ) -> bool {
        let each = |part: &Rule| self.holds(part, node, ended, context);
        let of = |place: usize| ended[self.named(node, place)].phase;
        match rule {
            Rule::All(parts) => parts.iter().all(each),
            Rule::Any(parts) => parts.iter().any(each),
            Rule::None(parts) => !parts.iter().any(each),
            Rule::Success(place) => of(*place) == Phase::Completed,
            Rule::Failed(place) => matches!(of(*place), Phase::Failed | Phase::Abandoned),
            Rule::Skipped(place) => of(*place) == Phase::Skipped,
            Rule::Seen(other) => context.contains_key(&format!("n{other}")),
        }
    }

    /// The dependency that a rule names.
    fn named(&self, node: usize, place: usize) -> usize {
        let dependencies = self.dependencies(node);
        dependencies[place % dependencies.len()]
    }

    fn end(&self, node: usize, ended: &[Ended]) -> Ended {
        let mut context = Map::new();
        for ancestor in self.ancestors(node) {
            if ended[ancestor].phase == Phase::Completed {
                self.change(ancestor, &mut context);
            }
        }
        let runs = match &self.rule_of(node) {
            Some(rule) => self.holds(rule, node, ended, &context),
            None => {
                let dependencies = self.dependencies(node);
                dependencies
                    .iter()
                    .all(|at| ended[*at].phase == Phase::Completed)
            }
        };
        let Node { plan, retries, .. } = &self.nodes[node];
        let (phase, attempts) = match plan {
            _ if !runs => (Phase::Skipped, 1),
            Plan::FailsTimes(times) if times <= retries => (Phase::Completed, times + 1),
            Plan::FailsTimes(_) => (Phase::Failed, retries + 1),
            // One crash is survived, the next is not.
            Plan::Crashes => (Phase::Abandoned, 2),
        };
        Ended {
            phase,
            attempts,
            context,
        }
    }

    /// A rule that names dependencies needs some.
    fn rule_of(&self, node: usize) -> Option<&Rule> {
        let names_any = !self.dependencies(node).is_empty();
        self.nodes[node].rule.as_ref().filter(|_| names_any)
    }

    fn model(&self) -> (Vec<Ended>, ExecutionStatus) {
        let mut ended: Vec<Ended> = Vec::new();
        for node in 0..self.nodes.len() {
            let end = self.end(node, &ended);
            ended.push(end);
        }
        let failed = |node: &usize| matches!(ended[*node].phase, Phase::Failed | Phase::Abandoned);
        let caught = |node: usize| {
            (node + 1..self.nodes.len()).any(|by| {
                let rule = self.rule_of(by);
                let names = rule.is_some_and(|rule| self.names_failure(rule, by, node, false));
                ended[by].phase == Phase::Completed && names
            })
        };
        let uncaught = (0..self.nodes.len())
            .filter(failed)
            .any(|node| !caught(node));
        let status = match uncaught {
            true => ExecutionStatus::Failed,
            false => ExecutionStatus::Completed,
        };
        (ended, status)
    }

    /// Whether a rule names a node's failure other than to exclude it.
    fn names_failure(&self, rule: &Rule, by: usize, node: usize, negated: bool) -> bool {
        let any = |parts: &[Rule], negated| {
            parts
                .iter()
                .any(|part| self.names_failure(part, by, node, negated))
        };
        match rule {
            Rule::All(parts) | Rule::Any(parts) => any(parts, negated),
            Rule::None(parts) => any(parts, !negated),
            Rule::Failed(place) => !negated && self.named(by, *place) == node,
            _ => false,
        }
    }

    // ---- the graph ----

    fn graph(&self) -> Arc<Graph> {
        let tasks = (0..self.nodes.len()).map(|node| TaskSpec {
            trigger: self.rule_of(node).map(|rule| self.trigger(rule, node)),
            retry: RetryPolicy {
                retries: self.nodes[node].retries,
                backoff: Backoff::Fixed {
                    delay_us: SECOND_US,
                },
                ..RetryPolicy::default()
            },
            ..TaskSpec::new(format!("n{node}"))
        });
        let names: Vec<String> = (0..self.nodes.len())
            .map(|node| format!("n{node}"))
            .collect();
        let mut edges = Vec::new();
        for (node, name) in names.iter().enumerate() {
            let dependencies = self.dependencies(node);
            edges.extend(
                dependencies
                    .into_iter()
                    .map(|from| (names[from].as_str(), name.as_str())),
            );
        }
        graph(tasks.collect(), &edges)
    }

    fn trigger(&self, rule: &Rule, node: usize) -> Trigger {
        let parts = |parts: &[Rule]| parts.iter().map(|part| self.trigger(part, node)).collect();
        let name = |place: usize| format!("n{}", self.named(node, place));
        match rule {
            Rule::All(inner) => Trigger::All(parts(inner)),
            Rule::Any(inner) => Trigger::Any(parts(inner)),
            Rule::None(inner) => Trigger::None(parts(inner)),
            Rule::Success(place) => Trigger::Success(name(*place)),
            Rule::Failed(place) => Trigger::Failed(name(*place)),
            Rule::Skipped(place) => Trigger::Skipped(name(*place)),
            Rule::Seen(other) => Trigger::Context {
                key: format!("n{other}"),
                op: ContextOp::Exists,
                value: Value::Null,
            },
        }
    }
}

// ---- the worker ----

/// What a worker of this test holds.
struct Work<'a> {
    home: &'a Home,
    case: &'a Case,
    id: ExecutionId,
    queues: Arc<[VersionId]>,
    held: Vec<Claimed>,
    /// The context that each node saw when it was claimed.
    seen: BTreeMap<u32, Map<String, Value>>,
    random: u64,
}

impl Work<'_> {
    /// SplitMix64.
    fn choose(&mut self, below: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) % below as u64) as usize
    }

    async fn is_over(&self) -> bool {
        let view = self.home.store.execution(self.id).await.expect("reads");
        view.expect("exists").execution.status.is_terminal()
    }

    /// Does something until all has ended.
    async fn work(&mut self) {
        const ENOUGH: u32 = 2_000;
        for _ in 0..ENOUGH {
            if self.is_over().await {
                return;
            }
            match self.choose(8) {
                0..3 => self.claim().await,
                _ if self.held.is_empty() => {
                    self.claim().await;
                    self.pass_time().await;
                }
                3 => self.pass_time().await,
                4 => self.wait_a_little().await,
                5 => self.sleep_in_the_store().await,
                _ => self.end_one().await,
            }
        }
        panic!("it never ends");
    }

    async fn take(&mut self, claimed: Vec<Claimed>) {
        let uses = Uses {
            context: true,
            ..Uses::default()
        };
        for claimed in claimed {
            let inputs = self
                .home
                .store
                .inputs(&claimed, &uses)
                .await
                .expect("reads");
            let context = inputs.context.expect("asked for").map;
            self.seen.insert(claimed.task.key.number, context);
            self.held.push(claimed);
        }
    }

    async fn claim(&mut self) {
        let most = 1 + self.choose(3) as u32;
        let claims = self
            .home
            .store
            .claim(self.home.worker, self.queues.clone(), most);
        let claimed = claims.await.expect("claims").claimed;
        self.take(claimed).await;
    }

    async fn pass_time(&mut self) {
        self.home.advance(SECOND_US);
        self.home.fire_timers().await;
    }

    async fn wait_a_little(&mut self) {
        let at = self.choose(self.held.len());
        let held = held(&self.held[at]);
        let wait = "a moment".to_owned();
        self.home
            .apply(Request::Defer(Defer {
                held,
                given_back: Vec::new(),
                wait,
            }))
            .await;
        let resume = Resume {
            held,
            given_back: Vec::new(),
            always: true,
            next_order: self.next_order(held).await,
        };
        self.home.apply(Request::Resume(resume)).await;
    }

    async fn sleep_in_the_store(&mut self) {
        let at = self.choose(self.held.len());
        let node = self.held[at].task.key.number as usize - 1;
        if matches!(self.case.nodes[node].plan, Plan::Crashes) {
            // What gets further between two crashes is not given up.
            return;
        }
        let held = held(&self.held.swap_remove(at));
        let number = held.epoch;
        let due = self.home.now().plus_us(SECOND_US);
        let request = Await {
            held,
            given_back: Vec::new(),
            operations: vec![sleep(number, due)],
            next_order: self.next_order(held).await,
            evict: true,
        };
        self.home.apply(Request::Await(request)).await;
    }

    /// The place that the task's next result gets.
    async fn next_order(&self, held: Held) -> u32 {
        let steps = self.home.store.steps(held.key).await.expect("reads");
        1 + steps.iter().map(|step| step.order).max().unwrap_or(0)
    }

    async fn end_one(&mut self) {
        let at = self.choose(self.held.len());
        let claimed = self.held.swap_remove(at);
        let node = claimed.task.key.number as usize - 1;
        let held = held(&claimed);
        let outcome = match &self.case.nodes[node].plan {
            Plan::Crashes => {
                let recover = Recover {
                    key: held.key,
                    worker: held.worker,
                    crash_cap: 1,
                    alone: true,
                    reason: "test".to_owned(),
                };
                self.home.apply(Request::Recover(recover)).await;
                return;
            }
            Plan::FailsTimes(times) if claimed.task.attempt <= *times => Outcome::Failed {
                failure: Failure::new("flaky", "on purpose"),
                random: 0.0,
                rerun: None,
            },
            Plan::FailsTimes(_) => self.completed(node),
        };
        self.finish(held, outcome, claimed.hop).await;
    }

    fn completed(&self, node: usize) -> Outcome {
        let number = node as u32 + 1;
        let before = &self.seen[&number];
        let mut after = before.clone();
        self.case.change(node, &mut after);
        Outcome::Completed {
            output: Some(Payload::from_json(node.to_string())),
            changes: Some(recorded(self.case, node)),
            // As often as it can be, so that folds begin at checkpoints.
            checkpoint: Some(Payload::from_json(
                serde_json::to_string(&Changes::between(&Map::new(), &after)).expect("json"),
            )),
        }
    }

    async fn finish(&mut self, held: Held, outcome: Outcome, hop: u8) {
        let slots = self.choose(3) as u32;
        let fills = self.choose(2) == 0;
        let offer = Offer {
            worker: self.home.worker,
            slots,
            hop,
            queues: self.queues.clone(),
            fills,
        };
        let finish = Finish {
            held,
            given_back: Vec::new(),
            outcome,
            offer: (slots > 0).then_some(offer),
        };
        match self.home.apply(Request::Finish(Box::new(finish))).await {
            Reply::Finished(finished) => {
                assert!(finished.recorded);
                self.take(finished.claimed).await;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// What a node records: all that it did, whether or not it changed anything.
fn recorded(case: &Case, node: usize) -> Changes {
    let mut changes = Changes::default();
    changes.set(format!("n{node}"), json!(node));
    if case.nodes[node].removes_shared {
        changes.remove("shared");
    }
    if case.nodes[node].sets_shared {
        changes.set("shared", json!(node));
    }
    changes
}

// ---- the proof ----

async fn compare(home: &Home, case: &Case) -> Result<(), TestCaseError> {
    let start = home.request(&case.graph()).await;
    let queues = Arc::new([start.workflow]);
    let id = home.store.start(start).await.expect("starts").id;
    let mut work = Work {
        home,
        case,
        id,
        queues,
        held: Vec::new(),
        seen: BTreeMap::new(),
        random: case.seed,
    };
    work.work().await;
    let (ended, status) = case.model();
    for (node, end) in ended.iter().enumerate() {
        let key = TaskKey::new(id, node as u32 + 1);
        let task = home
            .store
            .task(key)
            .await
            .expect("reads")
            .expect("exists")
            .task;
        prop_assert_eq!(task.phase, end.phase, "n{}", node);
        prop_assert_eq!(task.attempt, end.attempts, "attempts of n{}", node);
        if let Some(seen) = work.seen.get(&key.number) {
            prop_assert_eq!(seen, &end.context, "context of n{}", node);
        }
    }
    let view = home
        .store
        .execution(id)
        .await
        .expect("reads")
        .expect("exists");
    prop_assert_eq!(view.execution.status, status);
    prop_assert_eq!(view.execution.open, 0);
    Ok(())
}

/// How many tasks ended how.
async fn endings(home: &Home) -> BTreeMap<String, i64> {
    let counted = "SELECT status, count(*) AS count FROM task_executions GROUP BY 1";
    let rows = home.database.rows(&[counted]).await.remove(0);
    let rows = rows.iter();
    rows.map(|row| {
        (
            column(row, "status").text().to_owned(),
            column(row, "count").integer(),
        )
    })
    .collect()
}

#[test]
fn random_graphs_with_random_failures_end_as_the_model_says() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let home = runtime.block_on(Home::new());
    let number =
        std::env::var("ABIDE_MODEL_CASES").map_or(200, |text| text.parse().expect("a number"));
    let config = ProptestConfig {
        cases: number,
        failure_persistence: None,
        max_shrink_iters: 500,
        ..ProptestConfig::default()
    };
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, random);
    let result = runner.run(&cases(), |case| runtime.block_on(compare(&home, &case)));
    let report = runtime.block_on(home.store.verify(VerifyOptions::default()));
    let report = report.expect("reads");
    if let Err(error) = result {
        panic!("{error}");
    }
    assert!(report.is_clean(), "{report}");
    println!(
        "{number} graphs: {:?}\n{report}",
        runtime.block_on(endings(&home))
    );
}
