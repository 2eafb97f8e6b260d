//! Steps: code whose result is recorded, so that it runs once and is replayed afterwards.

use std::future::poll_fn;
use std::sync::Arc;

use abide_core::failure::{Failure, kinds};
use abide_core::payload::Payload;
use abide_core::step::StepKind;
use abide_core::text::{check_name, check_payload};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::TaskHandle;
use super::operations::OperationEnd;
use super::place::{Asked, Place};
use crate::attempt::Attempt;
use crate::authoring::{IntoTaskError, TaskError};

impl TaskHandle {
    /// Runs `body`, records its result or error, and returns what is recorded. In a replay, the
    /// recorded result is returned and the body does not run.
    ///
    /// The body runs at least once. If the process dies after the body has run and before its
    /// result is recorded, the body runs again. So write a body that changes the outside world in
    /// such a way that a second run does no harm. The result must be readable from its JSON: this
    /// method returns the value that was read back.
    ///
    /// If the body never fails, end it with [`abide::Ok(value)`](crate::Ok), so that the compiler
    /// knows its error type.
    ///
    /// An error is recorded and replayed like a result. But if the attempt ends with that error,
    /// the next attempt runs this step again, and keeps the results of the steps before it. If the
    /// function did something else after the error, such as undoing an earlier step, no attempt
    /// follows: see "What a retry replays" in the guide to writing workflows.
    ///
    /// The body must not call operations of the task. A body does not run again in a replay, so
    /// nothing inside it can be recorded. A step, a sleep, a signal or a `defer_until` inside the
    /// body is refused at once with a fatal error of kind `misplaced`. The body may use
    /// [progress](TaskHandle::progress) and [cancellation](TaskHandle::cancelled).
    ///
    /// If the future of a step is dropped because it lost a race, its body stops at its current
    /// `await`. What the body did until then is done but not recorded.
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
        E: IntoTaskError,
        F: FnOnce() -> Body + Send,
        Body: Future<Output = Result<T, E>> + Send,
    {
        let ticket = Ticket::build(&self.attempt, StepKind::Step, name);
        async move {
            let ticket = ticket?;
            if ticket.turn().await? {
                let place = Place::body(&ticket.attempt, ticket.number);
                let result =
                    place.poll(async move { body().await.map_err(IntoTaskError::into_task_error) });
                ticket.finish(result.await);
            } else {
                // Operations that it holds are no longer waited for, as after it ran.
                drop(body);
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
    kind: StepKind,
}

impl Ticket {
    /// Takes the next number. An operation whose name cannot be stored is refused, but takes a
    /// number too. An operation in a wrong place takes no number.
    pub(super) fn build(
        attempt: &Arc<Attempt>,
        kind: StepKind,
        name: &str,
    ) -> Result<Ticket, TaskError> {
        attempt.check_new(&asked(kind, name))?;
        let number = attempt.operations().build(kind, name);
        let ticket = Ticket {
            attempt: Arc::clone(attempt),
            number,
            name: name.to_owned(),
            kind,
        };
        check_name(kind.as_str(), name).map_err(TaskError::fatal)?;
        Ok(ticket)
    }

    /// Waits until the body may run. Returns false if its result is recorded, so the body need not
    /// run.
    async fn turn(&self) -> Result<bool, TaskError> {
        poll_fn(|cx| {
            self.check_place()?;
            let turn = self.attempt.operations().poll_turn(self.number, cx);
            turn.map(Ok)
        })
        .await
    }

    /// Waits for the recorded result.
    async fn end(&self) -> Result<Payload, TaskError> {
        poll_fn(|cx| {
            self.check_place()?;
            let end = self.attempt.operations().poll_end(self.number, cx);
            end.map_err(TaskError::of_failure)
        })
        .await
    }

    /// Checks that the operation is awaited in an allowed place. It may have been built in another
    /// place.
    pub(super) fn check_place(&self) -> Result<(), TaskError> {
        self.attempt.check_place(&asked(self.kind, &self.name))
    }

    /// Passes the body's result on to be recorded.
    fn finish<T: Serialize + DeserializeOwned>(&self, result: Result<T, TaskError>) {
        let limit = self.attempt.payload_limit_bytes;
        let end: OperationEnd = match result {
            Ok(value) => self.encode(&value, limit),
            Err(error) => Err(error.into_failure().recordable(limit)),
        };
        self.attempt.operations().finish(self.number, end);
    }

    fn encode<T: Serialize + DeserializeOwned>(&self, value: &T, limit: usize) -> OperationEnd {
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

fn asked(kind: StepKind, name: &str) -> Asked<'_> {
    match kind {
        StepKind::Step => Asked::Step(name),
        StepKind::Sleep => Asked::Sleep,
        StepKind::Signal => Asked::Signal(name),
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.attempt.operations().abandon(self.number);
    }
}
