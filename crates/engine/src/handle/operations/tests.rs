use super::*;

use abide_core::failure::RetryHint;
use abide_core::kernel::GivenBack;
use abide_core::step::OperationResult;

mod untaken;

/// Polls of the function are made by hand: each method stands for what a future does in one.
struct Table(Operations);

impl Table {
    fn new() -> Table {
        let mut table = Table(Operations::new());
        table.poll();
        table
    }

    fn replaying(records: Vec<StepRecord>) -> Table {
        let mut table = Table(Operations::new());
        table.0.load(records);
        table.poll();
        table
    }

    fn poll(&mut self) {
        self.0.begin_poll(&noop());
    }

    fn next(&mut self) -> Next {
        let next = self.0.next();
        self.poll();
        next
    }

    fn sleeps(&mut self, due: i64) -> u32 {
        let number = self.0.build(StepKind::Sleep, "sleep");
        assert!(self.waits(number, due).is_pending());
        number
    }

    fn awaits_signal(&mut self, name: &str) -> u32 {
        let number = self.0.build(StepKind::Signal, name);
        assert!(self.waits_on(number).is_pending());
        number
    }

    fn waits_on(&mut self, number: u32) -> Poll<OperationEnd> {
        self.0.poll_wait(number, || None, &noop())
    }

    fn waits(&mut self, number: u32, due: i64) -> Poll<OperationEnd> {
        self.0.poll_wait(number, || Some(Timestamp(due)), &noop())
    }

    fn begins_step(&mut self, name: &str) -> (u32, Poll<bool>) {
        let number = self.0.build(StepKind::Step, name);
        (number, self.0.poll_turn(number, &noop()))
    }

    /// A step whose body ends at once.
    fn steps(&mut self, name: &str, end: OperationEnd) -> u32 {
        let (number, turn) = self.begins_step(name);
        assert_eq!(turn, Poll::Ready(true));
        self.0.finish(number, end);
        number
    }

    fn end(&mut self, number: u32) -> Poll<OperationEnd> {
        self.0.poll_end(number, &noop())
    }

    /// Records what is finished, as the driver would.
    fn record(&mut self) -> Vec<StepRecord> {
        let Next::Record(steps) = self.next() else {
            panic!("nothing is finished");
        };
        self.0.recorded(steps.clone());
        steps
    }

    /// Suspends, as the driver would, and parks.
    fn park(&mut self) -> Vec<Operation> {
        let Next::Suspend { operations, .. } = self.next() else {
            panic!("something else than waiting goes on");
        };
        self.0.awaits(&operations);
        self.0.park();
        operations
    }

    /// Records what is waited for while a step runs, as the driver would.
    fn watch(&mut self) -> Vec<Operation> {
        let Next::Watch(operations) = self.next() else {
            panic!("a step runs, and something else is waited for");
        };
        self.0.awaits(&operations);
        self.answer(&[]);
        operations
    }

    fn answer(&mut self, numbers: &[u32]) {
        let results = numbers.iter().map(|&number| OperationResult {
            number,
            result: Ok(null()),
        });
        self.0.answered(results.collect());
        self.0.activate();
    }
}

fn given_back(operations: &[u32], heirs: &[u32]) -> GivenBack {
    GivenBack {
        operations: operations.to_vec(),
        heirs: heirs.to_vec(),
    }
}

fn noop() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn null() -> Payload {
    Payload::from_json("null")
}

fn failure(message: &str) -> Failure {
    Failure::new("broken", message)
}

fn record(number: u32, order: u32, end: StepEnd) -> StepRecord {
    let id = StepId {
        number,
        kind: StepKind::Step,
        name: format!("s{number}"),
        fingerprint: None,
    };
    StepRecord { id, end, order }
}

fn of_kind(kind: StepKind, name: &str, mut record: StepRecord) -> StepRecord {
    record.id.kind = kind;
    record.id.name = name.to_owned();
    record
}

fn done(number: u32, order: u32) -> StepRecord {
    record(number, order, StepEnd::Done(null()))
}

#[test]
fn a_steps_result_is_handed_out_once_it_is_recorded() {
    let mut table = Table::new();
    let step = table.steps("charge", Ok(null()));
    assert!(table.end(step).is_pending());
    let recorded = table.record();
    assert_eq!((recorded[0].id.number, recorded[0].order), (1, 1));
    assert!(table.end(step).is_pending());
    assert_eq!(table.next(), Next::Again);
    assert_eq!(table.end(step), Poll::Ready(Ok(null())));
    assert_eq!(table.next(), Next::Idle);
}

#[test]
fn results_are_handed_out_one_at_a_time_in_the_order_of_their_ends() {
    let mut table = Table::new();
    let (first, _) = table.begins_step("first");
    let second = table.steps("second", Ok(null()));
    table.0.finish(first, Ok(null()));
    let orders = table
        .record()
        .into_iter()
        .map(|step| (step.id.number, step.order));
    assert_eq!(orders.collect::<Vec<_>>(), [(2, 1), (1, 2)]);
    assert_eq!(table.next(), Next::Again);
    assert!(table.end(first).is_pending());
    assert!(table.end(second).is_ready());
    assert_eq!(table.next(), Next::Again);
    assert!(table.end(first).is_ready());
}

#[test]
fn a_replay_keeps_the_order_in_which_results_were_recorded() {
    let mut table = Table::replaying(vec![done(1, 2), done(2, 1)]);
    let (first, turn) = table.begins_step("s1");
    assert_eq!(turn, Poll::Ready(false));
    assert!(table.end(first).is_pending());
    // The second ended first, so the first waits until the code asks for the second.
    assert_eq!(table.next(), Next::Idle);
    let (second, _) = table.begins_step("s2");
    assert_eq!(table.next(), Next::Again);
    assert!(table.end(first).is_pending());
    assert!(table.end(second).is_ready());
    assert_eq!(table.next(), Next::Again);
    assert!(table.end(first).is_ready());
    assert_eq!(table.0.next_order(), 3);
}

#[test]
fn what_lost_a_race_is_not_handed_out_in_a_replay_either() {
    let mut table = Table::replaying(vec![done(1, 1), done(2, 2), done(3, 3)]);
    let (winner, _) = table.begins_step("s1");
    let (loser, _) = table.begins_step("s2");
    assert_eq!(table.next(), Next::Again);
    assert!(table.end(winner).is_ready());
    table.0.abandon(loser);
    let (third, _) = table.begins_step("s3");
    assert_eq!(table.next(), Next::Again);
    assert!(table.end(third).is_ready());
}

#[test]
fn a_task_is_suspended_only_while_every_branch_waits() {
    let mut table = Table::new();
    table.sleeps(10);
    let (step, _) = table.begins_step("other branch");
    assert_eq!(table.watch().len(), 1);
    assert_eq!(table.next(), Next::Idle);
    table.0.finish(step, Ok(null()));
    table.record();
    assert_eq!(table.next(), Next::Again);
    assert!(table.end(step).is_ready());
    assert_eq!(table.park().len(), 1);
    assert_eq!(table.0.due_at(), Some(Timestamp(10)));
}

#[test]
fn waits_beside_a_running_step_are_recorded_and_looked_at() {
    let mut table = Table::new();
    let (step, _) = table.begins_step("slow");
    let sleep = table.sleeps(10);
    table.watch();
    assert_eq!(table.0.watched_due_at(), Some(Timestamp(10)));
    assert_eq!(table.next(), Next::Idle);
    table.0.tell(Sign::Wake);
    assert_eq!(table.next(), Next::Resume { always: false });
    table.answer(&[sleep]);
    assert_eq!(table.next(), Next::Again);
    assert!(table.waits(sleep, 0).is_ready());
    table.0.abandon(step);
    assert_eq!(table.next(), Next::Idle);
    assert_eq!(table.0.watched_due_at(), None);
}

#[test]
fn a_step_that_lost_a_race_does_not_begin_in_a_replay() {
    let mut table = Table::replaying(vec![done(2, 1)]);
    let (loser, turn) = table.begins_step("s1");
    assert!(turn.is_pending());
    let (winner, _) = table.begins_step("s2");
    assert_eq!(table.next(), Next::Again);
    assert!(table.end(winner).is_ready());
    // Not dropped, it begins now.
    assert_eq!(table.next(), Next::Again);
    assert_eq!(table.0.poll_turn(loser, &noop()), Poll::Ready(true));
}

#[test]
fn a_step_begins_if_the_next_recorded_result_cannot_be_handed_out() {
    let mut table = Table::replaying(vec![done(2, 1)]);
    let (step, turn) = table.begins_step("s1");
    assert!(turn.is_pending());
    // Nobody has asked for the second operation: perhaps the body makes the code do so.
    assert_eq!(table.next(), Next::Again);
    assert_eq!(table.0.poll_turn(step, &noop()), Poll::Ready(true));
}

#[test]
fn a_recorded_wait_goes_on_with_its_recorded_time() {
    let id = StepId {
        number: 1,
        kind: StepKind::Sleep,
        name: "sleep".to_owned(),
        fingerprint: None,
    };
    let end = StepEnd::Waiting {
        due_at: Some(Timestamp(5)),
    };
    let mut table = Table::replaying(vec![StepRecord { id, end, order: 0 }]);
    table.sleeps(500);
    assert_eq!(table.park()[0].due_at, Some(Timestamp(5)));
}

#[test]
fn a_parked_task_whose_waits_changed_has_them_recorded_anew() {
    let mut table = Table::new();
    table.sleeps(10);
    let loser = table.sleeps(20);
    table.park();
    assert_eq!(table.next(), Next::Idle);
    table.0.abandon(loser);
    let Next::Renew(operations) = table.next() else {
        panic!("one wait less");
    };
    assert_eq!(operations.len(), 1);
    table.0.awaits(&operations);
    assert_eq!(table.next(), Next::Idle);
}

#[test]
fn a_wake_up_is_kept_until_it_is_looked_at() {
    let mut table = Table::new();
    table.sleeps(10);
    table.park();
    table.0.tell(Sign::Wake);
    assert_eq!(table.next(), Next::Resume { always: false });
    assert_eq!(table.next(), Next::Idle);
}

#[test]
fn an_answered_wait_is_not_waited_for_again() {
    let mut table = Table::new();
    let first = table.sleeps(10);
    let second = table.sleeps(20);
    table.park();
    table.answer(&[first]);
    assert_eq!(table.next(), Next::Again);
    assert!(table.waits(first, 0).is_ready());
    let left = table.park();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].id.number, second);
}

#[test]
fn a_step_that_begins_while_parked_waits_for_the_slot() {
    let mut table = Table::new();
    table.sleeps(10);
    table.park();
    let (step, turn) = table.begins_step("in a branch with I/O of its own");
    assert!(turn.is_pending());
    assert_eq!(table.next(), Next::Resume { always: true });
    table.0.activate();
    assert_eq!(table.0.poll_turn(step, &noop()), Poll::Ready(true));
}

#[test]
fn a_condition_gives_the_slot_away_and_gets_it_back() {
    let mut table = Table::new();
    let condition = table.0.add_condition();
    let suspend = Next::Suspend {
        operations: Vec::new(),
        conditions: true,
    };
    assert_eq!(table.next(), suspend);
    table.0.park();
    assert_eq!(table.next(), Next::Idle);
    assert!(table.0.poll_condition(condition, &noop()).is_pending());
    assert_eq!(table.next(), Next::Resume { always: true });
    table.0.activate();
    assert!(table.0.poll_condition(condition, &noop()).is_ready());
    table.0.remove_condition(condition);
    assert_eq!(table.next(), Next::Idle);
}

#[test]
fn a_stopped_task_that_only_waits_is_cancelled_after_it_could_hear_of_it() {
    let mut table = Table::new();
    let sleep = table.sleeps(10);
    table.0.tell(Sign::Stop);
    assert_eq!(table.0.next(), Next::Again);
    table.poll();
    assert_eq!(table.next(), Next::Cancelled);
    // One that cleans up instead goes on.
    table.0.abandon(sleep);
    assert_eq!(table.next(), Next::Idle);
}

#[test]
fn a_shutdown_leaves_recorded_waits_to_the_store_and_gives_the_rest_back() {
    let mut table = Table::new();
    table.sleeps(10);
    table.0.tell(Sign::Leave);
    table.park();
    assert_eq!(table.next(), Next::Evict);
    table.0.add_condition();
    assert_eq!(table.next(), Next::Release);
}

#[test]
fn too_many_parked_tasks_evict_only_what_is_recorded() {
    let mut table = Table::new();
    table.sleeps(10);
    let condition = table.0.add_condition();
    table.park();
    table.0.tell(Sign::Evict);
    assert_eq!(table.next(), Next::Idle);
    table.0.remove_condition(condition);
    assert_eq!(table.next(), Next::Evict);
}

#[test]
fn other_code_is_told_by_its_first_difference() {
    let mut table = Table::replaying(vec![done(1, 1)]);
    let (step, _) = table.begins_step("another name");
    assert!(table.end(step).is_pending());
    let Next::Differs(difference) = table.next() else {
        panic!("the names differ");
    };
    let expected = "operation 1: recorded step `s1`, but the code asks for step `another name`";
    assert_eq!(difference, expected);
    assert!(table.end(step).is_pending());
}

#[test]
fn records_that_nobody_asked_for_are_a_difference_at_the_end() {
    let table = Table::replaying(vec![done(1, 1)]);
    assert_eq!(table.0.difference(), None);
    assert!(
        table
            .0
            .unread()
            .expect("one is unread")
            .contains("step `s1`")
    );
}

#[test]
fn the_operation_whose_error_ended_the_attempt_runs_again() {
    let mut table = Table::new();
    let (first, _) = table.begins_step("first");
    let second = table.steps("second", Err(failure("two")));
    table.0.finish(first, Err(failure("one")));
    table.record();
    for step in [second, first] {
        assert_eq!(table.next(), Next::Again);
        assert!(table.end(step).is_ready());
    }
    let supersede = |message| match table.0.after(&failure(message)) {
        AfterFailure::Rerun(rerun) => rerun.supersede,
        after => panic!("an error ended it: {after:?}"),
    };
    assert_eq!(
        (supersede("two").failed, supersede("two").from),
        (second, 3)
    );
    assert_eq!(supersede("one").failed, first);
    // Wrapped by the code: most likely the last one.
    assert_eq!(supersede("it went wrong").failed, first);
}

#[test]
fn an_error_that_was_handled_is_kept() {
    let mut table = Table::new();
    let step = table.steps("first try", Err(failure("no")));
    table.record();
    table.next();
    assert!(table.end(step).is_ready());
    let fallback = table.steps("fallback", Ok(null()));
    table.record();
    table.next();
    assert!(table.end(fallback).is_ready());
    let after = table.0.after(&failure("something else"));
    assert_eq!(after, AfterFailure::Keep);
}

impl Table {
    /// A step that is recorded and whose end the function is handed.
    fn sees(&mut self, name: &str, end: OperationEnd) -> u32 {
        let step = self.steps(name, end);
        self.record();
        assert_eq!(self.next(), Next::Again);
        assert!(self.end(step).is_ready());
        step
    }

    fn went_on(&self, message: &str) -> String {
        match self.0.after(&failure(message)) {
            AfterFailure::WentOn(why) => why,
            after => panic!("it went on: {after:?}"),
        }
    }
}

#[test]
fn an_error_that_was_answered_by_a_later_step_is_not_run_again() {
    let mut table = Table::new();
    table.sees("reserve", Ok(null()));
    table.sees("ship", Err(failure("no truck")));
    table.sees("unreserve", Ok(null()));
    let why = table.went_on("no truck");
    let expected = "after step `ship` had failed, the function went on with step `unreserve`";
    assert!(why.starts_with(expected), "{why}");
    let later = failure("no truck").with_retry(RetryHint::After(1));
    assert!(matches!(table.0.after(&later), AfterFailure::WentOn(_)));
}

#[test]
fn a_step_that_was_dropped_half_way_counts_as_done() {
    let mut table = Table::new();
    table.sees("ship", Err(failure("no truck")));
    let (undo, _) = table.begins_step("unreserve");
    table.0.abandon(undo);
    assert!(table.went_on("no truck").contains("step `unreserve`"));
}

#[test]
fn a_failure_in_the_midst_of_a_later_step_keeps_the_record() {
    let mut table = Table::new();
    table.sees("ship", Err(failure("no truck")));
    let _unreserve = table.begins_step("unreserve");
    // A timeout, say: the next attempt replays the error and begins the later step again.
    assert_eq!(table.0.after(&failure("too slow")), AfterFailure::Keep);
}

#[test]
fn what_runs_again_is_told_with_its_errors() {
    let mut table = Table::new();
    table.sees("reserve", Ok(null()));
    table.sees("ship", Err(failure("no truck")));
    let sleep = table.sleeps(10);
    table.park();
    table.answer(&[sleep]);
    assert_eq!(table.next(), Next::Again);
    assert!(table.waits(sleep, 0).is_ready());
    table.sees("fallback", Err(failure("no drone")));
    let AfterFailure::Rerun(rerun) = table.0.after(&failure("no truck")) else {
        panic!("nothing was done since");
    };
    let told = rerun.operations.into_iter();
    let told: Vec<_> = told.map(|of| (of.number, of.name, of.error)).collect();
    let expected = [
        (2, "ship".to_owned(), Some("broken: no truck".to_owned())),
        (3, "sleep".to_owned(), None),
        (
            4,
            "fallback".to_owned(),
            Some("broken: no drone".to_owned()),
        ),
    ];
    assert_eq!(told, expected);
}

#[test]
fn what_was_told_while_the_slot_is_awaited_comes_first() {
    let mut table = Table::new();
    table.sleeps(10);
    table.park();
    assert!(!table.0.is_interrupted());
    table.0.tell(Sign::Stop);
    assert!(table.0.is_interrupted());
    table.poll();
    assert!(!table.0.is_interrupted());
    table.0.tell(Sign::Kill);
    assert!(table.0.is_interrupted());
    assert_eq!(table.next(), Next::Killed);
}

#[test]
fn what_outlives_the_function_ends_with_an_error() {
    let mut table = Table::new();
    let sleep = table.sleeps(10);
    let (step, _) = table.begins_step("spawned");
    table.0.close();
    let ended = |end: Poll<OperationEnd>| matches!(end, Poll::Ready(Err(failure)) if failure.kind == "cancelled");
    assert!(ended(table.waits(sleep, 10)));
    table.0.finish(step, Ok(null()));
    assert!(ended(table.end(step)));
    let (late, turn) = table.begins_step("too late");
    assert_eq!(turn, Poll::Ready(false));
    assert!(ended(table.end(late)));
}
