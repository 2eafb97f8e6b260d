//! Trigger rules through the doors: each rule with each pair of endings of its dependencies, what is skipped
//! after them, and whose failures count as caught.

use std::collections::BTreeMap;

use abide_core::graph::TaskSpec;
use abide_core::ids::{ExecutionId, TaskKey};
use abide_core::kernel::{Claimed, Recover, Request};
use abide_core::status::{ExecutionStatus, Phase};
use abide_core::trigger::Trigger::{self, All, Any, None as NoneOf};
use abide_store::{EventFilter, VerifyOptions};

use crate::home::{Home, completed, failed, finish, graph, held};

/// How a dependency is made to end. A cancelled one has no dependents that are decided.
const ENDINGS: [Phase; 4] = [
    Phase::Completed,
    Phase::Failed,
    Phase::Skipped,
    Phase::Abandoned,
];

fn success(name: &str) -> Trigger {
    Trigger::Success(name.to_owned())
}

fn failure(name: &str) -> Trigger {
    Trigger::Failed(name.to_owned())
}

fn skip(name: &str) -> Trigger {
    Trigger::Skipped(name.to_owned())
}

/// What a rule says of two dependencies that ended so.
type Says = fn(Phase, Phase) -> bool;

struct Rule {
    name: &'static str,
    trigger: Option<Trigger>,
    holds: Says,
    /// Whether it names the failure of x, of y.
    catches: [bool; 2],
}

fn is_failure(ending: Phase) -> bool {
    matches!(ending, Phase::Failed | Phase::Abandoned)
}

/// The truth table, in the words of its documentation.
fn rules() -> Vec<Rule> {
    let rule = |name, trigger, holds, catches| Rule {
        name,
        trigger: Some(trigger),
        holds,
        catches,
    };
    vec![
        Rule {
            name: "no rule",
            trigger: None,
            holds: |x, y| x == Phase::Completed && y == Phase::Completed,
            catches: [false, false],
        },
        rule(
            "success(x)",
            success("x"),
            |x, _| x == Phase::Completed,
            [false, false],
        ),
        rule(
            "failed(x)",
            failure("x"),
            |x, _| is_failure(x),
            [true, false],
        ),
        rule(
            "skipped(x)",
            skip("x"),
            |x, _| x == Phase::Skipped,
            [false, false],
        ),
        rule(
            "all(success(x), success(y))",
            All(vec![success("x"), success("y")]),
            |x, y| x == Phase::Completed && y == Phase::Completed,
            [false, false],
        ),
        rule(
            "any(success(x), success(y))",
            Any(vec![success("x"), success("y")]),
            |x, y| x == Phase::Completed || y == Phase::Completed,
            [false, false],
        ),
        rule(
            "any(failed(x), failed(y))",
            Any(vec![failure("x"), failure("y")]),
            |x, y| is_failure(x) || is_failure(y),
            [true, true],
        ),
        rule(
            "all(failed(x), skipped(y))",
            All(vec![failure("x"), skip("y")]),
            |x, y| is_failure(x) && y == Phase::Skipped,
            [true, false],
        ),
        rule(
            "none(failed(x), failed(y))",
            NoneOf(vec![failure("x"), failure("y")]),
            |x, y| !is_failure(x) && !is_failure(y),
            [false, false],
        ),
        rule(
            "none(success(x))",
            NoneOf(vec![success("x")]),
            |x, _| x != Phase::Completed,
            [false, false],
        ),
        rule("all()", All(vec![]), |_, _| true, [false, false]),
        rule("any()", Any(vec![]), |_, _| false, [false, false]),
        rule("none()", NoneOf(vec![]), |_, _| true, [false, false]),
        rule(
            "any(success(x), all(failed(x), none(skipped(y))))",
            Any(vec![
                success("x"),
                All(vec![failure("x"), NoneOf(vec![skip("y")])]),
            ]),
            |x, y| x == Phase::Completed || is_failure(x) && y != Phase::Skipped,
            [true, false],
        ),
        rule(
            "none(none(failed(y)))",
            NoneOf(vec![NoneOf(vec![failure("y")])]),
            |_, y| is_failure(y),
            [false, true],
        ),
        rule(
            "any(failed(x), success(x), skipped(x), failed(y))",
            Any(vec![failure("x"), success("x"), skip("x"), failure("y")]),
            |_, _| true,
            [true, true],
        ),
    ]
}

/// An execution of x and y, which end as told, and z with the rule; `before x` fails if x is to be skipped, and
/// is there for nothing else.
struct Trial {
    rule: usize,
    endings: [Phase; 2],
    id: ExecutionId,
}

impl Trial {
    fn graph(rule: &Rule, endings: [Phase; 2]) -> std::sync::Arc<abide_core::graph::Graph> {
        let mut tasks = Vec::new();
        let mut edges = vec![("x", "z"), ("y", "z")];
        for (name, before, ending) in [("x", "before x", endings[0]), ("y", "before y", endings[1])]
        {
            if ending == Phase::Skipped {
                // Skipped by a rule rather than by a failure, which would count as not caught.
                tasks.push(TaskSpec::new(before));
                edges.push((before, name));
                tasks.push(TaskSpec {
                    trigger: Some(failure(before)),
                    ..TaskSpec::new(name)
                });
            } else {
                tasks.push(TaskSpec::new(name));
            }
        }
        tasks.push(TaskSpec {
            trigger: rule.trigger.clone(),
            ..TaskSpec::new("z")
        });
        graph(tasks, &edges)
    }

    /// How the execution ends, if z completes when it runs.
    fn status(&self, rule: &Rule) -> ExecutionStatus {
        let [x, y] = self.endings;
        let runs = (rule.holds)(x, y);
        let uncaught = |ending, catches: bool| is_failure(ending) && !(runs && catches);
        match uncaught(x, rule.catches[0]) || uncaught(y, rule.catches[1]) {
            true => ExecutionStatus::Failed,
            false => ExecutionStatus::Completed,
        }
    }
}

/// The request that ends a claimed task of a trial as it is to end.
fn ends(claimed: &Claimed, trial: &Trial) -> Request {
    let held = held(claimed);
    let node = claimed.graph.node_id(claimed.task.key.number);
    let ending = match node {
        "x" => trial.endings[0],
        "y" => trial.endings[1],
        _ => Phase::Completed,
    };
    match ending {
        Phase::Failed => finish(held, failed()),
        Phase::Abandoned => Request::Recover(Recover {
            key: held.key,
            worker: held.worker,
            crash_cap: 0,
            alone: true,
            reason: "test".to_owned(),
        }),
        _ => finish(held, completed()),
    }
}

#[tokio::test]
async fn every_rule_decides_every_pair_of_endings_as_its_truth_table_says() {
    let home = Home::new().await;
    let rules = rules();
    let mut trials = BTreeMap::new();
    for (at, rule) in rules.iter().enumerate() {
        for x in ENDINGS {
            for y in ENDINGS {
                let endings = [x, y];
                let id = home.start(&Trial::graph(rule, endings)).await;
                let rule = at;
                trials.insert(id, Trial { rule, endings, id });
            }
        }
    }
    // Until nothing is ready any more; what is ready together is ended in one transaction.
    loop {
        let claimed = home.claim_all().await;
        if claimed.is_empty() {
            break;
        }
        let requests = claimed
            .iter()
            .map(|claimed| ends(claimed, &trials[&claimed.task.key.execution]));
        for answer in home.apply_at_once(requests.collect()).await {
            answer.expect("applied");
        }
    }
    let (mut ran, mut wrong) = (0, Vec::new());
    for trial in trials.values() {
        let rule = &rules[trial.rule];
        let [x, y] = trial.endings;
        let expected = match (rule.holds)(x, y) {
            true => Phase::Completed,
            false => Phase::Skipped,
        };
        ran += u32::from(expected == Phase::Completed);
        let tasks = home.store.tasks(trial.id, 0, 10).await.expect("reads");
        let phase = |name: &str| {
            let task = tasks.iter().find(|view| view.node == name);
            task.expect("exists").task.phase
        };
        assert_eq!([phase("x"), phase("y")], trial.endings, "{}", rule.name);
        let status = home
            .store
            .end(trial.id)
            .await
            .expect("reads")
            .expect("exists")
            .status;
        if (phase("z"), status) != (expected, trial.status(rule)) {
            wrong.push(format!(
                "{} of {x}, {y}: {} and {status}, expected {expected} and {}",
                rule.name,
                phase("z"),
                trial.status(rule)
            ));
        }
    }
    println!(
        "{} rules, {} trials: {ran} ran, {} were skipped",
        rules.len(),
        trials.len(),
        trials.len() as u32 - ran
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let report = home.store.verify(VerifyOptions::default()).await;
    let report = report.expect("reads");
    assert!(report.is_clean(), "{report}");
}

#[tokio::test]
async fn a_skip_says_why_and_spreads_to_all_that_comes_after() {
    let home = Home::new().await;
    let names = ["first", "second", "third", "side", "last"];
    let mut tasks: Vec<TaskSpec> = names.map(TaskSpec::new).into();
    tasks.push(TaskSpec {
        trigger: Some(skip("last")),
        ..TaskSpec::new("comfort")
    });
    let edges = [
        ("first", "second"),
        ("second", "third"),
        ("third", "last"),
        ("side", "last"),
        ("last", "comfort"),
    ];
    let id = home.start(&graph(tasks, &edges)).await;
    let claimed = home.claim_all().await;
    home.finish(held(&claimed[1]), completed()).await;
    home.finish(held(&claimed[0]), failed()).await;
    let mut phases = Vec::new();
    for number in 1..=6 {
        phases.push(home.phase(id, number).await);
    }
    use Phase::{Completed, Failed, Ready, Skipped};
    assert_eq!(
        phases,
        [Failed, Skipped, Skipped, Completed, Skipped, Ready]
    );
    let why = async |number: u32| {
        let filter = EventFilter {
            task: Some(TaskKey::new(id, number)),
            execution: None,
        };
        let events = home.store.events(&filter, 0, 10).await.expect("reads");
        let skipped = events
            .into_iter()
            .find(|event| event.kind == "task.skipped");
        skipped.and_then(|event| event.data).expect("with a reason")
    };
    for (number, words) in [
        (2, "first: Failed"),
        (3, "second: Skipped"),
        (5, "third: Skipped"),
    ] {
        let why = why(number).await;
        assert!(why.contains(words), "{why}");
    }
    home.finish(held(&home.claim().await), completed()).await;
    let end = home.store.end(id).await.expect("reads").expect("exists");
    assert_eq!(end.status, ExecutionStatus::Failed);
    assert_eq!(end.failed_node.as_deref(), Some("first"));
}

#[tokio::test]
async fn a_skip_that_spreads_further_than_a_piece_goes_on_from_a_timer() {
    const LENGTH: usize = 3 * abide_core::kernel::PIECE as usize;
    let home = Home::new().await;
    let names: Vec<String> = (0..LENGTH).map(|n| format!("n{n}")).collect();
    let tasks = names.iter().map(TaskSpec::new).collect();
    let edges: Vec<_> = names
        .windows(2)
        .map(|pair| (pair[0].as_str(), pair[1].as_str()))
        .collect();
    let id = home.start(&graph(tasks, &edges)).await;
    home.fire_timers().await;
    home.finish(held(&home.claim().await), failed()).await;
    home.fire_timers().await;
    let end = home.store.end(id).await.expect("reads").expect("exists");
    assert_eq!(end.status, ExecutionStatus::Failed);
    let rollup = home.store.tasks(id, 1, u32::MAX).await.expect("reads");
    assert_eq!(rollup.len(), LENGTH - 1);
    assert!(rollup.iter().all(|view| view.task.phase == Phase::Skipped));
    let report = home.store.verify(VerifyOptions::default()).await;
    let report = report.expect("reads");
    assert!(report.is_clean(), "{report}");
}

#[tokio::test]
async fn a_failure_that_skips_many_branches_at_once_skips_all_of_them() {
    const BRANCHES: usize = 1500;
    let home = Home::new().await;
    let mut tasks = vec![TaskSpec::new("fails"), TaskSpec::new("completes")];
    let names: Vec<[String; 2]> = (0..BRANCHES)
        .map(|n| ["upper", "lower"].map(|part| format!("{part} {n}")))
        .collect();
    let mut edges = Vec::new();
    for [upper, lower] in &names {
        // What decides the one is what has ended, of the other what is skipped.
        tasks.push(TaskSpec {
            trigger: Some(All(vec![success("fails"), success("completes")])),
            ..TaskSpec::new(upper)
        });
        tasks.push(TaskSpec::new(lower));
        edges.extend([
            ("fails", upper.as_str()),
            ("completes", upper),
            (upper, lower),
        ]);
    }
    let id = home.start(&graph(tasks, &edges)).await;
    let claimed = home.claim_all().await;
    home.finish(held(&claimed[1]), completed()).await;
    home.finish(held(&claimed[0]), failed()).await;
    home.fire_timers().await;
    let tasks = home.store.tasks(id, 2, u32::MAX).await.expect("reads");
    assert_eq!(tasks.len(), 2 * BRANCHES);
    assert!(tasks.iter().all(|view| view.task.phase == Phase::Skipped));
    let end = home.store.end(id).await.expect("reads").expect("exists");
    assert_eq!(end.status, ExecutionStatus::Failed);
}
