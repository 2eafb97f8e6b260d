//! A store with open executions is opened by a newer program, whose next version is made up here, while processes of
//! this version have it open. On both databases.

mod interruptions;
mod live;
mod place;

use crate::derived::Dialect;
use crate::error::StoreError;
use crate::verify::VerifyOptions;

use interruptions::{
    a_transaction_from_before_a_migration_starts_nothing,
    killed_at_any_statement_the_store_is_as_it_was,
    of_two_processes_that_migrate_one_does_and_both_go_on,
};
use live::Live;
use place::{Place, first, second, second_with};

/// Runs each of these on both databases.
macro_rules! on_both {
    ($($name:ident)+) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name($crate::derived::Dialect::Sqlite).await;
            })+
        }

        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name($crate::derived::Dialect::Postgres).await;
            })+
        }
    };
}

on_both! {
    open_executions_go_on_in_the_newer_store
    an_old_process_writes_nothing_into_a_newer_store
    a_statement_that_fails_leaves_the_store_as_it_was
    killed_at_any_statement_the_store_is_as_it_was
    of_two_processes_that_migrate_one_does_and_both_go_on
    a_transaction_from_before_a_migration_starts_nothing
}

async fn live(dialect: Dialect) -> Live {
    Live::new(Place::new(dialect)).await
}

async fn open_executions_go_on_in_the_newer_store(dialect: Dialect) {
    let unchanged = live(dialect).await;
    let other = unchanged.place.open(&unchanged.clock, first(dialect)).await;
    let expected = unchanged.carry_on(&other.expect("opens")).await;

    let live = live(dialect).await;
    let new = live.place.open(&live.clock, second(dialect)).await;
    let new = new.expect("migrates under a process that has it open");
    verify(&new, dialect).await;
    assert_eq!(live.carry_on(&new).await, expected);
    verify(&new, dialect).await;
    // Whoever comes next finds it done.
    let next = live.place.open(&live.clock, second(dialect)).await;
    next.expect("opens");
    let error = live.place.open(&live.clock, first(dialect)).await;
    too_new(&error.expect_err("an old process"));
}

/// Nothing is found but what the made-up version adds: on PostgreSQL the checker has a list of what belongs there.
async fn verify(store: &crate::Store, dialect: Dialect) {
    let report = store.verify(VerifyOptions::default()).await;
    let findings = report.expect("reads").findings;
    let said: Vec<String> = findings.iter().map(ToString::to_string).collect();
    match dialect {
        Dialect::Sqlite => assert_eq!(said, [""; 0]),
        Dialect::Postgres => {
            assert_eq!(said.len(), 1, "{said:?}");
            assert!(said[0].contains("column task_executions.note"), "{said:?}");
        }
    }
}

fn too_new(error: &StoreError) {
    let says = matches!(
        error,
        StoreError::TooNew {
            found: 2,
            known: 1,
            ..
        }
    );
    assert!(says, "{error:?}");
    assert!(error.is_definite() && !error.is_transient());
    let said = error.to_string();
    for words in [
        "written by a newer version",
        "nothing was written",
        "stop this program",
    ] {
        assert!(said.contains(words), "{said}");
    }
}

async fn an_old_process_writes_nothing_into_a_newer_store(dialect: Dialect) {
    let live = live(dialect).await;
    live.other_dies().await;
    let new = live.place.open(&live.clock, second(dialect)).await;
    let new = new.expect("migrates");
    let before = live.place.everything().await;
    assert!(!live.old.hints().is_lost());
    for (what, error) in live.old_writes().await {
        println!("{what}: {error}");
        too_new(&error);
    }
    too_new(&live.old_recovers().await);
    assert_eq!(live.place.everything().await, before);
    too_new(&live.old.hints().lost().await);
    drop(new);
}

async fn a_statement_that_fails_leaves_the_store_as_it_was(dialect: Dialect) {
    let live = live(dialect).await;
    for place in 0..=place::statements(dialect).len() {
        let before = live.place.everything().await;
        let broken = second_with(dialect, place, "SELECT no_such_column");
        let error = live.place.open(&live.clock, broken).await;
        let error = error.expect_err("the step fails");
        let said = error.to_string();
        assert!(
            matches!(error, StoreError::CannotOpen { .. })
                && said.contains("the migration to schema 2 failed")
                && said.contains("no_such_column")
                && said.contains("as it was before"),
            "{said}"
        );
        assert_eq!(live.place.everything().await, before);
        live.old_goes_on().await;
    }
    let new = live.place.open(&live.clock, second(dialect)).await;
    new.expect("migrates once the step is mended");
}
