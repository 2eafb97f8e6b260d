//! A durable function with steps that run once, a sleep, and a signal that a person sends from
//! another terminal, today or next week. If you kill the program and start it again, it continues
//! after its last recorded operation.
//!
//! ```text
//! cargo run --release -p abide-examples --example approval
//! ```

use std::process::ExitCode;
use std::time::Duration;

use abide::{Engine, EngineError, Run, TaskError, TaskHandle, TaskKey, workflow};
use clap::Parser;
use serde::{Deserialize, Serialize};

/// How long the customer may cancel the order.
const SECOND_THOUGHTS: Duration = Duration::from_secs(3);

/// Takes an order that a person must approve.
#[derive(Debug, Parser)]
#[command(name = "approval")]
struct Args {
    /// The order: its id is the instance, to which signals are sent
    #[arg(default_value = "order-42")]
    order: String,

    /// The SQLite file that records everything, created if it does not exist; or the address of a
    /// PostgreSQL database
    #[arg(long, value_name = "FILE|URL", default_value = "approval.db")]
    db: String,
}

impl Args {
    /// The address that the engine is built with.
    fn url(&self) -> String {
        if self.is_address() {
            self.db.clone()
        } else {
            format!("sqlite:{}", self.db)
        }
    }

    /// Quoted for a shell, because an address may contain `?` and `&`.
    fn shown(&self) -> String {
        if self.is_address() {
            format!("'{}'", self.db)
        } else {
            self.db.clone()
        }
    }

    fn is_address(&self) -> bool {
        self.db.contains("://")
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    item: String,
    cents: u32,
}

/// The payload of the signal.
#[derive(Debug, Serialize, Deserialize)]
struct Approval {
    by: String,
    approved: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Receipt {
    order: String,
    outcome: String,
}

/// Between its operations the function does the same on every run. Code that changes the outside
/// world, or depends on it, is in a step.
#[workflow]
async fn checkout(handle: &TaskHandle, order: Order) -> Result<Receipt, TaskError> {
    let reservation: String = handle
        .step("reserve", async || reserve(&order.item).await)
        .await?;
    handle.sleep(SECOND_THOUGHTS).await?;
    let approval: Approval = handle.signal("approval").await?;
    let outcome = if approval.approved {
        handle
            .step("charge", async || charge(order.cents, &approval.by).await)
            .await?
    } else {
        handle
            .step("release", async || release(&reservation).await)
            .await?
    };
    Ok(Receipt {
        order: handle.instance().to_owned(),
        outcome,
    })
}

async fn reserve(item: &str) -> Result<String, TaskError> {
    announce(&format!("reserve: one {item} is put aside"));
    Ok(format!("shelf 7, {item}"))
}

async fn charge(cents: u32, by: &str) -> Result<String, TaskError> {
    announce(&format!("charge: {cents} cents"));
    Ok(format!("charged {cents} cents, approved by {by}"))
}

async fn release(reservation: &str) -> Result<String, TaskError> {
    announce(&format!("release: {reservation}"));
    Ok("rejected; nothing was charged".to_owned())
}

/// Shows when a step's body runs, and in which process.
fn announce(what: &str) {
    println!("[process {}] {what}", std::process::id());
}

#[tokio::main]
async fn main() -> ExitCode {
    match take_order(&Args::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn take_order(args: &Args) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let engine = Engine::builder(args.url())
        .register::<checkout>()
        .start()
        .await?;
    let order = Order {
        item: "teapot".to_owned(),
        cents: 4_200,
    };
    // A repeated start finds the execution that the first start created, or its receipt.
    let run = engine.start::<checkout>(&args.order, &order).await?;
    introduce(args, &engine, &run).await?;
    let result = tokio::select! {
        result = run.result() => result,
        _ = tokio::signal::ctrl_c() => {
            engine.shutdown().await;
            println!("Stopped. The same command goes on from here.");
            return Ok(ExitCode::from(130));
        }
    };
    engine.shutdown().await;
    let receipt = result?;
    println!("{}: {}.\n", receipt.order, receipt.outcome);
    println!(
        "Its history:   abide --db {} events {}",
        args.shown(),
        args.order
    );
    Ok(ExitCode::SUCCESS)
}

/// Prints the present state, and what to do next.
async fn introduce(args: &Args, engine: &Engine, run: &Run<Receipt>) -> Result<(), EngineError> {
    let order = &args.order;
    if run.status().await?.execution.status.is_terminal() {
        println!("{order} has ended before. For another one, give another id.");
        return Ok(());
    }
    if run.is_new() {
        println!("{order}: new execution {} in {}.", run.id(), args.db);
    } else {
        println!(
            "{order}: resuming execution {}. Recorded, and not run again:",
            run.id()
        );
        for recorded in engine.store().steps(TaskKey::new(run.id(), 1)).await? {
            let (id, state) = (recorded.id, recorded.end.state());
            println!("  {}. {} `{}`: {state}", id.number, id.kind, id.name);
        }
    }
    println!(
        "It waits for your approval. From another terminal, now or later:\n\n  \
         abide --db {} signal {order} approval '{{\"by\":\"you\",\"approved\":true}}'\n\n\
         Or stop it (Ctrl-C, kill -9 {}) and run it again: what is done stays done.\n",
        args.shown(),
        std::process::id()
    );
    Ok(())
}
