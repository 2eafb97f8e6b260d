//! The pure rules of Abide.

pub mod context;
pub mod failure;
pub mod graph;
pub mod retry;
pub mod text;
pub mod trigger;
