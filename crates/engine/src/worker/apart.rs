//! A task that ran at several deaths of its process runs alone: no other task runs in the worker
//! for a while, so that the next death tells whether this task is the cause.

use std::sync::Arc;
use std::time::Duration;

use abide_core::kernel::Outcome;

use super::exit::Exit;
use super::{Work, Worker};
use crate::slot::Apart;

/// How long the first attempt of a suspect task may keep the other tasks waiting. Each attempt may take twice as long
/// as the one before: a task that kills its process late is alone in the end, and a sound task soon lets the others
/// run.
const FIRST_PATIENCE: Duration = Duration::from_secs(15);
const MOST_DOUBLINGS: u32 = 12;

/// Waits until the task runs alone, if it has to.
pub(super) async fn set_apart(worker: &Worker, work: &mut Work) -> Result<(), Exit> {
    let task = &work.claimed.task;
    if !task.is_suspect(worker.options.max_crashes) {
        return Ok(());
    }
    let Ok(place) = Arc::clone(&worker.apart).try_acquire_owned() else {
        return Err(Exit::released("another task runs alone in this process"));
    };
    let doublings = task.attempt.saturating_sub(1).min(MOST_DOUBLINGS);
    let apart = Apart {
        slots: u32::try_from(worker.options.max_concurrent_tasks).expect("the builder checked it"),
        place: Arc::clone(&worker.apart),
        patience: FIRST_PATIENCE * 2_u32.pow(doublings),
    };
    let attempt = Arc::clone(&work.registered.attempt);
    tracing::warn!(
        task = %attempt.key(),
        node = attempt.node(),
        instance = &*attempt.instance,
        crashes = task.crashes,
        patience = ?apart.patience,
        "a process died again and again while this task ran: it runs alone for a while",
    );
    let _waits = worker.waits_for_slots();
    tokio::select! {
        biased;
        () = worker.stopping() => Err(Exit::released("the worker shut down before the task began")),
        () = attempt.cancelled() => Err(match attempt.operations().is_over() {
            true => Exit::Lost,
            false => Exit::Outcome(Outcome::Cancelled),
        }),
        () = work.slot.set_apart(apart, place) => Ok(()),
    }
}
