//! Which part of a task runs on this thread: its function, the body of one of its steps, or a
//! condition that the task polls. Only the function may build operations. A body does not run again
//! in a replay, and a condition runs any number of times, so operations inside them would not get
//! the same numbers on every run.

use std::cell::Cell;
use std::pin::pin;
use std::sync::Arc;

use abide_core::failure::{Failure, kinds};

use crate::attempt::Attempt;
use crate::authoring::TaskError;

/// A part of the code of one attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The attempt's address. It is compared, never followed.
    attempt: usize,
    part: Part,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Function,
    /// The body of the step with this number.
    Body(u32),
    Condition,
}

thread_local! {
    static HERE: Cell<Option<Place>> = const { Cell::new(None) };
}

impl Place {
    /// The function of an attempt.
    pub(crate) fn function(attempt: &Arc<Attempt>) -> Place {
        Place::new(attempt, Part::Function)
    }

    /// The body of a step.
    pub(super) fn body(attempt: &Arc<Attempt>, number: u32) -> Place {
        Place::new(attempt, Part::Body(number))
    }

    /// A condition that the function polls.
    pub(super) fn condition(attempt: &Arc<Attempt>) -> Place {
        Place::new(attempt, Part::Condition)
    }

    fn new(attempt: &Arc<Attempt>, part: Part) -> Place {
        let attempt = Arc::as_ptr(attempt) as usize;
        Place { attempt, part }
    }

    /// Runs code that belongs to this part.
    pub(crate) fn run<R>(self, code: impl FnOnce() -> R) -> R {
        let _leave = Leave(HERE.replace(Some(self)));
        code()
    }

    /// Polls a future whose code belongs to this part.
    pub(super) async fn poll<F: Future>(self, future: F) -> F::Output {
        let mut future = pin!(future);
        std::future::poll_fn(|cx| self.run(|| future.as_mut().poll(cx))).await
    }
}

/// Restores the thread's previous part, also when the code panics.
struct Leave(Option<Place>);

impl Drop for Leave {
    fn drop(&mut self) {
        HERE.set(self.0);
    }
}

/// The operation that is asked for, in the words of an error.
pub(super) enum Asked<'a> {
    Step(&'a str),
    Sleep,
    Signal(&'a str),
    Condition,
}

impl Asked<'_> {
    fn words(&self) -> String {
        match self {
            Asked::Step(name) => format!("step `{name}`"),
            Asked::Sleep => "a sleep".to_owned(),
            Asked::Signal(name) => format!("signal `{name}`"),
            Asked::Condition => "`defer_until`".to_owned(),
        }
    }

    fn in_body(&self, step: &str) -> String {
        let instead = match self {
            Asked::Step(name) => {
                format!("call the code of `{name}` directly in the body, or run it as a step")
            }
            Asked::Sleep => {
                "pause with `tokio::time::sleep`, which keeps the slot, or sleep".to_owned()
            }
            Asked::Signal(_) => "wait for it".to_owned(),
            Asked::Condition => {
                "poll the condition in a loop, which keeps the slot, or wait".to_owned()
            }
        };
        format!(
            "{} was asked for inside the body of step `{step}`. A body does not run again when the task is \
             replayed, so nothing inside of it can be recorded. Instead, {instead} before or after step `{step}`",
            self.words()
        )
    }

    fn in_condition(&self) -> String {
        format!(
            "{} was asked for inside a condition of `defer_until`. A condition is looked at any number of \
             times, so nothing inside of it can be recorded. Ask before or after `defer_until` instead",
            self.words()
        )
    }

    fn elsewhere(&self, step: &str) -> String {
        format!(
            "{} was asked for outside of the task's function, in a task or thread of its own, while the body of \
             step `{step}` runs. Operations are numbered in the order in which they are asked for, which must be \
             the same on every run. If this belongs to the body, take it out: nothing inside a body can be \
             recorded. If not, ask in the function itself and hand the future on, as in \
             `tokio::spawn(handle.step(..))`",
            self.words()
        )
    }
}

impl Attempt {
    /// Checks that a new operation may be built here. Code outside of the function may build one
    /// only while no body runs that could be the caller.
    pub(super) fn check_new(&self, asked: &Asked<'_>) -> Result<(), TaskError> {
        self.check_place(asked)?;
        let running = match self.place_here() {
            Some(_) => None,
            None => self.operations().running_step(),
        };
        running.map_or(Ok(()), |step| Err(misplaced(asked.elsewhere(&step))))
    }

    /// Checks that an operation may be awaited here: neither in a body nor in a condition.
    pub(super) fn check_place(&self, asked: &Asked<'_>) -> Result<(), TaskError> {
        match self.place_here() {
            Some(Part::Body(number)) => {
                let step = self.operations().step_name(number);
                Err(misplaced(asked.in_body(&step.unwrap_or_default())))
            }
            Some(Part::Condition) => Err(misplaced(asked.in_condition())),
            Some(Part::Function) | None => Ok(()),
        }
    }

    fn place_here(&self) -> Option<Part> {
        let here = HERE.get()?;
        (here.attempt == std::ptr::from_ref(self) as usize).then_some(here.part)
    }
}

fn misplaced(message: String) -> TaskError {
    TaskError::of_failure(Failure::engine(kinds::MISPLACED, message))
}
