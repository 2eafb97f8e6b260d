//! The client, on SQLite. `client_postgres.rs` runs the same on PostgreSQL.

#[path = "runtime/home_sqlite.rs"]
#[expect(dead_code, reason = "the other tests that share it use more of it")]
mod home;
#[path = "client/lists.rs"]
mod lists;
