//! What a writer is asked, and what it answers: the same for every driver.

use std::sync::Arc;

use abide_core::ids::{VersionId, WorkerId};
use abide_core::kernel::{Reply, Request};
use tokio::sync::oneshot;

use crate::error::{ApplyError, StoreError};
use crate::{Claims, Fired};

pub(crate) type Answer<T> = oneshot::Sender<T>;

/// What a writer is asked.
pub(crate) enum Job {
    Apply(Box<Request>, Answer<Result<Reply, ApplyError>>),
    Claim {
        worker: WorkerId,
        queues: Arc<[VersionId]>,
        max: u32,
        answer: Answer<Result<Claims, StoreError>>,
    },
    FireTimers {
        limit: u32,
        answer: Answer<Result<Fired, StoreError>>,
    },
}

/// What a job came to, kept until the commit.
#[derive(Debug)]
pub(crate) enum Done {
    Apply(Result<Reply, ApplyError>),
    Claim(Claims),
    Fired(Fired),
    Refused(StoreError),
}

/// The most requests of a batch whose news are told before its answers. A process that asks for more
/// at once lives long enough to tell by and by.
pub(crate) const MOST_TOLD_AT_ONCE: usize = 4;

/// The most tasks that a small job is about.
#[cfg(feature = "sqlite")]
const SMALL: u32 = 64;

impl Job {
    /// Whether a user asks for this, rather than a task: the process may end as soon as it has the
    /// answer.
    pub(crate) fn is_from_outside(&self) -> bool {
        match self {
            Job::Apply(request, _) => matches!(
                **request,
                Request::Start(_) | Request::Publish(_) | Request::Signal(_) | Request::Act(_)
            ),
            _ => false,
        }
    }

    /// Whether it likely touches a few rows only. How many dependents an end has isn't known here.
    #[cfg(feature = "sqlite")]
    pub(crate) fn is_small(&self) -> bool {
        match self {
            Job::Apply(request, _) => match &**request {
                Request::Start(start) => start.graph.len() <= SMALL,
                Request::AddTasks(_) | Request::Publish(_) | Request::Act(_) => false,
                _ => true,
            },
            Job::Claim { max, .. } => *max <= SMALL,
            Job::FireTimers { .. } => false,
        }
    }

    /// Answers. A receiver that is gone no longer wants it; what was written stays written.
    pub(crate) fn answer(self, done: Done) {
        match (self, done) {
            (Job::Apply(_, answer), Done::Apply(reply)) => drop(answer.send(reply)),
            (Job::Claim { answer, .. }, Done::Claim(claims)) => drop(answer.send(Ok(claims))),
            (Job::FireTimers { answer, .. }, Done::Fired(fired)) => drop(answer.send(Ok(fired))),
            (job, Done::Refused(error)) => job.refuse(error),
            _ => unreachable!("answers are made in the order of the jobs"),
        }
    }

    /// Answers that nothing came of it.
    pub(crate) fn refuse(self, error: StoreError) {
        match self {
            Job::Apply(_, answer) => drop(answer.send(Err(error.into()))),
            Job::Claim { answer, .. } => drop(answer.send(Err(error))),
            Job::FireTimers { answer, .. } => drop(answer.send(Err(error))),
        }
    }
}
