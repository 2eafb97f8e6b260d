//! The user's rows and the executions agree, whatever becomes of the transactions and of the process.
//! The process that is killed is this test binary, run again with a store's address in its environment.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use abide::Engine;

use crate::home::{Home, double, verify};
use crate::libraries::{Library, Rusqlite, Sqlx, TokioPostgres};

const URL: &str = "ABIDE_MIX_URL";
const ORDERS: &str = "ABIDE_MIX_ORDERS";
const SEED: &str = "ABIDE_MIX_SEED";
/// Which library: the end of its test's name.
const LIBRARY: &str = "ABIDE_MIX_LIBRARY";

/// How often a process is killed, and how many transactions it ends before, at most.
const KILLS: u64 = 8;
const MOST_ENDS: u64 = 40;

/// Numbers that follow from a seed (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// Not a test by itself: what the process runs that is killed.
#[tokio::test]
async fn child() {
    match std::env::var(LIBRARY).as_deref() {
        Ok("rusqlite") => order_for_ever::<Rusqlite>().await,
        Ok("tokio_postgres") => order_for_ever::<TokioPostgres>().await,
        Ok("sqlx") => order_for_ever::<Sqlx>().await,
        _ => {}
    }
}

fn given(name: &str) -> String {
    std::env::var(name).expect("given to the process")
}

/// Writes orders and starts what belongs to them, commits some of it, and says so after every end.
async fn order_for_ever<L: Library>() {
    let (url, orders, seed) = (given(URL), given(ORDERS), given(SEED));
    let mut numbers = Numbers(seed.parse().expect("a number"));
    let engine = Engine::connect(&url).await.expect("opens");
    let mut client = L::connect(&url).await;
    for n in 0.. {
        let mut transaction = client.begin().await;
        for part in 0..=numbers.below(2) {
            let name = format!("{seed}-{n}-{part}");
            let insert = format!("INSERT INTO {orders} VALUES ('{name}')");
            // In either order.
            let first = numbers.below(2) == 0;
            if first {
                L::execute(&mut transaction, &insert).await;
            }
            let started = engine.start_in::<double>(&mut transaction, &name, &n).await;
            started.expect("started");
            if !first {
                L::execute(&mut transaction, &insert).await;
            }
        }
        match numbers.below(4) {
            0 => L::roll_back(transaction).await,
            1 => drop(transaction),
            _ => L::commit(transaction).await,
        }
        println!("ENDED {n}");
    }
}

fn kill_after<L: Library>(home: &Home<L>, seed: u64, ends: u64) {
    let mut process = Command::new(std::env::current_exe().expect("this binary has a path"))
        .args(["--exact", "mix::child", "--nocapture"])
        .env(URL, &home.place.url)
        .env(ORDERS, home.orders())
        .env(SEED, seed.to_string())
        .env(LIBRARY, L::NAME)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it can be started");
    let said = BufReader::new(process.stdout.take().expect("piped"));
    let ended = said.lines().map_while(Result::ok);
    let ended = ended
        .filter(|line| line.contains("ENDED"))
        .take(ends as usize);
    assert_eq!(ended.count() as u64, ends, "it runs until it is killed");
    process.kill().expect("killed");
    process.wait().expect("gone");
}

async fn orders_and_executions_agree<L: Library>() {
    let home = Home::<L>::new().await;
    let seed: u64 = std::env::var(SEED).map_or(20, |seed| seed.parse().expect("a number"));
    let mut numbers = Numbers(seed);
    let mut client = home.client().await;
    let (orders, executions) = (home.orders(), format!("{}executions", home.place.prefix));
    let differences = format!(
        "SELECT (SELECT count(*) FROM {orders} o WHERE NOT EXISTS \
         (SELECT 1 FROM {executions} e WHERE e.instance = o.name)) + \
         (SELECT count(*) FROM {executions} e WHERE NOT EXISTS \
         (SELECT 1 FROM {orders} o WHERE o.name = e.instance))"
    );
    for kill in 0..KILLS {
        let ends = 1 + numbers.below(MOST_ENDS);
        kill_after(&home, 1000 * seed + kill, ends);
        let found = client.count(&differences).await;
        assert_eq!(found, 0, "after kill {kill}, with {SEED}={seed}");
    }
    assert!(
        client
            .count(&format!("SELECT count(*) FROM {orders}"))
            .await
            > 0
    );
    let engine = home.worker().await;
    let open = format!("SELECT count(*) FROM {executions} WHERE closed_at IS NULL");
    while client.count(&open).await > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(client.count(&differences).await, 0);
    verify(&engine).await;
    engine.shutdown().await;
}

on_all!(orders_and_executions_agree);
