//! The store's behaviour at its doors. One binary, since each links a database.

mod bad_input;
mod bad_stores;
mod beginnings;
mod contexts;
mod flushes;
mod home;
mod large;
mod leftovers;
mod mailboxes;
mod model;
mod neighbours;
mod one_step;
mod refusals;
mod rules;
mod transitions;
mod undecodable;
mod workers;
