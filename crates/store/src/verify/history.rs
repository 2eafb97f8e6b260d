//! What may follow what in a history: verification's own table, and the walk of one stream along
//! it. Written apart from the tables that transitions are made by, on purpose; a test compares the
//! two, so that neither changes alone.

use abide_core::event::EventType;
use abide_core::status::{ExecutionStatus as X, Phase as P};

use super::report::{Invariant, Problems};
use super::rows::{EventCells, State, StoredEvent};

/// A legal move: the event that says so, where it leads from and to.
#[derive(Debug)]
pub(super) struct Move {
    pub(super) event: EventType,
    /// Empty for the first event of a stream.
    pub(super) from: &'static [State],
    pub(super) to: State,
    /// The event that belongs to the same move and follows at once.
    pub(super) then: Option<EventType>,
}

const fn one(event: EventType, from: &'static [State], to: State) -> Move {
    let then = None;
    Move {
        event,
        from,
        to,
        then,
    }
}

const fn two(event: EventType, then: EventType, from: &'static [State], to: State) -> Move {
    let then = Some(then);
    Move {
        event,
        from,
        to,
        then,
    }
}

use EventType as E;
use State::{Execution as Ex, Task as Ta};

const HELD: &[State] = &[Ta(P::Active), Ta(P::Deferred)];
const OPEN: &[State] = &[
    Ta(P::Pending),
    Ta(P::Ready),
    Ta(P::Active),
    Ta(P::Deferred),
    Ta(P::Evicted),
];

#[rustfmt::skip]
pub(super) static TASKS: &[Move] = &[
    one(E::TaskCreated,     &[],                Ta(P::Pending)),
    one(E::TaskMarkedReady, &[Ta(P::Pending)],  Ta(P::Ready)),
    one(E::TaskSkipped,     &[Ta(P::Pending)],  Ta(P::Skipped)),
    two(E::TaskClaimed, E::TaskStarted, &[Ta(P::Ready)], Ta(P::Active)),
    one(E::TaskDeferred,    &[Ta(P::Active)],   Ta(P::Deferred)),
    one(E::TaskResumed,     &[Ta(P::Deferred)], Ta(P::Active)),
    one(E::TaskEvicted,     &[Ta(P::Deferred)], Ta(P::Evicted)),
    one(E::TaskWoken,       &[Ta(P::Evicted)],  Ta(P::Ready)),
    one(E::TaskCompleted,   HELD,               Ta(P::Completed)),
    two(E::TaskFailed, E::TaskRetryScheduled, HELD, Ta(P::Ready)),
    one(E::TaskFailed,      HELD,               Ta(P::Failed)),
    one(E::TaskReleased,    HELD,               Ta(P::Ready)),
    one(E::TaskRecovered,   HELD,               Ta(P::Ready)),
    one(E::TaskAbandoned,   &[Ta(P::Active)],   Ta(P::Abandoned)),
    one(E::TaskCancelled,   OPEN,               Ta(P::Cancelled)),
];

#[rustfmt::skip]
pub(super) static EXECUTIONS: &[Move] = &[
    one(E::ExecutionCreated,    &[],                 Ex(X::Pending)),
    one(E::ExecutionStarted,    &[Ex(X::Pending)],   Ex(X::Running)),
    one(E::ExecutionCancelled,  &[Ex(X::Pending)],   Ex(X::Cancelled)),
    one(E::ExecutionTimedOut,   &[Ex(X::Pending)],   Ex(X::TimedOut)),
    one(E::ExecutionCancelling, &[Ex(X::Pending), Ex(X::Running), Ex(X::Paused)], Ex(X::Cancelling)),
    one(E::ExecutionCancelled,  &[Ex(X::Cancelling)], Ex(X::Cancelled)),
    one(E::ExecutionTimedOut,   &[Ex(X::Cancelling)], Ex(X::TimedOut)),
    one(E::ExecutionCompleted,  &[Ex(X::Pending), Ex(X::Running), Ex(X::Paused)], Ex(X::Completed)),
    one(E::ExecutionFailed,     &[Ex(X::Running), Ex(X::Paused)], Ex(X::Failed)),
    one(E::ExecutionPriorityChanged, &[Ex(X::Pending)], Ex(X::Pending)),
    one(E::ExecutionPriorityChanged, &[Ex(X::Running)], Ex(X::Running)),
    one(E::ExecutionPriorityChanged, &[Ex(X::Paused)], Ex(X::Paused)),
];

/// What an event means where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It is part of a legal move.
    Move,
    /// It says that a late result was discarded: nothing changes.
    Discard,
    /// It does not fit, so what follows is not what the row was made of.
    Misfit,
}

/// One stream, read from its first event to its last.
#[derive(Debug)]
pub(super) struct Stream {
    table: &'static [Move],
    /// Number of the last event.
    pub(super) n: u32,
    /// Time of the last event.
    pub(super) at: i64,
    /// Its place among all events of the store.
    position: i64,
    /// Where the last event led.
    pub(super) state: Option<State>,
    half: Option<(EventType, EventType, Option<State>)>,
    /// Something was missing or wrong, so that the row cannot be compared with it.
    pub(super) broken: bool,
}

impl Stream {
    pub(super) fn new(table: &'static [Move]) -> Stream {
        Stream {
            table,
            n: 0,
            at: i64::MIN,
            position: i64::MIN,
            state: None,
            half: None,
            broken: false,
        }
    }

    /// Takes the next event. One misfit is reported for a stream: the rest follows from it.
    pub(super) fn take<'e>(
        &mut self,
        event: &'e StoredEvent,
        problems: &mut Problems,
    ) -> (Place, Option<&'e EventCells>) {
        let expected = self.n.saturating_add(1);
        self.n = event.n;
        let cells = match &event.cells {
            Ok(cells) => cells,
            Err(error) => {
                self.misfit(
                    problems,
                    Invariant::I1,
                    format!("event {}: {error}", event.n),
                );
                return (Place::Misfit, None);
            }
        };
        if event.n != expected && !self.broken {
            self.misfit(problems, Invariant::I5, gap(expected, event.n));
        }
        if event.position < self.position && !self.broken {
            let what = format!("event {} was recorded before the one before it", event.n);
            self.misfit(problems, Invariant::I5, what);
        }
        let place = match self.broken {
            true => Place::Misfit,
            false => self.place(event.n, cells, problems),
        };
        self.position = event.position;
        self.at = cells.at;
        self.state = Some(cells.to);
        (place, Some(cells))
    }

    fn place(&mut self, n: u32, event: &EventCells, problems: &mut Problems) -> Place {
        let name = event.kind;
        if event.at < self.at {
            let what = format!("event {n} ({name}) is earlier than the event before it");
            return self.misfit(problems, Invariant::I5, what);
        }
        if let Some((first, second, from)) = self.half.take() {
            let fits = name == second && event.from == from && Some(event.to) == self.state;
            return match fits {
                true => Place::Move,
                false => {
                    let what = format!("event {n} is {name}, but {first} is followed by {second}");
                    self.misfit(problems, Invariant::I5, what)
                }
            };
        }
        if name == EventType::TaskLateResultDiscarded
            && event.from == self.state
            && Some(event.to) == self.state
        {
            return Place::Discard;
        }
        if let Some(state) = self.state.filter(|state| state.is_terminal()) {
            let what = format!("event {n} ({name}) follows the end: it was {state}");
            return self.misfit(problems, Invariant::I3, what);
        }
        if event.from != self.state {
            let what = format!(
                "event {n} ({name}) leads from {}, but the event before it led to {}",
                shown(event.from),
                shown(self.state)
            );
            return self.misfit(problems, Invariant::I5, what);
        }
        let legal = self.table.iter().find(|legal| {
            let from = match event.from {
                None => legal.from.is_empty(),
                Some(from) => legal.from.contains(&from),
            };
            legal.event == name && legal.to == event.to && from
        });
        match legal {
            Some(legal) => {
                self.half = legal.then.map(|then| (name, then, event.from));
                Place::Move
            }
            None => {
                let (from, to) = (shown(event.from), event.to);
                let what = format!("event {n}: {name} cannot lead from {from} to {to}");
                self.misfit(problems, Invariant::I5, what)
            }
        }
    }

    /// The last event was taken: nothing may be missing behind it. `version` is the row's.
    pub(super) fn end(&mut self, version: Option<u32>, problems: &mut Problems) {
        if self.broken {
            return;
        }
        if let Some(version) = version.filter(|version| *version != self.n) {
            let what = match self.n {
                0 => format!("its version is {version}, but it has no history"),
                n => format!("its version is {version}, but its history ends with event {n}"),
            };
            self.misfit(problems, Invariant::I5, what);
        } else if let Some((first, second, _)) = self.half {
            let what = format!("its history ends with {first}, without {second}");
            self.misfit(problems, Invariant::I5, what);
        }
    }

    pub(super) fn misfit(
        &mut self,
        problems: &mut Problems,
        invariant: Invariant,
        what: String,
    ) -> Place {
        if !self.broken {
            problems.add(invariant, what);
        }
        self.broken = true;
        Place::Misfit
    }
}

fn gap(expected: u32, found: u32) -> String {
    match found.checked_sub(expected) {
        Some(1) => format!("event {expected} is missing"),
        Some(0) | None => format!("event {found} stands where event {expected} should"),
        Some(_) => format!("events {expected} to {} are missing", found - 1),
    }
}

fn shown(state: Option<State>) -> String {
    state.map_or_else(|| "nothing".to_owned(), |state| state.to_string())
}

#[cfg(test)]
mod tests {
    use abide_core::table::{self, Built};

    use super::*;

    /// Each move as its events, one origin and its target.
    fn spelt(table: &[Move]) -> Vec<String> {
        let mut moves = Vec::new();
        for row in table {
            let events: Vec<EventType> = [row.event].into_iter().chain(row.then).collect();
            let origins: Vec<Option<State>> = match row.from {
                [] => vec![None],
                from => from.iter().copied().map(Some).collect(),
            };
            moves.extend(
                origins
                    .into_iter()
                    .map(|from| format!("{events:?} {from:?} {:?}", row.to)),
            );
        }
        moves.sort();
        moves
    }

    #[test]
    fn this_table_says_what_the_table_of_transitions_says() {
        let mut tasks = Vec::new();
        for row in table::TASKS.iter().filter(|row| row.built == Built::Now) {
            for (from, to) in row.pairs() {
                let (from, to) = (from.map(State::Task), State::Task(to));
                tasks.push(format!("{:?} {from:?} {to:?}", row.events));
            }
        }
        tasks.sort();
        assert_eq!(spelt(TASKS), tasks);
        let mut executions = Vec::new();
        for row in table::EXECUTIONS
            .iter()
            .filter(|row| row.built == Built::Now)
        {
            for (from, to) in row.pairs() {
                let (from, to) = (from.map(State::Execution), State::Execution(to));
                executions.push(format!("{:?} {from:?} {to:?}", row.events));
            }
        }
        executions.sort();
        assert_eq!(spelt(EXECUTIONS), executions);
    }
}
