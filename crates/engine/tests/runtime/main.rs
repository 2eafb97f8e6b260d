//! The behaviour of the running engine, on SQLite. One binary, since each links a database.
//! `runtime_postgres.rs` runs the same on PostgreSQL, but for what is about files.

mod attempts;
mod authoring;
mod bad_rows;
mod chains;
mod common;
mod deferral;
mod durable;
mod faults;
mod graphs;
#[path = "home_sqlite.rs"]
mod home;
mod idle;
mod peers;
mod results;
mod retention;
mod starts;
mod wakes;
mod workers;
