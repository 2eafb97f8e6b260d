//! The server's own look at what it keeps on disk: the extension `amcheck`, which PostgreSQL brings
//! along.

use std::fmt;

use tokio_postgres::Client;

/// What a look at a schema's tables and indexes found.
#[derive(Debug, Default)]
pub struct Structures {
    /// Indexes that were compared with their tables.
    pub indexes: usize,
    /// Tables of which every row was read, their large values included.
    pub tables: usize,
    /// What is wrong, in the server's words.
    pub damages: Vec<String>,
}

/// Each index is read whole; every row has to be found through it, once.
const INDEXES: &str = "SELECT i.indexrelid, i.indexrelid::regclass::text FROM pg_index i \
     JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam \
     WHERE a.amname = 'btree' AND c.relkind = 'i' AND i.indisvalid \
     AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1) ORDER BY 2";
const CHECK_INDEX: &str = "SELECT bt_index_parent_check($1::oid::regclass, true, true)";

const TABLES: &str = "SELECT oid, oid::regclass::text FROM pg_class WHERE relkind = 'r' \
     AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1) ORDER BY 2";
const CHECK_TABLE: &str = "SELECT format('block %s, row %s: %s', blkno, offnum, msg) \
     FROM verify_heapam($1::oid::regclass, check_toast => true)";

/// Has the server check a schema's structures. Nothing may change in it meanwhile. None where the
/// server's package came without the extension.
///
/// # Panics
///
/// If the server can't be asked, or the address's user may not make extensions.
pub async fn check_structures(client: &Client, schema: &str) -> Option<Structures> {
    let known = "SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'";
    let known = client.query_one(known, &[]).await.expect("asked");
    if known.get::<_, i64>(0) == 0 {
        return None;
    }
    let create = "CREATE EXTENSION IF NOT EXISTS amcheck";
    client.batch_execute(create).await.expect("made");
    let mut structures = Structures::default();
    for row in client.query(INDEXES, &[&schema]).await.expect("listed") {
        let (oid, name) = (row.get::<_, u32>(0), row.get::<_, String>(1));
        structures.indexes += 1;
        if let Err(error) = client.execute(CHECK_INDEX, &[&oid]).await {
            let said = error.as_db_error().map(ToString::to_string);
            let said = said.unwrap_or_else(|| error.to_string());
            structures.damages.push(format!("{name}: {said}"));
        }
    }
    for row in client.query(TABLES, &[&schema]).await.expect("listed") {
        let (oid, name) = (row.get::<_, u32>(0), row.get::<_, String>(1));
        structures.tables += 1;
        for row in client.query(CHECK_TABLE, &[&oid]).await.expect("read") {
            let said: String = row.get(0);
            structures.damages.push(format!("{name}: {said}"));
        }
    }
    Some(structures)
}

impl fmt::Display for Structures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} indexes and {} tables checked",
            self.indexes, self.tables
        )?;
        self.damages
            .iter()
            .try_for_each(|damage| write!(f, "\n{damage}"))
    }
}
