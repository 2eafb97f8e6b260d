//! A PostgreSQL schema, and everything in it.

#[path = "../../backend/postgres.rs"]
pub(crate) mod backend;
#[path = "../../backend/dump.rs"]
mod dump;
#[path = "../../backend/postgres_rows.rs"]
#[expect(dead_code, reason = "other tests edit rows")]
mod raw;
