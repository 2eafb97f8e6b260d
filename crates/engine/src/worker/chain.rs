//! One tokio task per claimed task, from its call to the record of its end; and on with the first
//! of the tasks that this made ready, in the same slot.

use std::sync::Arc;

use super::drive::{Drive, Ending};
use super::{Work, Worker, call, finish};

/// Runs a task and what follows from it.
pub(super) async fn run(worker: Arc<Worker>, work: Work) {
    let mut next = Some(work);
    while let Some(work) = next {
        next = run_one(&worker, work).await;
    }
}

async fn run_one(worker: &Arc<Worker>, mut work: Work) -> Option<Work> {
    let ending = if worker.is_stopping() {
        Ending::released("claimed while the worker shut down")
    } else {
        drive(worker, &mut work).await
    };
    match ending {
        Ending::Outcome(outcome) => finish::finish(worker, work, outcome).await,
        Ending::Evicted | Ending::Lost => None,
    }
}

async fn drive(worker: &Arc<Worker>, work: &mut Work) -> Ending {
    work.registered.alone().await;
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
