//! Counters of what a store did, for tests, benchmarks and monitoring.

use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug, Default)]
pub(crate) struct Counters {
    commits: AtomicU64,
    written: AtomicU64,
    jobs: AtomicU64,
    reads: AtomicU64,
    statements: AtomicU64,
    round_trips: AtomicU64,
    deadlocks: AtomicU64,
}

/// What this process asked of the store since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Transactions committed.
    pub commits: u64,
    /// Those of them that wrote something.
    pub written: u64,
    /// Requests in them.
    pub requests: u64,
    /// Queries on read connections.
    pub reads: u64,
    /// PostgreSQL: statements of any kind.
    pub statements: u64,
    /// PostgreSQL: times that statements were sent, so many at once, and their answers waited for.
    pub round_trips: u64,
    /// PostgreSQL: transactions that the server ended because others waited in a circle.
    pub deadlocks: u64,
}

impl Counters {
    pub(crate) fn add_commit(&self, jobs: usize, writes: bool) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.written.fetch_add(writes.into(), Ordering::Relaxed);
        self.jobs.fetch_add(jobs as u64, Ordering::Relaxed);
    }

    pub(crate) fn add_read(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn add_statements(&self, statements: usize) {
        self.statements
            .fetch_add(statements as u64, Ordering::Relaxed);
        self.round_trips.fetch_add(1, Ordering::Relaxed);
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn add_deadlock(&self) {
        self.deadlocks.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Stats {
        Stats {
            commits: self.commits.load(Ordering::Relaxed),
            written: self.written.load(Ordering::Relaxed),
            requests: self.jobs.load(Ordering::Relaxed),
            reads: self.reads.load(Ordering::Relaxed),
            statements: self.statements.load(Ordering::Relaxed),
            round_trips: self.round_trips.load(Ordering::Relaxed),
            deadlocks: self.deadlocks.load(Ordering::Relaxed),
        }
    }
}
