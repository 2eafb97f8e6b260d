//! Trigger rules: whether a node runs once all its dependencies have ended, and if not, why not.
//!
//! A rule names dependencies and context values. A name is the id of a node among the node's
//! dependencies, or else the id of a task; a task's id means all nodes of the task among the
//! dependencies:
//!
//! | rule | holds if |
//! | --- | --- |
//! | `success(x)` | every such node completed |
//! | `failed(x)` | at least one failed or was abandoned |
//! | `skipped(x)` | at least one was skipped |
//! | `all(..)` | every part holds; also if there is none |
//! | `any(..)` | some part holds; so not if there is none |
//! | `none(..)` | no part holds; also if there is none |
//!
//! A cancelled dependency is neither a success, nor failed, nor skipped. Without a rule, a node
//! runs if every dependency completed. Nothing is stored or scheduled here.
//!
//! [`Trigger`] is a rule, [`Ending`] how a dependency ended, [`decide()`] applies a rule, [`catches()`] says
//! whether it handles a failure.

mod catches;
mod compare;
mod decide;
mod ending;
mod rule;
#[cfg(test)]
mod tests;

pub use catches::catches;
pub use decide::{Decision, MAX_SAW, SkipReason, decide};
pub use ending::Ending;
pub use rule::{ContextOp, MAX_DEPTH, MAX_VALUE_DEPTH, Trigger};
