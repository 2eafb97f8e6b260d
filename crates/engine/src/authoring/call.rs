//! One call of a task's function, while its parameters are made.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::context::Context;
use super::erased::Invocation;
use super::given::Given;
use crate::handle::TaskHandle;

/// An invocation of one task, from which the parameters are taken one by one.
pub struct Call {
    pub(super) given: Given,
    context: Option<Map<String, Value>>,
    handle: TaskHandle,
}

impl Call {
    pub(crate) fn new(task: Arc<str>, invocation: Invocation) -> Call {
        let Invocation {
            input,
            context,
            outputs,
            state,
            handle,
        } = invocation;
        Call {
            given: Given {
                task,
                input,
                outputs,
                state,
            },
            context,
            handle,
        }
    }

    /// The context with the changes of every ancestor. Only the first call gets it; a second call
    /// gets an empty context.
    pub fn context<T>(&mut self) -> Context<T> {
        Context::of_values(self.context.take().unwrap_or_default())
    }

    /// The handle for durable operations.
    pub fn handle(&self) -> TaskHandle {
        self.handle.clone()
    }
}
