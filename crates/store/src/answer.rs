//! Waiting for the writer's answer. A caller that is nearly alone keeps its thread awake for a
//! moment, letting every other task of the thread run meanwhile: waking a sleeping thread takes
//! about as long as the commit it waits for. Where many wait, threads stay awake anyway.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use crate::error::StoreError;

/// Up to so many waiting callers count as nearly alone.
const FEW: usize = 2;
/// How long a thread is kept awake: a little more than a commit on a fast disk.
const EAGER: Duration = Duration::from_micros(250);

/// How many callers wait.
#[derive(Debug, Default)]
pub(crate) struct Waiting(AtomicUsize);

struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Waiting {
    /// The answer, once it is there.
    pub(crate) async fn until<T>(&self, mut answer: oneshot::Receiver<T>) -> Result<T, StoreError> {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        let place = Place(&self.0);
        if before < FEW {
            let begun = Instant::now();
            while begun.elapsed() < EAGER {
                match answer.try_recv() {
                    Ok(value) => return Ok(value),
                    Err(TryRecvError::Closed) => return Err(StoreError::Closed),
                    Err(TryRecvError::Empty) => tokio::task::yield_now().await,
                }
            }
        }
        let value = answer.await.map_err(|_| StoreError::Closed);
        drop(place);
        value
    }
}
