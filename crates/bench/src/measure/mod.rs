//! The groups of figures, and what they share.

mod functions;
mod graphs;
mod idle;
mod one_step;

use std::path::{Path, PathBuf};

use abide::{Engine, EngineBuilder};
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use crate::report::Measured;
use crate::workloads;

/// Anything that stops a benchmark.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// Slots of the measured worker.
const SLOTS: usize = 512;

/// How a group is run.
pub(crate) struct Setting {
    /// Where databases go.
    pub(crate) directory: PathBuf,
    /// Less of everything.
    pub(crate) quick: bool,
}

/// Figures that are measured together.
pub(crate) struct Group {
    /// Its name.
    pub(crate) name: &'static str,
    /// The names of its figures.
    pub(crate) figures: &'static [&'static str],
    /// Measures them.
    pub(crate) run: fn(&Setting) -> Result<Vec<Measured>, Error>,
}

/// Every group, in the order of the table.
pub(crate) const GROUPS: &[Group] = &[
    Group {
        name: "one_step",
        figures: &[
            "one_step_workflows_per_s",
            "bytes_per_workflow",
            "commits_per_1k_workflows",
        ],
        run: one_step::submitted_while_running,
    },
    Group {
        name: "backlog",
        figures: &["backlog_workflows_per_s"],
        run: one_step::backlog,
    },
    Group {
        name: "chain",
        figures: &["chain_step_ms"],
        run: graphs::chain,
    },
    Group {
        name: "chains",
        figures: &["chains_steps_per_s"],
        run: graphs::chains,
    },
    Group {
        name: "fanout_1k",
        figures: &["fanout_1k_s"],
        run: |setting| graphs::fanout(setting, "fanout_1k_s", 1_000),
    },
    Group {
        name: "fanout_10k",
        figures: &["fanout_10k_s"],
        run: |setting| graphs::fanout(setting, "fanout_10k_s", 10_000),
    },
    Group {
        name: "fanout_100k",
        figures: &["fanout_100k_s", "fanout_100k_rss_mb"],
        run: graphs::largest_fanout,
    },
    Group {
        name: "function",
        figures: &["function_step_ms"],
        run: functions::one,
    },
    Group {
        name: "functions",
        figures: &["functions_steps_per_s"],
        run: functions::many,
    },
    Group {
        name: "idle",
        figures: &["idle_start_to_done_p50_ms", "idle_start_to_done_p99_ms"],
        run: idle::start_to_done,
    },
    Group {
        name: "idle_cpu",
        figures: &["idle_cpu_pct"],
        run: idle::cpu,
    },
];

impl Setting {
    /// So many, or a fiftieth of it when it is only to be seen that it works.
    fn scaled(&self, full: u64) -> u64 {
        if self.quick {
            (full / 50).max(10)
        } else {
            full
        }
    }
}

/// A new database for one measurement.
struct Home {
    directory: TempDir,
}

impl Home {
    fn new(setting: &Setting) -> Result<Home, Error> {
        Ok(Home {
            directory: tempfile::tempdir_in(&setting.directory)?,
        })
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("bench.db")
    }

    fn builder(&self) -> EngineBuilder {
        Engine::builder(format!("sqlite:{}", self.path().display()))
            .register::<workloads::one_step>()
            .register::<workloads::chain::Workflow>()
            .register::<workloads::fanout::Workflow>()
            .register::<workloads::function>()
            .max_concurrent_tasks(SLOTS)
    }

    /// A database with the schema and nothing in it, for a floor.
    fn empty(setting: &Setting, runtime: &Runtime) -> Result<Home, Error> {
        let home = Home::new(setting)?;
        runtime.block_on(async {
            let engine = home.builder().connect().await?;
            engine.store().close().await;
            Ok::<_, Error>(())
        })?;
        Ok(home)
    }

    fn count(&self, sql: &str) -> Result<u64, Error> {
        count(&self.path(), sql)
    }
}

fn count(path: &Path, sql: &str) -> Result<u64, Error> {
    let connection = Connection::open(path)?;
    Ok(u64::try_from(
        connection.query_row(sql, [], |row| row.get::<_, i64>(0))?,
    )?)
}

/// That the store's rows say what was to be done.
fn expect(what: &str, found: u64, wanted: u64) -> Result<(), Error> {
    if found == wanted {
        Ok(())
    } else {
        Err(format!("{what}: the store has {found}, not {wanted}").into())
    }
}

fn runtime() -> Result<Runtime, Error> {
    Ok(Builder::new_multi_thread().enable_all().build()?)
}

const COMPLETED: &str = "SELECT count(*) FROM executions WHERE status = 'Completed'";
