//! `abide watch`.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::time::Duration;

use abide::client::{TaskRecord, Usual};
use abide::{
    Client, ExecutionId, ExecutionRecord, ExecutionStatus, Rollup, SubStatus, TaskFilter,
    TaskStatus,
};
use clap::Args;
use console::{Term, measure_text_width};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::output::json::{self, Layout};
use crate::output::text::{self, escape};
use crate::output::{Format, Tone, colours, document, stdout};
use crate::problem::{Outcome, Problem};
use crate::session::Session;
use crate::values;

/// Watch an execution's progress until it ends.
///
/// Shows a progress bar on a terminal, elsewhere a line for every change. Exit code 0 if the
/// execution completed, 1 if it ended otherwise.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    #[arg(help = values::EXECUTION_HELP, value_name = "EXEC")]
    execution: String,
}

/// The shortest time between two reads: people do not read faster.
const PACE: Duration = Duration::from_millis(100);

/// Positions of the bar.
const STEPS: u64 = 1000;

/// How many running tasks are named.
const NAMED: u32 = 3;

/// The text if no task runs.
const NO_WORKER: &str = "no worker is alive";

/// How many tasks are searched for running ones, so that a large graph does not slow the bar down.
const SEARCHED: u32 = 2000;

/// The state of an execution, as shown.
#[derive(Serialize)]
struct Progress {
    #[serde(flatten)]
    execution: ExecutionRecord,
    /// None if it has ended without completing.
    percent: Option<f64>,
    /// The estimated time that it may still take, from earlier executions.
    left_us: Option<i64>,
    tasks_active: u32,
    tasks_deferred: u32,
    tasks_completed: u32,
    /// The number of live workers of the store, including workers that do not run this workflow.
    live_workers: usize,
    #[serde(skip)]
    running: Vec<TaskRecord>,
}

impl Watch {
    pub(crate) async fn run(&self, session: &Session) -> Result<Outcome, Problem> {
        let client = session.open().await?;
        let view = client.resolve(&self.execution).await?;
        let (id, usual) = (view.execution.id, client.usual(&view).await?);
        let mut display = Display::new(session.format);
        let look = async || {
            let progress = look(client, id, usual).await?;
            if progress.execution.status.is_terminal() {
                return Ok::<_, Problem>(ControlFlow::Break(progress));
            }
            display.show(&progress)?;
            Ok(ControlFlow::Continue(()))
        };
        let end = super::changes(client).until(PACE, None, look).await?;
        let end = end.expect("without a deadline only an answer ends it");
        display.end(&end)?;
        Ok(match end.execution.status {
            ExecutionStatus::Completed => Outcome::Good,
            _ => Outcome::Bad,
        })
    }
}

async fn look(client: &Client, id: ExecutionId, usual: Usual) -> Result<Progress, Problem> {
    let (view, rollup) = super::summary(client, id).await?;
    let execution = ExecutionRecord::new(&view, client.now());
    let of = |sub_status| rollup.count(|group| group.sub_status == Some(sub_status));
    Ok(Progress {
        percent: rollup.percent(execution.status),
        left_us: usual.left_us(&execution),
        tasks_active: of(SubStatus::Active),
        tasks_deferred: of(SubStatus::Deferred),
        tasks_completed: rollup.count(|group| group.status == TaskStatus::Completed),
        live_workers: client.live_workers().await?.len(),
        running: running(client, id, &rollup).await?,
        execution,
    })
}

/// Some of the tasks that run.
async fn running(
    client: &Client,
    id: ExecutionId,
    rollup: &Rollup,
) -> Result<Vec<TaskRecord>, Problem> {
    let running = rollup.count(|group| group.status == TaskStatus::Running);
    if running == 0 {
        return Ok(Vec::new());
    }
    let filter = TaskFilter {
        statuses: vec![TaskStatus::Running],
        up_to: Some(SEARCHED),
        ..TaskFilter::default()
    };
    let page = client.tasks(id, &filter, None, NAMED).await?;
    Ok(page.items)
}

impl Progress {
    /// Whether the execution cannot continue until a worker starts.
    fn lacks_workers(&self) -> bool {
        !self.execution.status.is_terminal() && self.live_workers == 0
    }

    /// The progress, in words.
    fn done_text(&self) -> String {
        match self.percent {
            Some(percent) => format!(
                "{}  {} tasks",
                text::percent(percent),
                self.execution.tasks_text()
            ),
            None => format!(
                "{}/{} tasks completed",
                self.tasks_completed, self.execution.tasks
            ),
        }
    }

    /// The tasks that run, and what they wait for. If there is no worker, says that no task can
    /// run.
    fn running_text(&self) -> String {
        if self.lacks_workers() {
            return NO_WORKER.to_owned();
        }
        let words = self.running.iter().map(|task| {
            let detail = task.waits_for.clone().or_else(|| task.progress_text());
            match detail {
                Some(detail) => format!("{} ({detail})", task.node),
                None => task.node.clone(),
            }
        });
        let mut words: Vec<String> = words.collect();
        let all = (self.tasks_active + self.tasks_deferred) as usize;
        if let others @ 1.. = all.saturating_sub(words.len()) {
            words.push(format!("{others} more"));
        }
        escape(&words.join(", ")).into_owned()
    }

    /// The text beside the bar. What people must act on comes first, because the rest may be cut.
    fn message(&self) -> String {
        let state = format!(
            "{} {}{}",
            self.execution.tasks_text(),
            self.execution.status_text(),
            text::left(self.left_us)
        );
        let running = self.running_text();
        match self.lacks_workers() {
            true => format!("{running}  {state}"),
            false => format!("{state}  {running}"),
        }
    }

    /// The values whose change makes a new line worthwhile. The passing of time alone does not.
    fn news(&self) -> String {
        let record = &self.execution;
        let mut news = format!(
            "{} {:?} {} {}",
            record.status_text(),
            self.percent,
            record.tasks_ended,
            self.lacks_workers()
        );
        for task in &self.running {
            news += &format!(" {} {:?}", task.number, task.progress_text());
        }
        news
    }

    /// One line: the progress and what runs.
    fn line(&self, colours: bool) -> String {
        let record = &self.execution;
        let mut line = format!(
            "{}  {}  {}{}",
            escape(&record.name()),
            Tone::from(record.status).paint(&record.status_text(), colours),
            self.done_text(),
            text::left(self.left_us)
        );
        let running = self.running_text();
        let end = match record.status.is_terminal() {
            true => record.run_us.map(|us| format!("in {}", text::duration(us))),
            false => Some(running).filter(|running| !running.is_empty()),
        };
        let reason = record
            .reason
            .as_deref()
            .map(|reason| escape(reason).into_owned());
        for words in end.into_iter().chain(reason) {
            line.push_str("  ");
            line.push_str(&words);
        }
        line
    }
}

/// Where the progress is shown.
enum Display {
    /// A bar on the terminal.
    Bar(ProgressBar),
    /// A line for every change.
    Lines { last: String },
    /// A document for every change.
    Documents { last: String },
    /// Only the end.
    End(Format),
}

impl Display {
    fn new(format: Format) -> Display {
        match format {
            Format::Table if console::user_attended_stderr() => Display::Bar(bar()),
            Format::Table => Display::Lines {
                last: String::new(),
            },
            Format::Jsonl => Display::Documents {
                last: String::new(),
            },
            other => Display::End(other),
        }
    }

    fn show(&mut self, progress: &Progress) -> io::Result<()> {
        match self {
            Display::Bar(bar) => {
                let name = progress.execution.name();
                let name = escape(&name);
                let columns = usize::from(Term::stderr().size().1);
                let (name_width, bar_width) = layout(columns, measure_text_width(&name));
                bar.set_style(style(bar_width));
                bar.set_prefix(text::shorten(&name, name_width).into_owned());
                let percent = progress.percent.unwrap_or_default();
                bar.set_position((percent / 100.0 * STEPS as f64) as u64);
                bar.set_message(progress.message());
                Ok(())
            }
            Display::Lines { last } | Display::Documents { last } if *last == progress.news() => {
                Ok(())
            }
            Display::Lines { last } => {
                *last = progress.news();
                say(&progress.line(colours()))
            }
            Display::Documents { last } => {
                *last = progress.news();
                say(&json::text(progress, Layout::Line))
            }
            Display::End(_) => Ok(()),
        }
    }

    fn end(mut self, progress: &Progress) -> io::Result<()> {
        match &mut self {
            Display::Bar(bar) => {
                bar.finish_and_clear();
                say(&progress.line(colours()))
            }
            Display::Lines { .. } | Display::Documents { .. } => self.show(progress),
            Display::End(format) => {
                let name = progress.execution.id.to_string();
                document(*format, &name, progress, |_| Ok(()))
            }
        }
    }
}

fn bar() -> ProgressBar {
    ProgressBar::with_draw_target(Some(STEPS), ProgressDrawTarget::stderr())
}

/// A bar of this many columns, or only a percentage if it has none.
fn style(bar_width: usize) -> ProgressStyle {
    let bar = match bar_width {
        0 => String::new(),
        width => format!("{{bar:{width}.cyan}} "),
    };
    let template = format!("{{prefix}} {bar}{{percent:>3}}% {{wide_msg}}");
    let style = ProgressStyle::with_template(&template);
    let style = style.expect("the template has known keys only");
    style.progress_chars("━╸─")
}

/// How many columns of a terminal's line the name and the bar get, so that the percentage and a
/// message fit beside them. A bar that would be too short to be useful is left out.
fn layout(columns: usize, name: usize) -> (usize, usize) {
    const PERCENT: usize = " 100% ".len();
    const LEAST_MESSAGE: usize = 20;
    const LEAST_BAR: usize = 8;
    const MOST_BAR: usize = 30;
    let name = name.min(columns / 3);
    let rest = columns.saturating_sub(name + PERCENT);
    match rest.saturating_sub(LEAST_MESSAGE).min(rest / 2) {
        ..LEAST_BAR => (name, 0),
        bar => (name, bar.min(MOST_BAR)),
    }
}

fn say(line: &str) -> io::Result<()> {
    let mut out = stdout();
    writeln!(out, "{line}")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_fits_a_terminal_of_any_width() {
        assert_eq!(layout(120, 8), (8, 30));
        assert_eq!(layout(80, 255), (26, 24));
        assert_eq!(layout(50, 8), (8, 16));
        assert_eq!(layout(30, 8), (8, 0));
        assert_eq!(layout(30, 255), (10, 0));
        for columns in 10..200 {
            for name in [1, 20, 255] {
                let (name, bar) = layout(columns, name);
                let gap = usize::from(bar > 0);
                assert!(name + gap + bar + " 100% ".len() <= columns, "{columns}");
            }
        }
    }
}
