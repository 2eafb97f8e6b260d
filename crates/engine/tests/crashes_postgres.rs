//! Processes that are killed and started again, on PostgreSQL: the same tests as on SQLite.

#[path = "crashes/blame.rs"]
mod blame;
#[path = "crashes/child.rs"]
mod child;
#[path = "crashes/kill_points.rs"]
mod kill_points;
#[path = "crashes/place_postgres.rs"]
mod place;
#[path = "crashes/record.rs"]
mod record;
#[path = "crashes/scene.rs"]
mod scene;
#[path = "crashes/shim.rs"]
mod shim;
#[path = "crashes/storm.rs"]
mod storm;
