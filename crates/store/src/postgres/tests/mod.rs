//! Sets read from and written to a real server. What the rules make of them is tested through the
//! store's doors, on both databases alike.

mod feeds;
mod home;
mod needs;
mod picks;
mod plans;
mod queries;
mod queue;
mod sets;
mod silence;
mod telling;
mod upkeep;
