//! What each request answers: one table names a request, the type of its answer, and its rule. So the
//! type of an answer follows from what was asked.

use crate::timer::Timer;

use super::action::{Act, Acted};
use super::need::Stop;
use super::request::*;
use super::working::Working;

/// A request that knows the type of its answer.
pub trait Ask: Into<Request> {
    /// What it answers once it is applied.
    type Answer;

    /// The answer, out of what [`super::apply`] answered to this request.
    ///
    /// # Panics
    ///
    /// If the reply is one to another kind of request.
    fn answer(reply: Reply) -> Self::Answer;
}

/// A request of whichever kind, with its reply of the same.
impl Ask for Request {
    type Answer = Reply;

    fn answer(reply: Reply) -> Reply {
        reply
    }
}

macro_rules! asks {
    ($($request:ident($type:ty) => $reply:ident($answer:ty) by $rule:ident),+ $(,)?) => {
        $(
            impl From<$type> for Request {
                fn from(ask: $type) -> Request {
                    Request::$request(ask.into())
                }
            }

            impl Ask for $type {
                type Answer = $answer;

                fn answer(reply: Reply) -> $answer {
                    match reply {
                        Reply::$reply(answer) => answer,
                        other => unreachable!("no answer to this request: {other:?}"),
                    }
                }
            }
        )+

        impl Working {
            /// Runs the rule of a request.
            pub(super) fn handle(&mut self, request: &Request) -> Result<Reply, Stop> {
                match request {
                    $(Request::$request(ask) => self.$rule(ask).map(Reply::$reply),)+
                }
            }
        }
    };
}

asks! {
    Start(Start) => Started(Started) by start,
    AddTasks(AddTasks) => Done(()) by add_tasks,
    Publish(Publish) => Started(Started) by publish,
    Claim(Claim) => Claimed(Option<Box<Claimed>>) by claim,
    Finish(Finish) => Finished(Finished) by finish,
    Defer(Defer) => Answered(Answered) by defer,
    Resume(Resume) => Answered(Answered) by resume,
    Await(Await) => Answered(Answered) by await_operations,
    Watch(Watch) => Answered(Answered) by watch,
    Evict(Evict) => Answered(Answered) by evict,
    Record(Record) => Done(()) by record,
    Signal(Signal) => Signalled(Signalled) by signal,
    Act(Act) => Acted(Acted) by act,
    Fire(Timer) => Done(()) by fire,
    Recover(Recover) => Recovered(Recovered) by recover,
    Inbox(Inbox) => Notice(Option<Notice>) by inbox,
    Progress(Progress) => Done(()) by progress,
}
