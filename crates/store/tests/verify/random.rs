//! Random sequences of everything that can be asked of a store, one by one and many in one
//! transaction: after each of them verification finds nothing, and in the end every execution can
//! be brought to an end.

use std::collections::BTreeMap;
use std::sync::Mutex;

use abide_core::event::EventType;
use abide_core::table::{Built, EXECUTIONS, TASKS};
use abide_store::EventFilter;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{TestRng, TestRunner};

use crate::home::Home;
use crate::kept::{BETWEEN_LOOKS, CASES};
use crate::ops::{Op, ops};
use crate::shapes::{Shape, shapes};
use crate::world::World;

/// Answers how often each type of event was met.
fn check(shapes: &[Shape], ops: &[Op]) -> BTreeMap<&'static str, u32> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let Home { fixture, database } = Home::new().await;
        let mut world = World::new(fixture, shapes).await;
        for ops in ops.chunks(BETWEEN_LOOKS) {
            for op in ops {
                world.run(op).await;
            }
            world.assert_clean(ops).await;
        }
        world.drain().await;
        world.assert_clean(&[]).await;
        let store = &world.fixture.store;
        let events = store.events(&EventFilter::default(), 0, u32::MAX).await;
        let mut met = BTreeMap::new();
        for event in events.expect("reads") {
            *met.entry(event.kind).or_insert(0) += 1;
        }
        store.close().await;
        let left = database.unreferenced_payloads().await;
        let log = world.log.join("\n      ");
        assert_eq!(left, 0, "payloads that nothing refers to, after {log}");
        met
    })
}

/// The types of events that can be met.
fn built() -> impl Iterator<Item = EventType> {
    let tasks = TASKS.iter().filter(|row| row.built == Built::Now);
    let executions = EXECUTIONS.iter().filter(|row| row.built == Built::Now);
    tasks
        .flat_map(|row| row.events)
        .chain(executions.flat_map(|row| row.events))
        .chain([&EventType::TaskLateResultDiscarded])
        .copied()
}

/// The same sequences every time; other ones, and as many as `ABIDE_RANDOM_CASES` says, if it is
/// set.
#[test]
fn whatever_is_asked_of_a_store_leaves_it_clean() {
    let asked = std::env::var("ABIDE_RANDOM_CASES").ok();
    let cases = asked.map(|text| text.parse().expect("ABIDE_RANDOM_CASES is a number"));
    let config = ProptestConfig {
        cases: cases.unwrap_or(CASES),
        max_shrink_iters: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner = match cases {
        Some(_) => TestRunner::new(config),
        None => {
            let seed = TestRng::deterministic_rng(config.rng_algorithm);
            TestRunner::new_with_rng(config, seed)
        }
    };
    let met = Mutex::new(BTreeMap::new());
    let sequences = (shapes(), vec(ops(), 1..80));
    let result = runner.run(&sequences, |(shapes, ops)| {
        for (kind, count) in check(&shapes, &ops) {
            *met.lock().expect("not poisoned").entry(kind).or_insert(0) += count;
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let met = met.into_inner().expect("not poisoned");
    println!("{met:?}");
    for kind in built() {
        assert!(
            met.contains_key(kind.as_str()),
            "no sequence leads to {kind}: {met:?}"
        );
    }
}
