//! The behaviour of the running engine. One binary, since each links a database.

mod attempts;
mod chains;
mod common;
mod deferral;
mod durable;
mod faults;
mod graphs;
mod results;
mod starts;
mod wakes;
mod workers;
