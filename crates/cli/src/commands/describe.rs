//! `abide describe`.

use std::io::{self, Write};

use abide::client::{
    Description, ExecutionRecord, OperationRecord, OperationState, TaskRecord, Time, WorkerRecord,
};
use abide_core::failure::NOT_RETRIED;
use abide_core::ids::Timestamp;
use abide_core::status::{ExecutionStatus, SubStatus, TaskStatus};
use abide_core::step::StepKind;
use clap::Args;
use serde_json::value::RawValue;

use crate::output::json::{self, Layout};
use crate::output::text::{self, escape};
use crate::output::{Cell, Record, Table, Tone, colours, document};
use crate::problem::{Outcome, Problem};
use crate::records::TASK_COLUMNS;
use crate::session::Session;
use crate::values;

/// Show everything about an execution.
#[derive(Debug, Args)]
pub(crate) struct Describe {
    #[arg(help = values::EXECUTION_HELP, value_name = "EXEC")]
    execution: String,

    /// In a table, show at most this many of a function's operations, the latest; 0 for all
    #[arg(long, short = 'n', default_value_t = 50, value_name = "N")]
    limit: usize,
}

/// How many lines of a payload are shown to people.
const PAYLOAD_LINES: usize = 40;

/// How many characters of a payload's line are shown to people.
const LINE_CHARS: usize = 400;

impl Describe {
    pub(crate) async fn run(&self, session: &Session) -> Result<Outcome, Problem> {
        let client = session.open().await?;
        let id = client.resolve(&self.execution).await?.execution.id;
        let described = client.describe(id).await;
        let description = described.map_err(|error| super::gone(client, error))?;
        let name = Record::name(&description.execution);
        let now = client.now();
        document(session.format, &name, &description, |out| {
            Page {
                out,
                now,
                description: &description,
                limit: self.limit,
            }
            .write()
        })?;
        Ok(Outcome::Good)
    }
}

/// Writes a description for people.
struct Page<'a, W> {
    out: &'a mut W,
    now: Timestamp,
    description: &'a Description,
    /// How many operations are shown; 0 for all.
    limit: usize,
}

impl<W: Write> Page<'_, W> {
    fn write(mut self) -> io::Result<()> {
        self.facts()?;
        self.times()?;
        self.payload("Input", self.description.input.as_deref())?;
        self.payload("Output", self.description.output.as_deref())?;
        self.error()?;
        self.workers()?;
        self.operations()?;
        self.open_tasks()?;
        self.failed_tasks()
    }

    fn open_tasks(&mut self) -> io::Result<()> {
        let is_open = |status| matches!(status, TaskStatus::Ready | TaskStatus::Running);
        let all = self.description.count(is_open);
        self.tasks("Open tasks", &self.description.open_tasks, all, "--open")
    }

    fn failed_tasks(&mut self) -> io::Result<()> {
        let is_failed = |status| matches!(status, TaskStatus::Failed | TaskStatus::Abandoned);
        let all = self.description.count(is_failed);
        let shown = &self.description.failed_tasks;
        self.tasks("Failed tasks", shown, all, "--failed")
    }

    /// `Label:   text`, where the text is data.
    fn fact(&mut self, label: &str, text: &str) -> io::Result<()> {
        self.line(label, &escape(text))
    }

    fn line(&mut self, label: &str, text: &str) -> io::Result<()> {
        writeln!(self.out, "{:<14}{text}", format!("{label}:"))
    }

    fn facts(&mut self) -> io::Result<()> {
        let description = self.description;
        let record = &description.execution;
        self.fact("Execution", &record.id.to_string())?;
        self.fact("Instance", &instance_text(record))?;
        let workflow = format!("{} (version {})", record.workflow, record.workflow_version);
        self.fact("Workflow", &workflow)?;
        let status = Tone::from(record.status).paint(&record.status_text(), colours());
        self.line("Status", &status)?;
        if let Some(blocked_on) = record.blocked_on_text() {
            self.fact("Blocked on", &blocked_on)?;
        }
        if let Some(reason) = &record.reason {
            self.fact("Reason", reason)?;
        }
        let progress = match description.percent {
            Some(percent) => format!(
                "{} ({} tasks ended){}",
                text::percent(percent),
                record.tasks_text(),
                text::left(description.left_us)
            ),
            None => format!(
                "ended with {}/{} tasks completed",
                description.count(|status| status == TaskStatus::Completed),
                record.tasks
            ),
        };
        self.fact("Progress", &progress)?;
        self.fact("Tasks", &counts(description))?;
        if record.priority != 0 {
            self.fact("Priority", &record.priority.to_string())?;
        }
        if !record.tags.is_empty() {
            self.fact("Tags", &record.tags.join(", "))?;
        }
        Ok(())
    }

    fn times(&mut self) -> io::Result<()> {
        let record = &self.description.execution;
        let moments = [
            ("Created", Some(record.created_at)),
            ("Start at", record.start_at),
            ("Started", record.started_at),
            ("Ended", record.closed_at),
            ("Deadline", record.deadline_at),
        ];
        for (label, moment) in moments {
            if let Some(Time(at)) = moment {
                self.fact(label, &text::local(at, self.now))?;
            }
        }
        if let Some(Time(at)) = record.history_pruned_at {
            let words = format!("removed on {}", text::local(at, self.now));
            self.fact("History", &words)?;
        }
        let run = record
            .run_us
            .map(|us| format!(", run {}", text::duration(us)));
        let durations = format!(
            "queued {}{}",
            text::duration(record.queued_us),
            run.unwrap_or_default()
        );
        self.fact("Durations", &durations)?;
        let times = &self.description.task_times;
        let sums = format!(
            "queued {}, active {}, deferred {}, waiting for retries {}",
            text::duration(times.queued_us),
            text::duration(times.active_us),
            text::duration(times.deferred_us),
            text::duration(times.retry_wait_us)
        );
        self.fact("Task times", &sums)
    }

    fn payload(&mut self, label: &str, payload: Option<&RawValue>) -> io::Result<()> {
        let Some(payload) = payload else {
            return Ok(());
        };
        let laid_out = json::lay_out(payload.get(), Layout::Indented(0));
        let lines = laid_out.lines().count();
        if lines == 1 && laid_out.len() <= 80 {
            return self.line(label, &laid_out);
        }
        writeln!(self.out, "{label}:")?;
        let mut is_cut = lines > PAYLOAD_LINES;
        for line in laid_out.lines().take(PAYLOAD_LINES) {
            match line.char_indices().nth(LINE_CHARS) {
                Some((end, _)) => {
                    is_cut = true;
                    writeln!(self.out, "  {}…", &line[..end])?;
                }
                None => writeln!(self.out, "  {line}")?,
            }
        }
        if is_cut {
            let bytes = payload.get().len();
            writeln!(self.out, "  … cut: all {bytes} bytes are in `-o json`")?;
        }
        Ok(())
    }

    fn error(&mut self) -> io::Result<()> {
        let Some(error) = &self.description.error else {
            return Ok(());
        };
        let failure = &error.failure;
        let words = format!("{}: {}", failure.kind, failure.message);
        let words = escape(&words);
        self.line("Error", &Tone::Bad.paint(&words, colours()))?;
        for source in &failure.chain {
            let label = match source.starts_with(NOT_RETRIED) {
                true => "",
                false => "caused by: ",
            };
            writeln!(self.out, "{:14}{label}{}", "", escape(source))?;
        }
        match &error.node {
            Some(node) => writeln!(self.out, "{:14}in task `{}`", "", escape(node)),
            None => Ok(()),
        }
    }

    fn workers(&mut self) -> io::Result<()> {
        let description = self.description;
        for worker in &description.workers {
            self.fact("Worker", &worker_text(worker, self.now))?;
        }
        let is_open = !description.execution.status.is_terminal();
        let is_waiting = description.execution.status != ExecutionStatus::Paused;
        if is_open && is_waiting && description.live_workers == 0 {
            let words = "it goes on when a program that has this workflow runs";
            self.fact("Note", &format!("no worker is alive: {words}"))?;
        }
        Ok(())
    }

    fn operations(&mut self) -> io::Result<()> {
        let mut table = Table::new(&["OPERATION", "KIND", "NAME", "STATE", "DETAIL"]);
        if !self.description.operations.is_empty() {
            writeln!(self.out, "Operations:")?;
        }
        let operations = &self.description.operations;
        let earlier = match self.limit {
            0 => 0,
            limit => operations.len().saturating_sub(limit),
        };
        for operation in &operations[earlier..] {
            table.push(operation_cells(operation, self.now), self.out)?;
        }
        table.flush(self.out)?;
        match earlier {
            0 => Ok(()),
            earlier => writeln!(
                self.out,
                "… and {earlier} earlier ones: `--limit 0` shows all"
            ),
        }
    }

    /// The first of the tasks, and how to see all of them if there are more.
    fn tasks(
        &mut self,
        title: &str,
        tasks: &[TaskRecord],
        all: u32,
        option: &str,
    ) -> io::Result<()> {
        let mut table = Table::new(TASK_COLUMNS);
        if !tasks.is_empty() {
            writeln!(self.out, "{title}:")?;
        }
        for task in tasks {
            table.push(task.cells(), self.out)?;
        }
        table.flush(self.out)?;
        match (all as usize).saturating_sub(tasks.len()) {
            0 => Ok(()),
            more => {
                let id = self.description.execution.id;
                writeln!(
                    self.out,
                    "… and {more} more: `abide tasks {id} {option}` lists them"
                )
            }
        }
    }
}

/// The execution's name, its generation, and the number of generations if there are several.
fn instance_text(record: &ExecutionRecord) -> String {
    let (name, generation) = (record.name(), record.generation);
    match record.latest_generation {
        1 => format!("{name} (generation {generation})"),
        latest => format!("{name} (generation {generation} of {latest})"),
    }
}

/// Tasks by state: `3 Completed, 1 Running::Deferred`.
fn counts(description: &Description) -> String {
    let words = description.task_counts.iter().map(|count| {
        let sub_status = match count.retry_wait {
            true => Some("RetryWait"),
            false => count.sub_status.map(SubStatus::as_str),
        };
        match sub_status {
            Some(sub_status) => format!("{} {}::{sub_status}", count.tasks, count.status),
            None => format!("{} {}", count.tasks, count.status),
        }
    });
    words.collect::<Vec<_>>().join(", ")
}

fn worker_text(worker: &WorkerRecord, now: Timestamp) -> String {
    let place = match (&worker.host, worker.pid) {
        (Some(host), Some(pid)) => format!(" (process {pid} on {host})"),
        _ => String::new(),
    };
    let lease = match worker.lease_until {
        _ if worker.is_alive => String::new(),
        Some(Time(until)) if until <= now => {
            format!(", lease ended {} ago", text::age(now.since_us(until)))
        }
        _ => ", gone".to_owned(),
    };
    format!("{}{place}{lease}", worker.id)
}

fn operation_cells(operation: &OperationRecord, now: Timestamp) -> Vec<Cell> {
    let is_waited_for = operation.state == OperationState::Waiting;
    let detail = match (&operation.due_at, &operation.result, &operation.error) {
        (Some(Time(due)), _, _) if is_waited_for => text::local(*due, now),
        (_, Some(result), _) => json::lay_out(result.get(), Layout::Line),
        (_, _, Some(error)) => error.to_string(),
        _ if is_waited_for && operation.kind == StepKind::Sleep => "without an end".to_owned(),
        _ => String::new(),
    };
    let tone = match operation.state {
        OperationState::Waiting => Tone::Busy,
        OperationState::Done => Tone::Good,
        OperationState::Failed => Tone::Bad,
        OperationState::Unfinished | OperationState::GivenBack => Tone::Quiet,
    };
    vec![
        operation.number.to_string().into(),
        operation.kind.as_str().into(),
        (&operation.name).into(),
        Cell::new(operation.state.as_str(), tone),
        detail.into(),
    ]
}
