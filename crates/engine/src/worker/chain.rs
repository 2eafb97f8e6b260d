//! One tokio task per claimed task, from its call to the record of its end. It goes on with the first
//! of the tasks that were claimed with that record, in the same slot.

use std::sync::Arc;

use abide_core::kernel::Claimed;
use tokio::sync::OwnedSemaphorePermit;
use tracing::Instrument;

use super::drive::Drive;
use super::exit::Exit;
use super::{Work, Worker, apart, call, finish};
use crate::panics::caught_in;

impl Worker {
    /// Runs claimed tasks, each in one of the permits. Permits that are left over are returned.
    pub(crate) fn launch(
        self: &Arc<Self>,
        claimed: impl IntoIterator<Item = Claimed>,
        permits: impl IntoIterator<Item = OwnedSemaphorePermit>,
    ) {
        for work in self.works(claimed, permits) {
            begin(self, work);
        }
    }
}

fn begin(worker: &Arc<Worker>, work: Work) {
    worker.runtime.spawn(run(Arc::clone(worker), work));
}

/// Runs a task and the tasks that were claimed with its end.
async fn run(worker: Arc<Worker>, work: Work) {
    let mut next = Some(work);
    while let Some(work) = next {
        let span = work.registered.attempt.span.clone();
        let mut claimed = run_one(&worker, work).instrument(span).await.into_iter();
        next = claimed.next();
        claimed.for_each(|work| begin(&worker, work));
    }
}

async fn run_one(worker: &Worker, mut work: Work) -> Vec<Work> {
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
        Exit::Evicted | Exit::Lost => Vec::new(),
    }
}

async fn drive(worker: &Worker, work: &mut Work) -> Exit {
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
