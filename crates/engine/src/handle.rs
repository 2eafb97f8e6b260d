//! The door to durable operations.

/// What a task that asks for `&TaskHandle` gets. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TaskHandle {}
