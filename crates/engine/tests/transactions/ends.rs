//! How the user's transaction ends is how the start or signal ends.

use abide::{Engine, EngineError, IfExists, Refusal, TaskError, workflow};

use crate::home::{Home, double, question, verify};
use crate::libraries::Library;

on_all!(
    a_committed_start_exists_and_runs,
    a_start_that_is_rolled_back_leaves_nothing,
    a_new_workflow_is_gone_with_the_start_that_was_rolled_back,
    an_instance_of_another_workflow_is_refused_by_its_name,
    a_committed_signal_is_read,
    a_signal_that_is_rolled_back_is_not_read,
    a_start_and_its_signals_commit_together,
    an_instance_that_exists_is_found,
    a_refused_start_leaves_the_transaction_as_it_was,
    options_of_a_start_are_kept,
    a_graph_of_many_pieces_commits_or_not,
);

async fn a_committed_start_exists_and_runs<L: Library>() {
    let home = Home::<L>::new().await;
    let engine = home.worker().await;
    let mut client = home.client().await;
    let mut transaction = client.begin().await;
    home.order(&mut transaction, "a").await;
    let started = engine.start_in::<double>(&mut transaction, "a", &21).await;
    let run = started.expect("started");
    assert!(run.is_new());
    let seen = engine.find::<double>("a").await;
    let unknown = matches!(seen, Err(EngineError::UnknownInstance(_)));
    assert!(unknown, "before the commit");
    L::commit(transaction).await;
    assert_eq!(run.result().await.expect("completes"), 42);
    assert_eq!(home.rows().await["orders"], 1);
    verify(&engine).await;
    engine.shutdown().await;
}

async fn a_start_that_is_rolled_back_leaves_nothing<L: Library>() {
    let home = Home::<L>::new().await;
    let engine = home.worker().await;
    let before = home.rows().await;
    let mut client = home.client().await;
    let mut transaction = client.begin().await;
    home.order(&mut transaction, "a").await;
    let started = engine.start_in::<double>(&mut transaction, "a", &21).await;
    started.expect("started");
    L::roll_back(transaction).await;
    assert_eq!(home.rows().await, before);
    // The instance is free.
    let run = engine.start::<double>("a", &4).await.expect("started");
    assert!(run.is_new());
    assert_eq!(run.result().await.expect("completes"), 8);
    verify(&engine).await;
    engine.shutdown().await;
}

async fn a_new_workflow_is_gone_with_the_start_that_was_rolled_back<L: Library>() {
    let home = Home::<L>::new().await;
    let engine = home.observer().await;
    let mut client = home.client().await;
    for instance in ["a", "b"] {
        let mut transaction = client.begin().await;
        home.order(&mut transaction, instance).await;
        let started = engine
            .start_in::<double>(&mut transaction, instance, &1)
            .await;
        started.expect("started");
        L::roll_back(transaction).await;
    }
    // Another workflow gets its place in the catalogue, and the first comes after it.
    let mut transaction = client.begin().await;
    let started = engine.start_in::<question>(&mut transaction, "q", &1).await;
    started.expect("started");
    L::commit(transaction).await;
    let mut transaction = client.begin().await;
    let run = engine.start_in::<double>(&mut transaction, "a", &1).await;
    let run = run.expect("started");
    L::commit(transaction).await;
    assert_eq!(run.status().await.expect("exists").workflow, "double");
    let mut rows = home.rows().await;
    assert_eq!(rows.remove("executions"), Some(2));
    assert_eq!(rows.remove("orders"), Some(0));
    verify(&engine).await;
    let worker = home.worker().await;
    assert_eq!(run.result().await.expect("completes"), 2);
    worker.shutdown().await;
}

/// A question that waits for its answer.
async fn asked<L: Library>(engine: &Engine) -> abide::Run<String> {
    let run = engine.start::<question>("q", &1).await.expect("started");
    loop {
        let tasks = engine.store().tasks(run.id(), 0, 1).await.expect("reads");
        if tasks[0].task.wait.is_some() {
            return run;
        }
        tokio::task::yield_now().await;
    }
}

async fn a_committed_signal_is_read<L: Library>() {
    let home = Home::<L>::new().await;
    let engine = home.worker().await;
    let run = asked::<L>(&engine).await;
    let mut client = home.client().await;
    let mut transaction = client.begin().await;
    home.order(&mut transaction, "a").await;
    let sent = engine
        .signal_in(&mut transaction, "q", "answer", &"yes")
        .await;
    assert_eq!(sent.expect("sent").execution, run.id());
    L::commit(transaction).await;
    assert_eq!(run.result().await.expect("completes"), "yes");
    verify(&engine).await;
    engine.shutdown().await;
}

async fn a_signal_that_is_rolled_back_is_not_read<L: Library>() {
    let home = Home::<L>::new().await;
    let engine = home.worker().await;
    let run = asked::<L>(&engine).await;
    let before = home.rows().await;
    let mut client = home.client().await;
    let mut transaction = client.begin().await;
    let sent = engine
        .signal_in(&mut transaction, "q", "answer", &"no")
        .await;
    sent.expect("sent");
    L::roll_back(transaction).await;
    assert_eq!(home.rows().await, before);
    let sent = engine.signal("q", "answer", &"yes").await;
    sent.expect("sent");
    assert_eq!(run.result().await.expect("completes"), "yes");
    verify(&engine).await;
    engine.shutdown().await;
}

async fn a_start_and_its_signals_commit_together<L: Library>() {
    let home = Home::<L>::new().await;
    let engine = home.worker().await;
    let mut client = home.client().await;
    let mut transaction = client.begin().await;
    let run = engine.start_in::<question>(&mut transaction, "q", &1).await;
    let run = run.expect("started");
    for (number, answer) in [(1, "first"), (2, "second")] {
        let sent = engine
            .signal_in(&mut transaction, "q", "answer", &answer)
            .await;
        assert_eq!(sent.expect("sent").number, number);
    }
    L::commit(transaction).await;
    assert_eq!(run.result().await.expect("completes"), "first");
    verify(&engine).await;
    engine.shutdown().await;
}

async fn an_instance_that_exists_is_found<L: Library>() {
    let home = Home::<L>::new().await;
    let engine = home.observer().await;
    let first = engine.start::<double>("a", &1).await.expect("started");
    let mut client = home.client().await;
    let mut transaction = client.begin().await;
    home.order(&mut transaction, "a").await;
    let again = engine.start_in::<double>(&mut transaction, "a", &1).await;
    let again = again.expect("found");
    assert!(!again.is_new());
    assert_eq!(again.id(), first.id());
    // One that the transaction itself started is found too.
    for is_new in [true, false] {
        let run = engine.start_in::<double>(&mut transaction, "b", &2).await;
        assert_eq!(run.expect("started").is_new(), is_new);
    }
    L::commit(transaction).await;
    let rows = home.rows().await;
    assert_eq!((rows["orders"], rows["executions"]), (1, 2));
    verify(&engine).await;
}

async fn an_instance_of_another_workflow_is_refused_by_its_name<L: Library>() {
    let home = Home::<L>::new().await;
    let engine = home.observer().await;
    engine.start::<double>("a", &1).await.expect("started");
    let mut client = home.client().await;
    let mut transaction = client.begin().await;
    let own = engine.start_in::<double>(&mut transaction, "own", &1).await;
    own.expect("started");
    // `question` is new to the store, and one of the instances is not committed yet.
    for instance in ["a", "own"] {
        let other = engine.start_in::<question>(&mut transaction, instance, &1);
        match other.await.expect_err("another workflow") {
            EngineError::OtherWorkflow { found, asked, .. } => {
                assert_eq!((&*found, &*asked), ("double", "question"));
            }
            other => panic!("{other:?}"),
        }
    }
    L::commit(transaction).await;
    assert_eq!(home.rows().await["executions"], 2);
    verify(&engine).await;
}

async fn a_refused_start_leaves_the_transaction_as_it_was<L: Library>() {
    let home = Home::<L>::new().await;
    let engine = home.observer().await;
    engine.start::<double>("a", &1).await.expect("started");
    let mut client = home.client().await;
    let mut transaction = client.begin().await;
    home.order(&mut transaction, "before").await;
    let other = engine.start_in::<double>(&mut transaction, "a", &2).await;
    match other.expect_err("another input") {
        EngineError::Refused(Refusal::DifferentInput { instance, .. }) => assert_eq!(instance, "a"),
        other => panic!("{other:?}"),
    }
    let start = engine.start::<double>("a", &1).if_exists(IfExists::Reject);
    let rejected = start.within(&mut transaction).await;
    assert!(matches!(
        rejected,
        Err(EngineError::Refused(Refusal::InstanceExists { .. }))
    ));
    let unknown = engine
        .signal_in(&mut transaction, "nobody", "answer", &1)
        .await;
    assert!(matches!(
        unknown,
        Err(EngineError::Refused(Refusal::UnknownInstance(_)))
    ));
    home.order(&mut transaction, "after").await;
    let started = engine.start_in::<double>(&mut transaction, "b", &2).await;
    started.expect("started");
    L::commit(transaction).await;
    let rows = home.rows().await;
    assert_eq!((rows["orders"], rows["executions"]), (2, 2));
    verify(&engine).await;
}

async fn options_of_a_start_are_kept<L: Library>() {
    let home = Home::<L>::new().await;
    let engine = home.observer().await;
    let mut client = home.client().await;
    let mut transaction = client.begin().await;
    let start = engine.start::<double>("a", &1).priority(7).tag("vip");
    let start = start.delay(std::time::Duration::from_secs(60)).actor("eva");
    let run = start.within(&mut transaction).await.expect("started");
    L::commit(transaction).await;
    let view = run.status().await.expect("exists");
    assert_eq!(view.execution.priority, 7);
    assert!(view.execution.start_at.is_some());
    assert_eq!(view.tags, ["vip"]);
    let all = abide::HistoryFilter::default();
    let history = engine.history(run.id(), &all, None, 1).await;
    let history = history.expect("reads").items;
    assert_eq!(history[0].actor.as_deref(), Some("eva"));
    verify(&engine).await;
}

#[workflow]
mod numbers {
    use abide::{Input, TaskError, task};

    #[task]
    pub(crate) async fn number(Input(number): Input<u32>) -> Result<u32, TaskError> {
        Ok(number)
    }
}

/// More tasks than one request writes.
const MANY: u32 = 5_000;

async fn a_graph_of_many_pieces_commits_or_not<L: Library>() {
    let home = Home::<L>::new().await;
    let engine = home.observer().await;
    let mut client = home.client().await;
    let graph = || {
        (0..MANY).fold(numbers::graph(), |graph, number| {
            graph.node::<numbers::number>(format!("number:{number}"), &number)
        })
    };
    let before = home.rows().await;
    let mut transaction = client.begin().await;
    home.order(&mut transaction, "a").await;
    let start = engine.start_graph::<numbers::Workflow>("a", graph());
    start.within(&mut transaction).await.expect("started");
    L::roll_back(transaction).await;
    let mut after = home.rows().await;
    // Where a version is recorded apart from the transaction, it stays.
    after.insert("workflow_versions".to_owned(), before["workflow_versions"]);
    assert_eq!(after, before);

    let mut transaction = client.begin().await;
    let start = engine.start_graph::<numbers::Workflow>("a", graph());
    let run = start.within(&mut transaction).await.expect("started");
    let start = engine.start_graph::<numbers::Workflow>("a", graph());
    let again = start.within(&mut transaction).await.expect("found");
    assert!(!again.is_new());
    L::commit(transaction).await;
    let last = engine
        .store()
        .tasks(run.id(), MANY - 1, 10)
        .await
        .expect("reads");
    assert_eq!(last.len(), 1);
    verify(&engine).await;
}

#[expect(dead_code, reason = "it is enough that it compiles")]
#[expect(clippy::manual_async_fn, reason = "it says that the future is Send")]
fn a_start_within_postgres_can_be_spawned(
    engine: Engine,
    mut client: tokio_postgres::Client,
) -> impl Future<Output = Result<(), TaskError>> + Send {
    async move {
        let mut transaction = client.transaction().await?;
        engine.start_in::<double>(&mut transaction, "a", &1).await?;
        engine.signal_in(&mut transaction, "a", "go", &1).await?;
        transaction.commit().await?;
        Ok(())
    }
}
