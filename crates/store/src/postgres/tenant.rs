//! Tenants: stores of their own in one PostgreSQL database, each in a schema, each with a role that
//! reaches nothing but that schema, if it is asked for. Whoever makes them may do more than the
//! programs that use them.

use abide_core::ids::Timestamp;
use tokio_postgres::GenericClient;
use tokio_postgres::error::SqlState;

use super::address::Address;
use super::connect::Session;
use super::name::{SchemaName, quoted};
use super::partitions::lock;
use super::schema::{self, Found, MARK};
use super::{connect, error, start_thread};
use crate::error::StoreError;

/// A tenant, as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its schema.
    pub schema: String,
    /// The role that owns it.
    pub owner: String,
    /// What it takes on the disk, indexes and all. None while somebody keeps it locked.
    pub bytes: Option<i64>,
    /// When it was made, if the one who asks may read it. None while somebody keeps it locked.
    pub created_at: Option<Timestamp>,
}

/// A role to make with a tenant.
#[derive(Clone)]
pub struct TenantRole {
    /// Its name. A role that exists is taken as it is.
    pub name: String,
    /// Its password. Without one it logs in only where the server asks for none.
    pub password: Option<String>,
}

/// What making a tenant came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantCreated {
    /// False if the store was there already; nothing was changed then.
    pub created: bool,
    /// False if the role was there already; its password is what it was.
    pub role_created: bool,
}

/// Makes a store in a schema of its own, of the database that `url` names. With a role, the schema
/// and all that is in it belong to that role: it can do everything there and nothing elsewhere.
///
/// # Errors
///
/// Names that PostgreSQL can't hold, a schema of another program, and missing rights: making a schema
/// takes CREATE on the database, making a role takes CREATEROLE.
pub async fn create_tenant(
    url: &str,
    name: &str,
    role: Option<TenantRole>,
) -> Result<TenantCreated, StoreError> {
    let address = Address::parse(url)?.with_schema(SchemaName::new(name)?);
    on_own_thread(async move { create(&address, role.as_ref()).await }).await
}

/// The stores in the database that `url` names, by name: those that its user has a right to use.
///
/// # Errors
///
/// [`StoreError`] says in words what is wrong with the address or the server.
pub async fn list_tenants(url: &str) -> Result<Vec<Tenant>, StoreError> {
    let address = Address::parse(url)?;
    on_own_thread(async move { list(&address).await }).await
}

/// Drops a store with everything in it, for good. Its role stays. None if there is no such schema,
/// otherwise what it was.
///
/// # Errors
///
/// A schema that is not a store's is left alone; so is one that is in use at the moment.
pub async fn drop_tenant(url: &str, name: &str) -> Result<Option<Tenant>, StoreError> {
    let address = Address::parse(url)?.with_schema(SchemaName::new(name)?);
    on_own_thread(async move { drop_it(&address).await }).await
}

/// Connections need a runtime with input and output, which the caller's may be without.
async fn on_own_thread<T: Send + 'static>(
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    let (runtime, thread) = start_thread()?;
    let done = runtime.spawn(work).await;
    drop(thread);
    done.unwrap_or_else(|error| Err(StoreError::Internal(error.to_string())))
}

/// How often a caller who was not the first to make a tenant or its role looks again what there is.
const RACES: u32 = 5;

async fn create(address: &Address, role: Option<&TenantRole>) -> Result<TenantCreated, StoreError> {
    let mut session = connect(address).await?;
    let mut races = 0;
    loop {
        match create_once(&mut session, address, role).await {
            Err(StoreError::Raced { .. }) if races < RACES => races += 1,
            created => return created,
        }
    }
}

async fn create_once(
    session: &mut Session,
    address: &Address,
    role: Option<&TenantRole>,
) -> Result<TenantCreated, StoreError> {
    let (schema, database) = (&address.schema, address.database());
    let fail = |e| error::of_making(&database, &e);
    let now = now(session.client()).await.map_err(fail)?;
    // All of it or nothing: no role without its schema, no schema without its tables.
    let mut transaction = session.client().transaction().await.map_err(fail)?;
    let found = schema::check(&transaction, schema, &database, &schema::MIGRATIONS).await?;
    if let Found::Store(_) = found {
        return Ok(TenantCreated {
            created: false,
            role_created: false,
        });
    }
    let mut role_created = false;
    if let Some(role) = role {
        role_created = ensure_role(&transaction, role).await.map_err(fail)?;
        give_schema(&transaction, schema, found, &role.name)
            .await
            .map_err(fail)?;
    }
    schema::migrate_once(
        &mut transaction,
        schema,
        &database,
        true,
        now,
        &schema::MIGRATIONS,
    )
    .await?;
    let close = format!("REVOKE ALL ON SCHEMA {} FROM PUBLIC", schema.quoted());
    transaction.batch_execute(&close).await.map_err(fail)?;
    let committed = transaction.commit().await;
    committed.map_err(|e| error::of_commit(&database, &e))?;
    Ok(TenantCreated {
        created: true,
        role_created,
    })
}

/// True if the role was made.
async fn ensure_role(
    client: &(impl GenericClient + Sync),
    role: &TenantRole,
) -> Result<bool, tokio_postgres::Error> {
    let row = client
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1::text), \
                    (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)",
            &[&role.name],
        )
        .await?;
    let (exists, is_superuser): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
    let name = quoted(&role.name);
    if !exists {
        // As a digest, so that the password itself is in no log of the server.
        let password = role.password.as_ref().map_or(String::new(), |password| {
            let digest = postgres_protocol::password::scram_sha_256(password.as_bytes());
            format!(" PASSWORD '{digest}'")
        });
        let create = format!("CREATE ROLE {name} LOGIN{password}");
        client.batch_execute(&create).await?;
    }
    if !is_superuser {
        // Otherwise it could give it nothing, and not take it away again.
        let join = format!("GRANT {name} TO CURRENT_USER");
        client.batch_execute(&join).await?;
    }
    Ok(!exists)
}

/// From here on the transaction acts as the role, to which everything it makes belongs.
async fn give_schema(
    client: &(impl GenericClient + Sync),
    schema: &SchemaName,
    found: Found,
    role: &str,
) -> Result<(), tokio_postgres::Error> {
    let may_connect: bool = client
        .query_one(
            "SELECT has_database_privilege($1::text, current_database(), 'CONNECT')",
            &[&role],
        )
        .await?
        .try_get(0)?;
    let (schema, role) = (schema.quoted(), quoted(role));
    let give = match found {
        Found::Missing => format!("CREATE SCHEMA {schema} AUTHORIZATION {role}"),
        _ => format!("ALTER SCHEMA {schema} OWNER TO {role}"),
    };
    client.batch_execute(&give).await?;
    if !may_connect {
        let row = client
            .query_one("SELECT current_database()::text", &[])
            .await?;
        let database = quoted(row.try_get(0)?);
        let admit = format!("GRANT CONNECT ON DATABASE {database} TO {role}");
        client.batch_execute(&admit).await?;
    }
    client
        .batch_execute(&format!("SET LOCAL ROLE {role}"))
        .await
}

/// Some may be dropped meanwhile, and are left out; one that can't be looked into now is listed all
/// the same.
async fn list(address: &Address) -> Result<Vec<Tenant>, StoreError> {
    let database = address.database();
    let fail = |e| error::definite(&database, &e);
    let mut session = connect(address).await?;
    let client = session.client();
    let mut tenants = Vec::new();
    for mut found in find(client, None).await.map_err(fail)? {
        match found.look_into(client).await {
            Ok(true) => tenants.push(found.tenant),
            Ok(false) => {}
            Err(error) => match fail(error) {
                StoreError::Busy(_) | StoreError::Deadlock(_) | StoreError::Denied { .. } => {
                    tenants.push(found.tenant);
                }
                error => return Err(error),
            },
        }
    }
    Ok(tenants)
}

async fn drop_it(address: &Address) -> Result<Option<Tenant>, StoreError> {
    let (schema, database) = (&address.schema, address.database());
    let fail = |e| error::definite(&database, &e);
    let mut session = connect(address).await?;
    let transaction = session.client().transaction().await.map_err(fail)?;
    let found = find(&transaction, Some(schema)).await.map_err(fail)?.pop();
    let Some(mut found) = found else {
        // A newer program's store may be dropped; what is no store may not.
        return match schema::check(&transaction, schema, &database, &schema::MIGRATIONS).await? {
            Found::Empty => Err(StoreError::NotADatabase(format!(
                "schema `{schema}` of {database}"
            ))),
            _ => Ok(None),
        };
    };
    match lock(&transaction, schema).await {
        // Dropped since it was found.
        Err(error) if is_gone(&error) => return Ok(None),
        locked => locked.map_err(fail)?,
    }
    if !found.look_into(&transaction).await.map_err(fail)? {
        return Ok(None);
    }
    let sql = format!("DROP SCHEMA {} CASCADE", schema.quoted());
    transaction.batch_execute(&sql).await.map_err(fail)?;
    let committed = transaction.commit().await;
    committed.map_err(|e| error::of_commit(&database, &e))?;
    Ok(Some(found.tenant))
}

/// Whether a statement named a schema or a table that is no longer there.
fn is_gone(error: &tokio_postgres::Error) -> bool {
    let gone = [&SqlState::UNDEFINED_TABLE, &SqlState::INVALID_SCHEMA_NAME];
    error.code().is_some_and(|code| gone.contains(&code))
}

/// A tenant as the catalogs have it, which are read without waiting for anybody.
struct Catalogued {
    tenant: Tenant,
    namespace: u32,
    may_read: bool,
}

/// Stores, which are known by their mark, or the one of this name.
async fn find(
    client: &(impl GenericClient + Sync),
    only: Option<&SchemaName>,
) -> Result<Vec<Catalogued>, tokio_postgres::Error> {
    let rows = client
        .query(
            "SELECT s.nspname::text, pg_get_userbyid(s.nspowner)::text, s.oid, \
                    coalesce(has_table_privilege(c.oid, 'SELECT'), false) \
             FROM pg_namespace s JOIN pg_class c ON c.relnamespace = s.oid AND c.relname = 'store' AND c.relkind = 'r' \
             WHERE obj_description(c.oid, 'pg_class') = $1::text AND has_schema_privilege(s.oid, 'USAGE') \
               AND ($2::text IS NULL OR s.nspname = $2::text) \
             ORDER BY s.nspname COLLATE \"C\"",
            &[&MARK, &only.map(SchemaName::as_str)],
        )
        .await?;
    let found = rows.iter().map(|row| {
        Ok(Catalogued {
            tenant: Tenant {
                schema: row.try_get(0)?,
                owner: row.try_get(1)?,
                bytes: None,
                created_at: None,
            },
            namespace: row.try_get(2)?,
            may_read: row.try_get(3)?,
        })
    });
    found.collect()
}

impl Catalogued {
    /// Reads what takes locks: those of whoever changes its tables are waited for. False if there is
    /// nothing left of it.
    async fn look_into(
        &mut self,
        client: &(impl GenericClient + Sync),
    ) -> Result<bool, tokio_postgres::Error> {
        let size = "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class \
                    WHERE relnamespace = $1::oid AND relkind = 'r'";
        let row = client.query_one(size, &[&self.namespace]).await?;
        self.tenant.bytes = row.try_get(0)?;
        if self.tenant.bytes.is_some() && self.may_read {
            let schema = quoted(&self.tenant.schema);
            let created = format!("SELECT created_at FROM {schema}.store");
            match client.query_opt(&created, &[]).await {
                Ok(None) => {}
                Ok(Some(row)) => self.tenant.created_at = Some(Timestamp(row.try_get(0)?)),
                Err(error) if is_gone(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(self.tenant.bytes.is_some())
    }
}

/// The database's clock.
async fn now(client: &(impl GenericClient + Sync)) -> Result<Timestamp, tokio_postgres::Error> {
    let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
    Ok(Timestamp(client.query_one(sql, &[]).await?.try_get(0)?))
}

#[cfg(test)]
mod tests;
