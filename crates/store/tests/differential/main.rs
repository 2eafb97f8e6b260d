//! The same random operations come to the same on SQLite, on PostgreSQL and in the oracle: every
//! answer, and every column of every table but the places of events. The two databases are compared
//! letter by letter; they share the rules, so whether these are right is for the oracle to say.
//!
//! `ABIDE_DIFFERENTIAL_OPERATIONS` says how many, `ABIDE_DIFFERENTIAL_SEED` which ones. Worlds that
//! end before the operation `ABIDE_DIFFERENTIAL_FROM` are left out, so that a failure is seen again soon.
#![expect(
    clippy::duplicate_mod,
    reason = "a dump reads the database of the module beside it"
)]

#[path = "../verify/fixture.rs"]
#[expect(dead_code, reason = "the other tests that stand on it ask for more")]
mod fixture;
mod on_postgres;
mod on_sqlite;
#[path = "../verify/ops.rs"]
mod ops;
mod oracle;
#[path = "../verify/shapes.rs"]
mod shapes;
mod stored;
#[path = "../backend/value.rs"]
#[expect(dead_code, reason = "other tests look at single rows")]
mod value;
#[path = "../verify/world.rs"]
#[expect(dead_code, reason = "the other tests that stand on it ask for more")]
mod world;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::fixture::Fixture;
use crate::ops::{Op, ops};
use crate::oracle::Shared;
use crate::shapes::shapes;
use crate::stored::normalised;
use crate::world::World;

/// Operations after which the stores are emptied and other graphs are run.
const IN_A_WORLD: usize = 250;
/// Operations after which everything stored is compared.
const BETWEEN_LOOKS: usize = 25;

fn number(name: &str, default: u64) -> u64 {
    let said = std::env::var(name);
    said.map_or(default, |text| text.parse().expect("a number"))
}

fn generator(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    TestRunner::new_with_rng(Config::default(), random)
}

fn any<S: Strategy>(strategy: &S, from: &mut TestRunner) -> S::Value {
    let tree = strategy.new_tree(from);
    tree.expect("nothing is filtered").current()
}

/// How many things it asks for.
fn size(op: &Op) -> usize {
    match op {
        Op::Batch(ops) => ops.len(),
        _ => 1,
    }
}

#[tokio::test]
async fn the_same_operations_come_to_the_same_on_both_databases_and_in_the_oracle() {
    let operations = number("ABIDE_DIFFERENTIAL_OPERATIONS", 10_000) as usize;
    let seed = number("ABIDE_DIFFERENTIAL_SEED", 1);
    let from = number("ABIDE_DIFFERENTIAL_FROM", 0) as usize;
    println!(
        "again with: ABIDE_DIFFERENTIAL_SEED={seed} ABIDE_DIFFERENTIAL_OPERATIONS={operations} \
         scripts/test -p abide-store --test differential"
    );
    let mut random = generator(seed);
    let (any_shapes, any_op) = (shapes(), ops());
    let of_sqlite = on_sqlite::backend::Database::new();
    let of_postgres = on_postgres::backend::Database::new();
    let mut fixtures = (
        Fixture::at(&of_sqlite.url()).await,
        Fixture::at(&of_postgres.url()).await,
    );
    let (mut done, mut looks) = (0, 0);
    while done < operations {
        let shapes = any(&any_shapes, &mut random);
        let until = operations.min(done + IN_A_WORLD);
        let mut ops = Vec::new();
        while done < until {
            let op = any(&any_op, &mut random);
            done += size(&op);
            ops.push(op);
        }
        if done < from {
            continue;
        }
        let mut sqlite = World::new(fixtures.0, &shapes).await;
        let mut postgres = World::new(fixtures.1, &shapes).await;
        let oracle = Shared::default();
        sqlite.witness = Some(Box::new(oracle.clone()));
        let mut log: Vec<Op> = Vec::new();
        let last = ops.len();
        for op in ops {
            log.push(op.clone());
            sqlite.run(&op).await;
            postgres.run(&op).await;
            let when = || {
                let last = log.last();
                format!(
                    "with seed {seed}, in the world that ABIDE_DIFFERENTIAL_FROM={done} begins with, to {last:?}, the last of {shapes:?}, {log:#?}"
                )
            };
            assert_eq!(sqlite.answers, postgres.answers, "{}", when());
            let complaints = oracle.borrow().complaints.join("\n");
            assert!(complaints.is_empty(), "{complaints}\n{}", when());
            sqlite.answers.clear();
            postgres.answers.clear();
            if !log.len().is_multiple_of(BETWEEN_LOOKS) && log.len() < last {
                continue;
            }
            looks += 1;
            let stored = (
                normalised(of_sqlite.dump().await),
                normalised(of_postgres.dump().await),
            );
            for (table, rows) in &stored.0 {
                assert_eq!(rows, &stored.1[table], "{table} {}", when());
            }
            let differences = oracle.borrow().differences(&stored.0).join("\n");
            assert!(differences.is_empty(), "{differences}\n{}", when());
        }
        of_sqlite.remove_executions().await;
        of_postgres.remove_executions().await;
        fixtures = (sqlite.fixture, postgres.fixture);
    }
    println!("{done} operations, compared {looks} times");
}
