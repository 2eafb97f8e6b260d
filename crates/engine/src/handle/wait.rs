//! Durable waits: sleeping, and waiting for a signal. They hold no slot and survive a crash.

use std::future::poll_fn;
use std::time::{Duration, SystemTime};

use abide_core::failure::{Failure, kinds};
use abide_core::ids::Timestamp;
use abide_core::payload::Payload;
use abide_core::step::StepKind;
use serde::de::DeserializeOwned;

use super::TaskHandle;
use super::step::Ticket;
use crate::authoring::TaskError;
use crate::clock::us_of;

/// The name under which sleeps are recorded.
const SLEEP: &str = "sleep";

impl TaskHandle {
    /// Sleeps durably and without a slot. The end time is recorded: a replay sleeps for the
    /// remaining time, or returns at once if the time has passed.
    ///
    /// ```
    /// use std::time::Duration;
    /// use abide::{TaskError, TaskHandle, workflow};
    ///
    /// #[workflow]
    /// async fn remind(handle: &TaskHandle, order: u32) -> Result<(), TaskError> {
    ///     handle.sleep(Duration::from_secs(86_400)).await?;
    ///     handle.step("mail", async || mail(order).await).await
    /// }
    /// # async fn mail(order: u32) -> Result<(), TaskError> { Ok(()) }
    /// # fn main() {}
    /// ```
    pub fn sleep(
        &self,
        duration: Duration,
    ) -> impl Future<Output = Result<(), TaskError>> + Send + use<> {
        let due_at = self.attempt.clock.now().plus_us(us_of(duration));
        self.sleep_to(due_at)
    }

    /// Sleeps until a time, durably and without a slot. If the time has passed, the sleep is
    /// recorded and ends at once.
    pub fn sleep_until(
        &self,
        at: SystemTime,
    ) -> impl Future<Output = Result<(), TaskError>> + Send + use<> {
        self.sleep_to(Timestamp::from(at))
    }

    fn sleep_to(
        &self,
        due_at: Timestamp,
    ) -> impl Future<Output = Result<(), TaskError>> + Send + use<> {
        let ticket = Ticket::build(&self.attempt, StepKind::Sleep, SLEEP);
        async move {
            ticket?.wait(Some(due_at)).await?;
            Ok(())
        }
    }

    /// Waits, durably and without a slot, for the next signal of this name to the task's instance,
    /// and returns its payload.
    ///
    /// Signals that were sent earlier wait in the mailbox. Each signal is read once, in the order
    /// in which the signals were sent. If the payload cannot be read as a `T`, this returns an
    /// error of kind `undecodable`; the signal counts as read.
    ///
    /// ```
    /// use abide::{TaskError, TaskHandle, workflow};
    ///
    /// #[workflow]
    /// async fn approval(handle: &TaskHandle, request: String) -> Result<bool, TaskError> {
    ///     handle.signal::<bool>("decision").await
    /// }
    /// # fn main() {}
    /// ```
    pub fn signal<T: DeserializeOwned>(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<T, TaskError>> + Send + use<T> {
        let ticket = Ticket::build(&self.attempt, StepKind::Signal, name);
        async move {
            let ticket = ticket?;
            let payload = ticket.wait(None).await?;
            ticket
                .decode(&payload, "a signal")
                .map_err(|error| TaskError::of_failure(Failure::engine(kinds::UNDECODABLE, error)))
        }
    }
}

impl Ticket {
    async fn wait(&self, due_at: Option<Timestamp>) -> Result<Payload, TaskError> {
        poll_fn(|cx| {
            self.check_place()?;
            let mut operations = self.attempt.operations();
            let end = operations.poll_wait(self.number, || due_at, cx);
            end.map_err(TaskError::of_failure)
        })
        .await
    }
}
