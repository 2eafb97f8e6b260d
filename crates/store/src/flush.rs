//! One flush: requests run one after another over a working set, reading what they miss, and
//! answer when everything is committed. Knows no SQL: the driver reads and writes.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use abide_core::kernel::{Need, Reply, Request, Stop, Working, apply};

use crate::error::{ApplyError, StoreError};

/// The most rounds of reading that one request may ask for. Each round reads at least one row
/// that was missing, and a request touches a bounded number, so this only stops a defect.
const MAX_ROUNDS: usize = 100_000;

/// Runs one request, reading through `load` whatever it misses.
pub(crate) fn run(
    working: &mut Working,
    request: &Request,
    load: &mut dyn FnMut(&mut Working, &Need) -> Result<(), StoreError>,
) -> Result<Reply, ApplyError> {
    for need in request.needs() {
        if !working.has(&need) {
            load(working, &need)?;
        }
    }
    for _ in 0..MAX_ROUNDS {
        let applied = catch_unwind(AssertUnwindSafe(|| apply(working, request)));
        match applied {
            Ok(Ok(reply)) => return Ok(reply),
            Ok(Err(Stop::Refused(refusal))) => return Err(refusal.into()),
            Err(panic) => {
                working.forget_unfinished();
                return Err(contradiction(&*panic).into());
            }
            Ok(Err(Stop::Missing(needs))) => {
                for need in &needs {
                    load(working, need)?;
                }
            }
        }
    }
    Err(StoreError::Internal(format!("a request never found what it needs: {request:?}")).into())
}

/// Rules panic over rows that contradict each other, such as a task that its graph does not have:
/// the trouble of that execution, and of nobody else in the flush.
fn contradiction(panic: &(dyn Any + Send)) -> StoreError {
    StoreError::Undecodable {
        what: "what a request is about".into(),
        detail: panic_text(panic),
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a rule panicked").to_owned()
}
