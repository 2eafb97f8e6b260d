//! `abide watch`.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::time::Duration;

use abide_core::ids::ExecutionId;
use abide_core::status::{ExecutionStatus, SubStatus, TaskStatus};
use abide_store::{Rollup, Store};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::estimate::Usual;
use crate::live::Live;
use crate::output::json::{self, Layout};
use crate::output::text::{self, escape};
use crate::output::{Format, Tone, colours, document, stdout};
use crate::problem::{Outcome, Problem};
use crate::records::{ExecutionRecord, TaskRecord};
use crate::reference;
use crate::session::Session;

/// Watch an execution's progress until it ends.
///
/// A progress bar on a terminal, elsewhere a line for every change. Exit code 0 if the execution
/// completed, 1 if it ended otherwise.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    #[arg(help = reference::HELP, value_name = "EXEC")]
    execution: String,
}

/// The shortest time between two looks: faster is more than people read.
const PACE: Duration = Duration::from_millis(100);

/// Positions of the bar.
const STEPS: u64 = 1000;

/// Running tasks that are named.
const NAMED: u32 = 3;

/// Tasks looked through for running ones, so that a large graph does not slow the bar down.
const SEARCHED: u32 = 2000;

/// How an execution stands.
#[derive(Serialize)]
struct Progress {
    #[serde(flatten)]
    execution: ExecutionRecord,
    percent: f64,
    /// About how long it may still take, going by earlier executions.
    left_us: Option<i64>,
    tasks_active: u32,
    tasks_deferred: u32,
    #[serde(skip)]
    running: Vec<TaskRecord>,
}

impl Watch {
    pub(crate) async fn run(&self, session: &Session) -> Result<Outcome, Problem> {
        let store = session.open().await?;
        let view = reference::resolve(store, &self.execution).await?;
        let (id, usual) = (view.execution.id, Usual::of(store, &view).await?);
        let mut display = Display::new(session.format);
        let look = async || {
            let progress = look(store, id, usual).await?;
            if progress.execution.status.is_terminal() {
                return Ok(ControlFlow::Break(progress));
            }
            display.show(&progress)?;
            Ok(ControlFlow::Continue(()))
        };
        let end = Live::new(store).until(PACE, None, look).await?;
        let end = end.expect("without a deadline only an answer ends it");
        display.end(&end)?;
        Ok(match end.execution.status {
            ExecutionStatus::Completed => Outcome::Good,
            _ => Outcome::Bad,
        })
    }
}

async fn look(store: &Store, id: ExecutionId, usual: Usual) -> Result<Progress, Problem> {
    let (view, rollup) = super::summary(store, id).await?;
    let execution = ExecutionRecord::new(&view, &rollup, store.now());
    let of = |sub_status| rollup.count(|group| group.sub_status == Some(sub_status));
    Ok(Progress {
        percent: rollup.percent(execution.status),
        left_us: usual.left_us(&execution),
        tasks_active: of(SubStatus::Active),
        tasks_deferred: of(SubStatus::Deferred),
        running: running(store, id, &rollup).await?,
        execution,
    })
}

/// Some of the tasks that run.
async fn running(
    store: &Store,
    id: ExecutionId,
    rollup: &Rollup,
) -> Result<Vec<TaskRecord>, Problem> {
    let wanted = rollup
        .count(|group| group.status == TaskStatus::Running)
        .min(NAMED) as usize;
    let mut found = Vec::with_capacity(wanted);
    if wanted == 0 {
        return Ok(found);
    }
    let now = store.now();
    super::tasks::each(store, id, 0, |view| {
        if view.task.phase.status().0 == TaskStatus::Running {
            found.push(TaskRecord::new(&view, now));
        }
        Ok(found.len() < wanted && view.task.key.number < SEARCHED)
    })
    .await?;
    Ok(found)
}

impl Progress {
    /// What runs, and what it waits for.
    fn running_text(&self) -> String {
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

    /// What makes it worth showing again. Time alone does not.
    fn news(&self) -> String {
        let record = &self.execution;
        let mut news = format!(
            "{} {} {}",
            record.status_text(),
            self.percent,
            record.tasks_ended
        );
        for task in &self.running {
            news += &format!(" {} {:?}", task.number, task.progress_text());
        }
        news
    }

    /// One line: how far it is and what it does.
    fn line(&self, colours: bool) -> String {
        let record = &self.execution;
        let mut line = format!(
            "{}  {}  {}  {} tasks{}",
            escape(&record.called()),
            Tone::from(record.status).paint(&record.status_text(), colours),
            text::percent(self.percent),
            record.tasks_text(),
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

/// Where progress is shown.
enum Display {
    /// A bar on the terminal.
    Bar(ProgressBar),
    /// A line for every change.
    Lines { last: String },
    /// A document for every change.
    Documents { last: String },
    /// Nothing but the end.
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
                bar.set_prefix(escape(&progress.execution.called()).into_owned());
                bar.set_position((progress.percent / 100.0 * STEPS as f64) as u64);
                bar.set_message(format!(
                    "{} {}{}  {}",
                    progress.execution.tasks_text(),
                    progress.execution.status_text(),
                    text::left(progress.left_us),
                    progress.running_text()
                ));
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
    let style = ProgressStyle::with_template("{prefix} {bar:30.cyan} {percent:>3}% {wide_msg}");
    let style = style.expect("the template has known keys only");
    ProgressBar::with_draw_target(Some(STEPS), ProgressDrawTarget::stderr())
        .with_style(style.progress_chars("━╸─"))
}

fn say(line: &str) -> io::Result<()> {
    let mut out = stdout();
    writeln!(out, "{line}")?;
    out.flush()
}
