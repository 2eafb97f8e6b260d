//! How a store is verified.

use std::time::Duration;

/// How the database checks itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Integrity {
    /// Every page and every index entry.
    #[default]
    Full,
    /// Every page, but not whether indexes match their tables: faster.
    Quick,
    /// Not at all.
    Skip,
}

/// How a store is verified.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// The most findings that are kept; more are counted. Default: 1000.
    pub max_findings: usize,
    /// How the database checks itself. Default: fully.
    pub integrity: Integrity,
    /// How long to wait for a lock that another process holds. Default: 5 seconds.
    pub busy_timeout: Duration,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        VerifyOptions {
            max_findings: 1000,
            integrity: Integrity::Full,
            busy_timeout: Duration::from_secs(5),
        }
    }
}
