//! Steps: code whose result is recorded, so that it runs once and is replayed from then on.

use std::future::poll_fn;
use std::sync::Arc;

use abide_core::failure::{Failure, kinds};
use abide_core::payload::Payload;
use abide_core::step::StepKind;
use abide_core::text::{check_name, check_payload};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::TaskHandle;
use super::operations::End;
use crate::attempt::Attempt;
use crate::authoring::TaskError;

impl TaskHandle {
    /// Runs `body` and records what it returns, result or error, before returning it. When the
    /// task is replayed, the recorded result is returned and the body is not run.
    ///
    /// The body runs at least once: if the process dies after it and before its result is
    /// recorded, it runs again. So what it does to the world should be repeatable. Its result must
    /// read back from its JSON; what is returned here is what was read back.
    ///
    /// An error is recorded and replayed like a result. But if the attempt ends with it, the next
    /// attempt runs this step again, and keeps the results of those before.
    ///
    /// ```
    /// use abide::{TaskError, TaskHandle, workflow};
    ///
    /// #[workflow]
    /// async fn checkout(handle: &TaskHandle, order: u32) -> Result<String, TaskError> {
    ///     let charge: String = handle.step("charge", async || charge_card(order).await).await?;
    ///     handle.step("receipt", async || send_receipt(&charge).await).await
    /// }
    /// # async fn charge_card(order: u32) -> Result<String, TaskError> { Ok(order.to_string()) }
    /// # async fn send_receipt(charge: &str) -> Result<String, TaskError> { Ok(charge.to_owned()) }
    /// # fn main() {}
    /// ```
    pub fn step<T, E, F, Body>(
        &self,
        name: &str,
        body: F,
    ) -> impl Future<Output = Result<T, TaskError>> + Send + use<T, E, F, Body>
    where
        T: Serialize + DeserializeOwned + Send,
        E: Into<TaskError>,
        F: FnOnce() -> Body + Send,
        Body: Future<Output = Result<T, E>> + Send,
    {
        let ticket = Ticket::build(&self.attempt, StepKind::Step, name);
        async move {
            let ticket = ticket?;
            if ticket.turn().await {
                let result = body().await.map_err(Into::into);
                ticket.finish(result);
            }
            let json = ticket.end().await?;
            ticket.decode(&json, "a result").map_err(|error| {
                // It was checked when it was recorded, so another version of the code wrote it.
                TaskError::of_failure(Failure::engine(kinds::UNDECODABLE, error))
            })
        }
    }
}

/// An operation of the function, from the call that builds it until its future is gone.
pub(super) struct Ticket {
    pub(super) attempt: Arc<Attempt>,
    pub(super) number: u32,
    pub(super) name: String,
}

impl Ticket {
    /// Takes the next number. A name that can't be stored is refused, but has its number too.
    pub(super) fn build(
        attempt: &Arc<Attempt>,
        kind: StepKind,
        name: &str,
    ) -> Result<Ticket, TaskError> {
        let number = attempt.operations().build(kind, name);
        let ticket = Ticket {
            attempt: Arc::clone(attempt),
            number,
            name: name.to_owned(),
        };
        check_name(kind.as_str(), name).map_err(TaskError::fatal)?;
        Ok(ticket)
    }

    /// Waits until the body may run; false if it need not, since its result is recorded.
    async fn turn(&self) -> bool {
        poll_fn(|cx| self.attempt.operations().poll_turn(self.number, cx)).await
    }

    /// Waits for the recorded result.
    async fn end(&self) -> Result<Payload, TaskError> {
        let end = poll_fn(|cx| self.attempt.operations().poll_end(self.number, cx)).await;
        end.map_err(TaskError::of_failure)
    }

    /// Hands the body's result over to be recorded.
    fn finish<T: Serialize + DeserializeOwned>(&self, result: Result<T, TaskError>) {
        let limit = self.attempt.payload_limit_bytes;
        let end: End = match result {
            Ok(value) => self.encode(&value, limit),
            Err(error) => Err(error.into_failure().recordable(limit)),
        };
        self.attempt.operations().finish(self.number, end);
    }

    fn encode<T: Serialize + DeserializeOwned>(&self, value: &T, limit: usize) -> End {
        let refuse =
            |kind, reason: String| Failure::engine(kind, format!("step `{}`: {reason}", self.name));
        let json = serde_json::to_string(value).map_err(|error| {
            refuse(
                kinds::UNDECODABLE,
                format!("its result can't be written as JSON: {error}"),
            )
        })?;
        if json.len() > limit {
            let reason = format!("its result has {} bytes; the limit is {limit}", json.len());
            return Err(refuse(kinds::PAYLOAD_TOO_LARGE, reason));
        }
        check_payload(&json).map_err(|error| refuse(kinds::PAYLOAD_INVALID, error.to_string()))?;
        let payload = Payload::from_json(json);
        self.decode::<T>(&payload, "its own result")
            .map_err(|reason| refuse(kinds::UNDECODABLE, reason))?;
        Ok(payload)
    }

    pub(super) fn decode<T: DeserializeOwned>(
        &self,
        json: &Payload,
        what: &str,
    ) -> Result<T, String> {
        serde_json::from_str(json.as_str()).map_err(|error| {
            let type_name = std::any::type_name::<T>();
            format!("`{}` can't read {what} as {type_name}: {error}", self.name)
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.attempt.operations().abandon(self.number);
    }
}
