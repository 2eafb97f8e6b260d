//! Five hundred executions and a process that is killed at random moments, again and again: in the end each has
//! ended with the right result, and nothing that was finished was done again.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use abide::{Engine, EngineError, Input, Output, State, TaskError, TaskHandle, task, workflow};
use serde::{Deserialize, Serialize};

use crate::child::Home;
use crate::kill_points::{check_finished, check_invariants, lines};
use crate::place::{BETWEEN_LOOKS, BUSY_TIMEOUT, KILLS, Place};
use crate::record::{Record, Stage};
use crate::scene::Log;

const EXECUTIONS: u32 = 500;
/// The tasks and steps that these come to. A quarter of them has to be done by processes that were killed.
const TASKS_AND_STEPS: usize = 2000;
/// How many a process sees through, if not all of them.
pub(crate) const EXECUTIONS_VARIABLE: &str = "ABIDE_STORM_EXECUTIONS";
/// About as many bodies run in a whole storm.
const BODIES: u64 = 2400;
/// The longest that a process may live without a body that runs: at first, while it starts on a
/// machine that may be busy, and then.
const FIRST_PATIENCE: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(1);
/// A process that is killed early lives so long.
const YOUTH_MS: u64 = 100;
/// One process in so many is killed while it starts.
const KILLED_EARLY: u64 = 5;
const KILLS_VARIABLE: &str = "ABIDE_STORM_KILLS";
const ROUND_VARIABLE: &str = "ABIDE_STORM_ROUND";

fn told(variable: &str) -> Option<u32> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a number"))
}

fn kills() -> u32 {
    told(KILLS_VARIABLE).unwrap_or(KILLS)
}

// ---- what runs ----

/// Which execution it is, and when its work lies.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    number: u32,
    wait_ms: u64,
}

impl Order {
    fn number(number: u32) -> Order {
        Order {
            number,
            wait_ms: u64::from(number % 40),
        }
    }

    fn instance(&self) -> String {
        format!("order {}", self.number)
    }

    fn is_graph(&self) -> bool {
        self.number.is_multiple_of(2)
    }

    fn wants_signal(&self) -> bool {
        self.number % 5 == 1
    }

    fn result(&self) -> u32 {
        match (self.is_graph(), self.wants_signal()) {
            (true, _) => self.number * 5 + 3,
            (false, true) => self.number * 2 + 1001,
            (false, false) => self.number * 2 + 1,
        }
    }
}

#[workflow(output = sum)]
mod parcel {
    #[task]
    pub(crate) async fn pack(
        Input(order): Input<Order>,
        handle: &TaskHandle,
        log: State<Log>,
    ) -> Result<u32, TaskError> {
        log.task(handle);
        Ok(order.number)
    }

    #[task(retries = 3, backoff = fixed("5ms"))]
    pub(crate) async fn stamp(
        packed: Output<pack>,
        handle: &TaskHandle,
        log: State<Log>,
    ) -> Result<u32, TaskError> {
        log.task(handle);
        if handle.attempt() == 1 && packed.is_multiple_of(8) {
            return Err(std::io::Error::other("no ink").into());
        }
        Ok(*packed * 2)
    }

    #[task]
    pub(crate) async fn weigh(
        packed: Output<pack>,
        handle: &TaskHandle,
        log: State<Log>,
    ) -> Result<u32, TaskError> {
        log.task(handle);
        let mut looks = 0;
        let heavy = || {
            looks += 1;
            looks > 2
        };
        handle
            .defer_until(heavy, std::time::Duration::from_millis(5))
            .await?;
        Ok(*packed * 3)
    }

    #[task]
    pub(crate) async fn sum(
        stamped: Output<stamp>,
        weighed: Output<weigh>,
        handle: &TaskHandle,
        log: State<Log>,
    ) -> Result<u32, TaskError> {
        log.task(handle);
        Ok(*stamped + *weighed + 3)
    }
}

#[workflow]
async fn visit(handle: &TaskHandle, order: Order, log: State<Log>) -> Result<u32, TaskError> {
    log.task(handle);
    let step = |name: &'static str, value: u32| {
        let (log, own) = (log.clone(), handle.clone());
        handle.step(name, async move || {
            log.step(&own, name);
            Ok::<_, TaskError>(value)
        })
    };
    let doubled = step("double", order.number * 2).await?;
    handle.sleep(Duration::from_millis(order.wait_ms)).await?;
    let (one, waited) = tokio::join!(step("one", 1), handle.sleep(Duration::from_millis(3)));
    waited?;
    let extra: u32 = match order.wants_signal() {
        true => handle.signal("extra").await?,
        false => 0,
    };
    step("add", doubled + one? + extra).await
}

/// A process of the storm: starts what is not started; the last one sees everything through.
pub(crate) async fn run(home: &Home) {
    let engine = home
        .engine()
        .state(Log::at(&home.log()))
        .register::<parcel::Workflow>()
        .register::<visit>()
        .max_concurrent_tasks(16)
        .max_parked_tasks(50)
        .max_crashes(10_000)
        .busy_timeout(BUSY_TIMEOUT)
        .start()
        .await
        .expect("starts");
    let executions = told(EXECUTIONS_VARIABLE).unwrap_or(EXECUTIONS);
    let orders = (0..executions).map(Order::number);
    let running: Vec<_> = orders
        .map(|order| tokio::spawn(see_through(engine.clone(), order)))
        .collect();
    for order in running {
        order.await.expect("ends right");
    }
    engine.shutdown().await;
    engine.store().close().await;
}

async fn see_through(engine: Engine, order: Order) {
    let instance = order.instance();
    let run = loop {
        let started = match order.is_graph() {
            true => {
                let start = engine.start::<parcel::Workflow>(&instance, &order);
                start.delay(Duration::from_millis(order.wait_ms)).await
            }
            false => engine.start::<visit>(&instance, &order).await,
        };
        match started {
            Err(error) if passes(&error).await => {}
            started => break started.expect("durable"),
        }
    };
    // The process of its own round sends the signal; the last sends those that were not.
    let its_round = told(ROUND_VARIABLE).is_none_or(|round| round == order.number % kills());
    while order.wants_signal() && !order.is_graph() && its_round {
        match engine.signal(&instance, "extra", &1000).await {
            Ok(_) => break,
            Err(error) if passes(&error).await => {}
            // It may have ended with a signal that a process before has sent.
            Err(error) => {
                let status = run.status().await.expect("reads").execution.status;
                assert!(status.is_terminal(), "{error}");
                break;
            }
        }
    }
    let result = run.result().await.expect("completes");
    assert_eq!(result, order.result(), "{order:?}");
}

/// Whether it is the store's passing trouble; waits a little then, as callers do.
async fn passes(error: &EngineError) -> bool {
    let passes = matches!(error, EngineError::Store(error) if error.is_transient());
    if passes {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    passes
}

// ---- the storm ----

/// SplitMix64, so that a storm repeats as far as the machine does.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % limit
    }
}

#[test]
fn five_hundred_executions_survive_a_storm_of_kills() {
    let place = Place::new();
    let home = place.home();
    let kills = kills();
    let mut random = Random(kills.into());
    let mut stages: BTreeMap<Stage, u32> = BTreeMap::new();
    let mut seen = 0;
    let mut before = Record::default();
    let mut round = 0;
    // On a machine with much else to do a process gets little done before it dies. Then more have to, and
    // live longer and longer.
    while round < kills || before.finished.len() <= TASKS_AND_STEPS / 4 {
        assert!(round < 4 * kills, "{} finished", before.finished.len());
        let patience = 1 << (round.saturating_sub(kills) / 10).min(6);
        live_and_die(&home, round, patience, &mut random);
        place.bury();
        round += 1;
        if round < kills && !round.is_multiple_of(BETWEEN_LOOKS) {
            continue;
        }
        seen = check_finished(&before, &home, seen).expect("nothing is done again");
        before = Record::of(&home, EXECUTIONS as usize);
        check_invariants("after a kill", &before).expect("every invariant holds");
        for stage in &before.stages {
            *stages.entry(*stage).or_default() += 1;
        }
    }
    let (status, said) = home.run(&mut home.process("storm"));
    assert!(status.success(), "the last process failed:\n{said}");
    check_finished(&before, &home, seen).expect("nothing is done again");
    let after = Record::of(&home, EXECUTIONS as usize);
    check_invariants("in the end", &after).expect("every invariant holds");
    assert!(
        after.stages.contains(&Stage::AfterTheEnd),
        "{:?}",
        after.stages
    );
    let starts: usize = after.started.values().sum();
    println!(
        "{round} kills over {EXECUTIONS} executions: {} tasks and steps finished, {} of them before the last \
         process; {starts} claims, {} bodies run; killed while: {stages:?}",
        after.finished.len(),
        before.finished.len(),
        lines(&home).len(),
    );
    assert_eq!(after.finished.len(), TASKS_AND_STEPS);
    let last = before.finished.len();
    assert!(last < TASKS_AND_STEPS, "the storm was over too soon");
}

/// Runs a process and kills it at a random moment, after so many times as much as usual.
fn live_and_die(home: &Home, round: u32, patience: u64, random: &mut Random) {
    let mut process = home.process("storm");
    process.env(ROUND_VARIABLE, round.to_string());
    process.stdout(Stdio::null()).stderr(Stdio::inherit());
    let mut process = process.spawn().expect("it can be started");
    let moment = Duration::from_micros(random.below(1000 * YOUTH_MS));
    if random.below(KILLED_EARLY) > 0 {
        // Counted in what it does, so that a storm does as much on any machine.
        let most = (2 * BODIES / u64::from(kills())).max(1);
        let bodies = patience * random.below(most + 1);
        let enough = lines(home).len() + usize::try_from(bodies).expect("small");
        until_lines(home, enough);
        std::thread::sleep(moment / 20);
    } else {
        std::thread::sleep(moment);
    }
    process.kill().expect("it can be killed");
    let status = process.wait().expect("it ends");
    assert!(
        status.signal() == Some(9) || status.success(),
        "it failed by itself: {status}"
    );
}

/// Waits until so many bodies have run, or none has for a while.
pub(crate) fn until_lines(home: &Home, enough: usize) {
    let (mut found, mut since, mut patience) = (lines(home).len(), Instant::now(), FIRST_PATIENCE);
    while found < enough && since.elapsed() < patience {
        std::thread::sleep(Duration::from_millis(1));
        let now = lines(home).len();
        if now > found {
            (found, since, patience) = (now, Instant::now(), PATIENCE);
        }
    }
}
