//! `abide describe`.

use std::io::{self, Write};

use abide_core::ids::Timestamp;
use abide_core::status::{ExecutionStatus, SubStatus};
use abide_core::step::StepState;
use clap::Args;
use serde_json::value::RawValue;

use crate::output::json::{self, Layout};
use crate::output::text::{self, Time, escape};
use crate::output::{Cell, Record, Table, Tone, colours, document};
use crate::problem::{Outcome, Problem};
use crate::records::{Description, OperationRecord, TaskRecord, WorkerRecord, status_text};
use crate::reference;
use crate::session::Session;

/// Show all about an execution.
#[derive(Debug, Args)]
pub(crate) struct Describe {
    #[arg(help = reference::HELP, value_name = "EXEC")]
    execution: String,
}

/// Lines of a payload that are shown to people.
const PAYLOAD_LINES: usize = 40;

/// Characters of a line of a payload that are shown to people.
const LINE_CHARS: usize = 400;

impl Describe {
    pub(crate) async fn run(&self, session: &Session) -> Result<Outcome, Problem> {
        let store = session.open().await?;
        let id = reference::resolve(store, &self.execution)
            .await?
            .execution
            .id;
        let (view, rollup) = super::summary(store, id).await?;
        let description = Description::read(store, &view, &rollup).await?;
        let name = description.execution.name();
        let now = store.now();
        document(session.format, &name, &description, |out| {
            Page {
                out,
                now,
                description: &description,
            }
            .write()
        })?;
        Ok(Outcome::Good)
    }
}

/// A description on its way to a person.
struct Page<'a, W> {
    out: &'a mut W,
    now: Timestamp,
    description: &'a Description,
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
        self.tasks("Open tasks", &self.description.open_tasks)?;
        self.tasks("Failed tasks", &self.description.failed_tasks)
    }

    /// `Label:   text`, the text being data.
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
        let generation = format!("{} (generation {})", record.instance, record.generation);
        self.fact("Instance", &generation)?;
        let workflow = format!("{} (version {})", record.workflow, record.workflow_version);
        self.fact("Workflow", &workflow)?;
        let status = Tone::from(record.status).paint(&record.status_text(), colours());
        self.line("Status", &status)?;
        if let Some(reason) = &record.reason {
            self.fact("Reason", reason)?;
        }
        let progress = format!(
            "{} ({} tasks ended){}",
            text::percent(description.percent),
            record.tasks_text(),
            text::left(description.left_us)
        );
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
            writeln!(self.out, "{:14}caused by: {}", "", escape(source))?;
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
        for operation in &self.description.operations {
            table.push(operation_cells(operation, self.now), self.out)?;
        }
        table.flush(self.out)
    }

    fn tasks(&mut self, title: &str, tasks: &[TaskRecord]) -> io::Result<()> {
        let mut table = Table::new(TaskRecord::COLUMNS);
        if !tasks.is_empty() {
            writeln!(self.out, "{title}:")?;
        }
        for task in tasks {
            table.push(task.cells(), self.out)?;
        }
        table.flush(self.out)
    }
}

/// Tasks by state: `3 Completed, 1 Running::Deferred`.
fn counts(description: &Description) -> String {
    let words = description.task_counts.iter().map(|count| {
        let sub_status = match count.retry_wait {
            true => Some("RetryWait"),
            false => count.sub_status.map(SubStatus::as_str),
        };
        format!("{} {}", count.tasks, status_text(count.status, sub_status))
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
    let detail = match (&operation.due_at, &operation.result, &operation.error) {
        (Some(Time(due)), _, _) => text::local(*due, now),
        (_, Some(result), _) => json::lay_out(result.get(), Layout::Line),
        (_, _, Some(error)) => error.to_string(),
        _ => String::new(),
    };
    let tone = match operation.state {
        StepState::Waiting => Tone::Busy,
        StepState::Done => Tone::Good,
        StepState::Failed => Tone::Bad,
    };
    vec![
        operation.number.to_string().into(),
        operation.kind.as_str().into(),
        (&operation.name).into(),
        Cell::new(operation.state.as_str(), tone),
        detail.into(),
    ]
}
