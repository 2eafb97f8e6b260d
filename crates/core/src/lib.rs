//! The pure rules of Abide: states, transitions, trigger rules, retries, replay.
//!
//! Nothing here knows a clock, a random number, a database or a runtime; callers bring times, ids
//! and chance as arguments. [`table`] is the specification of what may follow what; [`task`] and
//! [`execution`] are the rules over one row; [`kernel`] is the rules over many, which a store
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
