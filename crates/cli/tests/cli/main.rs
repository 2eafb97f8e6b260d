//! The `abide` command as its users meet it: the real program, on stores that were written through
//! the store's own doors; on SQLite. `cli_postgres.rs` runs the same on PostgreSQL, but for what is
//! about files.

mod actions;
mod describe;
mod events;
mod failures;
mod files;
mod formats;
mod list;
#[path = "place_sqlite.rs"]
mod place;
mod stats;
mod support;
mod tasks;
mod tenant;
mod verify;
mod waiting;
