//! The store's behaviour at its doors, on PostgreSQL: the same tests as on SQLite.

#[path = "doors/actions.rs"]
mod actions;
#[path = "doors/asks.rs"]
mod asks;
#[path = "backend/postgres.rs"]
mod backend;
#[path = "doors/bad_input.rs"]
mod bad_input;
#[path = "doors/beginnings.rs"]
mod beginnings;
#[path = "doors/contexts.rs"]
mod contexts;
#[path = "doors/damage.rs"]
mod damage;
#[path = "backend/dump.rs"]
mod dump;
#[path = "doors/feeds.rs"]
mod feeds;
#[path = "doors/flushes.rs"]
mod flushes;
#[path = "doors/home.rs"]
mod home;
#[path = "doors/large.rs"]
mod large;
#[path = "doors/leftovers.rs"]
mod leftovers;
#[path = "doors/lists.rs"]
mod lists;
#[path = "doors/mailboxes.rs"]
mod mailboxes;
#[path = "doors/model.rs"]
mod model;
#[path = "doors/neighbours.rs"]
mod neighbours;
#[path = "doors/one_step.rs"]
mod one_step;
#[path = "doors/orphan_search.rs"]
mod orphan_search;
#[path = "backend/postgres_rows.rs"]
mod raw;
#[path = "doors/refusals.rs"]
mod refusals;
#[path = "doors/retention.rs"]
mod retention;
#[path = "doors/rounds.rs"]
mod rounds;
#[path = "doors/rules.rs"]
mod rules;
#[path = "doors/situations.rs"]
mod situations;
#[path = "doors/slots.rs"]
mod slots;
#[path = "doors/summaries.rs"]
mod summaries;
#[path = "doors/transitions.rs"]
mod transitions;
#[path = "doors/undecodable.rs"]
mod undecodable;
#[path = "backend/value.rs"]
mod value;
#[path = "doors/waits.rs"]
mod waits;
#[path = "doors/words.rs"]
mod words;
#[path = "doors/workers.rs"]
mod workers;
