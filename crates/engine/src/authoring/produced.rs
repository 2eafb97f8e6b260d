//! The results of a successful attempt, as JSON text.

use abide_core::context::Changes;
use serde::Serialize;

use super::task_error::TaskError;

/// The error kind of a task whose output cannot be written as JSON.
pub const UNENCODABLE: &str = "unencodable";

/// The results of a successful attempt.
#[derive(Debug, Default)]
pub struct Produced {
    /// The output's JSON text; none means `null`.
    pub output: Option<String>,
    /// The task's changes to the context; none if it does not use the context or changed nothing.
    pub changes: Option<Changes>,
}

/// What a function that returned `output` produced.
pub fn produced<O: Serialize>(changes: Option<Changes>, output: &O) -> Result<Produced, TaskError> {
    let output = serde_json::to_string(output).map_err(|error| {
        let message = format!("the output can't be written as JSON: {error}");
        TaskError::fatal(TaskError::new(UNENCODABLE, message))
    })?;
    let changes = changes.filter(|changes| !changes.is_empty());
    Ok(Produced {
        output: (output != "null").then_some(output),
        changes,
    })
}
