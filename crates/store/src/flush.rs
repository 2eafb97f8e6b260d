//! One flush: requests run one after another over a working set, reading what they miss, and
//! answer when everything is committed. Knows no SQL: the driver reads and writes.

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
        match apply(working, request) {
            Ok(reply) => return Ok(reply),
            Err(Stop::Refused(refusal)) => return Err(refusal.into()),
            Err(Stop::Missing(needs)) => {
                for need in &needs {
                    load(working, need)?;
                }
            }
        }
    }
    Err(StoreError::Internal(format!("a request never found what it needs: {request:?}")).into())
}
