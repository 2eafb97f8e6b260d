//! How often a worker waits for a server on the way from one task to the next.

use std::sync::Arc;
use std::time::Duration;

use abide_core::graph::{Graph, TaskSpec, Uses};
use abide_core::kernel::{Claimed, Held, Reply, Request};
use abide_core::payload::Payload;

use crate::home::{Home, completed, finish, graph, held, single};

/// What the end of a task takes whose slot goes on with the next: its transaction's begin and end, and a statement for
/// each kind of row that is read or written.
const STATEMENTS_OF_A_STEP: u64 = 14;

fn chain() -> Arc<Graph> {
    let tasks = ["a", "b", "c"].map(TaskSpec::new).to_vec();
    graph(tasks, &[("a", "b"), ("b", "c")])
}

impl Home {
    /// Ends a task, takes the next into its slot, and answers how many round trips that was.
    async fn go_on(&self, task: Held) -> (Claimed, u64) {
        let Request::Finish(mut end) = finish(task, completed()) else {
            panic!("it is a result")
        };
        end.offer = self.offer(1).await;
        let before = self.store.stats().round_trips;
        let Reply::Finished(finished) = self.apply(Request::Finish(end)).await else {
            panic!("it is recorded")
        };
        let [next] = finished.claimed.try_into().expect("the next");
        (next, self.store.stats().round_trips - before)
    }
}

#[tokio::test]
async fn a_step_of_a_chain_takes_two_round_trips_and_brings_the_next_input() {
    let home = Home::new().await;
    let input = Some(Payload::from_json("7"));
    for own_graph in [false, true] {
        let mut start = home.request(&chain()).await;
        start.own_graph = own_graph;
        start.input = input.clone();
        home.store.start(start).await.expect("starts");
        let first = home.claim().await;
        assert_eq!(first.input, input);
        let (next, round_trips) = home.go_on(held(&first)).await;
        assert_eq!((round_trips, next.task.key.number), (2, 2));
        assert_eq!(next.input, input);
        let (next, round_trips) = home.go_on(held(&next)).await;
        assert_eq!((round_trips, next.task.key.number), (2, 3));
    }
}

#[tokio::test]
async fn the_version_of_the_schema_is_read_by_statements_that_are_sent_anyway() {
    let home = Home::new().await;
    home.start(&chain()).await;
    let first = home.claim().await;
    let (second, _) = home.go_on(held(&first)).await;
    let before = home.store.stats();
    home.go_on(held(&second)).await;
    let between = home.store.stats();
    assert_eq!(between.statements - before.statements, STATEMENTS_OF_A_STEP);
    let lease = Duration::from_secs(1000);
    let renewed = home.store.heartbeat(home.worker, lease).await;
    assert!(renewed.expect("alive"));
    let after = home.store.stats();
    let heartbeat = (
        after.round_trips - between.round_trips,
        after.statements - between.statements,
    );
    assert_eq!(heartbeat, (1, 1));
}

#[tokio::test]
async fn a_process_that_does_not_know_the_graph_asks_more_often_once() {
    let mut home = Home::new().await;
    home.start(&chain()).await;
    let first = home.claim().await;
    home.store = home.reopened().await;
    let (next, round_trips) = home.go_on(held(&first)).await;
    assert!(round_trips > 2);
    let (_, round_trips) = home.go_on(held(&next)).await;
    assert_eq!(round_trips, 2);
}

#[tokio::test]
async fn an_input_that_is_long_is_read_by_those_who_ask_for_it() {
    let home = Home::new().await;
    let long = Some(Payload::from_json(format!("\"{}\"", "x".repeat(5000))));
    let mut start = home.request(&single()).await;
    start.input = long.clone();
    home.store.start(start).await.expect("starts");
    let claimed = home.claim().await;
    assert_eq!(claimed.input, None);
    let uses = Uses {
        input: true,
        ..Uses::default()
    };
    let inputs = home.store.inputs(&claimed, &uses).await.expect("reads");
    assert_eq!(inputs.input, long);
}
