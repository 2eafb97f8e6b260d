//! The examples, run as a user runs them: as processes of their own, killed at the worst moments;
//! on SQLite. `examples_postgres.rs` runs the same on PostgreSQL.
//!
//! They deal with signals, links and names that are not Unicode, as Unix has them.
#![cfg(unix)]

mod approval;
mod common;
mod ingest;
#[path = "place_sqlite.rs"]
mod place;
