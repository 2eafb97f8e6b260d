//! The rule of actions.

use crate::execution::StopCause;
use crate::table::By;
use crate::transition::Cause;

use super::action::{Act, Acted, Action, Standing};
use super::need::Stop;
use super::refusal::Refusal;
use super::subject::Subject;
use super::working::Working;

impl Working {
    pub(super) fn act(&mut self, act: &Act) -> Result<Acted, Stop> {
        let before = self.standing(&act.subject)?;
        let Standing {
            execution, status, ..
        } = before;
        if act.action.is_satisfied_by(self.execution(execution)?) {
            return Ok(Acted::Unchanged(before));
        }
        let allowed = Action::allowed_in(status);
        if !allowed.contains(&act.action.name()) {
            let action = act.action.done();
            return Err(Refusal::NotAllowed {
                execution,
                status,
                action,
                allowed,
            }
            .into());
        }
        if let Some(expected) = act.expected_version
            && expected != before.version
        {
            return Err(Refusal::Stale {
                execution,
                expected,
                version: before.version,
                status,
            }
            .into());
        }
        let cause = Cause {
            at: self.now,
            by: By::User,
            worker: None,
            actor: act.actor.clone(),
        };
        match act.action {
            Action::Cancel { grace_us } => {
                let why = StopCause::Cancel;
                self.stop(execution, &act.reason, why, grace_us, &cause)?;
            }
            Action::SetPriority { priority } => {
                self.set_priority(execution, priority, &act.reason, &cause)?;
            }
        }
        Ok(Acted::Changed(self.standing(&act.subject)?))
    }

    fn standing(&self, subject: &Subject) -> Result<Standing, Stop> {
        let id = match subject {
            Subject::Execution(id) => *id,
            Subject::Instance(instance) => {
                let latest = self.instance(instance)?;
                let unknown = || Refusal::UnknownInstance(instance.to_string());
                latest.ok_or_else(unknown)?.id
            }
        };
        let execution = self.execution(id)?;
        Ok(Standing {
            execution: id,
            status: execution.status,
            version: execution.version,
        })
    }
}
