//! The store of Abide: the one place that knows SQL.
//!
//! Two doors change state: [`Store::claim`] and [`Store::apply`]. Both hand requests to a writer
//! that runs core's rules over the rows they need, writes what changed and answers after the
//! commit; [`Store::fire_timers`] is `apply` for what fell due. Everything else reads, or keeps
//! workers, leases and workflow versions.
//!
//! Each driver is a feature: `sqlite` and `postgres`. At least one of them is needed.

use std::sync::Arc;
use std::time::Duration;

use abide_core::ids::Timestamp;
use abide_core::kernel::{Claimed, Notice};

// Without a driver, no module is compiled, so that the only error is the one that says what is missing.
cfg_if::cfg_if! {
    if #[cfg(any(feature = "sqlite", feature = "postgres"))] {
        mod activity;
        mod checks;
        mod columns;
        mod derived;
        mod driver;
        mod error;
        mod feed;
        mod flush;
        mod graphs;
        mod health;
        mod hints;
        mod job;
        mod left_aside;
        mod leftovers;
        mod listing;
        mod location;
        mod migrations;
        mod net;
        #[cfg(feature = "postgres")]
        mod postgres;
        mod queries;
        mod reading;
        mod reads;
        mod retention;
        mod rollup;
        mod rows;
        #[cfg(feature = "sqlite")]
        mod sqlite;
        mod stats;
        mod steady;
        mod store;
        mod tables;
        mod upkeep;
        #[cfg(feature = "sqlite")]
        mod verify;
        mod views;
        mod within;
        mod words;
        mod writes;

        pub use activity::{BlockedOn, ExecutionSubStatus};
        pub use error::{ApplyError, StoreError};
        pub use health::{Health, Ready, TableHealth};
        pub use hints::{EndWatch, Hints};
        #[cfg(feature = "postgres")]
        pub use postgres::{Tenant, TenantCreated, TenantRole, create_tenant, drop_tenant, list_tenants};
        pub use rollup::{Rollup, TaskGroup, TaskTimes};
        pub use stats::Stats;
        pub use steady::system_now;
        pub use store::Store;
        pub use upkeep::{Liveness, RecoverySummary};
        #[cfg(feature = "sqlite")]
        pub use verify::{
            Checked, Finding, Integrity, Invariant, Subject, VerifyOptions, VerifyReport, verify_file,
        };
        pub use views::{
            ContextView, EndView, EventFilter, EventView, ExecutionFilter, ExecutionView, NewWorker,
            TaskInputs, TaskView, VersionInfo, WorkerRow, WorkflowKind,
        };
        pub use within::Transaction;
    } else {
        compile_error!("a store is in a database: enable the feature `sqlite`, `postgres`, or both");
    }
}

/// Where the store gets the time from.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The owner may read and write, and nobody else.
const DEFAULT_FILE_MODE: u32 = 0o600;

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
    /// SQLite: the permissions of a file that is created, for the database, its log and the locks
    /// beside it. Files that exist keep theirs. Must let the owner read and write. Default:
    /// `0o600`, so that only the owner may. Means nothing where the system has no such permissions.
    pub file_mode: u32,
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
            file_mode: DEFAULT_FILE_MODE,
            committers: 2,
            poll: Duration::from_secs(10),
            payload_limit_bytes: abide_core::payload::DEFAULT_PAYLOAD_LIMIT_BYTES,
        }
    }
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
