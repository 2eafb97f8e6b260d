use abide_test_postgres::{Schema, client, fresh_schema, shared_url};

use super::*;
use crate::{Store, StoreOptions};

/// A role of a test's own, gone when this is dropped; what it owns must be gone before.
struct Role(String);

impl Role {
    fn of(schema: &Schema) -> Role {
        Role(format!("role of {}", schema.name))
    }

    fn with_password(&self) -> Option<TenantRole> {
        Some(TenantRole {
            name: self.0.clone(),
            password: Some("it's \"secret\"".to_owned()),
        })
    }

    /// The server's address, with the role in place of the user.
    fn url(&self) -> String {
        let encode = |text: &str| {
            percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC)
                .to_string()
        };
        let url = shared_url();
        let (_, server) = url.split_once('@').expect("an address with a user");
        let (name, password) = (encode(&self.0), encode("it's \"secret\""));
        format!("postgres://{name}:{password}@{server}")
    }

    async fn drop(self) {
        let drop = format!("DROP ROLE {}", quoted(&self.0));
        let client = client(&shared_url()).await;
        client.batch_execute(&drop).await.expect("it owns nothing");
    }
}

async fn two_tenants() -> [Schema; 2] {
    let tenants = [fresh_schema(), fresh_schema()];
    for schema in &tenants {
        let made = create_tenant(&shared_url(), &schema.name, None).await;
        let made = made.expect("made");
        assert!(made.created && !made.role_created);
    }
    tenants
}

#[tokio::test]
async fn tenants_are_made_listed_and_dropped() {
    let [a, b] = two_tenants().await;
    let url = shared_url();
    let again = create_tenant(&url, &a.name, None).await.expect("is there");
    assert!(!again.created);
    let listed = async || {
        let mut listed = list_tenants(&url).await.expect("listed");
        listed.retain(|tenant| [&a.name, &b.name].contains(&&tenant.schema));
        listed
    };
    let tenants = listed().await;
    assert_eq!(tenants.len(), 2);
    assert!(
        tenants
            .iter()
            .all(|tenant| tenant.bytes > Some(100_000) && tenant.created_at.is_some())
    );
    let dropped = drop_tenant(&url, &a.name).await.expect("dropped");
    assert_eq!(dropped.expect("it was there").schema, a.name);
    assert_eq!(listed().await.len(), 1);
    assert_eq!(
        drop_tenant(&url, &a.name).await.expect("nothing to do"),
        None
    );
}

#[tokio::test]
async fn a_list_says_what_it_can_of_a_store_that_is_locked() {
    let [free, locked] = two_tenants().await;
    let url = abide_test_postgres::with_parameter(&shared_url(), "lock_timeout", "50");
    let mut other = client(&url).await;
    let transaction = other.transaction().await.expect("begins");
    let lock = format!("LOCK TABLE {}.store", locked.quoted());
    transaction.batch_execute(&lock).await.expect("locked");
    let tenants = list_tenants(&url).await.expect("listed");
    let of = |schema: &Schema| {
        let mut tenants = tenants.iter();
        let found = tenants.find(|tenant| tenant.schema == schema.name);
        found.expect("it is in the list")
    };
    assert!(of(&free).bytes.is_some() && of(&free).created_at.is_some());
    assert_eq!((of(&locked).bytes, of(&locked).created_at), (None, None));
    let error = drop_tenant(&url, &locked.name).await;
    let error = error.expect_err("somebody is using it");
    assert!(matches!(error, StoreError::Busy(_)), "{error:?}");
    transaction.rollback().await.expect("rolls back");
}

#[tokio::test]
async fn a_list_leaves_out_what_is_dropped_while_it_is_made() {
    let [stays, goes] = two_tenants().await;
    let url = abide_test_postgres::with_parameter(&shared_url(), "lock_timeout", "60000");
    let url = abide_test_postgres::with_parameter(&url, "application_name", &goes.name);
    let (name, mut other) = (&goes.name, client(&shared_url()).await);
    let transaction = other.transaction().await.expect("begins");
    let lock = format!("LOCK TABLE {}.store", goes.quoted());
    transaction.batch_execute(&lock).await.expect("locked");
    // Found in the catalogs, then waited for.
    let listing = tokio::spawn(async move { list_tenants(&url).await });
    let waits =
        "SELECT FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock'";
    // In a transaction it would see the same connections for ever.
    let sight = client(&shared_url()).await;
    let is_waiting = async || {
        let rows = sight.query(waits, &[name]).await;
        !rows.expect("asked").is_empty()
    };
    while !is_waiting().await {
        assert!(!listing.is_finished(), "it looks into the store");
        tokio::task::yield_now().await;
    }
    let drop = format!("DROP SCHEMA {} CASCADE", goes.quoted());
    transaction.batch_execute(&drop).await.expect("dropped");
    transaction.commit().await.expect("commits");
    let listed = listing.await.expect("runs").expect("the others are there");
    let has = |schema: &Schema| listed.iter().any(|tenant| tenant.schema == schema.name);
    assert!(has(&stays) && !has(&goes));
}

#[tokio::test]
async fn a_list_can_be_had_while_tenants_come_and_go() {
    let (stays, comes) = (fresh_schema(), fresh_schema());
    let url = shared_url();
    create_tenant(&url, &stays.name, None).await.expect("made");
    let coming_and_going = async {
        for _ in 0..10 {
            create_tenant(&url, &comes.name, None).await.expect("made");
            drop_tenant(&url, &comes.name).await.expect("dropped");
        }
    };
    let listing = async {
        for _ in 0..20 {
            let listed = list_tenants(&url).await.expect("listed");
            assert!(listed.iter().any(|tenant| tenant.schema == stays.name));
        }
    };
    tokio::join!(coming_and_going, listing);
}

#[tokio::test]
async fn what_is_not_a_store_is_left_alone() {
    let schema = fresh_schema();
    let other = client(&schema.url).await;
    let name = schema.quoted();
    for (sql, words) in [
        (format!("CREATE SCHEMA {name}"), None),
        (
            format!("CREATE TABLE {name}.t ()"),
            Some("not an Abide database"),
        ),
    ] {
        other.batch_execute(&sql).await.expect("made");
        let dropped = drop_tenant(&shared_url(), &schema.name).await;
        assert!(
            matches!(dropped, Err(StoreError::NotADatabase(_))),
            "{dropped:?}"
        );
        if let Some(words) = words {
            let error = create_tenant(&shared_url(), &schema.name, None).await;
            assert!(error.expect_err("not ours").to_string().contains(words));
        }
    }
    let row = other
        .query_one(&format!("SELECT count(*) FROM {name}.t"), &[])
        .await;
    row.expect("it is there still");
}

#[tokio::test]
async fn a_role_can_do_everything_in_its_store_and_nothing_in_another() {
    let (own, foreign) = (fresh_schema(), fresh_schema());
    let role = Role::of(&own);
    let url = shared_url();
    let made = create_tenant(&url, &own.name, role.with_password()).await;
    assert!(made.expect("made").role_created);
    create_tenant(&url, &foreign.name, None)
        .await
        .expect("made");

    let open = async |schema: &Schema| {
        let url = abide_test_postgres::with_parameter(&role.url(), "schema", &schema.name);
        Store::open(&url, StoreOptions::default()).await
    };
    let store = open(&own).await.expect("opens its own");
    let workers = store.workers().await.expect("reads it");
    assert_eq!(workers.len(), 0);
    store.close().await;
    let error = open(&foreign).await.expect_err("not its own");
    assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");

    let listed = list_tenants(&role.url()).await.expect("lists");
    let names: Vec<_> = listed.iter().map(|tenant| &tenant.schema).collect();
    assert_eq!(names, [&own.name]);
    assert_eq!(listed[0].owner, role.0);
    let client = client(&role.url()).await;
    for table in [
        "store",
        "executions",
        "execution_events",
        "execution_status",
        "workers",
    ] {
        let read = |schema: &Schema| format!("SELECT FROM {}.{table}", schema.quoted());
        client.batch_execute(&read(&own)).await.expect("its own");
        let error = client.batch_execute(&read(&foreign)).await;
        let error = error.expect_err("another's");
        assert_eq!(error.code().expect("a code").code(), "42501", "{error}");
    }
    for forbidden in [
        format!("CREATE TABLE {}.t ()", foreign.quoted()),
        format!("DROP SCHEMA {} CASCADE", foreign.quoted()),
        "CREATE SCHEMA another".to_owned(),
        "CREATE ROLE another".to_owned(),
    ] {
        let error = client.batch_execute(&forbidden).await;
        let error = error.expect_err(&forbidden);
        assert_eq!(error.code().expect("a code").code(), "42501", "{error}");
    }
    // The store's upkeep needs no more than that role.
    let later = Timestamp(crate::system_now().0 + 200 * 86_400_000_000);
    let address = Address::parse(&role.url()).expect("an address");
    let schema = SchemaName::new(&own.name).expect("a name");
    let mut session = connect(&address).await.expect("connects");
    schema::migrate(
        session.client(),
        &schema,
        "db",
        false,
        later,
        &schema::MIGRATIONS,
    )
    .await
    .expect("makes partitions");

    drop_tenant(&role.url(), &own.name)
        .await
        .expect("its own")
        .expect("was there");
    role.drop().await;
}

#[tokio::test]
async fn another_tenants_role_holds_up_no_migration() {
    let (own, hostile) = (fresh_schema(), fresh_schema());
    let role = Role::of(&hostile);
    let url = shared_url();
    create_tenant(&url, &own.name, None).await.expect("made");
    create_tenant(&url, &hostile.name, role.with_password())
        .await
        .expect("made");
    let client = client(&role.url()).await;
    let lock = format!(
        "LOCK TABLE {}.store IN SHARE UPDATE EXCLUSIVE MODE",
        own.quoted()
    );
    let error = client.batch_execute(&format!("BEGIN; {lock}")).await;
    let error = error.expect_err("another's");
    assert_eq!(error.code().expect("a code").code(), "42501", "{error}");
    // Advisory locks are the whole database's: none of the name's may matter.
    let hold = "ROLLBACK; SELECT pg_advisory_lock(hashtextextended(word || $1, 0)), pg_advisory_lock(hashtext(word || $1)) \
                FROM unnest(ARRAY['', 'abide ', 'abide:', 'abide.']) AS word";
    let (rollback, hold) = hold.split_once("; ").expect("two statements");
    client.batch_execute(rollback).await.expect("rolls back");
    client.query(hold, &[&own.name]).await.expect("holds");

    let schema = SchemaName::new(&own.name).expect("a name");
    let later = Timestamp(crate::system_now().0 + 200 * 86_400_000_000);
    let impatient = abide_test_postgres::with_parameter(&url, "lock_timeout", "50");
    let address = Address::parse(&impatient).expect("an address");
    let mut session = connect(&address).await.expect("connects");
    schema::migrate(
        session.client(),
        &schema,
        "db",
        false,
        later,
        &schema::MIGRATIONS,
    )
    .await
    .expect("makes partitions");
    drop_tenant(&impatient, &own.name)
        .await
        .expect("dropped")
        .expect("was there");
    create_tenant(&impatient, &own.name, None)
        .await
        .expect("made again");
    drop_tenant(&url, &hostile.name).await.expect("dropped");
    role.drop().await;
}

#[tokio::test]
async fn of_many_who_make_a_tenant_one_made_it() {
    let schema = fresh_schema();
    let role = Role::of(&schema);
    let url = shared_url();
    let make = || create_tenant(&url, &schema.name, role.with_password());
    let (a, b, c) = tokio::join!(make(), make(), make());
    let made = [a, b, c].map(|made| made.expect("is there"));
    assert_eq!(made.iter().filter(|made| made.created).count(), 1);
    assert_eq!(made.iter().filter(|made| made.role_created).count(), 1);
    let drop = || drop_tenant(&url, &schema.name);
    let (a, b, c) = tokio::join!(drop(), drop(), drop());
    let dropped = [a, b, c].map(|dropped| dropped.expect("is gone"));
    assert_eq!(dropped.iter().flatten().count(), 1);
    role.drop().await;
}

#[tokio::test]
async fn a_role_that_exists_keeps_its_password_and_may_have_several_stores() {
    let (a, b) = (fresh_schema(), fresh_schema());
    let role = Role::of(&a);
    let url = shared_url();
    create_tenant(&url, &a.name, role.with_password())
        .await
        .expect("made");
    let other = TenantRole {
        name: role.0.clone(),
        password: Some("another".to_owned()),
    };
    let made = create_tenant(&url, &b.name, Some(other))
        .await
        .expect("made");
    assert!(made.created && !made.role_created);
    assert_eq!(list_tenants(&role.url()).await.expect("lists").len(), 2);
    for schema in [&a, &b] {
        drop_tenant(&url, &schema.name).await.expect("dropped");
    }
    role.drop().await;
}

#[tokio::test]
async fn whoever_may_not_make_a_tenant_leaves_nothing_behind() {
    let (own, wanted) = (fresh_schema(), fresh_schema());
    let role = Role::of(&own);
    let url = shared_url();
    create_tenant(&url, &own.name, role.with_password())
        .await
        .expect("made");
    let error = create_tenant(&role.url(), &wanted.name, None).await;
    let error = error.expect_err("no right to make schemas");
    assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
    // A role is made, then its schema can't be: neither stays.
    let admin = format!("ALTER ROLE {} CREATEROLE", quoted(&role.0));
    client(&url).await.batch_execute(&admin).await.expect("may");
    let second = Role::of(&wanted);
    let error = create_tenant(&role.url(), &wanted.name, second.with_password()).await;
    let error = error.expect_err("no right to make schemas");
    assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
    let row = client(&url)
        .await
        .query_one(
            "SELECT count(*) FROM pg_roles WHERE rolname = $1",
            &[&second.0],
        )
        .await;
    assert_eq!(row.expect("counted").get::<_, i64>(0), 0);
    drop_tenant(&url, &own.name).await.expect("dropped");
    role.drop().await;
}
