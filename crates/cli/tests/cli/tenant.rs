//! `abide tenant`, on a PostgreSQL server.

use abide_test_postgres::{Schema, client, fresh_schema, shared_url};

use super::support::{Run, abide};

fn tenant(arguments: &[&str], input: &str) -> Run {
    let mut command = abide(&[&["tenant"], arguments].concat());
    Run::of(command.env("ABIDE_DB", shared_url()), input)
}

fn done(arguments: &[&str]) -> String {
    let run = tenant(arguments, "");
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{}", run.out);
    run.out
}

async fn exists(schema: &Schema) -> bool {
    let sql = "SELECT FROM pg_namespace WHERE nspname = $1";
    let rows = client(&schema.url).await.query(sql, &[&schema.name]).await;
    !rows.expect("asked").is_empty()
}

#[tokio::test]
async fn a_tenant_is_made_used_listed_and_dropped() {
    let schema = fresh_schema();
    let name = schema.name.as_str();
    assert_eq!(done(&["create", name]), format!("{name}: created\n"));
    let again = done(&["create", name]);
    assert_eq!(again, format!("{name}: a store already (unchanged)\n"));

    let listed = done(&["list", "-o", "name"]);
    assert!(listed.lines().any(|line| line == name), "{listed}");
    let listed: serde_json::Value =
        serde_json::from_str(&done(&["ls", "-o", "json"])).expect("JSON");
    let listed = listed.as_array().expect("a list").iter();
    let own: Vec<_> = listed.filter(|tenant| tenant["name"] == name).collect();
    assert_eq!(own[0]["owner"], "abide");
    assert!(own[0]["bytes"].as_i64().expect("a number") > 0);
    assert!(own[0]["created_at"].is_string());

    // It is a store like any other.
    let run = Run::of(&mut abide(&["list", "--db", &schema.url]), "");
    assert_eq!((run.code, run.err.as_str()), (0, "no executions match\n"));

    let run = tenant(&["drop", name], "");
    run.failed_with(2, &format!("say `--confirm {name}`"));
    let run = tenant(&["drop", name, "--confirm", "other"], "");
    run.failed_with(2, "nothing was dropped");
    assert!(exists(&schema).await);
    let dropped = done(&["drop", name, "--confirm", name]);
    assert!(
        dropped.starts_with(&format!("{name}: dropped")),
        "{dropped}"
    );
    assert!(!exists(&schema).await);
    tenant(&["drop", name, "--confirm", name], "").failed_with(3, "there is no store");
}

#[tokio::test]
async fn a_tenants_role_sees_its_own_store_only() {
    let (own, foreign) = (fresh_schema(), fresh_schema());
    let role = format!("tester-{}", std::process::id());
    let run = tenant(
        &["create", &own.name, "--role", &role, "--password-stdin"],
        "open sesame\n",
    );
    assert_eq!(run.err, "");
    assert_eq!(
        run.out,
        format!("{}: created, owned by role {role}\n", own.name)
    );
    done(&["create", &foreign.name]);

    let as_role = |url: &str| {
        let (_, server) = url.split_once('@').expect("an address with a user");
        format!("postgres://{role}:open%20sesame@{server}")
    };
    let list = |url: &str| Run::of(&mut abide(&["list", "--db", url]), "");
    assert_eq!(list(&as_role(&own.url)).code, 0);
    list(&as_role(&foreign.url)).failed_with(1, "permission denied for schema");
    let mut tenants = abide(&["tenant", "list", "-o", "name", "--db", &as_role(&own.url)]);
    assert_eq!(Run::of(&mut tenants, "").out, format!("{}\n", own.name));

    let again = tenant(&["create", &own.name, "--role", &role], "");
    again.failed_with(4, "there is a store in");
    done(&["drop", &own.name, "--confirm", &own.name]);
    let drop = format!("DROP ROLE \"{role}\"");
    client(&own.url)
        .await
        .batch_execute(&drop)
        .await
        .expect("it owns nothing");
}

#[tokio::test]
async fn what_makes_no_sense_is_said() {
    let file = Run::of(&mut abide(&["tenant", "list", "--db", "app.db"]), "");
    file.failed_with(2, "tenants are schemas of a PostgreSQL database");
    tenant(&["create", "pg_x"], "").failed_with(2, "begins with `pg_`");
    tenant(&["create", "x", "--password-stdin"], "").failed_with(2, "--role");
    let schema = fresh_schema();
    let sql = format!("CREATE SCHEMA {0}; CREATE TABLE {0}.t ()", schema.quoted());
    client(&schema.url)
        .await
        .batch_execute(&sql)
        .await
        .expect("made");
    tenant(&["create", &schema.name], "").failed_with(1, "is not an Abide database");
    let run = tenant(&["drop", &schema.name, "--confirm", &schema.name], "");
    run.failed_with(1, "is not an Abide database");
    assert!(exists(&schema).await);
}

#[test]
fn help_shows_no_password() {
    let mut command = abide(&["tenant", "create", "--help"]);
    let help = Run::of(command.env("ABIDE_DB", "postgres://u:secret@host/db"), "");
    assert!(
        help.out.contains("ABIDE_DB") && !help.out.contains("secret"),
        "{}",
        help.out
    );
}
