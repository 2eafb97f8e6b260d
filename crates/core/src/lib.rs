//! The pure rules of Abide: states, transitions, trigger rules, retries, replay.
//!
//! Nothing here reads a clock, a random number, a database or a runtime. Callers pass times, ids
//! and random numbers as arguments. [`table`] specifies the allowed transitions. [`task`] and
//! [`execution`] are the rules over one row. [`kernel`] is the rules over many rows, which a store
//! applies in one transaction.

pub mod context;
pub mod event;
pub mod execution;
pub mod failure;
pub mod graph;
pub mod ids;
pub mod kernel;
pub mod payload;
pub mod retry;
pub mod status;
pub mod step;
pub mod table;
pub mod task;
pub mod text;
pub mod timer;
pub mod transition;
pub mod trigger;
