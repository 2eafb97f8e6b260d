//! PostgreSQL for tests: one server for a whole run, in which every test has a schema of its own;
//! and servers of a test's own, to be killed and started again.
//!
//! A server lives in a temporary directory, listens on a free port of 127.0.0.1, never runs as root,
//! and ends with the process that started it, whatever ends that one.

mod binaries;
mod pooler;
mod process;
mod schema;
mod server;
mod structures;
mod tls;
mod url;

pub use pooler::{Pooler, Pooling};
pub use process::send as send_signal;
pub use schema::{Schema, fresh_schema, shared_url};
pub use server::{Durability, Server};
pub use structures::{Structures, check_structures};
pub use url::{client, plain_url, with_parameter};
