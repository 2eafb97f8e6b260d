//! The client, on PostgreSQL: the same tests as on SQLite.

#[path = "runtime/home_postgres.rs"]
#[expect(dead_code, reason = "the other tests that share it use more of it")]
mod home;
#[path = "client/lists.rs"]
mod lists;
