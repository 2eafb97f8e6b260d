//! The floor on SQLite: prepared statements, in one thread.

use std::path::Path;
use std::time::Instant;

use rusqlite::{Connection, Transaction, params};

use super::BATCH;

pub(super) fn one_step_workflows_per_s(path: &Path, workflows: u32) -> rusqlite::Result<f64> {
    let mut connection = open(path)?;
    let start = Instant::now();
    for first in (0..workflows).step_by(BATCH as usize) {
        let ids = i64::from(first) + 1..=i64::from((first + BATCH).min(workflows));
        let transaction = connection.transaction()?;
        ids.clone().try_for_each(|id| submit(&transaction, id, 1))?;
        transaction.commit()?;
        let transaction = connection.transaction()?;
        ids.clone()
            .try_for_each(|id| claim(&transaction, id, 1, true))?;
        transaction.commit()?;
        let transaction = connection.transaction()?;
        ids.clone()
            .try_for_each(|id| finish(&transaction, id, 1, true))?;
        transaction.commit()?;
    }
    Ok(f64::from(workflows) / start.elapsed().as_secs_f64())
}

pub(super) fn chain_step_ms(path: &Path, steps: u32) -> rusqlite::Result<f64> {
    let mut connection = open(path)?;
    let transaction = connection.transaction()?;
    submit(&transaction, 1, steps)?;
    claim(&transaction, 1, 1, true)?;
    transaction.commit()?;
    let start = Instant::now();
    for step in 1..=steps {
        let transaction = connection.transaction()?;
        finish(&transaction, 1, step, step == steps)?;
        if step < steps {
            ready(&transaction, 1, step + 1)?;
            claim(&transaction, 1, step + 1, false)?;
        }
        transaction.commit()?;
    }
    Ok(start.elapsed().as_secs_f64() * 1000.0 / f64::from(steps))
}

pub(super) fn function_step_ms(path: &Path, steps: u32) -> rusqlite::Result<f64> {
    let mut connection = open(path)?;
    let start = Instant::now();
    for step in 1..=steps {
        let transaction = connection.transaction()?;
        record(&transaction, 1, step)?;
        transaction.commit()?;
    }
    Ok(start.elapsed().as_secs_f64() * 1000.0 / f64::from(steps))
}

pub(super) fn chains_steps_per_s(path: &Path, chains: u32, links: u32) -> rusqlite::Result<f64> {
    let mut connection = open(path)?;
    let start = Instant::now();
    let transaction = connection.transaction()?;
    let ids = || 1..=i64::from(chains);
    for id in ids() {
        submit(&transaction, id, links)?;
        claim(&transaction, id, 1, true)?;
    }
    transaction.commit()?;
    for link in 1..=links {
        let transaction = connection.transaction()?;
        for id in ids() {
            finish(&transaction, id, link, link == links)?;
            if link < links {
                ready(&transaction, id, link + 1)?;
                claim(&transaction, id, link + 1, false)?;
            }
        }
        transaction.commit()?;
    }
    Ok(f64::from(chains) * f64::from(links) / start.elapsed().as_secs_f64())
}

pub(super) fn functions_steps_per_s(
    path: &Path,
    functions: u32,
    steps: u32,
) -> rusqlite::Result<f64> {
    let mut connection = open(path)?;
    let start = Instant::now();
    for step in 1..=steps {
        let transaction = connection.transaction()?;
        (1..=functions).try_for_each(|id| record(&transaction, id, step))?;
        transaction.commit()?;
    }
    Ok(f64::from(functions) * f64::from(steps) / start.elapsed().as_secs_f64())
}

pub(super) fn bytes(path: &Path) -> rusqlite::Result<u64> {
    let connection = open(path)?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
    let size: i64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    Ok((pages * size).unsigned_abs())
}

pub(super) fn commit_ms(path: &Path, commits: u32) -> rusqlite::Result<f64> {
    let mut connection = open(path)?;
    let start = Instant::now();
    for id in 1..=commits {
        let transaction = connection.transaction()?;
        transaction
            .prepare_cached("INSERT INTO payloads (body) VALUES (?1)")?
            .execute([id])?;
        transaction.commit()?;
    }
    Ok(start.elapsed().as_secs_f64() * 1000.0 / f64::from(commits))
}

pub(super) fn fanout_s(path: &Path, width: u32) -> rusqlite::Result<f64> {
    let mut connection = open(path)?;
    let last = width + 2;
    let start = Instant::now();
    let transaction = connection.transaction()?;
    submit(&transaction, 1, last)?;
    claim(&transaction, 1, 1, true)?;
    finish(&transaction, 1, 1, false)?;
    transaction.commit()?;
    for first in (2..last).step_by(BATCH as usize) {
        let numbers = first..last.min(first + BATCH);
        for stage in [
            ready,
            |t: &Transaction<'_>, e, n| claim(t, e, n, false),
            |t: &Transaction<'_>, e, n| finish(t, e, n, false),
        ] {
            let transaction = connection.transaction()?;
            numbers
                .clone()
                .try_for_each(|number| stage(&transaction, 1, number))?;
            transaction.commit()?;
        }
    }
    let transaction = connection.transaction()?;
    ready(&transaction, 1, last)?;
    claim(&transaction, 1, last, false)?;
    finish(&transaction, 1, last, true)?;
    transaction.commit()?;
    Ok(start.elapsed().as_secs_f64())
}

const NOW: i64 = 1_800_000_000_000_000;

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

/// A stream, the event's number in it, its type, and the statuses before and after.
type Event<'a> = (i64, u32, u32, u32, Option<&'a str>, &'a str);

fn event(
    transaction: &Transaction<'_>,
    (execution, task, n, kind, from, to): Event<'_>,
    data: Option<&str>,
) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO execution_events (execution, task, n, type, at, worker, attempt, epoch, from_status, to_status, data) \
         VALUES (?1, ?2, ?3, ?4, ?5, 7, 1, 1, ?6, ?7, ?8)",
    )?;
    statement.execute(params![execution, task, n, kind, NOW, from, to, data])?;
    Ok(())
}

fn record(transaction: &Transaction<'_>, execution: u32, step: u32) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO steps (execution, task, number, kind, name, state, ordinal, result, recorded_at) \
             VALUES (?1, 1, ?2, 'step', 'step', 'done', ?2, '1', ?3)",
        )?
        .execute(params![execution, step, NOW])?;
    Ok(())
}

fn submit(transaction: &Transaction<'_>, execution: i64, tasks: u32) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO executions (id, instance, generation, workflow_version, status, open, failed, priority, input, \
             input_hash, version, created_at, changed_at) \
             VALUES (?1, ?2, 1, 1, 'Pending', ?3, 0, 0, '1', '6b86b273ff34fce19d6b804eff5a3f57', 1, ?4, ?4)",
        )?
        .execute(params![execution, format!("instance-{execution}"), tasks, NOW])?;
    event(
        transaction,
        (execution, 0, 1, 1, None, "Pending"),
        Some(
            r#"{"input":{"len":1,"sha256":"6b86b273ff34fce19d6b804eff5a3f57"},"tasks":1,"workflow":1}"#,
        ),
    )?;
    for number in 1..=tasks {
        transaction
            .prepare_cached(
                "INSERT INTO task_executions (execution, number, node, status, attempt, epoch, crashes, crash_steps, \
                 waiting, unmet, version, created_at, changed_at, queued_us, active_us, deferred_us, retry_wait_us) \
                 VALUES (?1, ?2, 'only', 'Pending', 1, 0, 0, 0, 0, 0, 1, ?3, ?3, 0, 0, 0, 0)",
            )?
            .execute(params![execution, number, NOW])?;
        event(
            transaction,
            (execution, number, 1, 13, None, "Pending"),
            None,
        )?;
    }
    ready(transaction, execution, 1)
}

fn ready(transaction: &Transaction<'_>, execution: i64, number: u32) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT INTO task_outbox (worker, queue, rank, ready_at, execution, task) VALUES (0, 1, 0, ?1, ?2, ?3)")?
        .execute(params![NOW, execution, number])?;
    transaction
        .prepare_cached("UPDATE task_executions SET status = 'Ready', ready_at = ?1, version = 2 WHERE execution = ?2 AND number = ?3")?
        .execute(params![NOW, execution, number])?;
    event(
        transaction,
        (execution, number, 2, 14, Some("Pending"), "Ready"),
        None,
    )
}

fn claim(
    transaction: &Transaction<'_>,
    execution: i64,
    number: u32,
    first: bool,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM task_outbox WHERE worker = 0 AND queue = 1 AND rank = 0 AND ready_at = ?1 AND execution = ?2 AND task = ?3")?
        .execute(params![NOW, execution, number])?;
    transaction
        .prepare_cached(
            "UPDATE task_executions SET status = 'Running', sub_status = 'Active', epoch = 1, worker = 7, started_at = ?1, \
             version = 4 WHERE execution = ?2 AND number = ?3",
        )?
        .execute(params![NOW, execution, number])?;
    if first {
        transaction
            .prepare_cached("UPDATE executions SET status = 'Running', started_at = ?1, version = 2 WHERE id = ?2")?
            .execute(params![NOW, execution])?;
        event(
            transaction,
            (execution, 0, 2, 2, Some("Pending"), "Running"),
            None,
        )?;
    }
    event(
        transaction,
        (execution, number, 3, 15, Some("Ready"), "Running::Active"),
        None,
    )?;
    event(
        transaction,
        (execution, number, 4, 16, Some("Ready"), "Running::Active"),
        None,
    )
}

fn finish(
    transaction: &Transaction<'_>,
    execution: i64,
    number: u32,
    last: bool,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE task_executions SET status = 'Completed', sub_status = NULL, worker = NULL, output = '1', closed_at = ?1, \
             version = 5 WHERE execution = ?2 AND number = ?3",
        )?
        .execute(params![NOW, execution, number])?;
    event(
        transaction,
        (
            execution,
            number,
            5,
            21,
            Some("Running::Active"),
            "Completed",
        ),
        Some(r#"{"output":{"len":1,"sha256":"6b86b273ff34fce19d6b804eff5a3f57"}}"#),
    )?;
    if last {
        transaction
            .prepare_cached("UPDATE executions SET status = 'Completed', open = 0, closed_at = ?1, version = 3 WHERE id = ?2")?
            .execute(params![NOW, execution])?;
        event(
            transaction,
            (execution, 0, 3, 3, Some("Running"), "Completed"),
            None,
        )
    } else {
        transaction
            .prepare_cached("UPDATE executions SET open = open - 1 WHERE id = ?1")?
            .execute([execution])?;
        Ok(())
    }
}
