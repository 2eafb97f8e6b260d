//! The `abide` command as its users meet it: the real program, on stores that were written through
//! the store's own doors.

mod actions;
mod describe;
mod events;
mod failures;
mod formats;
mod list;
mod stats;
mod support;
mod tasks;
mod tenant;
mod verify;
mod waiting;
