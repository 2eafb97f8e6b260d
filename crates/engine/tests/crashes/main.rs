//! Processes that are killed and started again, on SQLite. One binary, which is also the program that it kills: run
//! with `ABIDE_CHILD` set, one of its tests is a process that runs workflows. `crashes_postgres.rs` runs the same on
//! PostgreSQL, but for what is about files; what is about servers is in `faults`.

mod blame;
mod child;
mod herd;
mod kill_points;
#[path = "place_sqlite.rs"]
mod place;
mod power;
mod record;
mod scene;
mod several;
mod shim;
mod storm;
mod trouble;
