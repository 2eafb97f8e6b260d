//! Answers in a form that both sides have.

use std::sync::Arc;

use abide_core::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId};
use abide_core::kernel::{Claimed, Notice, Recovered, Refusal, Reply};
use abide_core::status::{ExecutionStatus, Phase};
use abide_store::ApplyError;

use crate::fixture::Answer;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said {
    Started {
        id: ExecutionId,
        generation: u32,
        status: ExecutionStatus,
        created: bool,
        claimed: Vec<Taken>,
    },
    Finished {
        recorded: bool,
        phase: Phase,
        claimed: Vec<Taken>,
    },
    Answered {
        results: Vec<(u32, String)>,
        phase: Phase,
        cancelling: bool,
    },
    Claims {
        claimed: Vec<Taken>,
        notices: Vec<Notice>,
    },
    Signalled {
        execution: ExecutionId,
        number: i64,
    },
    Acted {
        status: ExecutionStatus,
        changed: bool,
    },
    Recovered(Recovered),
    Fired(u32),
    Done,
    Refused(Refusal),
    /// What no rule answers.
    Strange(String),
}

/// A claimed task.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Taken {
    pub(super) key: TaskKey,
    pub(super) worker: Option<WorkerId>,
    pub(super) epoch: u32,
    pub(super) attempt: u32,
    pub(super) phase: Phase,
    pub(super) instance: Arc<str>,
    pub(super) workflow: VersionId,
    pub(super) priority: i32,
    pub(super) deadline_at: Option<Timestamp>,
    pub(super) input: Option<String>,
    pub(super) hop: u8,
}

/// The oracle knows workflows by their versions. In a world each has one version.
fn without_names(refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::OtherWorkflow {
            instance,
            execution,
            ..
        } => Refusal::OtherWorkflow {
            instance,
            execution,
            found: String::new(),
            asked: String::new(),
        },
        refusal => refusal,
    }
}

impl Said {
    pub(super) fn of(answer: &Answer) -> Said {
        let reply = match answer {
            Answer::Reply(Ok(reply)) => reply,
            Answer::Reply(Err(ApplyError::Refused(refusal))) => {
                return Said::Refused(without_names(refusal.clone()));
            }
            Answer::Reply(Err(error)) => return Said::Strange(format!("{error:?}")),
            Answer::Fired(fired) => return Said::Fired(fired.fired),
            Answer::Claims(claims) => {
                return Said::Claims {
                    claimed: claims.claimed.iter().map(Taken::of).collect(),
                    notices: claims.notices.clone(),
                };
            }
        };
        match reply {
            Reply::Started(started) => Said::Started {
                id: started.id,
                generation: started.generation,
                status: started.status,
                created: started.created,
                claimed: in_order(&started.claimed),
            },
            Reply::Finished(finished) => Said::Finished {
                recorded: finished.recorded,
                phase: finished.phase,
                claimed: in_order(&finished.claimed),
            },
            Reply::Answered(answered) => {
                let results = answered.results.iter();
                Said::Answered {
                    results: results
                        .map(|answer| {
                            let payload = answer.result.as_ref().expect("no wait fails");
                            (answer.number, payload.as_str().to_owned())
                        })
                        .collect(),
                    phase: answered.phase,
                    cancelling: answered.cancelling,
                }
            }
            Reply::Signalled(signalled) => Said::Signalled {
                execution: signalled.execution,
                number: signalled.number,
            },
            Reply::Acted(acted) => Said::Acted {
                status: acted.status(),
                changed: acted.is_changed(),
            },
            Reply::Recovered(recovered) => Said::Recovered(*recovered),
            Reply::Done(()) => Said::Done,
            other => Said::Strange(format!("{other:?}")),
        }
    }

    /// The tasks that were claimed into slots that came with a request.
    pub(super) fn claimed(&self) -> &[Taken] {
        match self {
            Said::Started { claimed, .. } | Said::Finished { claimed, .. } => claimed,
            _ => &[],
        }
    }
}

/// Nothing depends on which of them comes first.
fn in_order(claimed: &[Claimed]) -> Vec<Taken> {
    let mut taken: Vec<Taken> = claimed.iter().map(Taken::of).collect();
    taken.sort_by_key(|taken| taken.key);
    taken
}

impl Taken {
    fn of(claimed: &Claimed) -> Taken {
        Taken {
            key: claimed.task.key,
            worker: claimed.task.worker,
            epoch: claimed.task.epoch,
            attempt: claimed.task.attempt,
            phase: claimed.task.phase,
            instance: claimed.instance.clone(),
            workflow: claimed.workflow,
            priority: i32::from(claimed.priority),
            deadline_at: claimed.deadline_at,
            input: claimed
                .input
                .as_ref()
                .map(|input| input.as_str().to_owned()),
            hop: claimed.hop,
        }
    }
}
