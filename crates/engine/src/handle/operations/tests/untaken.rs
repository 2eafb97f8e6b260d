//! Results that the function has not taken: what goes back, in which order, and what a replay makes of it.

use super::*;

#[test]
fn a_signal_that_the_function_drops_is_given_back_before_the_task_idles() {
    let mut table = Table::new();
    let (a, b) = (table.awaits_signal("a"), table.awaits_signal("b"));
    table.park();
    table.answer(&[a, b]);
    assert_eq!(table.next(), Next::Again);
    assert!(table.waits_on(b).is_pending());
    assert!(table.waits_on(a).is_ready());
    table.0.abandon(b);
    let (step, _) = table.begins_step("after the race");
    assert_eq!(table.next(), Next::Record(Vec::new()));
    assert_eq!(table.0.take_given_back(), [given_back(&[b], &[])]);
    assert_eq!(table.next(), Next::Idle);
    table.0.finish(step, Ok(null()));
    table.record();
}

#[test]
fn what_was_handed_out_and_not_taken_is_given_back_too() {
    let mut table = Table::new();
    let (a, b) = (table.awaits_signal("a"), table.awaits_signal("b"));
    table.park();
    table.answer(&[a, b]);
    assert_eq!(table.next(), Next::Again);
    assert!(table.waits_on(a).is_ready());
    // The code keeps the future of `b`, and does not poll it.
    assert_eq!(table.next(), Next::Again);
    assert_eq!(table.next(), Next::Idle);
    table.0.abandon(b);
    assert_eq!(table.next(), Next::Record(Vec::new()));
    assert_eq!(table.0.take_given_back(), [given_back(&[b], &[])]);
}

#[test]
fn what_waits_in_the_same_mailbox_gets_the_older_signal() {
    let mut table = Table::new();
    let sleep = table.sleeps(0);
    let (first, second) = (table.awaits_signal("x"), table.awaits_signal("x"));
    table.park();
    let payloads = ["null", "1", "2"].map(Payload::from_json);
    let results = [sleep, first, second].into_iter().zip(payloads);
    let results = results.map(|(number, payload)| OperationResult {
        number,
        result: Ok(payload),
    });
    table.0.answered(results.collect());
    table.0.activate();
    assert_eq!(table.next(), Next::Again);
    assert!(table.waits(sleep, 0).is_ready());
    table.0.abandon(first);
    assert_eq!(table.next(), Next::Again);
    let one = Payload::from_json("1");
    assert_eq!(table.waits_on(second), Poll::Ready(Ok(one)));
    assert_eq!(table.0.take_given_back(), [given_back(&[first], &[second])]);
}

#[test]
fn of_several_results_that_are_there_the_first_that_is_asked_for_is_taken() {
    let mut table = Table::new();
    let [a, b, c] = ["a", "b", "c"].map(|name| table.awaits_signal(name));
    table.park();
    table.answer(&[a, b, c]);
    for _ in 0..3 {
        assert_eq!(table.next(), Next::Again);
    }
    // A race of the last two, asked in the other order.
    assert!(table.waits_on(c).is_pending());
    assert!(table.waits_on(b).is_pending());
    assert_eq!(table.next(), Next::Again);
    assert!(table.waits_on(c).is_pending());
    assert!(table.waits_on(b).is_ready());
}

#[test]
fn a_function_that_ends_gives_back_all_that_it_has_not_taken_and_an_evicted_one_nothing() {
    for ended in [true, false] {
        let mut table = Table::new();
        let (a, b) = (table.awaits_signal("a"), table.awaits_signal("b"));
        table.park();
        table.answer(&[a, b]);
        assert_eq!(table.next(), Next::Again);
        table.0.leave(ended);
        table.0.abandon(a);
        table.0.abandon(b);
        let expected = match ended {
            true => vec![given_back(&[a], &[]), given_back(&[b], &[])],
            false => Vec::new(),
        };
        assert_eq!(table.0.take_given_back(), expected);
    }
}

#[test]
fn what_was_given_back_is_not_handed_out_in_a_replay_and_keeps_its_place() {
    let mut given_back = record(2, 2, StepEnd::GivenBack);
    given_back.id.kind = StepKind::Signal;
    given_back.id.name = "b".to_owned();
    let mut table = Table::replaying(vec![done(1, 1), given_back]);
    let (winner, _) = table.begins_step("s1");
    let loser = table.awaits_signal("b");
    assert_eq!(table.next(), Next::Again);
    assert!(table.end(winner).is_ready());
    table.0.abandon(loser);
    assert_eq!(table.next(), Next::Idle);
    assert_eq!(table.0.next_order(), 3);
}

#[test]
fn a_condition_is_looked_at_after_the_results_that_are_there() {
    let mut signal = done(1, 1);
    signal.id.kind = StepKind::Signal;
    let mut table = Table::replaying(vec![signal, done(2, 2)]);
    assert!(table.0.poll_look(&noop()).is_pending());
    let raced = table.0.build(StepKind::Signal, "s1");
    assert!(table.waits_on(raced).is_pending());
    assert_eq!(table.next(), Next::Again);
    assert!(table.0.poll_look(&noop()).is_pending());
    assert!(table.waits_on(raced).is_ready());
    // What is left is of an operation that the code has not come to.
    assert_eq!(table.next(), Next::Again);
    assert!(table.0.poll_look(&noop()).is_ready());
}

#[test]
fn a_signal_that_was_taken_and_is_dropped_now_is_a_difference() {
    let mut signal = done(1, 1);
    signal.id.kind = StepKind::Signal;
    let mut table = Table::replaying(vec![signal, done(2, 2)]);
    let dropped = table.0.build(StepKind::Signal, "s1");
    assert!(table.waits_on(dropped).is_pending());
    table.0.abandon(dropped);
    let Next::Differs(difference) = table.next() else {
        panic!("the record goes on after it");
    };
    let expected = "operation 1: recorded signal `s1` was taken, but the code drops it";
    assert_eq!(difference, expected);
    assert_eq!(table.0.take_given_back(), []);
}

#[test]
fn a_signal_for_a_wait_that_is_gone_goes_back_however_the_task_went_on_meanwhile() {
    // One that it parked with and dropped when it went on, and one of an earlier run.
    let mut raced = Table::new();
    let signal = raced.awaits_signal("word");
    raced.0.add_condition();
    raced.park();
    raced.answer(&[]);
    let waiting = StepEnd::Waiting { due_at: None };
    let waiting = of_kind(StepKind::Signal, "word", record(1, 0, waiting));
    let mut replayed = Table::replaying(vec![waiting]);
    assert_eq!(replayed.0.build(StepKind::Signal, "word"), signal);
    for mut table in [raced, replayed] {
        table.0.abandon(signal);
        table.0.add_condition();
        let Next::Suspend { operations, .. } = table.next() else {
            panic!("it waits for a condition");
        };
        assert_eq!(operations, []);
        table.0.park();
        // The store still knows of the wait.
        table.answer(&[signal]);
        table.next();
        let back = vec![given_back(&[signal], &[])];
        assert_eq!(table.0.take_given_back(), back);
    }
}

#[test]
fn what_goes_back_while_a_step_runs_is_looked_for_by_what_waits_in_the_same_mailbox() {
    let mut table = Table::new();
    let _long = table.begins_step("long");
    let kept = table.awaits_signal("word");
    table.awaits_signal("word");
    table.watch();
    assert_eq!(table.next(), Next::Idle);
    table.0.tell(Sign::Wake);
    assert_eq!(table.next(), Next::Resume { always: false });
    table.answer(&[kept]);
    assert_eq!(table.next(), Next::Again);
    // The function asks for neither of them.
    table.watch();
    assert_eq!(table.next(), Next::Idle);
    table.0.abandon(kept);
    assert_eq!(table.next(), Next::Record(Vec::new()));
    assert_eq!(table.0.take_given_back(), [given_back(&[kept], &[])]);
    table.0.recorded(Vec::new());
    assert_eq!(table.next(), Next::Resume { always: false });
    table.answer(&[]);
    assert_eq!(table.next(), Next::Idle);
}

#[test]
fn a_signal_that_a_replay_drops_as_it_fails_does_not_keep_it_from_being_retried() {
    let failed = failure("no");
    let mut table = Table::replaying(vec![
        of_kind(
            StepKind::Step,
            "step",
            record(1, 1, StepEnd::Failed(failed.clone())),
        ),
        of_kind(StepKind::Sleep, "sleep", done(2, 2)),
        of_kind(StepKind::Signal, "word", done(3, 3)),
    ]);
    let (step, _) = table.begins_step("step");
    assert_eq!(table.next(), Next::Again);
    assert_eq!(table.end(step), Poll::Ready(Err(failed.clone())));
    let sleep = table.0.build(StepKind::Sleep, "sleep");
    assert!(table.waits(sleep, 1).is_pending());
    let signal = table.awaits_signal("word");
    assert_eq!(table.next(), Next::Again);
    assert!(table.waits(sleep, 1).is_ready());
    table.0.abandon(signal);
    table.0.end_poll();
    let after = table.0.after(&failed);
    assert!(matches!(after, AfterFailure::Rerun(_)), "{after:?}");
}

#[test]
fn a_step_that_was_dropped_after_its_body_ended_counts_as_done() {
    let mut table = Table::new();
    let failed = failure("no");
    let first = table.steps("first", Err(failed.clone()));
    table.record();
    assert_eq!(table.next(), Next::Again);
    assert!(table.end(first).is_ready());
    let lost = table.steps("lost", Ok(null()));
    table.0.abandon(lost);
    let after = table.0.after(&failed);
    assert!(matches!(after, AfterFailure::WentOn(_)), "{after:?}");
}

#[test]
fn a_signal_that_came_after_a_replay_began_may_be_dropped_though_more_is_recorded() {
    let waiting = StepEnd::Waiting { due_at: None };
    let waiting = of_kind(StepKind::Signal, "word", record(1, 0, waiting));
    let mut table = Table::replaying(vec![waiting, done(2, 1)]);
    let signal = table.awaits_signal("word");
    table.park();
    table.answer(&[signal]);
    table.0.abandon(signal);
    assert_eq!(table.next(), Next::Record(Vec::new()));
    assert_eq!(table.0.take_given_back(), [given_back(&[signal], &[])]);
}

#[test]
fn a_recorded_signal_that_a_replay_never_asks_for_goes_back() {
    let recorded = of_kind(StepKind::Signal, "word", done(1, 1));
    let mut table = Table::replaying(vec![recorded]);
    let signal = table.0.build(StepKind::Signal, "word");
    table.0.abandon(signal);
    assert_eq!(table.next(), Next::Record(Vec::new()));
    assert_eq!(table.0.take_given_back(), [given_back(&[signal], &[])]);
}
