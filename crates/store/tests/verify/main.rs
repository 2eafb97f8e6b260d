//! Verification finds what is wrong with a store, and nothing where nothing is; on SQLite.
//! `verify_postgres.rs` runs the same on PostgreSQL, but for what is about files.

#[path = "../backend/sqlite.rs"]
mod backend;
mod cells;
mod damage;
#[path = "../backend/dump.rs"]
#[expect(dead_code, reason = "other tests compare everything that is stored")]
mod dump;
mod fixture;
mod home;
#[path = "../backend/sqlite_kept.rs"]
mod kept;
mod ops;
mod planted;
mod random;
#[path = "../backend/sqlite_rows.rs"]
mod raw;
mod regressions;
mod scenario;
mod schema;
mod shapes;
#[path = "../backend/value.rs"]
#[expect(dead_code, reason = "other tests look at single columns")]
mod value;
mod world;
