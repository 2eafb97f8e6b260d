//! One tokio task per claimed task, from its call to the record of its end; and on with the first
//! of the tasks that this made ready, in the same slot.

use std::sync::Arc;

use tracing::Instrument;

use super::drive::{Drive, Exit};
use super::{Work, Worker, apart, call, finish};
use crate::panics::caught_in;

/// Runs a task and what follows from it.
pub(super) async fn run(worker: Arc<Worker>, work: Work) {
    let mut next = Some(work);
    while let Some(work) = next {
        let span = work.registered.attempt.span.clone();
        next = run_one(&worker, work).instrument(span).await;
    }
}

async fn run_one(worker: &Arc<Worker>, mut work: Work) -> Option<Work> {
    let ending = if worker.is_stopping() {
        Exit::released("claimed while the worker shut down")
    } else {
        let driven = caught_in(drive(worker, &mut work)).await;
        driven.unwrap_or_else(|panic| {
            work.registered.attempt.operations().close();
            Exit::failed(panic, worker)
        })
    };
    match ending {
        Exit::Outcome(outcome) => finish::finish(worker, work, outcome).await,
        Exit::Evicted | Exit::Lost => None,
    }
}

async fn drive(worker: &Arc<Worker>, work: &mut Work) -> Exit {
    work.registered.alone().await;
    if let Err(ending) = apart::set_apart(worker, work).await {
        return ending;
    }
    tracing::debug!("an attempt begins, or is replayed");
    let attempt = Arc::clone(&work.registered.attempt);
    match call::call(worker, &mut work.claimed, &attempt).await {
        Ok(called) => {
            Drive::new(worker, &attempt, &mut work.slot, called)
                .run()
                .await
        }
        Err(ending) => ending,
    }
}
