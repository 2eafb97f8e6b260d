//! What is asked together, in one transaction, does not harm or repeat each other.

use std::time::Duration;

use abide_core::graph::TaskSpec;
use abide_core::ids::TaskKey;
use abide_core::kernel::PIECE;
use abide_core::status::Phase;
use abide_core::timer::TimerKind;

use crate::home::{Home, boxed, completed, graph, held, single};

/// How many ask at once.
const TWO: usize = 2;

#[tokio::test]
async fn a_timer_fires_once_however_many_ask_for_it_at_once() {
    let home = Home::new().await;
    // One dependent too many for a piece: telling the last of them is left to a timer.
    let names: Vec<String> = (0..=PIECE).map(|number| format!("n{number}")).collect();
    let mut tasks = vec![TaskSpec::new("first"), TaskSpec::new("other")];
    tasks.extend(names.iter().map(|name| TaskSpec::new(name.clone())));
    let mut edges: Vec<(&str, &str)> = names.iter().map(|name| ("first", name.as_str())).collect();
    let last = names.last().expect("many");
    edges.push(("other", last));
    let wide = graph(tasks, &edges);
    let number = wide.number_of(last).expect("a node");
    let id = home.start(&wide).await;
    home.fire_timers().await;
    let claims = home.claim_all().await;
    let first = claims.iter().find(|claimed| claimed.task.key.number == 1);
    home.finish(held(first.expect("a root")), completed()).await;

    let asked = (0..TWO).map(|_| boxed(home.store.fire_timers(16)));
    for fired in home.at_once(asked.collect()).await {
        assert_eq!(fired.expect("fires").fired, 1);
    }
    let task = home.store.task(TaskKey::new(id, number)).await;
    let task = task.expect("reads").expect("exists").task;
    assert_eq!((task.phase, task.waiting), (Phase::Pending, 1));
}

#[tokio::test]
async fn a_lease_is_renewed_although_a_start_beside_it_is_refused() {
    let home = Home::new().await;
    let taken = home.start(&single()).await;
    let mut start = home.request(&single()).await;
    start.id = taken;
    let lease = Duration::from_micros(1);
    let renewed = home
        .at_once(vec![
            boxed(async { home.store.start(start.clone()).await.is_ok() }),
            boxed(async {
                let renewed = home.store.heartbeat(home.worker, lease).await;
                renewed.expect("renewed")
            }),
        ])
        .await;
    assert_eq!(renewed, [false, true]);
    let workers = home.store.workers().await.expect("reads");
    assert_eq!(workers[0].lease_until, home.now().plus_us(1));
}

#[tokio::test]
async fn an_execution_that_contradicts_itself_keeps_no_other_from_going_on() {
    let home = Home::new().await;
    let broken = home.start(&single()).await;
    let sound = home.start(&single()).await;
    let due = home.now();
    // A task that its graph does not have, ready, and with a retry that is due.
    let (id, due, retry) = (broken.0, due.0, TimerKind::Retry.code());
    for planted in [
        format!("UPDATE task_executions SET number = 99 WHERE execution = {id}"),
        format!("UPDATE task_outbox SET task = 99 WHERE execution = {id}"),
        format!("INSERT INTO timers VALUES ({due}, {retry}, {id}, 99, 0)"),
    ] {
        assert_eq!(home.execute(&planted).await, 1);
    }
    let next = home.store.fire_timers(16).await.expect("fires").next_due;
    assert_eq!(next, None);
    let claims = home.claim_all().await;
    let claimed: Vec<_> = claims.iter().map(|c| c.task.key.execution).collect();
    assert_eq!(claimed, [sound]);
    assert_eq!(home.dump().await["task_outbox"], Vec::<Vec<_>>::new());
}
