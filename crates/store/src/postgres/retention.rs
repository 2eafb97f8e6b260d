//! Histories go by partitions: one is emptied once every execution whose history it holds ended long
//! enough ago. `TRUNCATE` gives the space back at once, as dropping would, but locks out only those
//! who look into that partition; the empty one stays, so that a late result still finds its place.

use abide_core::ids::{ExecutionId, Timestamp, first_id_at};
use tokio_postgres::Client;

use crate::error::StoreError;

use super::name::{SchemaName, quoted};
use super::partitions::{Partition, lock, partitions};
use super::{Postgres, error};

impl Postgres {
    /// Empties the partitions whose executions all ended before that time. Answers how many
    /// executions lost their history.
    pub(crate) async fn prune_history(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut session = self.session().await?;
        let (address, now) = (&self.shared.address, self.now());
        let fail = |e| error::definite(&address.database(), &e);
        let client = session.client();
        let old = partitions(client, &address.schema).await.map_err(fail)?;
        let (mut pruned, version) = (0, self.shared.migrations.newest());
        for partition in old {
            // Whoever ended before was started before.
            if partition.end.0 <= first_id_at(before) {
                let emptied =
                    empty(client, &address.schema, &partition, now, before, version).await;
                match emptied.map_err(fail)? {
                    Emptied::Rows(count) => pruned += count,
                    Emptied::OfVersion(found) => self.shared.require_version(found)?,
                }
            }
        }
        Ok(pruned)
    }
}

/// What became of a partition.
enum Emptied {
    /// So many executions lost their history.
    Rows(u64),
    /// It was left alone, since the store is of this version by now.
    OfVersion(i64),
}

async fn empty(
    client: &mut Client,
    schema: &SchemaName,
    partition: &Partition,
    now: Timestamp,
    before: Timestamp,
    version: i64,
) -> Result<Emptied, tokio_postgres::Error> {
    let from = partition.from.unwrap_or(ExecutionId(i64::MIN));
    let (from, end) = (from.0, partition.end.0);
    let transaction = client.transaction().await?;
    lock(&transaction, schema).await?;
    let kept = schema.qualify(
        "SELECT EXISTS (SELECT FROM ~executions WHERE id >= $1 AND id < $2 AND (closed_at IS NULL OR closed_at >= $3)), \
         (SELECT schema::bigint FROM ~store)",
    );
    let is_kept = transaction
        .query_one(&kept, &[&from, &end, &before.0])
        .await?;
    let found = is_kept.try_get(1)?;
    if found != version {
        return transaction
            .rollback()
            .await
            .map(|()| Emptied::OfVersion(found));
    }
    if is_kept.try_get(0)? {
        return transaction.rollback().await.map(|()| Emptied::Rows(0));
    }
    // A month may hold many.
    transaction
        .batch_execute("SET LOCAL statement_timeout = 0")
        .await?;
    // Locked in the order in which everybody locks executions.
    let mark = schema.qualify(
        "UPDATE ~executions SET history_pruned_at = $3 WHERE id IN (SELECT id FROM ~executions \
         WHERE id >= $1 AND id < $2 AND history_pruned_at IS NULL ORDER BY id FOR NO KEY UPDATE)",
    );
    let pruned = transaction.execute(&mark, &[&from, &end, &now.0]).await?;
    if pruned > 0 {
        // Last, since from here on others wait.
        let truncate = format!("TRUNCATE {}.{}", schema.quoted(), quoted(&partition.name));
        transaction.batch_execute(&truncate).await?;
    }
    transaction.commit().await?;
    Ok(Emptied::Rows(pruned))
}
