//! The groups of figures, and what they share.

mod foreign;
mod functions;
mod graphs;
mod groups;
mod idle;
mod one_step;
mod processes;
mod wakes;

use std::path::PathBuf;
use std::pin::Pin;

use crate::report::Measured;

pub(crate) use groups::GROUPS;

/// The most that a measurement by minutes may take.
pub(crate) const MOST_MINUTES: u32 = 120;

/// Anything that stops a benchmark.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// How a group is run.
pub(crate) struct Setting {
    /// Where database files go.
    pub(crate) directory: PathBuf,
    /// The PostgreSQL database to measure, unless it is SQLite.
    pub(crate) postgres: Option<String>,
    /// Less of everything.
    pub(crate) quick: bool,
    /// Minutes of a measurement that goes by minutes.
    pub(crate) minutes: u32,
}

type Running<'a> = Pin<Box<dyn Future<Output = Result<Vec<Measured>, Error>> + 'a>>;

/// Figures that are measured together. Those that a backend doesn't have are left out.
pub(crate) struct Group {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its figures.
    pub(crate) figures: &'static [Figure],
    /// It takes long, so it is left out unless one of its figures is asked for by name.
    pub(crate) by_name_only: bool,
    /// Measures them.
    pub(crate) run: fn(&Setting) -> Running<'_>,
}

/// What is measured, and what it means. A name with an `N` stands for several figures.
pub(crate) struct Figure {
    /// Its name, which ends with its unit's kind.
    pub(crate) name: &'static str,
    /// What `--help` says of it.
    pub(crate) says: &'static str,
}

impl Figure {
    /// Whether this is part of its name, or of one that it stands for.
    pub(crate) fn is_meant(&self, part: &str) -> bool {
        let numbered = |n| self.name.replace("_N_", &format!("_{n}_")).contains(part);
        self.name.contains(part) || (1..=MOST_MINUTES).any(numbered)
    }
}

impl Setting {
    /// So many, or a fiftieth of it when it is only to be seen that it works.
    fn scaled(&self, full: u32) -> u32 {
        if self.quick {
            (full / 50).max(10)
        } else {
            full
        }
    }
}

/// That the store's rows say what was to be done.
fn expect(what: &str, found: u64, wanted: impl Into<u64>) -> Result<(), Error> {
    let wanted = wanted.into();
    if found == wanted {
        Ok(())
    } else {
        Err(format!("{what}: the store has {found}, not {wanted}").into())
    }
}

/// What a share of the times is not above; sorts them.
fn percentile(times: &mut [f64], share: f64) -> f64 {
    times.sort_by(f64::total_cmp);
    times[((times.len() - 1) as f64 * share) as usize]
}

const COMPLETED: &str = "SELECT count(*) FROM executions WHERE status = 'Completed'";
