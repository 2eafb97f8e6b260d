//! The examples, run as a user runs them: as processes of their own, killed at the worst moments.
//!
//! They deal with signals, links and names that are not Unicode, as Unix has them.
#![cfg(unix)]

mod approval;
mod common;
mod ingest;
