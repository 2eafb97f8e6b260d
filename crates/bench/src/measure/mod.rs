//! The groups of figures, and what they share.

mod functions;
mod graphs;
mod idle;
mod one_step;
mod processes;

use std::path::PathBuf;
use std::pin::Pin;

use crate::report::Measured;

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
}

type Running<'a> = Pin<Box<dyn Future<Output = Result<Vec<Measured>, Error>> + 'a>>;

/// Figures that are measured together. Those that a backend doesn't have are left out.
pub(crate) struct Group {
    /// Its name.
    pub(crate) name: &'static str,
    /// The names of its figures.
    pub(crate) figures: &'static [&'static str],
    /// Measures them.
    pub(crate) run: fn(&Setting) -> Running<'_>,
}

/// Every group, in the order of the table.
pub(crate) const GROUPS: &[Group] = &[
    Group {
        name: "one_step",
        figures: &[
            "one_step_workflows_per_s",
            "bytes_per_workflow",
            "commits_per_1k_workflows",
            "wal_bytes_per_workflow",
            "statements_per_1k_tasks",
        ],
        run: |setting| Box::pin(one_step::submitted_while_running(setting)),
    },
    Group {
        name: "backlog",
        figures: &["backlog_workflows_per_s"],
        run: |setting| Box::pin(one_step::backlog(setting)),
    },
    Group {
        name: "chain",
        figures: &["chain_step_ms"],
        run: |setting| Box::pin(graphs::chain(setting)),
    },
    Group {
        name: "chains",
        figures: &["chains_steps_per_s"],
        run: |setting| Box::pin(graphs::chains(setting)),
    },
    Group {
        name: "fanout_1k",
        figures: &["fanout_1k_s"],
        run: |setting| Box::pin(graphs::fanout(setting, "fanout_1k_s", 1_000)),
    },
    Group {
        name: "fanout_10k",
        figures: &["fanout_10k_s"],
        run: |setting| Box::pin(graphs::fanout(setting, "fanout_10k_s", 10_000)),
    },
    Group {
        name: "fanout_100k",
        figures: &["fanout_100k_s", "fanout_100k_rss_mb"],
        run: |setting| Box::pin(graphs::largest_fanout(setting)),
    },
    Group {
        name: "function",
        figures: &["function_step_ms"],
        run: |setting| Box::pin(functions::one(setting)),
    },
    Group {
        name: "functions",
        figures: &["functions_steps_per_s"],
        run: |setting| Box::pin(functions::many(setting)),
    },
    Group {
        name: "idle",
        figures: &["idle_start_to_done_p50_ms", "idle_start_to_done_p99_ms"],
        run: |setting| Box::pin(idle::start_to_done(setting)),
    },
    Group {
        name: "idle_cpu",
        figures: &["idle_cpu_pct"],
        run: |setting| Box::pin(idle::cpu(setting)),
    },
    Group {
        name: "ready_to_running",
        figures: &["ready_to_running_p50_ms", "ready_to_running_p99_ms"],
        run: |setting| Box::pin(processes::ready_to_running(setting)),
    },
    Group {
        name: "workers",
        figures: &[
            "workers_1_workflows_per_s",
            "workers_2_workflows_per_s",
            "workers_4_workflows_per_s",
            "workers_8_workflows_per_s",
        ],
        run: |setting| Box::pin(processes::workers(setting)),
    },
    Group {
        name: "idle_queries",
        figures: &["idle_queries_per_s"],
        run: |setting| Box::pin(idle::queries(setting)),
    },
];

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
