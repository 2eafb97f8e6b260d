//! What verification found: findings, each with the invariant that is broken, whose row it is and a
//! sentence; and what was looked at.

use std::fmt;

use abide_core::ids::{ExecutionId, TaskKey, VersionId, WorkerId};
use abide_core::texts;
use serde::Serialize;

texts! {
    /// An invariant of the store, by its number in the published contract.
    Invariant {
        /// Every acknowledged write exists, and can be read.
        I1 = "I1",
        /// One live execution for each instance.
        I2 = "I2",
        /// At most one terminal event, nothing after it but discarded late results.
        I3 = "I3",
        /// At most one result for each step; no more attempts than retries and crashes allow.
        I4 = "I4",
        /// A history is numbered 1 to n and made of legal moves, each from where the last one led.
        I5 = "I5",
        /// Every stored status, counter, time and duration is what history says.
        I6 = "I6",
        /// No transition by anyone but the holder of the task, with its epoch.
        I7 = "I7",
        /// Nothing open is forgotten: something will go on with it. The queue names only what can
        /// be claimed.
        I8 = "I8",
        /// The database's own check passes, and its schema is the one that this version makes.
        I12 = "I12",
    }
}

impl Invariant {
    /// What it says, in a few words.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::I1 => "what was acknowledged exists",
            Self::I2 => "one live execution per instance",
            Self::I3 => "one end, and nothing after it",
            Self::I4 => "one result per step, no attempt too many",
            Self::I5 => "history without gap, of legal moves",
            Self::I6 => "rows are what history says",
            Self::I7 => "only the holder of a task writes it",
            Self::I8 => "nothing is forgotten",
            Self::I12 => "the database is sound",
        }
    }
}

/// Whose row a finding is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Subject {
    /// The database as a whole.
    Database,
    /// A workflow version.
    Version {
        /// Its id.
        version: VersionId,
    },
    /// An instance: its executions together.
    Instance {
        /// Its id.
        instance: String,
    },
    /// The signals of one name to an instance.
    Mailbox {
        /// The instance.
        instance: String,
        /// The signal's name.
        name: String,
    },
    /// An execution.
    Execution {
        /// Its id.
        execution: ExecutionId,
    },
    /// A task of an execution.
    Task {
        /// The execution.
        execution: ExecutionId,
        /// Its number.
        task: u32,
    },
    /// A worker.
    Worker {
        /// Its id.
        worker: WorkerId,
    },
}

impl Subject {
    /// An execution.
    pub fn execution(execution: ExecutionId) -> Subject {
        Subject::Execution { execution }
    }

    /// A task; number 0 is its execution.
    pub fn task(key: TaskKey) -> Subject {
        let TaskKey { execution, number } = key;
        match number {
            0 => Subject::Execution { execution },
            task => Subject::Task { execution, task },
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database => f.write_str("database"),
            Self::Version { version } => write!(f, "workflow version {}", version.0),
            Self::Instance { instance } => write!(f, "instance `{}`", instance.escape_debug()),
            Self::Mailbox { instance, name } => write!(
                f,
                "signal `{}` of instance `{}`",
                name.escape_debug(),
                instance.escape_debug()
            ),
            Self::Execution { execution } => write!(f, "execution {execution}"),
            Self::Task { execution, task } => {
                write!(f, "task {}", TaskKey::new(*execution, *task))
            }
            Self::Worker { worker } => write!(f, "worker {worker}"),
        }
    }
}

/// One broken invariant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which one.
    pub invariant: Invariant,
    /// Whose row.
    pub subject: Subject,
    /// A sentence that names what is stored and what should be.
    pub what: String,
    /// What would mend it, where that is plain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.invariant, self.subject, self.what)?;
        match &self.mend {
            Some(mend) => write!(f, " (to mend it, {mend})"),
            None => Ok(()),
        }
    }
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Executions.
    pub executions: u64,
    /// Of those, how many have no history any more; the rest of them was checked.
    pub without_history: u64,
    /// Executions whose large graph is still being written: not checked.
    pub unpublished: u64,
    /// Instances.
    pub instances: u64,
    /// Tasks.
    pub tasks: u64,
    /// Events.
    pub events: u64,
    /// Recorded operations.
    pub steps: u64,
    /// Outbox rows.
    pub outbox: u64,
    /// Timers.
    pub timers: u64,
    /// Signals.
    pub signals: u64,
    /// Payloads kept apart that a checked row refers to.
    pub payloads: u64,
    /// Workers.
    pub workers: u64,
    /// Workflow versions.
    pub versions: u64,
}

/// What verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// The broken invariants, in the order in which they were met.
    pub findings: Vec<Finding>,
    /// How many more there were than are kept.
    pub more: u64,
    /// How much was looked at.
    pub checked: Checked,
}

impl VerifyReport {
    /// Whether every invariant holds.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty() && self.more == 0
    }
}

/// The findings, one a line, then a summary.
impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        if self.more > 0 {
            writeln!(f, "... and {} more", self.more)?;
        }
        let c = &self.checked;
        writeln!(
            f,
            "checked {} executions of {} instances, {} tasks, {} events, {} steps, {} signals, {} outbox rows, {} \
             timers, {} payloads, {} workers, {} workflow versions",
            c.executions,
            c.instances,
            c.tasks,
            c.events,
            c.steps,
            c.signals,
            c.outbox,
            c.timers,
            c.payloads,
            c.workers,
            c.versions
        )?;
        if c.without_history > 0 {
            let pruned = c.without_history;
            writeln!(
                f,
                "{pruned} executions have no history any more: their rows were not compared with it"
            )?;
        }
        if c.unpublished > 0 {
            writeln!(
                f,
                "{} executions are still being written and were skipped",
                c.unpublished
            )?;
        }
        match self.findings.len() as u64 + self.more {
            0 => f.write_str("clean: every invariant holds"),
            1 => f.write_str("1 violation"),
            many => write!(f, "{many} violations"),
        }
    }
}

/// What is wrong, before it is known whose row it is.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) invariant: Invariant,
    pub(super) what: String,
    pub(super) mend: Option<String>,
}

/// Problems of one subject.
#[derive(Debug, Default)]
pub(super) struct Problems(pub(super) Vec<Problem>);

impl Problems {
    pub(super) fn add(&mut self, invariant: Invariant, what: impl Into<String>) {
        self.0.push(Problem {
            invariant,
            what: what.into(),
            mend: None,
        });
    }

    pub(super) fn mendable(
        &mut self,
        invariant: Invariant,
        what: impl Into<String>,
        mend: impl Into<String>,
    ) {
        self.0.push(Problem {
            invariant,
            what: what.into(),
            mend: Some(mend.into()),
        });
    }

    /// A stored column that differs from what history says.
    pub(super) fn differs(
        &mut self,
        column: &str,
        stored: impl fmt::Display,
        history: impl fmt::Display,
    ) {
        self.mendable(
            Invariant::I6,
            format!("{column} is {stored}, history says {history}"),
            format!("set {column} to {history}"),
        );
    }
}

/// Collects findings, up to a limit.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) kept: Vec<Finding>,
    pub(super) more: u64,
    limit: usize,
}

impl Findings {
    pub(super) fn new(limit: usize) -> Findings {
        Findings {
            kept: Vec::new(),
            more: 0,
            limit,
        }
    }

    pub(super) fn add(&mut self, invariant: Invariant, subject: Subject, what: impl Into<String>) {
        let problem = Problem {
            invariant,
            what: what.into(),
            mend: None,
        };
        self.push(subject, problem);
    }

    /// Takes the problems of a subject.
    pub(super) fn take(&mut self, subject: &Subject, problems: &mut Problems) {
        for problem in problems.0.drain(..) {
            self.push(subject.clone(), problem);
        }
    }

    pub(super) fn push(&mut self, subject: Subject, problem: Problem) {
        if self.kept.len() >= self.limit {
            self.more += 1;
            return;
        }
        let Problem {
            invariant,
            what,
            mend,
        } = problem;
        self.kept.push(Finding {
            invariant,
            subject,
            what,
            mend,
        });
    }
}
