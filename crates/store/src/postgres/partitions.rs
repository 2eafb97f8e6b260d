//! The partitions of the history. They lie end to end in the order of execution ids, which is the
//! order of time: the first holds everything before the month in which the store was made, then
//! comes one for each month, made ahead. A stretch of months in which no program ran is one
//! partition. So every id below the end of the last one has its place, whatever clock made it, and
//! an old month goes by emptying a table (`retention`).

use abide_core::ids::{ExecutionId, Timestamp, first_id_at};
use tokio_postgres::GenericClient;

use super::error;
use super::name::{SchemaName, quoted};
use crate::error::StoreError;
use crate::migrations::Migrations;

/// Months made ahead, besides the one that it is.
const AHEAD: i64 = 2;
/// No id is older.
const FIRST: Timestamp = Timestamp(1_735_689_600_000_000);

/// A partition: the history of executions whose ids are in `from..end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    /// The table's name, without its schema.
    pub(crate) name: String,
    /// The first id, unless it holds everything before.
    pub(crate) from: Option<ExecutionId>,
    /// The first id that is not in it.
    pub(crate) end: ExecutionId,
}

/// Makes the partitions that are missing up to two months from `now`, and answers the first id
/// that has no place. Others go on reading and writing meanwhile.
pub(crate) async fn ensure_partitions(
    client: &mut (impl GenericClient + Send + Sync),
    schema: &SchemaName,
    database: &str,
    now: Timestamp,
    migrations: &Migrations,
) -> Result<ExecutionId, StoreError> {
    let fail = |e| error::definite(database, &e);
    let wanted = months(client, now).await.map_err(fail)?;
    let last = wanted.last().expect("two months ahead").end;
    if let Some(end) = end(client, schema).await.map_err(fail)?
        && end.0 >= last
    {
        return Ok(end);
    }
    let transaction = client.transaction().await.map_err(fail)?;
    lock(&transaction, schema).await.map_err(fail)?;
    let version = schema.qualify("SELECT schema::bigint FROM ~store");
    let version = transaction.query_one(&version, &[]).await.map_err(fail)?;
    migrations.require(|| database.to_owned(), version.get(0))?;
    // Somebody else may have made them while this process waited for the lock.
    let mut end = end(&transaction, schema).await.map_err(fail)?;
    for month in wanted.iter().filter(|month| month.from < month.end) {
        let from = match end {
            Some(end) if end.0 >= month.end => continue,
            Some(end) if end.0 < month.from => {
                add(
                    &transaction,
                    schema,
                    &format!("before_{}", month.name),
                    Some(end.0),
                    month.from,
                )
                .await
                .map_err(fail)?;
                month.from
            }
            Some(end) => end.0,
            None => {
                add(&transaction, schema, "first", None, month.from)
                    .await
                    .map_err(fail)?;
                month.from
            }
        };
        add(&transaction, schema, &month.name, Some(from), month.end)
            .await
            .map_err(fail)?;
        end = Some(ExecutionId(month.end));
    }
    transaction.commit().await.map_err(fail)?;
    Ok(end.unwrap_or(ExecutionId(0)))
}

/// One migration or change of partitions at a time in a store, until the transaction's end. A migration that goes on
/// takes a stronger one, which keeps writers out (`schema`).
///
/// The lock is one on a table of the store, which only roles with rights in the schema can take, and
/// which keeps out no reader or writer of its row. Advisory locks are the whole database's: every role
/// can see their keys, and take them.
pub(crate) async fn lock(
    client: &impl GenericClient,
    schema: &SchemaName,
) -> Result<(), tokio_postgres::Error> {
    let sql = schema.qualify("LOCK TABLE ~store IN SHARE UPDATE EXCLUSIVE MODE");
    client.batch_execute(&sql).await
}

/// The partitions that there are, oldest first. What their bounds are is asked of no other schema's:
/// it locks them for a moment, and so would wait for somebody who drops one.
pub(crate) async fn partitions(
    client: &impl GenericClient,
    schema: &SchemaName,
) -> Result<Vec<Partition>, tokio_postgres::Error> {
    let rows = client
        .query(
            "WITH own AS MATERIALIZED (\
                 SELECT c.relname::text AS name, c.oid, c.relpartbound \
                 FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
                 JOIN pg_class p ON p.oid = i.inhparent \
                 JOIN pg_namespace s ON s.oid = p.relnamespace \
                 WHERE s.nspname = $1::text AND p.relname = 'execution_events'), \
             bound AS (SELECT name, pg_get_expr(relpartbound, oid) AS bounds FROM own) \
             SELECT name, substring(bounds FROM 'FROM [(]''?(-?[0-9]+)')::bigint, \
                    substring(bounds FROM 'TO [(]''?(-?[0-9]+)')::bigint AS upper \
             FROM bound WHERE bounds LIKE '% TO (%' ORDER BY upper",
            &[&schema.as_str()],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Partition {
                name: row.try_get(0)?,
                from: row.try_get::<_, Option<i64>>(1)?.map(ExecutionId),
                end: ExecutionId(row.try_get::<_, Option<i64>>(2)?.unwrap_or(i64::MAX)),
            })
        })
        .collect()
}

async fn end(
    client: &impl GenericClient,
    schema: &SchemaName,
) -> Result<Option<ExecutionId>, tokio_postgres::Error> {
    let all = partitions(client, schema).await?;
    Ok(all.last().map(|partition| partition.end))
}

struct Month {
    name: String,
    from: i64,
    end: i64,
}

/// The month of `now` and those to be made ahead. The calendar is the server's, the time the caller's.
async fn months(
    client: &impl GenericClient,
    now: Timestamp,
) -> Result<Vec<Month>, tokio_postgres::Error> {
    let rows = client
        .query(
            "SELECT to_char(month, 'YYYY_MM'), (extract(epoch FROM month) * 1000000)::bigint \
             FROM generate_series(0, $2::bigint) AS i, LATERAL (SELECT i * interval '1 month' + \
                  date_trunc('month', timestamp '1970-01-01' + $1::bigint * interval '1 microsecond') AS month) AS months \
             ORDER BY i",
            // Ids don't go beyond 2094; nor need the calendar.
            &[&now.0.clamp(FIRST.0, 3_900_000_000_000_000), &(AHEAD + 1)],
        )
        .await?;
    let starts = rows
        .iter()
        .map(|row| Ok((row.try_get::<_, String>(0)?, Timestamp(row.try_get(1)?))))
        .collect::<Result<Vec<_>, tokio_postgres::Error>>()?;
    Ok(starts
        .windows(2)
        .map(|pair| Month {
            name: pair[0].0.clone(),
            from: first_id_at(pair[0].1),
            end: first_id_at(pair[1].1),
        })
        .collect())
}

/// Made apart and then attached, which locks out nobody who reads or writes: `CREATE TABLE ..
/// PARTITION OF` would wait for every transaction that has touched the history, and everybody else
/// behind it.
async fn add(
    client: &impl GenericClient,
    schema: &SchemaName,
    name: &str,
    from: Option<i64>,
    end: i64,
) -> Result<(), tokio_postgres::Error> {
    let table = quoted(&format!("execution_events_{name}"));
    let from = from.map_or("MINVALUE".to_owned(), |from| from.to_string());
    client
        .batch_execute(&schema.qualify(&format!(
            "CREATE TABLE ~{table} (LIKE ~execution_events INCLUDING DEFAULTS INCLUDING STORAGE);
             ALTER TABLE ~execution_events ATTACH PARTITION ~{table} FOR VALUES FROM ({from}) TO ({end});"
        )))
        .await
}
