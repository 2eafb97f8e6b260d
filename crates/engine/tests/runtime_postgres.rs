//! The behaviour of the running engine, on PostgreSQL: the same tests as on SQLite.

#[path = "runtime/attempts.rs"]
mod attempts;
#[path = "runtime/authoring.rs"]
mod authoring;
#[path = "runtime/common.rs"]
mod common;
#[path = "runtime/deferral.rs"]
mod deferral;
#[path = "runtime/durable.rs"]
mod durable;
#[path = "runtime/graphs.rs"]
mod graphs;
#[path = "runtime/home_postgres.rs"]
mod home;
#[path = "runtime/peers.rs"]
mod peers;
#[path = "runtime/results.rs"]
mod results;
#[path = "runtime/retention.rs"]
mod retention;
#[path = "runtime/starts.rs"]
mod starts;
#[path = "runtime/wakes.rs"]
mod wakes;
#[path = "runtime/workers.rs"]
mod workers;
