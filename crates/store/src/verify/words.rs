//! What findings call workers and times.

use abide_core::ids::WorkerId;
use abide_core::timer::NEVER;

/// A worker, in words.
pub(super) fn worker(id: Option<i64>) -> String {
    id.map_or_else(
        || "nobody".to_owned(),
        |id| format!("worker {}", WorkerId(id)),
    )
}

/// A time as people who look into the table see it.
pub(super) fn time(at: i64) -> String {
    match at == NEVER.0 {
        true => "never".to_owned(),
        false => at.to_string(),
    }
}
