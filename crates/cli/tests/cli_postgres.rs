//! The `abide` command as its users meet it, on PostgreSQL: the same tests as on SQLite.

#[path = "cli/actions.rs"]
mod actions;
#[path = "cli/describe.rs"]
mod describe;
#[path = "cli/events.rs"]
mod events;
#[path = "cli/failures.rs"]
mod failures;
#[path = "cli/formats.rs"]
mod formats;
#[path = "cli/list.rs"]
mod list;
#[path = "cli/place_postgres.rs"]
mod place;
#[path = "cli/stats.rs"]
mod stats;
#[path = "cli/support.rs"]
mod support;
#[path = "cli/tasks.rs"]
mod tasks;
#[path = "cli/verify.rs"]
mod verify;
#[path = "cli/waiting.rs"]
mod waiting;
