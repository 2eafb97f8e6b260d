//! Callers: each starts an execution, sends it its signals, waits for its result, and begins with the next.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use abide::{Engine, EngineError, Run, RunError, StoreError};

use crate::answers::Answers;
use crate::child::PATIENCE;
use crate::scene::{Order, parcel, visit};

/// Some callers at work.
pub(crate) struct Load {
    pub(crate) answers: Answers,
    enough: Arc<AtomicBool>,
    next: Arc<AtomicU32>,
    callers: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    /// So many callers.
    pub(crate) fn begin(engine: &Engine, callers: usize) -> Load {
        let mut load = Load {
            answers: Answers::default(),
            enough: Arc::default(),
            next: Arc::default(),
            callers: Vec::new(),
        };
        for _ in 0..callers {
            let (engine, answers) = (engine.clone(), load.answers.clone());
            let (enough, next) = (load.enough.clone(), load.next.clone());
            load.callers.push(tokio::spawn(async move {
                while !enough.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    see_through(&engine, &answers, Order { number }).await;
                }
            }));
        }
        load
    }

    /// How many results callers have got.
    pub(crate) fn results(&self) -> usize {
        self.answers.told().results.len()
    }

    /// Waits until they have got so many more.
    pub(crate) async fn progress(&self, more: usize) {
        let enough = self.results() + more;
        let begun = Instant::now();
        while self.results() < enough {
            // A test that has nothing to wait for any more must say so.
            assert!(begun.elapsed() < PATIENCE, "nothing comes back any more");
            let lost = self.callers.iter().any(|caller| caller.is_finished());
            assert!(!lost, "a caller has failed");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Lets each finish what it has begun. Answers what they were told, and how many executions there are.
    pub(crate) async fn end(self) -> (Answers, usize) {
        self.enough.store(true, Ordering::Relaxed);
        for caller in self.callers {
            caller.await.expect("every execution ends right");
        }
        let begun = self.next.load(Ordering::Relaxed);
        (self.answers, begun as usize)
    }
}

/// One execution, from its start to its result.
pub(crate) async fn see_through(engine: &Engine, answers: &Answers, order: Order) {
    let instance = order.instance();
    let run: Run<u32> = loop {
        let started = match order.is_graph() {
            true => engine.start::<parcel::Workflow>(&instance, &order).await,
            false => engine.start::<visit>(&instance, &order).await,
        };
        if let Some(run) = answered(answers, started).await {
            break run;
        }
    };
    answers.started(&order, run.id().0);
    if order.wants_signals() && !order.is_graph() {
        for word in [5, 6] {
            while answered(answers, engine.signal(&instance, "extra", &word).await)
                .await
                .is_none()
            {}
            answers.signalled(&order);
        }
    }
    loop {
        match run.result().await {
            Ok(result) => return answers.result(&order, result),
            Err(RunError::Store(error)) => {
                let asked = passes(answers, &error).await;
                assert!(asked.is_continue(), "{order:?}: {error}");
            }
            Err(error) => panic!("{order:?}: {error}"),
        }
    }
}

/// The answer, unless it is to be asked for again.
async fn answered<T>(answers: &Answers, answer: Result<T, EngineError>) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer),
        Err(EngineError::Store(error)) => {
            let asked = passes(answers, &error).await;
            assert!(asked.is_continue(), "{error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Whether it is the store's passing trouble; waits a little then, as callers do.
async fn passes(answers: &Answers, error: &StoreError) -> ControlFlow<()> {
    match error.is_definite() {
        true => answers.told().refused += 1,
        false => answers.told().unknown += 1,
    }
    if !error.is_transient() {
        return ControlFlow::Break(());
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    ControlFlow::Continue(())
}

/// A number from the environment, for longer runs.
pub(crate) fn told(variable: &str, otherwise: u32) -> u32 {
    match std::env::var(variable) {
        Ok(text) => text.parse().expect("a number"),
        Err(_) => otherwise,
    }
}
