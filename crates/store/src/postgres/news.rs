//! News between processes: one coalesced NOTIFY every few milliseconds, apart from the
//! transactions that are its reason, since a NOTIFY holds a lock of the whole server while it
//! commits. Whoever listens scans once after every reconnect, and a poll stands behind it all: news
//! are hints, never the truth.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use abide_core::ids::{ExecutionId, Timestamp};
use tokio::sync::Notify;

use crate::error::StoreError;
use crate::flush::After;
use crate::hints::Hints;

use super::Shared;
use super::connect::Session;
use super::statement::{Execute, Param, Statement};

/// The least time between two notifications of one process.
pub(crate) const PAUSE: Duration = Duration::from_millis(3);

/// How long an answer may wait until others are told of what it is about.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(5);

/// How long nothing is told at once after that failed.
const LATER: Duration = Duration::from_secs(5);

/// More ends than this in one notification are told as "some".
const MOST_ENDS: usize = 200;

/// What this process has to tell, or what it has heard and not looked at yet.
#[derive(Default)]
pub(crate) struct News {
    pending: Mutex<Pending>,
    /// Nothing is told at once until then.
    later: Mutex<Option<Instant>>,
    pub(crate) some: Notify,
}

/// What a notification says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Pending {
    /// The outbox got rows.
    pub(crate) work: bool,
    /// The earliest timer that was set.
    pub(crate) timer: Option<Timestamp>,
    /// Executions that ended.
    pub(crate) ended: Vec<ExecutionId>,
    /// So many ended that they are not named.
    pub(crate) many_ended: bool,
    /// What came may be as old as this: its transaction may have taken long, or a task was ready before, as one whose
    /// retry is late or whose execution got another priority.
    pub(crate) since: Option<Timestamp>,
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    [one, other].into_iter().flatten().min()
}

impl News {
    /// Something was committed that others may want to know.
    pub(crate) fn add(&self, after: &After) {
        if after.is_nothing() {
            return;
        }
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.work |= after.has_work();
        pending.timer = earlier(pending.timer, after.earliest_timer);
        pending.since = earlier(pending.since, after.oldest_row);
        if pending.ended.len() + after.ended.len() > MOST_ENDS {
            pending.ended.clear();
            pending.many_ended = true;
        }
        if !pending.many_ended {
            pending.ended.extend(&after.ended);
        }
        drop(pending);
        self.some.notify_one();
    }

    /// Adds what was taken and could not be told, or what was heard: however much there is of it, what is
    /// kept is a few words and [`MOST_ENDS`] executions.
    pub(crate) fn merge(&self, other: Pending) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.work |= other.work;
        pending.timer = earlier(pending.timer, other.timer);
        pending.since = earlier(pending.since, other.since);
        pending.many_ended |= other.many_ended;
        pending.ended.extend(other.ended);
        if pending.many_ended || pending.ended.len() > MOST_ENDS {
            pending.ended.clear();
            pending.many_ended = true;
        }
        drop(pending);
        self.some.notify_one();
    }

    /// Whether it is worth while to tell something at once.
    pub(crate) fn may_tell_at_once(&self) -> bool {
        let later = self.later.lock().unwrap_or_else(PoisonError::into_inner);
        later.is_none_or(|until| until <= Instant::now())
    }

    /// Something could not be told at once.
    pub(crate) fn tells_later(&self) {
        let mut later = self.later.lock().unwrap_or_else(PoisonError::into_inner);
        *later = Some(Instant::now() + LATER);
    }

    /// Takes what there is.
    pub(crate) fn take(&self) -> Option<Pending> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = std::mem::take(&mut *pending);
        (taken != Pending::default()).then_some(taken)
    }
}

impl Pending {
    /// The text of the notification: who tells, then a word for each thing.
    pub(crate) fn to_text(&self, teller: &str) -> String {
        let mut text = teller.to_owned();
        if self.work {
            text.push_str(" w");
        }
        if let Some(Timestamp(due)) = self.timer {
            write!(text, " t{due}").expect("a string takes everything");
        }
        if let Some(Timestamp(since)) = self.since {
            write!(text, " b{since}").expect("a string takes everything");
        }
        if self.many_ended {
            text.push_str(" E");
        }
        for id in &self.ended {
            write!(text, " e{id}").expect("a string takes everything");
        }
        text
    }

    /// What a flush has to tell that was committed just now.
    pub(crate) fn of_flush(after: &After) -> Option<Pending> {
        let news = News::default();
        news.add(after);
        news.take()
    }

    /// Tells the others. A hint needs not survive a crash, and is not to wait for the disk.
    pub(crate) async fn send(&self, session: &Session, shared: &Shared) -> Result<(), StoreError> {
        let text = self.to_text(&shared.token);
        let params = vec![
            Param::Text(Some(shared.channel.clone().into())),
            Param::Text(Some(text.into())),
        ];
        let notify = Statement::new(
            "SELECT pg_notify($1, $2), set_config('synchronous_commit', 'off', true)",
            params,
        );
        session.run(vec![notify]).await.map(drop)
    }

    /// What a transaction has to tell that wrote this since then.
    pub(crate) fn of(after: After, since: Timestamp) -> Option<Pending> {
        if after.is_nothing() {
            return None;
        }
        let many_ended = after.ended.len() > MOST_ENDS;
        Some(Pending {
            since: earlier(Some(since), after.oldest_row),
            work: after.has_work(),
            timer: after.earliest_timer,
            ended: if many_ended { Vec::new() } else { after.ended },
            many_ended,
        })
    }

    /// What a notification by somebody else than `own` says; words that are not known are left for
    /// those who know them.
    pub(crate) fn from_text(text: &str, own: &str) -> Option<Pending> {
        let mut words = text.split(' ');
        if words.next() == Some(own) {
            return None;
        }
        let mut told = Pending::default();
        for word in words {
            match word.split_at_checked(1) {
                Some(("w", "")) => told.work = true,
                Some(("t", due)) => told.timer = due.parse().ok().map(Timestamp),
                Some(("b", since)) => told.since = since.parse().ok().map(Timestamp),
                Some(("E", "")) => told.many_ended = true,
                Some(("e", id)) => told.ended.extend(id.parse::<ExecutionId>().ok()),
                _ => {}
            }
        }
        Some(told)
    }

    /// Tells this process. Answers whether it should look for ends that it waits for.
    pub(crate) fn tell(self, hints: &Arc<Hints>) -> bool {
        if self.work {
            hints.work.notify_one();
        }
        if let Some(due) = self.timer {
            hints.timer_set(due);
        }
        for id in self.ended {
            hints.ended(id);
        }
        hints.changed.notify_waiters();
        self.many_ended
    }
}

#[cfg(test)]
mod tests {
    use abide_core::ids::{TaskKey, VersionId};
    use abide_core::kernel::{Change, Effects, OutboxRow};

    use super::*;

    #[test]
    fn what_is_told_is_what_is_heard() {
        let told = Pending {
            work: true,
            timer: Some(Timestamp(77)),
            ended: vec![ExecutionId(5), ExecutionId(6)],
            many_ended: false,
            since: Some(Timestamp(66)),
        };
        let text = told.to_text("me");
        assert_eq!(Pending::from_text(&text, "you"), Some(told));
        assert_eq!(Pending::from_text(&text, "me"), None, "its own");
    }

    #[test]
    fn what_a_worker_finds_in_its_inbox_is_told() {
        let after = || After {
            inboxes: vec![abide_core::ids::WorkerId(7)],
            ..After::default()
        };
        let news = News::default();
        news.add(&after());
        assert!(news.take().expect("something").work);
        assert!(Pending::of(after(), Timestamp(1)).expect("something").work);
    }

    #[test]
    fn how_old_the_rows_are_that_came_is_told() {
        let row = |ready_at| {
            Change::Add(OutboxRow {
                worker: None,
                queue: VersionId(1),
                priority: 5,
                ready_at: Timestamp(ready_at),
                key: TaskKey::new(ExecutionId(3), 1),
            })
        };
        let effects = Effects {
            outbox: vec![row(90), row(7), row(80)],
            ..Effects::default()
        };
        let told = Pending::of_flush(&After::of(&effects)).expect("something");
        assert_eq!(told.since, Some(Timestamp(7)));
        let told = Pending::of(After::of(&effects), Timestamp(50)).expect("something");
        assert_eq!(told.since, Some(Timestamp(7)));
        let told = Pending::of(After::of(&effects), Timestamp(5)).expect("something");
        assert_eq!(told.since, Some(Timestamp(5)));
    }

    #[test]
    fn what_could_not_be_told_is_told_with_the_next() {
        let news = News::default();
        let untold = Pending {
            work: true,
            timer: Some(Timestamp(7)),
            ended: vec![ExecutionId(5)],
            ..Pending::default()
        };
        let since = After {
            earliest_timer: Some(Timestamp(9)),
            ended: vec![ExecutionId(6)],
            ..After::default()
        };
        news.add(&since);
        news.merge(untold);
        let told = news.take().expect("something");
        assert!(told.work && told.timer == Some(Timestamp(7)));
        assert_eq!(told.ended, [ExecutionId(6), ExecutionId(5)]);
    }

    #[test]
    fn many_ends_are_told_in_a_word() {
        let news = News::default();
        let after = After {
            ended: (0..=MOST_ENDS as i64).map(ExecutionId).collect(),
            ..After::default()
        };
        news.add(&after);
        let told = news.take().expect("something");
        assert!(told.many_ended && told.ended.is_empty());
        assert_eq!(told.to_text("me"), "me E");
        assert_eq!(news.take(), None, "told once");
    }

    #[test]
    fn what_was_heard_and_not_looked_at_is_bounded() {
        let heard = News::default();
        for at in 0..100_000 {
            let text = format!("other w t{at} b{at} e{}", ExecutionId(at));
            heard.merge(Pending::from_text(&text, "me").expect("it is another's"));
            let pending = heard.pending.lock().expect("not poisoned");
            assert!(pending.ended.len() <= MOST_ENDS);
        }
        let told = heard.take().expect("something");
        assert!(told.work && told.many_ended);
        assert_eq!(told.timer, Some(Timestamp(0)));
        assert_eq!(told.since, Some(Timestamp(0)));
    }
}
