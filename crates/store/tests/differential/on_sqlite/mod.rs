//! A SQLite file, and everything in it.

#[path = "../../backend/sqlite.rs"]
pub(crate) mod backend;
#[path = "../../backend/dump.rs"]
mod dump;
#[path = "../../backend/sqlite_rows.rs"]
#[expect(dead_code, reason = "other tests edit rows")]
mod raw;
