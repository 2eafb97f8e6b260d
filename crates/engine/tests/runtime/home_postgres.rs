//! Where the tests' stores are: each in a PostgreSQL schema of its own.

use abide_test_postgres::Schema;

/// A store that goes away with the test.
pub(crate) struct Home {
    schema: Schema,
}

impl Home {
    pub(crate) fn new() -> Home {
        let schema = abide_test_postgres::fresh_schema();
        Home { schema }
    }

    /// Makes the database refuse every change of a task.
    pub(crate) async fn refuse_changes(&self) {
        self.execute(
            "CREATE FUNCTION ~refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             RAISE EXCEPTION 'out of sorts' USING ERRCODE = '55000'; END $$; \
             CREATE TRIGGER refuse BEFORE UPDATE ON ~task_executions FOR EACH ROW EXECUTE FUNCTION ~refuse()",
        )
        .await;
    }

    pub(crate) async fn allow_changes(&self) {
        self.execute("DROP TRIGGER refuse ON ~task_executions")
            .await;
    }

    /// Makes what was written of every history so far unreadable.
    pub(crate) async fn damage_histories(&self) {
        self.execute("UPDATE ~execution_events SET type = 9999")
            .await;
    }

    /// The store is of the next version, as after a newer program has opened it; or of this one again.
    pub(crate) async fn is_newer(&self, newer: bool) {
        let version = if newer { 2 } else { 1 };
        self.execute(&format!("UPDATE ~store SET schema = {version}"))
            .await;
    }

    async fn execute(&self, sql: &str) {
        let client = abide_test_postgres::client(&self.schema.url).await;
        let sql = sql.replace('~', &format!("{}.", self.schema.quoted()));
        client.batch_execute(&sql).await.expect("sound");
    }

    pub(crate) fn url(&self) -> String {
        self.schema.url.clone()
    }
}
