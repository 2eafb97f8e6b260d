//! The behaviour of the running engine. One binary, since each links a database.

mod attempts;
mod bad_rows;
mod chains;
mod common;
mod deferral;
mod durable;
mod faults;
mod graphs;
mod peers;
mod results;
mod retention;
mod starts;
mod wakes;
mod workers;
