//! Colours that show the meaning of a status. Only on a terminal, and not with `NO_COLOR`.

use abide_core::status::{ExecutionStatus, TaskStatus};
use console::Style;

/// The meaning of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    /// No special meaning.
    #[default]
    Plain,
    /// Completed.
    Good,
    /// Failed.
    Bad,
    /// Running.
    Busy,
    /// Stopped, or stopping, on request.
    Stopped,
    /// Waiting or skipped.
    Quiet,
    /// A heading.
    Heading,
}

impl Tone {
    /// The text in this tone's colour, or unchanged without colours.
    pub(crate) fn paint(self, text: &str, colours: bool) -> String {
        let style = Style::new();
        let style = match self {
            Tone::Plain => return text.to_owned(),
            Tone::Good => style.green(),
            Tone::Bad => style.red(),
            Tone::Busy => style.cyan(),
            Tone::Stopped => style.yellow(),
            Tone::Quiet => style.dim(),
            Tone::Heading => style.bold(),
        };
        style.force_styling(colours).apply_to(text).to_string()
    }
}

impl From<ExecutionStatus> for Tone {
    fn from(status: ExecutionStatus) -> Tone {
        match status {
            ExecutionStatus::Completed => Tone::Good,
            ExecutionStatus::Failed | ExecutionStatus::TimedOut => Tone::Bad,
            ExecutionStatus::Running => Tone::Busy,
            ExecutionStatus::Cancelling | ExecutionStatus::Cancelled => Tone::Stopped,
            ExecutionStatus::Pending
            | ExecutionStatus::Paused
            | ExecutionStatus::ContinuedAsNew => Tone::Quiet,
        }
    }
}

impl From<TaskStatus> for Tone {
    fn from(status: TaskStatus) -> Tone {
        match status {
            TaskStatus::Completed => Tone::Good,
            TaskStatus::Failed | TaskStatus::Abandoned => Tone::Bad,
            TaskStatus::Running => Tone::Busy,
            TaskStatus::Cancelled => Tone::Stopped,
            TaskStatus::Pending | TaskStatus::Ready | TaskStatus::Skipped => Tone::Quiet,
        }
    }
}
