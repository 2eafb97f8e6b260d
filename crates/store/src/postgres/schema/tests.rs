use std::sync::atomic::{AtomicU32, Ordering};

use abide_core::ids::IdGenerator;
use abide_test_postgres::{Schema, client, fresh_schema};

use super::*;
use crate::postgres::partitions::partitions;

/// The first of January 2026, as in tests with a virtual clock.
const NOW: Timestamp = Timestamp(1_767_225_600_000_000);
const DAY_US: i64 = 86_400_000_000;

fn name(schema: &Schema) -> SchemaName {
    SchemaName::new(&schema.name).expect("a name")
}

async fn open(schema: &Schema, now: Timestamp) -> Result<Opened, StoreError> {
    migrate(
        &mut client(&schema.url).await,
        &name(schema),
        "db",
        true,
        now,
        &MIGRATIONS,
    )
    .await
}

async fn execute(schema: &Schema, sql: &str) {
    let sql = name(schema).qualify(sql);
    client(&schema.url)
        .await
        .batch_execute(&sql)
        .await
        .expect("runs");
}

/// Writes an event of an execution that is made at this time.
async fn write_at(schema: &Schema, at: Timestamp) {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    let id = IdGenerator::new(1023).next(at);
    let sql = "INSERT INTO ~execution_events (execution, task, n, type, at, to_status)";
    execute(
        schema,
        &format!("{sql} VALUES ({id}, 0, {n}, 1, {}, 'Pending')", at.0),
    )
    .await;
}

#[tokio::test]
async fn many_processes_make_one_store() {
    let schema = fresh_schema();
    let (a, b, c) = tokio::join!(open(&schema, NOW), open(&schema, NOW), open(&schema, NOW));
    let ids = [a, b, c].map(|opened| opened.expect("opens").id);
    assert_eq!(ids[0], ids[1]);
    assert_eq!(ids[0], ids[2]);
    assert_eq!(ids[0], open(&schema, NOW).await.expect("opens").id);
}

#[tokio::test]
async fn many_processes_make_one_store_in_a_schema_that_is_there() {
    let schema = fresh_schema();
    execute(&schema, &format!("CREATE SCHEMA {}", schema.quoted())).await;
    let (a, b, c) = tokio::join!(open(&schema, NOW), open(&schema, NOW), open(&schema, NOW));
    let channels = [a, b, c].map(|opened| opened.expect("opens").channel);
    assert_eq!(channels[0], channels[1]);
    assert_eq!(channels[0], channels[2]);
}

#[tokio::test]
async fn a_stores_channel_cannot_be_guessed_from_its_name() {
    let schema = fresh_schema();
    let first = open(&schema, NOW).await.expect("opens").channel;
    execute(&schema, &format!("DROP SCHEMA {} CASCADE", schema.quoted())).await;
    let second = open(&schema, NOW).await.expect("opens").channel;
    assert_ne!(first, second);
    for channel in [first, second] {
        // PostgreSQL refuses longer ones.
        assert!(channel.len() < 64, "{channel}");
        assert!(
            channel
                .strip_prefix("abide:")
                .is_some_and(|random| random.len() == 36)
        );
    }
}

#[tokio::test]
async fn whatever_is_published_can_still_be_changed() {
    let schema = fresh_schema();
    open(&schema, NOW).await.expect("opens");
    write_at(&schema, NOW).await;
    let client = client(&schema.url).await;
    let tables = client
        .query(
            "SELECT c.relname::text FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace \
             WHERE s.nspname = $1 AND c.relkind IN ('r', 'p')",
            &[&schema.name],
        )
        .await;
    let tables = tables.expect("reads");
    assert!(tables.len() > 10, "with partitions: {}", tables.len());
    let tables: Vec<String> = tables
        .iter()
        .map(|row| format!("{}.{}", schema.quoted(), row.get::<_, String>(0)))
        .collect();
    let mut statements = vec!["BEGIN; CREATE PUBLICATION abide_test".to_owned()];
    for table in &tables {
        statements.push(format!("ALTER PUBLICATION abide_test ADD TABLE {table}"));
    }
    for table in &tables {
        statements.push(format!("DELETE FROM {table}"));
    }
    // A publication is the whole database's.
    statements.push("ROLLBACK".to_owned());
    let all = statements.join("; ");
    client.batch_execute(&all).await.expect("sound");
}

#[tokio::test]
async fn who_only_looks_makes_nothing() {
    let schema = fresh_schema();
    let look = async || {
        let mut client = client(&schema.url).await;
        migrate(&mut client, &name(&schema), "db", false, NOW, &MIGRATIONS).await
    };
    let error = look().await.expect_err("missing").to_string();
    assert!(error.contains("there is no schema `Test \\\""), "{error}");
    execute(&schema, &format!("CREATE SCHEMA {}", schema.quoted())).await;
    let error = look().await.expect_err("empty").to_string();
    assert!(error.contains("there is no store in schema"), "{error}");
    open(&schema, NOW).await.expect("becomes a store");
    look().await.expect("is one now");
}

#[tokio::test]
async fn another_programs_schema_is_refused_and_left_as_it_is() {
    for table in ["t", "store"] {
        let schema = fresh_schema();
        let create = format!(
            "CREATE SCHEMA {}; CREATE TABLE ~{table} ();",
            schema.quoted()
        );
        execute(&schema, &create).await;
        let error = open(&schema, NOW).await.expect_err("not ours");
        assert!(matches!(error, StoreError::NotADatabase(_)), "{error:?}");
        execute(&schema, &format!("DROP TABLE ~{table}")).await;
        open(&schema, NOW).await.expect("it is empty");
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let schema = fresh_schema();
    open(&schema, NOW).await.expect("opens");
    execute(&schema, "UPDATE ~store SET schema = 99").await;
    let error = open(&schema, NOW).await.expect_err("newer").to_string();
    assert!(
        error.contains("schema 99") && error.contains("upgrade"),
        "{error}"
    );
}

#[tokio::test]
async fn a_schema_of_a_build_that_was_never_published_is_refused_and_left_as_it_is() {
    for earlier in [
        // What told builds apart is younger than some of them; others had another text.
        "ALTER TABLE ~store DROP COLUMN fingerprint",
        "ALTER TABLE ~workers DROP COLUMN queues; UPDATE ~store SET fingerprint = '0123456789abcdef'",
    ] {
        let schema = fresh_schema();
        open(&schema, NOW).await.expect("opens");
        execute(&schema, earlier).await;
        let before = everything(&schema).await;
        let error = open(&schema, NOW).await.expect_err("another build's");
        assert!(matches!(error, StoreError::Unpublished { .. }), "{error:?}");
        let said = error.to_string();
        for part in [
            &name(&schema).to_string(),
            "never published",
            "set it aside",
        ] {
            assert!(said.contains(part), "{said}");
        }
        assert_eq!(everything(&schema).await, before);
    }
}

/// Each column of each table with its number and type, and the row that says what the store is.
async fn everything(schema: &Schema) -> Vec<String> {
    let sql = "SELECT concat_ws(' ', c.relname, a.attname, a.attnum, a.atttypid) FROM pg_class c \
               JOIN pg_namespace s ON s.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid \
               WHERE s.nspname = $1 UNION ALL SELECT to_jsonb(s)::text || xmin FROM ~store s ORDER BY 1";
    let sql = name(schema).qualify(sql);
    let rows = client(&schema.url).await.query(&sql, &[&schema.name]).await;
    rows.expect("reads").iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn the_history_has_a_place_for_every_time() {
    let schema = fresh_schema();
    let first = open(&schema, NOW).await.expect("opens").events_end;
    for at in [0, NOW.0 - 400 * DAY_US, NOW.0, NOW.0 + 80 * DAY_US] {
        write_at(&schema, Timestamp(at)).await;
    }
    assert!(first.0 > IdGenerator::new(0).next(Timestamp(NOW.0 + 88 * DAY_US)));
    let names = async || {
        let all = partitions(&client(&schema.url).await, &name(&schema)).await;
        let all = all.expect("listed");
        // They lie end to end.
        for pair in all.windows(2) {
            assert_eq!(pair[1].from, Some(pair[0].end));
        }
        assert_eq!(all[0].from, None);
        let short = |name: &str| name.replace("execution_events_", "");
        all.iter()
            .map(|partition| short(&partition.name))
            .collect::<Vec<_>>()
    };
    assert_eq!(names().await, ["first", "2026_01", "2026_02", "2026_03"]);
    // A month later there is one more, a year later one for the time in between.
    let later = Timestamp(NOW.0 + 35 * DAY_US);
    let second = open(&schema, later).await.expect("opens").events_end;
    assert!(second > first);
    let much_later = Timestamp(NOW.0 + 370 * DAY_US);
    open(&schema, much_later).await.expect("opens");
    assert_eq!(
        names().await[4..],
        ["2026_04", "before_2027_01", "2027_01", "2027_02", "2027_03"]
    );
    write_at(&schema, Timestamp(NOW.0 + 200 * DAY_US)).await;
    write_at(&schema, much_later).await;
    // A clock that went back finds everything made.
    assert!(open(&schema, NOW).await.expect("opens").events_end > second);
}

#[tokio::test]
async fn clocks_at_the_ends_of_time_find_a_place_too() {
    for now in [0, i64::MAX] {
        let schema = fresh_schema();
        open(&schema, Timestamp(now)).await.expect("opens");
        write_at(&schema, Timestamp(0)).await;
        write_at(&schema, Timestamp(3_800_000_000_000_000.min(now))).await;
    }
}

#[tokio::test]
async fn partitions_are_made_while_others_write() {
    let schema = fresh_schema();
    open(&schema, NOW).await.expect("opens");
    let writer = client(&schema.url).await;
    let write = "INSERT INTO ~execution_events (execution, task, n, type, at, to_status) VALUES (1, 0, $1, 1, 1, 'x')";
    let write = name(&schema).qualify(write);
    writer.batch_execute("BEGIN").await.expect("begins");
    writer.execute(&write, &[&1_i32]).await.expect("writes");
    // That transaction is still open.
    let later = Timestamp(NOW.0 + 40 * DAY_US);
    open(&schema, later)
        .await
        .expect("nobody waits for anybody");
    writer.execute(&write, &[&2_i32]).await.expect("writes");
    writer.batch_execute("COMMIT").await.expect("commits");
}

#[tokio::test]
async fn views_tell_times_and_types_in_words() {
    let schema = fresh_schema();
    open(&schema, NOW).await.expect("opens");
    write_at(&schema, Timestamp(NOW.0 + 1_500_000)).await;
    let sql = name(&schema).qualify("SELECT event_type, created_at FROM ~execution_history");
    let row = client(&schema.url)
        .await
        .query_one(&sql, &[])
        .await
        .expect("one");
    assert_eq!(row.get::<_, String>(0), "execution.created");
    assert_eq!(row.get::<_, String>(1), "2026-01-01T00:00:01.500Z");
}

#[tokio::test]
async fn a_store_opens_while_somebody_keeps_another_one_s_history_locked() {
    let (schema, other) = (fresh_schema(), fresh_schema());
    for schema in [&schema, &other] {
        open(schema, NOW).await.expect("opens");
    }
    let mut neighbour = client(&other.url).await;
    let lock = neighbour.transaction().await.expect("begins");
    let sql = name(&other).qualify("LOCK TABLE ~execution_events IN ACCESS EXCLUSIVE MODE");
    lock.batch_execute(&sql).await.expect("locked");
    let mut own = client(&schema.url).await;
    let patience = "SET lock_timeout = '1s'";
    own.batch_execute(patience).await.expect("sound");
    let opened = migrate(&mut own, &name(&schema), "db", false, NOW, &MIGRATIONS).await;
    opened.expect("it has nothing to do with the other one");
    lock.rollback().await.expect("rolls back");
}
