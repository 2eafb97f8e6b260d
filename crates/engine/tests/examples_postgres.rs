//! The examples on PostgreSQL: the same tests as on SQLite.
#![cfg(unix)]

#[path = "examples/approval.rs"]
mod approval;
#[path = "examples/common.rs"]
mod common;
#[path = "examples/ingest.rs"]
mod ingest;
#[path = "examples/place_postgres.rs"]
mod place;
