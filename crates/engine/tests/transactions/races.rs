//! Several transactions at once.

use std::time::Duration;

use abide::{
    Engine, EngineError, StoreError, TaskError, TaskHandle, Timestamp, VirtualClock, workflow,
};

use crate::home::{Home, double, verify};
use crate::libraries::{Library, Rusqlite, TokioPostgres};

const HOUR: Duration = Duration::from_secs(3600);

/// Waits until somebody waits for a lock of the store's schema's database.
async fn until_one_waits(observer: &tokio_postgres::Client, backend: i32) {
    let sql = "SELECT coalesce((SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $1), false)";
    loop {
        let row = observer.query_one(sql, &[&backend]).await.expect("reads");
        if row.get(0) {
            return;
        }
    }
}

async fn backend(client: &tokio_postgres::Client) -> i32 {
    let row = client.query_one("SELECT pg_backend_pid()", &[]).await;
    row.expect("reads").get(0)
}

/// Two transactions start the same instance at once, the first ends as it is told. Whether the second
/// one's start made the execution.
async fn second_is_new(commits: bool) -> bool {
    let home = Home::<TokioPostgres>::new().await;
    let engine = home.observer().await;
    let (mut first, mut second) = (home.client().await, home.client().await);
    let observer = home.client().await;
    let waiting = backend(&second.0).await;
    let mut one = first.begin().await;
    let mut two = second.begin().await;
    home.order(&mut one, "one").await;
    home.order(&mut two, "two").await;
    let run = engine.start_in::<double>(&mut one, "a", &1).await;
    run.expect("started");
    let end = async {
        until_one_waits(&observer.0, waiting).await;
        match commits {
            true => TokioPostgres::commit(one).await,
            false => TokioPostgres::roll_back(one).await,
        }
    };
    let (run, ()) = tokio::join!(engine.start_in::<double>(&mut two, "a", &1), end);
    let is_new = run.expect("started or found").is_new();
    TokioPostgres::commit(two).await;
    let rows = home.rows().await;
    let orders = if commits { 2 } else { 1 };
    assert_eq!((rows["orders"], rows["executions"]), (orders, 1));
    verify(&engine).await;
    is_new
}

#[tokio::test]
async fn of_two_starts_at_once_the_second_finds_the_first() {
    assert!(!second_is_new(true).await);
}

#[tokio::test]
async fn of_two_starts_at_once_the_second_is_made_if_the_first_is_rolled_back() {
    assert!(second_is_new(false).await);
}

#[tokio::test]
async fn a_sqlite_transaction_waits_for_the_file_no_longer_than_its_own_timeout() {
    let home = Home::<Rusqlite>::new().await;
    let engine = home.observer().await;
    let (mut first, mut second) = (home.client().await, home.client().await);
    second.0.busy_timeout(Duration::ZERO).expect("set");
    let mut one = first.begin().await;
    let started = engine.start_in::<double>(&mut one, "a", &1).await;
    started.expect("started");
    let mut two = second.0.transaction().expect("begins");
    let busy = engine.start_in::<double>(&mut two, "a", &1).await;
    assert!(matches!(busy, Err(EngineError::Store(StoreError::Busy(_)))));
    Rusqlite::commit(one).await;
    let found = engine.start_in::<double>(&mut two, "a", &1).await;
    assert!(!found.expect("found").is_new());
    two.commit().expect("commits");
    verify(&engine).await;
}

/// Runs an instance to its end.
async fn runs(engine: &Engine, instance: &str) {
    let run = engine.start::<double>(instance, &1).await;
    let result = run.expect("started").result().await;
    assert_eq!(result.expect("completes"), 2);
}

/// Waits for one signal after the other, so it has not ended before both were sent.
#[workflow]
async fn two_answers(handle: &TaskHandle, _about: i64) -> Result<(String, i64), TaskError> {
    let first = handle.signal("answer").await?;
    Ok((first, handle.signal("other").await?))
}

#[tokio::test]
async fn an_open_transaction_that_holds_an_execution_stops_no_other() {
    let home = Home::<TokioPostgres>::new().await;
    let engine = home
        .builder()
        .register::<double>()
        .register::<two_answers>();
    let engine = engine.lease(10 * HOUR).busy_timeout(HOUR).start().await;
    let engine = engine.expect("starts");
    let held = engine.start::<two_answers>("held", &1).await;
    let held = held.expect("started");
    let mut client = home.client().await;
    let mut transaction = client.begin().await;
    let sent = engine
        .signal_in(&mut transaction, "held", "answer", &"yes")
        .await;
    sent.expect("sent");
    // Whoever wants something of it waits, and gets it when the transaction has ended.
    let signal = {
        let engine = engine.clone();
        tokio::spawn(async move { engine.signal("held", "other", &1).await })
    };
    for n in 0..40 {
        runs(&engine, &format!("free{n}")).await;
    }
    assert!(!signal.is_finished());
    TokioPostgres::commit(transaction).await;
    signal.await.expect("runs").expect("sent");
    let answers = held.result().await.expect("completes");
    assert_eq!(answers, ("yes".to_owned(), 1));
    verify(&engine).await;
    engine.shutdown().await;
}

#[tokio::test]
async fn an_open_transaction_that_starts_many_has_no_other_start_refused() {
    const MANY: usize = 10;
    let home = Home::<TokioPostgres>::new().await;
    // Less than one of them waits before the others behind it are tried.
    let engine = home.builder().busy_timeout(Duration::from_millis(200));
    let engine = engine.connect().await.expect("opens");
    let names: Vec<_> = (0..MANY).map(|n| format!("new{n}")).collect();
    let mut client = home.client().await;
    let mut transaction = client.begin().await;
    for name in &names {
        let started = engine.start_in::<double>(&mut transaction, name, &1).await;
        started.expect("started");
    }
    let start = |name: String| {
        let engine = engine.clone();
        tokio::spawn(async move { engine.start::<double>(&name, &1).await.map(drop) })
    };
    let same: Vec<_> = names.iter().cloned().map(start).collect();
    let others: Vec<_> = (0..MANY).map(|n| start(format!("other{n}"))).collect();
    for other in others {
        let started = other.await.expect("runs");
        started.expect("nobody else starts that");
    }
    for same in same {
        let error = same.await.expect("runs").expect_err("it is being started");
        assert!(error.to_string().contains("locked"), "{error}");
    }
    TokioPostgres::commit(transaction).await;
    verify(&engine).await;
}

#[tokio::test]
async fn what_was_started_long_before_the_commit_is_found() {
    let home = Home::<TokioPostgres>::new().await;
    let clock = VirtualClock::at(Timestamp(1_790_000_000_000_000));
    let builder = home.builder().register::<double>().clock(clock.clone());
    let engine = builder.lease(10 * HOUR).start().await.expect("starts");
    let observer = home
        .builder()
        .clock(clock.clone())
        .connect()
        .await
        .expect("opens");
    let mut client = home.client().await;
    let mut transaction = client.begin().await;
    let run = engine
        .start_in::<double>(&mut transaction, "late", &1)
        .await;
    let run = run.expect("started");
    // Others come and go meanwhile, so that nobody expects a row of that time any more.
    for n in 0..3 {
        clock.advance(Duration::from_secs(60));
        let other = observer.start::<double>(&format!("n{n}"), &1).await;
        other.expect("started").result().await.expect("completes");
    }
    TokioPostgres::commit(transaction).await;
    assert_eq!(run.result().await.expect("completes"), 2);
    verify(&engine).await;
    engine.shutdown().await;
}

#[tokio::test]
async fn an_open_transaction_that_starts_an_instance_stops_no_other() {
    let home = Home::<TokioPostgres>::new().await;
    let engine = home.worker().await;
    let mut client = home.client().await;
    let mut transaction = client.begin().await;
    let mut begun = Vec::new();
    for n in 0..4 {
        let instance = format!("held{n}");
        let started = engine
            .start_in::<double>(&mut transaction, &instance, &1)
            .await;
        let run = started.expect("started");
        let engine = engine.clone();
        // It waits to learn which of the two it is.
        let second = async move { engine.start::<double>(&instance, &1).await };
        begun.push((run.id(), tokio::spawn(second)));
    }
    for n in 0..40 {
        runs(&engine, &format!("free{n}")).await;
    }
    TokioPostgres::commit(transaction).await;
    for (id, second) in begun {
        match second.await.expect("runs") {
            Ok(found) => assert_eq!((found.id(), found.is_new()), (id, false)),
            // Nobody waits for ever.
            Err(EngineError::Store(StoreError::Busy(_))) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    verify(&engine).await;
    engine.shutdown().await;
}
