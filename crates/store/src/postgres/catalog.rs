//! What the server's catalogs say of a store's schema, compared with the list of what the schema's own
//! text makes (`catalog.txt`). A lost index or key lets in what must not be there; a trigger, a rule or
//! a policy takes away what must.
//!
//! The list is kept beside the text rather than made from it each time, since the role of a store may
//! make nothing outside its schema. A test makes a store and compares, so that the two cannot part.
//! Not compared: what views select (servers write that differently), storage parameters, which the
//! operator may tune, and indexes of the operator's own, unless they are unique and so refuse rows.

use std::collections::{BTreeMap, BTreeSet};

use abide_core::event::EventType;

use crate::error::StoreError;

use super::name::SchemaName;
use super::statement::{Execute, Param, Statement, Value};

/// The table whose partitions are made with time.
const HISTORY: &str = "execution_events";

/// What is for people to look at.
const VIEWS: &[&str] = &["execution_history", "execution_status", "task_status"];

/// What the text of the newest schema makes, a line for each thing: `kind table.name: description`.
/// `{failures}` stands for the codes of the events that are failures.
const LIST: &str = include_str!("catalog.txt");

/// A thing of the schema: its kind, its table and its own name.
type Thing = (String, String, String);
/// Things and their descriptions.
type Things = BTreeMap<Thing, String>;

/// Everything that can change what a write or a read of a store's tables does. Each row is a kind, a
/// table, a name and a description. `$1` is the schema's name.
const DESCRIBE: &str = "\
WITH ours AS (
    SELECT c.oid, c.relname::text AS name, c.relkind, c.relispartition AS is_partition,
           CASE c.relpersistence WHEN 'p' THEN '' ELSE ' unlogged' END ||
           CASE WHEN c.relrowsecurity THEN ' with row level security' ELSE '' END AS marks, c.relpartbound AS bound
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1::text AND c.relkind IN ('r', 'p', 'v', 'f', 'm')
)
SELECT 'table', name, '',
       CASE relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'table by ' || pg_get_partkeydef(oid) WHEN 'v' THEN 'view' ELSE 'foreign' END || marks
FROM ours WHERE NOT is_partition
UNION ALL
SELECT 'partition', name, '', pg_get_expr(bound, oid) || marks FROM ours WHERE is_partition
UNION ALL
SELECT 'column', o.name, a.attname::text,
       format_type(a.atttypid, a.atttypmod) ||
       CASE WHEN a.attcollation <> t.typcollation THEN ' collate ' || (SELECT collname FROM pg_collation WHERE oid = a.attcollation) ELSE '' END ||
       CASE WHEN a.attnotnull THEN ' not null' ELSE '' END ||
       CASE a.attidentity WHEN '' THEN '' WHEN 'a' THEN ' always identity' ELSE ' identity' END ||
       coalesce(CASE a.attgenerated WHEN '' THEN ' default ' ELSE ' generated ' END || pg_get_expr(d.adbin, d.adrelid), '')
FROM ours o JOIN pg_attribute a ON a.attrelid = o.oid JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = o.oid AND d.adnum = a.attnum
WHERE a.attnum > 0 AND NOT a.attisdropped AND NOT o.is_partition
UNION ALL
SELECT 'constraint', o.name, k.conname::text,
       pg_get_constraintdef(k.oid) || CASE WHEN i.indisvalid AND i.indisready THEN '' WHEN i IS NULL THEN '' ELSE ' invalid' END
FROM ours o JOIN pg_constraint k ON k.conrelid = o.oid LEFT JOIN pg_index i ON i.indexrelid = k.conindid
WHERE k.contype IN ('c', 'f', 'p', 'u', 'x') AND NOT o.is_partition
UNION ALL
SELECT 'index', o.name, c.relname::text,
       CASE WHEN i.indisunique THEN 'unique ' ELSE '' END || coalesce(substring(pg_get_indexdef(c.oid) FROM ' USING (.*)$'), '') ||
       CASE WHEN i.indisvalid AND i.indisready THEN '' ELSE ' invalid' END
FROM ours o JOIN pg_index i ON i.indrelid = o.oid JOIN pg_class c ON c.oid = i.indexrelid
WHERE NOT o.is_partition AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = c.oid AND k.contype IN ('p', 'u', 'x'))
UNION ALL
SELECT 'trigger', o.name, t.tgname::text, pg_get_triggerdef(t.oid)
FROM ours o JOIN pg_trigger t ON t.tgrelid = o.oid WHERE NOT t.tgisinternal
UNION ALL
SELECT 'rule', o.name, r.rulename::text, 'rule' FROM ours o JOIN pg_rewrite r ON r.ev_class = o.oid WHERE r.rulename <> '_RETURN'
UNION ALL
SELECT 'heir', o.name, c.relname::text, 'table'
FROM ours o JOIN pg_inherits h ON h.inhparent = o.oid JOIN pg_class c ON c.oid = h.inhrelid WHERE o.relkind <> 'p'";

/// How the schema differs from this version's, each difference in a sentence.
pub(crate) async fn differences(
    execute: &impl Execute,
    schema: &SchemaName,
) -> Result<Vec<String>, StoreError> {
    Ok(compare(&describe(execute, schema).await?, &expected()))
}

async fn describe(execute: &impl Execute, schema: &SchemaName) -> Result<Things, StoreError> {
    let params = vec![Param::Text(Some(schema.as_str().into()))];
    let answers = execute.run(vec![Statement::new(DESCRIBE, params)]).await?;
    let things = answers
        .into_iter()
        .flatten()
        .map(|row| match <[Value; 4]>::try_from(row) {
            Ok(
                [
                    Value::Text(kind),
                    Value::Text(table),
                    Value::Text(name),
                    Value::Text(words),
                ],
            ) => Ok(((kind, table, name), words)),
            other => Err(StoreError::Internal(format!("no thing but {other:?}"))),
        });
    things.collect()
}

/// The things of the list.
fn expected() -> Things {
    let list = LIST.replace("{failures}", &failures());
    let things = list.lines().filter_map(|line| {
        let (thing, words) = line.split_once(": ")?;
        let (kind, name) = thing.split_once(' ')?;
        let (table, name) = name.split_once('.').unwrap_or((name, ""));
        Some(((kind.into(), table.into(), name.into()), words.to_owned()))
    });
    things.collect()
}

/// The codes of failures, as the predicate of their index lists them.
fn failures() -> String {
    let failures = EventType::ALL.iter().filter(|kind| kind.is_failure());
    let codes: Vec<String> = failures.map(|kind| kind.code().to_string()).collect();
    codes.join(", ")
}

fn compare(found: &Things, expected: &Things) -> Vec<String> {
    let mut differences = Vec::new();
    let mut add = |what: String| {
        differences.push(format!("its schema is not this version's: {what}"));
    };
    let is_table = |things: &Things, table: &str| {
        things.contains_key(&("table".to_owned(), table.to_owned(), String::new()))
    };
    for (thing, right) in expected {
        match found.get(thing) {
            Some(stored) if stored == right => {}
            Some(stored) => add(format!(
                "the {} is `{stored}`, it should be `{right}`",
                words(thing)
            )),
            // Said once, of the table.
            None if !thing.2.is_empty() && !is_table(found, &thing.1) => {}
            None => add(format!("the {} is missing (`{right}`)", words(thing))),
        }
    }
    for (thing, stored) in found {
        let (kind, table, _) = thing;
        let is_of_history = table.starts_with("execution_events_");
        let on_partition = is_of_history && matches!(kind.as_str(), "trigger" | "rule" | "heir");
        let is_ours = is_table(expected, table) || on_partition;
        if expected.contains_key(thing) || !is_ours {
            if is_of_history && kind == "table" && !expected.contains_key(thing) {
                add(format!("the table {table} is no partition of {HISTORY}"));
            }
            continue;
        }
        match kind.as_str() {
            "index" if !stored.starts_with("unique ") => {}
            "partition" => {}
            _ => add(format!(
                "{}, which is not Abide's, is there: `{stored}`",
                words(thing)
            )),
        }
    }
    for what in partitions(found) {
        add(what);
    }
    differences
}

fn words((kind, table, name): &Thing) -> String {
    match (kind.as_str(), &**name) {
        ("table", "") if VIEWS.contains(&&**table) => format!("view {table}"),
        (kind, "") => format!("{kind} {table}"),
        ("column", name) => format!("column {table}.{name}"),
        ("heir", name) => format!("table {name} whose rows are shown in table {table}"),
        (kind, name) => format!("{kind} {name} of table {table}"),
    }
}

/// The partitions of the history lie end to end, and are written to the log like all tables.
fn partitions(found: &Things) -> Vec<String> {
    let mut wrong = Vec::new();
    let (mut starts, mut ends) = (BTreeSet::new(), BTreeSet::new());
    for ((_, table, _), bounds) in found.iter().filter(|((kind, ..), _)| kind == "partition") {
        let plain = bounds.replace('\'', "");
        let range = plain
            .strip_prefix("FOR VALUES FROM (")
            .and_then(|rest| rest.strip_suffix(')'))
            .and_then(|rest| rest.split_once(") TO ("));
        match range {
            Some((from, to)) => {
                starts.insert(from.to_owned());
                ends.insert(to.to_owned());
            }
            None => wrong.push(format!("the partition {table} is `{bounds}`")),
        }
    }
    let first = starts.iter().any(|start| start == "MINVALUE");
    if !first {
        wrong.push(format!(
            "no partition of {HISTORY} has room for the oldest executions"
        ));
    }
    starts.remove("MINVALUE");
    for start in starts.difference(&ends) {
        wrong.push(format!(
            "a partition of {HISTORY} that ends at {start} is missing"
        ));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use abide_test_postgres::{client, fresh_schema};

    use super::*;
    use crate::postgres::address::Address;
    use crate::postgres::{connect, schema};

    const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/postgres/catalog.txt");

    fn lines(things: &Things) -> String {
        let mut lines = String::new();
        for ((kind, table, name), words) in things {
            let dot = if name.is_empty() { "" } else { "." };
            if kind != "partition" {
                lines.push_str(&format!("{kind} {table}{dot}{name}: {words}\n"));
            }
        }
        lines.replace(&format!("ARRAY[{}]", failures()), "ARRAY[{failures}]")
    }

    /// After a change of the schema's text: `ABIDE_WRITE_CATALOG=1 scripts/test -p abide-store catalog`.
    #[tokio::test]
    async fn the_list_is_what_the_schemas_text_makes() {
        let place = fresh_schema();
        let address = Address::parse(&place.url).expect("an address");
        let name = address.schema.clone();
        let mut client = client(&place.url).await;
        schema::migrate(
            &mut client,
            &name,
            "db",
            true,
            crate::system_now(),
            &schema::MIGRATIONS,
        )
        .await
        .expect("migrates");
        let session = connect(&address).await.expect("connects");
        let found = describe(&session, &name).await.expect("reads");
        let list = lines(&found);
        if std::env::var_os("ABIDE_WRITE_CATALOG").is_some() {
            std::fs::write(PATH, &list).expect("written");
            return;
        }
        assert_eq!(list, LIST, "see above how to write the list");
        assert_eq!(compare(&found, &expected()), [""; 0]);
    }
}
