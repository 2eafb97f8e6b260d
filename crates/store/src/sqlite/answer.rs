//! The callers that wait for answers: whether one is likely to be alone, and how it waits.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use crate::error::StoreError;

/// Up to so many waiting callers count as nearly alone.
const FEW: usize = 2;
/// How long a thread is kept awake: a little more than a commit on a fast disk.
const EAGER: Duration = Duration::from_micros(250);
/// After so many callers in a row that were nearly alone, the next ones are taken to be alone.
const STREAK: u32 = 16;
/// One in so many of those has the thread write, so that it is found out if others of its thread ask meanwhile.
const PROBE: u32 = 32;
/// One in so many lets the other tasks of its thread run when it has its answer.
const BREATH: u32 = 8;

/// The callers that wait.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    callers: AtomicUsize,
    /// How many callers in a row were nearly alone.
    streak: AtomicU32,
}

/// A caller that waits, for as long as this is kept.
pub(crate) struct Place<'a>(&'a Waiting);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.callers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Waiting {
    pub(crate) fn enter(&self) -> Place<'_> {
        self.callers.fetch_add(1, Ordering::Relaxed);
        Place(self)
    }
}

impl Place<'_> {
    fn is_nearly_alone(&self) -> bool {
        self.0.callers.load(Ordering::Relaxed) <= FEW
    }

    /// Whether nobody is likely to ask before this caller has its answer. Each caller asks this once. It can't be
    /// known, since a caller that doesn't wait keeps the others of its thread from asking: it is guessed from the
    /// callers before.
    pub(crate) fn is_likely_alone(&self) -> bool {
        let before = self.0.streak.load(Ordering::Relaxed);
        let streak = match self.is_nearly_alone() {
            true => before.wrapping_add(1),
            false => 0,
        };
        self.0.streak.store(streak, Ordering::Relaxed);
        streak > STREAK && !streak.is_multiple_of(PROBE)
    }

    /// The answer of a caller that may have written it on its own thread.
    pub(crate) async fn written_here<T>(
        self,
        mut answer: oneshot::Receiver<T>,
    ) -> Result<T, StoreError> {
        let Ok(value) = answer.try_recv() else {
            return self.until(answer).await;
        };
        let streak = self.0.streak.load(Ordering::Relaxed);
        if streak.is_multiple_of(BREATH) {
            tokio::task::yield_now().await;
        }
        Ok(value)
    }

    /// The answer, once it is there. A caller that is nearly alone keeps its thread awake for a moment, letting every
    /// other task of the thread run meanwhile: waking a sleeping thread takes about as long as the commit it waits for.
    /// Where many wait, threads stay awake anyway.
    pub(crate) async fn until<T>(self, mut answer: oneshot::Receiver<T>) -> Result<T, StoreError> {
        if self.is_nearly_alone() {
            let begun = Instant::now();
            while begun.elapsed() < EAGER {
                match answer.try_recv() {
                    Ok(value) => return Ok(value),
                    Err(TryRecvError::Closed) => return Err(StoreError::Closed),
                    Err(TryRecvError::Empty) => tokio::task::yield_now().await,
                }
            }
        }
        answer.await.map_err(|_| StoreError::Closed)
    }
}
