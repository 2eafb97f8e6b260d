//! The behaviour of the running engine, on PostgreSQL: the same tests as on SQLite.

#[path = "runtime/attempts.rs"]
mod attempts;
#[path = "runtime/authoring.rs"]
mod authoring;
#[path = "runtime/backlog.rs"]
mod backlog;
#[path = "runtime/captured.rs"]
mod captured;
#[path = "runtime/common.rs"]
mod common;
#[path = "runtime/deferral.rs"]
mod deferral;
#[path = "runtime/depth.rs"]
mod depth;
#[path = "runtime/durable.rs"]
mod durable;
#[path = "runtime/graphs.rs"]
mod graphs;
#[path = "runtime/home_postgres.rs"]
mod home;
#[path = "runtime/limits.rs"]
mod limits;
#[path = "runtime/logs.rs"]
mod logs;
#[path = "runtime/peers.rs"]
mod peers;
#[path = "runtime/programs.rs"]
mod programs;
#[path = "runtime/races.rs"]
mod races;
#[path = "runtime/results.rs"]
mod results;
#[path = "runtime/retention.rs"]
mod retention;
#[path = "runtime/starts.rs"]
mod starts;
#[path = "runtime/steps.rs"]
mod steps;
#[path = "runtime/wakes.rs"]
mod wakes;
#[path = "runtime/workers.rs"]
mod workers;
