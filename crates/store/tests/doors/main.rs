//! The store's behaviour at its doors, on SQLite. One binary, since each links a database.
//! `doors_postgres.rs` runs the same on PostgreSQL, but for what is about files.

mod actions;
mod activities;
mod asks;
#[path = "../backend/sqlite.rs"]
mod backend;
mod bad_input;
mod bad_stores;
mod beginnings;
mod contexts;
#[path = "../backend/dump.rs"]
mod dump;
mod feeds;
mod files;
mod flushes;
mod home;
mod large;
mod leftovers;
mod lists;
mod mailboxes;
mod model;
mod neighbours;
mod one_file;
mod one_step;
mod payloads;
#[path = "../backend/sqlite_rows.rs"]
mod raw;
mod refusals;
mod retention;
mod rules;
mod situations;
mod slots;
mod summaries;
mod transitions;
mod undecodable;
#[path = "../backend/value.rs"]
mod value;
mod waits;
mod words;
mod workers;
