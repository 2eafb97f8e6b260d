//! The store of Abide: the one place that knows SQL.
//!
//! Two doors change state: [`Store::claim`] and [`Store::apply`]. Both hand requests to a writer
//! that runs core's rules over the rows they need, writes what changed and answers after the
//! commit; [`Store::fire_timers`] is `apply` for what fell due. Everything else reads, or keeps
//! workers, leases and workflow versions.

mod answer;
mod checks;
mod derived;
mod driver;
mod error;
mod feed;
mod flush;
mod graphs;
mod health;
mod hints;
mod job;
mod listing;
mod postgres;
mod reading;
mod retention;
mod rollup;
mod rows;
mod sqlite;
mod stats;
mod store;
mod upkeep;
mod verify;
mod views;
mod within;
mod words;

use std::sync::Arc;
use std::time::Duration;

use abide_core::ids::Timestamp;
use abide_core::kernel::{Claimed, Notice};

pub use error::{ApplyError, StoreError};
pub use health::{Health, Ready, TableHealth};
pub use hints::{EndWatch, Hints};
pub use postgres::{Tenant, TenantCreated, TenantRole, create_tenant, drop_tenant, list_tenants};
pub use rollup::{ExecutionSubStatus, Rollup, TaskGroup, TaskTimes};
pub use stats::Stats;
pub use store::Store;
pub use upkeep::{Liveness, RecoverySummary};
pub use verify::{
    Checked, Finding, Integrity, Invariant, Subject, VerifyOptions, VerifyReport, verify_file,
};
pub use views::{
    ContextView, EndView, EventFilter, EventView, ExecutionFilter, ExecutionView, NewWorker,
    TaskInputs, TaskView, VersionInfo, WorkerRow, WorkflowKind,
};
pub use within::Transaction;

/// Where the store gets the time from.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// How a store is opened.
#[derive(Clone)]
pub struct StoreOptions {
    /// The time of every write. Default: the system's clock on SQLite, the database's on PostgreSQL.
    pub now: Option<Clock>,
    /// How long a write waits for another process that writes, and whatever is asked for a server that
    /// is away.
    /// Default: 5 seconds.
    pub busy_timeout: Duration,
    /// Whether a file or schema that does not exist is created. Default: yes.
    pub create: bool,
    /// PostgreSQL: how many transactions may be under way at once. Default: 2.
    pub committers: usize,
    /// PostgreSQL: how often a process looks for what it may not have been told of. It stands behind
    /// the notifications, which take milliseconds. Default: 10 seconds, give or take a fifth.
    pub poll: Duration,
    /// The most bytes of a payload. Default: 4 MiB.
    pub payload_limit_bytes: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions {
            now: None,
            busy_timeout: Duration::from_secs(5),
            create: true,
            committers: 2,
            poll: Duration::from_secs(10),
            payload_limit_bytes: abide_core::payload::DEFAULT_PAYLOAD_LIMIT_BYTES,
        }
    }
}

/// The system's clock.
pub fn system_now() -> Timestamp {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp(since_epoch.map_or(0, |elapsed| {
        i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX)
    }))
}

/// What a claim brought.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    /// Tasks to run.
    pub claimed: Vec<Claimed>,
    /// What was in the worker's inbox.
    pub notices: Vec<Notice>,
    /// Whether asking again at once may bring more.
    pub more: bool,
}

/// What firing timers did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fired {
    /// How many were acted on.
    pub fired: u32,
    /// When the next one is due.
    pub next_due: Option<Timestamp>,
}
