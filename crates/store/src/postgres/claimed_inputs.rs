//! Reads the inputs of the tasks that a flush claims, in the flush's own transaction, so that a worker gets
//! them with the answer to its claim. Large inputs are left out: a worker reads those when the task's code
//! asks for them.

use std::sync::LazyLock;

use abide_core::ids::TaskKey;
use abide_core::kernel::{Claimed, Reply};

use crate::job::Done;
use crate::rows::Columns;

use super::rows::{Cells, by_place};
use super::statement::{Param, Row, Statement};

/// The longest input that comes with a claim, in bytes.
const LONGEST: usize = 4096;

/// Claims whose input may be stored. What a start claimed has what was given to the start.
fn claims(done: &mut [Done]) -> impl Iterator<Item = &mut Claimed> {
    let claimed = done.iter_mut().flat_map(|done| match done {
        Done::Claim(claims) => claims.claimed.as_mut_slice(),
        Done::Apply(Ok(Reply::Finished(finished))) => finished.claimed.as_mut_slice(),
        _ => &mut [],
    });
    claimed.filter(|claimed| claimed.input.is_none())
}

/// The statement that reads the inputs of what was claimed, if anything was.
pub(crate) fn statement(done: &mut [Done]) -> Option<Statement<'static>> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "SELECT u.at, coalesce(t.input, e.input) \
             FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS u (execution, number, at) \
             JOIN ~executions e ON e.id = u.execution \
             JOIN ~task_executions t ON t.execution = e.id AND t.number = u.number \
             WHERE octet_length(coalesce(t.input, e.input)) <= {LONGEST}"
        )
    });
    let keys: Vec<TaskKey> = claims(done).map(|claimed| claimed.task.key).collect();
    if keys.is_empty() {
        return None;
    }
    let executions = keys.iter().map(|key| Some(key.execution.0)).collect();
    let numbers = keys.iter().map(|key| Some(key.number.into())).collect();
    let params = vec![Param::Ints(executions), Param::Ints(numbers)];
    Some(Statement::new(&SQL, params))
}

/// Hands out what it answered. An input that cannot be read stays where it is: whoever asks for it
/// learns why.
pub(crate) fn hand_out(done: &mut [Done], rows: Vec<Row>) {
    let places = claims(done).count();
    let found = by_place(places, rows, Cells::payload);
    for (claimed, found) in claims(done).zip(found) {
        claimed.input = found.ok().and_then(|mut found| found.pop().flatten());
    }
}
