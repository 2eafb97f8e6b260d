//! How the queue stands and how the server fares with the store's tables.

use crate::error::StoreError;
use crate::health::{Health, Ready, TableHealth};
use crate::queries;
use crate::rows::{Columns, FromColumns};

use super::queries::statement;
use super::rows::{Cells, Read};
use super::statement::{Execute, Row, Statement};

/// Asks the server. Counts the outbox, which is as long as the queue is.
pub(crate) async fn health(execute: &impl Execute) -> Result<Health, StoreError> {
    let plain = |sql| Statement::new(sql, Vec::new());
    let statements = vec![
        statement(&queries::ready()),
        // The table `store` tells the schema, whose name need not be quoted as a text this way.
        plain(
            "SELECT r.relname::text, sum(s.n_live_tup)::bigint, sum(s.n_dead_tup)::bigint, \
             sum(pg_total_relation_size(c.oid))::bigint \
             FROM pg_class c JOIN pg_stat_user_tables s ON s.relid = c.oid \
             JOIN pg_class r ON r.oid = coalesce(pg_partition_root(c.oid), c.oid) \
             WHERE c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = (SELECT tableoid FROM ~store)) \
             GROUP BY r.relname ORDER BY r.relname",
        ),
        plain(
            "SELECT coalesce(max(deadlocks), 0) FROM pg_stat_database WHERE datname = current_database()",
        ),
        plain(
            "SELECT (extract(epoch FROM max(clock_timestamp() - xact_start)) * 1000000)::bigint \
             FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
             AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)",
        ),
    ];
    let mut answers = execute.run(statements).await?.into_iter();
    let mut next = || answers.next().unwrap_or_default();
    let mut health = || -> Read<Health> {
        let ready = read(next(), Ready::from_columns)?;
        let tables = read(next(), table)?;
        Ok(Health {
            ready,
            bytes: tables.iter().map(|table| table.bytes).sum(),
            tables,
            deadlocks: read(next(), Cells::int)?.pop(),
            oldest_snapshot_us: read(next(), Cells::int_option)?.pop().flatten(),
        })
    };
    health().map_err(|error| error.of("the server's statistics"))
}

fn read<T>(rows: Vec<Row>, read: fn(&mut Cells) -> Read<T>) -> Read<Vec<T>> {
    rows.into_iter()
        .map(|row| read(&mut Cells::new(row)))
        .collect()
}

fn table(cells: &mut Cells) -> Read<TableHealth> {
    Ok(TableHealth {
        name: cells.text()?,
        live_rows: cells.int()?,
        dead_rows: cells.int()?,
        bytes: cells.int()?,
    })
}
