//! The behaviour of the running engine, on SQLite. One binary, since each links a database.
//! `runtime_postgres.rs` runs the same on PostgreSQL, but for what is about files.

mod attempts;
mod authoring;
mod backlog;
mod bad_rows;
mod captured;
mod chains;
mod common;
mod deferral;
mod depth;
mod durable;
mod faults;
mod graphs;
#[path = "home_sqlite.rs"]
mod home;
mod idle;
mod limits;
mod logs;
mod one_file;
mod peers;
mod programs;
mod races;
mod results;
mod retention;
mod starts;
mod steps;
mod wakes;
mod workers;
