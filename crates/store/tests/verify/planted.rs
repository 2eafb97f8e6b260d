//! Violations planted into a store that has something of everything: each is found, as what it is,
//! where it is, and nothing else is.

use abide_core::graph::TaskSpec;
use abide_core::ids::{ExecutionId, VersionId};
use abide_core::kernel::{PIECE, Request};
use abide_store::{Finding, Invariant, Subject};

use crate::fixture::graph;
use crate::home::Home;
use crate::kept::{Kept, PAYLOADS_APART, PLANTED_HERE};
use crate::scenario::Scenario;
use Who::{Execution, Instance, Mailbox, Task, Unknown, Version};

/// A violation, and what verification should say of it.
pub(crate) struct Plant {
    pub(crate) name: &'static str,
    /// Statements, in the words of [`Scenario::sql`].
    pub(crate) sql: &'static str,
    pub(crate) breaks: Invariant,
    pub(crate) who: Who,
    pub(crate) says: &'static str,
}

/// Who a finding should be about, by the names of the scenario.
pub(crate) enum Who {
    Execution(&'static str),
    Task(&'static str, u32),
    Instance(&'static str),
    Mailbox(&'static str, &'static str),
    Version(&'static str),
    /// An execution that is not stored.
    Unknown(i64),
}

/// The scenario, into which violations are planted one after another.
struct Field {
    scenario: Scenario,
    kept: Kept,
}

impl Field {
    async fn new() -> Field {
        let (scenario, database) = Scenario::new().await;
        let kept = Kept::new(database).await;
        Field { scenario, kept }
    }

    /// What verification says after these statements, which are undone then.
    async fn verify_after(&self, sql: &str) -> Vec<Finding> {
        let sql = self.scenario.sql(sql);
        let statements = sql.split(';').map(str::trim);
        for statement in statements.filter(|statement| !statement.is_empty()) {
            let changed = self.kept.database.execute(statement).await;
            assert!(changed > 0, "nothing was planted by `{statement}`");
        }
        let report = self.kept.verify().await;
        self.kept.restore().await;
        report.findings
    }

    async fn subject(&self, who: &Who) -> Subject {
        match *who {
            Execution(name) => self.scenario.execution(name),
            Task(name, number) => self.scenario.task(name, number),
            Unknown(id) => Subject::execution(ExecutionId(id)),
            Instance(instance) => Subject::Instance {
                instance: instance.to_owned(),
            },
            Mailbox(instance, name) => Subject::Mailbox {
                instance: instance.to_owned(),
                name: name.to_owned(),
            },
            Version(name) => {
                let sql = format!("SELECT id FROM workflow_versions WHERE name = '{name}'");
                let found = self.kept.database.rows(&[&sql]).await;
                let version = VersionId(found[0][0][0].1.integer());
                Subject::Version { version }
            }
        }
    }

    /// What is wrong with the findings, if anything is.
    async fn check(&self, plant: &Plant) -> Result<(), String> {
        let subject = self.subject(&plant.who).await;
        let found = self.verify_after(plant.sql).await;
        let is_it = |finding: &Finding| {
            (finding.invariant, &finding.subject) == (plant.breaks, &subject)
                && finding.what.contains(plant.says)
        };
        match found.as_slice() {
            [finding] if is_it(finding) => Ok(()),
            found => Err(format!(
                "{}: one finding of {:?} about {subject:?} that says `{}` was expected, there are {found:#?}",
                plant.name, plant.breaks, plant.says
            )),
        }
    }
}

async fn check_all(plants: &[Plant]) {
    let field = Field::new().await;
    let mut wrong = Vec::new();
    for plant in plants {
        wrong.extend(field.check(plant).await.err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

macro_rules! planted {
    ($promise:ident: $($name:ident: $sql:literal => $breaks:ident, $who:expr, $says:literal;)+) => {
        #[tokio::test]
        async fn $promise() {
            check_all(&[$(Plant {
                name: stringify!($name),
                sql: $sql,
                breaks: Invariant::$breaks,
                who: $who,
                says: $says,
            }),+])
            .await;
        }
    };
}

#[tokio::test]
async fn a_store_with_something_of_everything_is_clean() {
    let (scenario, _database) = Scenario::new().await;
    let report = &scenario.report;
    assert!(report.is_clean(), "{report}");
    let checked = &report.checked;
    let counts = [
        checked.executions,
        checked.instances,
        checked.tasks,
        checked.events,
        checked.steps,
        checked.outbox,
        checked.timers,
        checked.signals,
        checked.workers,
        checked.versions,
    ];
    assert!(counts.iter().all(|count| *count > 0), "{checked:?}");
    assert_eq!(checked.payloads > 0, PAYLOADS_APART, "{checked:?}");
    assert!(report.to_string().ends_with("clean: every invariant holds"));
}

#[tokio::test]
async fn an_ended_execution_may_have_lost_its_history_but_not_its_rows() {
    const PRUNED: &str = "UPDATE executions SET history_pruned_at = 5 WHERE id = {caught};
        DELETE FROM execution_events WHERE execution = {caught}";
    let field = Field::new().await;
    assert_eq!(field.verify_after(PRUNED).await, []);
    let miscounted = format!("{PRUNED}; UPDATE executions SET failed = 0 WHERE id = {{caught}}");
    let found = field.verify_after(&miscounted).await;
    let [finding] = found.as_slice() else {
        panic!("one violation was planted, found {found:#?}")
    };
    assert_eq!(finding.invariant, Invariant::I6);
    assert_eq!(finding.subject, field.scenario.execution("caught"));
    assert!(
        finding.what.contains("failed is 0, history says 1"),
        "{finding}"
    );
}

#[tokio::test]
async fn an_execution_that_is_still_being_written_is_skipped_and_counted() {
    let home = Home::new().await;
    let names: Vec<String> = (0..=PIECE).map(|at| format!("n{at}")).collect();
    let graph = graph(names.iter().map(TaskSpec::new).collect(), &[]);
    let version = home.version("w", &graph).await;
    let start = home.start_request("i", version, &graph);
    let begun = home.store.apply(Request::Start(Box::new(start))).await;
    begun.expect("is written");
    let report = home.assert_clean().await;
    assert_eq!(report.checked.unpublished, 1);
    assert!(
        report
            .to_string()
            .contains("1 executions are still being written")
    );
}

planted! { what_was_acknowledged_exists:
    a_task_row_that_is_gone:
        "DELETE FROM task_executions WHERE execution = {caught} AND number = 2"
        => I1, Task("caught", 2), "its row is missing";
    an_execution_row_that_is_gone:
        "DELETE FROM executions WHERE id = {failed}"
        => I1, Execution("failed"), "it is not stored, but has tasks, events";
    a_task_of_which_nothing_is_left:
        "DELETE FROM task_executions WHERE execution = {caught} AND number = 6;
         DELETE FROM execution_events WHERE execution = {caught} AND task = 6"
        => I1, Task("caught", 6), "neither a row nor a history";
    an_output_that_was_changed:
        "UPDATE task_executions SET output = '\"other\"' WHERE execution = {function} AND number = 1"
        => I1, Task("function", 1), "its output has 7 bytes and digest";
    an_output_that_is_gone:
        "UPDATE task_executions SET output = NULL WHERE execution = {function} AND number = 1"
        => I1, Task("function", 1), "its output is missing";
    an_input_that_was_changed:
        "UPDATE executions SET input = '{}' WHERE id = {ready}"
        => I1, Execution("ready"), "its input has 2 bytes";
    progress_that_is_no_json:
        "UPDATE task_executions SET progress = '{' WHERE execution = {active}"
        => I1, Task("active", 1), "its progress is no JSON";
    changes_that_are_not_of_their_form:
        "UPDATE task_executions SET changes = '[1]' WHERE execution = {function}"
        => I1, Task("function", 1), "its changes cannot be read";
    changes_of_the_context_that_were_forged:
        "UPDATE task_executions SET changes = '{\"set\":{\"y\":3},\"removed\":[\"for\"]}' WHERE execution = {context} AND number = 2"
        => I1, Task("context", 2), "its changes has 33 bytes and digest";
    changes_of_the_context_where_none_were:
        "UPDATE task_executions SET changes = '{\"set\":{\"free\":true}}' WHERE execution = {function}"
        => I1, Task("function", 1), "its changes is stored, but history knows of none";
    a_checkpoint_of_the_context_that_is_gone:
        "UPDATE task_executions SET checkpoint = NULL WHERE execution = {context} AND number = 3"
        => I1, Task("context", 3), "its checkpoint is missing";
    tags_that_are_no_list:
        "UPDATE executions SET tags = '{\"a\":1}' WHERE id = {ready}"
        => I1, Execution("ready"), "its tags";
    a_number_that_is_none:
        "UPDATE task_executions SET crashes = {no_number} WHERE execution = {ready} AND number = 2"
        => I1, Task("ready", 2), "its column crashes cannot be read";
    a_recorded_step_that_is_gone:
        "DELETE FROM steps WHERE execution = {function} AND number = 2"
        => I1, Task("function", 1), "the result in place 2 of their order is missing";
    a_step_that_is_done_without_a_result:
        "UPDATE steps SET result = NULL WHERE execution = {function} AND number = 1"
        => I1, Task("function", 1), "operation 1 is done without a result";
    a_step_of_an_unknown_kind:
        "UPDATE steps SET kind = 'dance' WHERE execution = {signal}"
        => I1, Task("signal", 1), "unknown kind `dance`";
    a_signal_that_is_gone:
        "DELETE FROM signals WHERE instance = 'function' AND number = 2"
        => I1, Mailbox("function", "go"), "signal 2 is missing";
    a_workflow_version_that_is_gone:
        "DELETE FROM workflow_versions WHERE name = 'failed'"
        => I1, Execution("failed"), "is not stored";
    a_workflow_version_with_another_graph:
        "UPDATE workflow_versions SET fingerprint = 'x' WHERE name = 'ready'"
        => I1, Version("ready"), "it was recorded with x";
    a_graph_that_cannot_be_read:
        "UPDATE executions SET graph = '{\"v\":9}' WHERE id = {cancelled}"
        => I1, Execution("cancelled"), "its graph cannot be read";
    an_event_of_an_unknown_type:
        "UPDATE execution_events SET type = 99 WHERE execution = {active} AND task = 1 AND n = 3"
        => I1, Task("active", 1), "event 3: 99 is no type";
}

planted! { an_instance_has_one_live_execution:
    a_generation_that_is_missing:
        "UPDATE executions SET generation = 5 WHERE id = {second}"
        => I2, Instance("first"), "generation 5";
    a_live_execution_with_a_successor:
        "UPDATE executions SET generation = 9 WHERE id = {first};
         UPDATE executions SET generation = 1 WHERE id = {second};
         UPDATE executions SET generation = 2 WHERE id = {first}"
        => I2, Instance("first"), "is live although generation 2";
}

planted! { an_end_is_the_last_event:
    a_task_event_after_the_end:
        "INSERT INTO execution_events (execution, task, n, type, at, attempt, epoch, from_status, to_status)
         SELECT execution, task, n + 1, 14, at, attempt, epoch, 'Pending', 'Ready' FROM execution_events
         WHERE execution = {failed} AND task = 2 ORDER BY n DESC LIMIT 1"
        => I3, Task("failed", 2), "follows the end";
    a_second_end_of_an_execution:
        "INSERT INTO execution_events (execution, task, n, type, at, from_status, to_status)
         SELECT execution, 0, n + 1, 4, at, 'Running', 'Failed' FROM execution_events
         WHERE execution = {caught} AND task = 0 ORDER BY n DESC LIMIT 1;
         UPDATE executions SET version = version + 1 WHERE id = {caught}"
        => I3, Execution("caught"), "follows the end: it was Completed";
    a_task_that_went_on_after_its_execution:
        "UPDATE execution_events SET position = 1000000 WHERE execution = {failed} AND task = 1 AND n = 5"
        => I3, Task("failed", 1), "after its execution had ended";
}

planted! { a_step_has_one_result_and_a_task_no_attempt_too_many:
    two_results_in_one_place:
        "UPDATE steps SET ordinal = 1 WHERE execution = {function} AND number = 3;
         UPDATE steps SET ordinal = 3 WHERE execution = {function} AND number = 4;
         UPDATE steps SET ordinal = 4 WHERE execution = {function} AND number = 5"
        => I4, Task("function", 1), "two results stand in place 1";
    a_wait_that_has_ended:
        "UPDATE steps SET ordinal = 7 WHERE execution = {signal}"
        => I4, Task("signal", 1), "operation 1 is waited for, but has ended in place 7";
    a_signal_read_by_nobody:
        "UPDATE signals SET read_execution = {function}, read_task = 1, read_operation = 77
         WHERE instance = 'function' AND number = 3"
        => I4, Mailbox("function", "go"), "of a task that has not recorded that";
    a_signal_read_by_another_kind_of_operation:
        "UPDATE signals SET read_execution = {function}, read_task = 1, read_operation = 2
         WHERE instance = 'function' AND number = 3"
        => I4, Mailbox("function", "go"), "which is step `step-2`, done";
    a_result_that_is_not_the_signal:
        "UPDATE steps SET result = '\"other\"' WHERE execution = {function} AND number = 4"
        => I4, Mailbox("function", "go"), "another payload";
    a_signal_that_was_given_back_but_is_read:
        "UPDATE steps SET state = 'given_back', result = NULL WHERE execution = {function} AND number = 4"
        => I4, Mailbox("function", "go"), "which is signal `go`, given_back";
    a_step_that_was_given_back:
        "UPDATE steps SET state = 'given_back', result = NULL WHERE execution = {function} AND number = 2"
        => I4, Task("function", 1), "operation 2 is given_back, but is a step";
    more_retries_than_allowed:
        "UPDATE executions SET graph = replace(graph, '\"retries\":1', '\"retries\":0') WHERE id = {active}"
        => I4, Task("active", 1), "history has 1 retries, its definition allows 0";
}

planted! { history_has_no_gap_and_only_legal_moves:
    an_event_that_is_gone:
        "DELETE FROM execution_events WHERE execution = {caught} AND task = 2 AND n = 4"
        => I5, Task("caught", 2), "event 4 is missing";
    a_history_that_is_gone:
        "DELETE FROM execution_events WHERE execution = {caught} AND task = 3"
        => I5, Task("caught", 3), "it has no history";
    a_last_event_that_is_gone:
        "DELETE FROM execution_events WHERE execution = {function} AND task = 0 AND n = 3"
        => I5, Execution("function"), "its version is 3, but its history ends with event 2";
    a_move_cut_in_two:
        "DELETE FROM execution_events WHERE execution = {polling} AND task = 1 AND n > 3;
         UPDATE task_executions SET version = 3 WHERE execution = {polling}"
        => I5, Task("polling", 1), "ends with task.claimed, without task.started";
    an_event_that_starts_elsewhere:
        "UPDATE execution_events SET from_status = 'Ready' WHERE execution = {function} AND task = 1 AND n = 5"
        => I5, Task("function", 1), "leads from Ready, but the event before it led to Running::Active";
    a_move_that_is_not_in_the_table:
        "UPDATE execution_events SET to_status = 'Running::Active' WHERE execution = {cancelled} AND task = 1 AND n = 3"
        => I5, Task("cancelled", 1), "task.cancelled cannot lead from Ready to Running::Active";
    an_event_before_the_one_before:
        "UPDATE execution_events SET at = at - 5000000 WHERE execution = {function} AND task = 1 AND n = 5"
        => I5, Task("function", 1), "is earlier than the event before it";
    event_data_that_cannot_be_read:
        "UPDATE execution_events SET data = '{}' WHERE execution = {polling} AND task = 1 AND n = 5"
        => I5, Task("polling", 1), "the data of event 5 (task.deferred)";
}

planted! { rows_are_what_history_says:
    a_task_status_set_by_hand:
        "UPDATE task_executions SET status = 'Completed' WHERE execution = {failed} AND number = 1"
        => I6, Task("failed", 1), "status is Completed, history says Failed";
    a_sub_status_of_an_ended_task:
        "UPDATE task_executions SET sub_status = 'Active' WHERE execution = {failed} AND number = 1"
        => I6, Task("failed", 1), "sub_status is Active, history says NULL";
    a_worker_that_holds_nothing:
        "UPDATE task_executions SET worker = {worker3} WHERE execution = {ready} AND number = 1"
        => I6, Task("ready", 1), "history says nobody";
    an_execution_status_set_by_hand:
        "UPDATE executions SET status = 'Completed' WHERE id = {failed}"
        => I6, Execution("failed"), "status is Completed, history says Failed";
    an_attempt_too_far:
        "UPDATE task_executions SET attempt = 4 WHERE execution = {retrying}"
        => I6, Task("retrying", 1), "attempt is 4, history says 2";
    a_crash_that_was_not_counted:
        "UPDATE task_executions SET crashes = 0 WHERE execution = {abandoned}"
        => I6, Task("abandoned", 1), "crashes is 0, history says 2";
    a_duration_that_is_not_the_sum:
        "UPDATE task_executions SET active_us = active_us + 1 WHERE execution = {crashed}"
        => I6, Task("crashed", 1), "active_us is ";
    a_wait_that_is_another:
        "UPDATE task_executions SET wait = 'the bus' WHERE execution = {parked}"
        => I6, Task("parked", 1), "wait is the bus, history says signal `go`";
    an_end_at_another_time:
        "UPDATE executions SET closed_at = closed_at + 1 WHERE id = {caught}"
        => I6, Execution("caught"), "closed_at is ";
    a_reason_that_is_another:
        "UPDATE executions SET reason = 'fate' WHERE id = {failed}"
        => I6, Execution("failed"), "reason is fate, history says task `a`: Failed";
    a_cause_of_a_stop_that_is_another:
        "UPDATE executions SET stop_cause = 'deadline' WHERE id = {cancelled}"
        => I6, Execution("cancelled"), "stop_cause is deadline, history says cancel";
    a_task_that_failed_it_that_is_another:
        "UPDATE executions SET failed_task = 2 WHERE id = {failed}"
        => I6, Execution("failed"), "failed_task is 2, history says 1";
    an_error_that_is_another:
        "UPDATE task_executions SET error = '{\"kind\":\"x\",\"message\":\"y\"}' WHERE execution = {failed} AND number = 1"
        => I6, Task("failed", 1), "error is {\"kind\":\"x\"";
    open_tasks_miscounted:
        "UPDATE executions SET open = 7 WHERE id = {ready}"
        => I6, Execution("ready"), "open is 7, history says 2";
    failed_tasks_miscounted:
        "UPDATE executions SET failed = 0 WHERE id = {caught}"
        => I6, Execution("caught"), "failed is 0, history says 1";
    dependencies_miscounted:
        "UPDATE task_executions SET waiting = 0 WHERE execution = {ready} AND number = 2"
        => I6, Task("ready", 2), "waiting is 0, history says 1";
    unmet_dependencies_miscounted:
        "UPDATE task_executions SET unmet = 0 WHERE execution = {failed} AND number = 2"
        => I6, Task("failed", 2), "unmet is 0, history says 1";
    a_grace_period_without_a_stop:
        "UPDATE executions SET grace_until = 5 WHERE id = {ready}"
        => I6, Execution("ready"), "it has an end of the grace period, but is Pending";
    another_deadline_than_recorded:
        "UPDATE executions SET deadline_at = deadline_at + 1 WHERE id = {timed_out}"
        => I6, Execution("timed_out"), "deadline_at is ";
    a_priority_that_nobody_set:
        "UPDATE executions SET priority = 3 WHERE id = {scheduled}"
        => I6, Execution("scheduled"), "priority is 3, history says 7";
    a_change_of_a_priority_that_it_had_not:
        "UPDATE execution_events SET data = replace(data, '\"from\":0', '\"from\":5') WHERE execution = {scheduled} AND type = 31"
        => I5, Execution("scheduled"), "the priority was 0 before, not 5";
    a_node_with_another_name:
        "UPDATE task_executions SET node = 'z' WHERE execution = {caught} AND number = 2"
        => I6, Task("caught", 2), "node is `z`, its graph says `b`";
    a_task_that_ran_against_its_rule:
        "UPDATE executions SET graph = replace(graph, '{\"skipped\":\"skipped\"},{\"success\":\"b\"}', '{\"failed\":\"b\"}') WHERE id = {caught}"
        => I6, Task("caught", 6), "it was made ready, but its rule does not hold";
    a_failure_that_nobody_caught:
        "UPDATE executions SET graph = replace(graph, '{\"failed\":\"c\"}', '{\"none\":[{\"success\":\"c\"}]}') WHERE id = {caught}"
        => I6, Execution("caught"), "the failure of its task `c` was not caught";
}

planted! { only_its_holder_writes_a_task:
    an_event_with_a_stale_epoch:
        "UPDATE execution_events SET epoch = 0 WHERE execution = {function} AND task = 1 AND n = 5"
        => I7, Task("function", 1), "carries epoch 0, but 1 was in force";
    a_result_of_another_worker:
        "UPDATE execution_events SET worker = {worker0} WHERE execution = {crashed} AND task = 1 AND type = 21"
        => I7, Task("crashed", 1), "held the task";
    a_late_result_from_the_future:
        "UPDATE execution_events SET data = replace(data, '\"epoch\":1', '\"epoch\":9') WHERE execution = {crashed} AND type = 29"
        => I7, Task("crashed", 1), "epoch 9, ahead of epoch 1";
}

planted! { nothing_is_forgotten:
    a_ready_task_that_is_not_in_the_outbox:
        "DELETE FROM task_outbox WHERE execution = {ready}"
        => I8, Task("ready", 1), "neither in the outbox nor waiting for a retry";
    an_outbox_row_of_an_ended_task:
        "INSERT INTO task_outbox SELECT 0, workflow_version, 0, 5, id, 1 FROM executions WHERE id = {failed}"
        => I8, Task("failed", 1), "it is in the outbox, but is Failed";
    an_outbox_row_with_another_priority:
        "UPDATE task_outbox SET {priority_9} WHERE execution = {ready}"
        => I8, Task("ready", 1), "has priority 9, it should be -3";
    an_outbox_row_in_another_queue:
        "UPDATE task_outbox SET queue = 4711 WHERE execution = {ready}"
        => I8, Task("ready", 1), "has queue 4711";
    an_outbox_row_before_its_time:
        "INSERT INTO task_outbox SELECT 0, e.workflow_version, 0, t.ready_at, t.execution, t.number
         FROM task_executions t JOIN executions e ON e.id = t.execution WHERE t.execution = {retrying}"
        => I8, Task("retrying", 1), "although its retry is not due yet";
    an_outbox_row_of_nothing:
        "INSERT INTO task_outbox VALUES (0, 1, 0, 5, 4711, 1)"
        => I8, Unknown(4711), "it is not stored, but has outbox rows";
    an_outbox_row_of_a_task_beyond_the_graph:
        "INSERT INTO task_outbox SELECT 0, workflow_version, 0, 5, id, 40 FROM executions WHERE id = {ready}"
        => I8, Task("ready", 40), "names it, but it is not stored";
    a_wake_up_for_a_worker_that_is_not_known:
        "UPDATE task_outbox SET worker = 4711 WHERE execution = {parked}"
        => I8, Task("parked", 1), "who is gone";
    a_retry_without_a_timer:
        "DELETE FROM timers WHERE execution = {retrying}"
        => I8, Task("retrying", 1), "neither in the outbox nor waiting for a retry";
    a_sleep_without_a_timer:
        "DELETE FROM timers WHERE execution = {asleep}"
        => I8, Task("asleep", 1), "but no timer wakes it";
    a_wait_for_code_without_a_timer:
        "DELETE FROM timers WHERE execution = {code}"
        => I8, Task("code", 1), "it waits until never, but no timer wakes it";
    a_sleep_that_is_over_earlier:
        "UPDATE steps SET due_at = due_at - 7 WHERE execution = {asleep}"
        => I8, Task("asleep", 1), "what it waits for first is due at";
    a_start_without_a_timer:
        "DELETE FROM timers WHERE execution = {scheduled}"
        => I8, Task("scheduled", 1), "it waits for nothing, but was never made ready";
    a_deadline_without_a_timer:
        "DELETE FROM timers WHERE execution = {watched}"
        => I8, Execution("watched"), "but no timer watches it";
    a_stop_without_a_timer:
        "DELETE FROM timers WHERE execution = {cancelling}"
        => I8, Execution("cancelling"), "no timer goes on with that";
    a_timer_of_an_ended_task:
        "INSERT INTO timers VALUES (5, 3, {failed}, 1, 0)"
        => I8, Task("failed", 1), "a retry timer is set for 5, but the task is Failed";
    a_timer_of_an_ended_execution:
        "INSERT INTO timers VALUES (5, 2, {failed}, 0, 0)"
        => I8, Execution("failed"), "it is Failed, but has a deadline timer";
    a_timer_of_an_unknown_kind:
        "INSERT INTO timers VALUES (5, 77, {ready}, 0, 0)"
        => I8, Execution("ready"), "unknown kind 77";
    a_lost_wake_up:
        "INSERT INTO signals (instance, name, number, execution, payload, sent_at)
         VALUES ('signal', 'approval', 1, {signal}, 'true', 5)"
        => I8, Task("signal", 1), "whose number 1 is there, but it was not woken";
    a_wait_that_nothing_can_end:
        "DELETE FROM steps WHERE execution = {signal}"
        => I8, Task("signal", 1), "nothing that it waits for is recorded";
}

#[tokio::test]
async fn a_checkpoint_is_compared_with_the_changes_up_to_it() {
    let field = Field::new().await;
    let says = async |sql: &str| {
        let found = field.verify_after(sql).await;
        let of_contexts = found
            .iter()
            .filter(|finding| finding.what.contains("the changes up to it"));
        let told: Vec<(Subject, String)> = of_contexts
            .map(|finding| (finding.subject.clone(), finding.what.clone()))
            .collect();
        told
    };
    let task = |number| field.scenario.task("context", number);
    // A checkpoint that keeps what was removed, with a history that agrees.
    let forged = "UPDATE task_executions SET checkpoint = '{\"set\":{\"y\":2}}' WHERE execution = {context} AND number = 3;
        UPDATE execution_events SET data = NULL WHERE execution = {context} AND task = 3 AND data LIKE '%checkpoint%'";
    assert_eq!(
        says(forged).await,
        [(
            task(3),
            "its checkpoint has \"context\" for `for`, the changes up to it come to nothing"
                .to_owned()
        )]
    );
    // Changes that no longer lead to the checkpoints after them.
    let forged = "UPDATE task_executions SET changes = '{\"set\":{\"x\":5}}' WHERE execution = {context} AND number = 1";
    assert_eq!(
        says(forged).await,
        [(
            task(1),
            "its checkpoint has 1 for `x`, the changes up to it come to 5".to_owned()
        )]
    );
    let forged = "UPDATE task_executions SET changes = '{\"set\":{\"z\":5}}' WHERE execution = {context} AND number = 2";
    let told = says(forged).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].0, task(3));
}

#[tokio::test]
async fn tasks_held_by_a_worker_that_has_ended_are_named() {
    let field = Field::new().await;
    let ended = "UPDATE workers SET ended_at = heartbeat_at WHERE id = {worker3}";
    let found = field.verify_after(ended).await;
    assert!(
        found.is_empty(),
        "whoever runs next takes it back: {found:#?}"
    );
    let ended_long_ago =
        "UPDATE workers SET started_at = 5, ended_at = CASE id WHEN {worker3} THEN 5 END";
    let found = field.verify_after(ended_long_ago).await;
    for (name, what) in [
        ("active", "it is Running::Active, but worker"),
        ("polling", "it is Running::Deferred, but worker"),
        ("cancelling", "it is Running::Active, but worker"),
    ] {
        let subject = field.scenario.task(name, 1);
        let of_task: Vec<&Finding> = found
            .iter()
            .filter(|finding| finding.subject == subject)
            .collect();
        assert_eq!(of_task.len(), 1, "{found:#?}");
        assert_eq!(of_task[0].invariant, Invariant::I8);
        assert!(
            of_task[0].what.starts_with(what) && of_task[0].what.ends_with("nobody recovers it"),
            "{found:#?}"
        );
    }
    assert!(
        found
            .iter()
            .all(|finding| finding.invariant == Invariant::I8),
        "{found:#?}"
    );
}

#[tokio::test]
async fn tasks_held_by_a_worker_that_does_not_know_them_are_named() {
    let field = Field::new().await;
    let id_of =
        |name: &str| format!("(SELECT workflow_version FROM executions WHERE id = {{{name}}})");
    let knows_all = format!(
        "UPDATE workers SET queues = '[' || {} || ', ' || {} || ', ' || {} || ', ' || {} || ']' WHERE id = {{worker3}}",
        id_of("active"),
        id_of("polling"),
        id_of("cancelling"),
        id_of("parked")
    );
    assert_eq!(field.verify_after(&knows_all).await, []);
    let knows_two = format!(
        "UPDATE workers SET queues = '[' || {} || ', ' || {} || ']' WHERE id = {{worker3}}",
        id_of("cancelling"),
        id_of("parked")
    );
    let found = field.verify_after(&knows_two).await;
    let subjects: Vec<&Subject> = found.iter().map(|finding| &finding.subject).collect();
    let expected = [
        field.scenario.task("active", 1),
        field.scenario.task("polling", 1),
    ];
    assert_eq!(subjects, expected.iter().collect::<Vec<_>>(), "{found:#?}");
    for finding in &found {
        assert_eq!(finding.invariant, Invariant::I8);
        assert!(
            finding.what.contains("doesn't know its workflow version"),
            "{finding}"
        );
    }
    let unreadable = "UPDATE workers SET queues = 'all' WHERE id = {worker3}";
    let found = field.verify_after(unreadable).await;
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].what.contains("cannot be read"), "{found:#?}");
}

#[tokio::test]
async fn what_only_this_database_can_hold_wrong_is_named() {
    check_all(PLANTED_HERE).await;
}
