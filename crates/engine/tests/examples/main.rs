//! The examples, run as a user runs them: as processes of their own, killed at the worst moments.

mod approval;
mod common;
mod ingest;
