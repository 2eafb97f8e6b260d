//! What a session relies on: settings that are made in it, and a server that can keep what the store
//! promises. Nothing here keeps a connection.

use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::error::StoreError;
use crate::postgres::address::Address;
use crate::postgres::pooler;

/// The oldest server that the tests run on; older ones are no longer kept up.
const OLDEST_SERVER: i64 = 14_0000;
/// A transaction that does nothing for so long belongs to a process that was stopped. Others wait
/// for its locks.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(15);

/// What the server says of itself.
pub(super) struct Greeting {
    pub(super) version: i64,
    /// The server process of the session.
    pub(super) backend: i64,
    encoding: String,
    is_standby: bool,
    is_read_only: bool,
    /// Settings that are off and must not be.
    unsafe_settings: Vec<&'static str>,
}

/// What statements rely on, whatever a server, database or role has it set to. `synchronous_commit` is
/// left as it is, since how durable a commit is is the operator's choice; so is
/// `default_transaction_read_only`, which says that there are to be no writes. A setting that a
/// version of the server does not know is left out.
const SETTINGS: &[(&str, &str)] = &[
    // Rules run between statements: every statement must see what the locks before it waited for.
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_deferrable", "off"),
    // Everything is qualified; nobody's functions come before the server's own.
    ("search_path", "pg_catalog"),
    // Rows that a policy hides are an error, never missing without a word.
    ("row_security", "off"),
    ("restrict_nonsystem_relation_kind", ""),
    ("default_table_access_method", "heap"),
    // How texts and times are written and read.
    ("client_encoding", "UTF8"),
    ("standard_conforming_strings", "on"),
    ("bytea_output", "hex"),
    ("DateStyle", "ISO, YMD"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "1"),
    ("array_nulls", "on"),
    ("transform_null_equals", "off"),
    ("quote_all_identifiers", "off"),
    // Warnings are listened to.
    ("client_min_messages", "notice"),
    // An error ends a statement, and waiting for work ends nothing.
    ("exit_on_error", "off"),
    ("idle_session_timeout", "0"),
    ("transaction_timeout", "0"),
    // Short statements over partitions are costed high and never worth compiling, nor worth processes.
    ("jit", "off"),
    ("max_parallel_workers_per_gather", "0"),
    ("force_parallel_mode", "off"),
    ("debug_parallel_query", "off"),
    // Plans go by the indexes that the schema has for them.
    ("plan_cache_mode", "auto"),
    ("enable_seqscan", "on"),
    ("enable_indexscan", "on"),
    ("enable_indexonlyscan", "on"),
    ("enable_bitmapscan", "on"),
    ("enable_tidscan", "on"),
    ("enable_nestloop", "on"),
    ("enable_hashjoin", "on"),
    ("enable_mergejoin", "on"),
    ("enable_hashagg", "on"),
    ("enable_sort", "on"),
    ("enable_partition_pruning", "on"),
];

/// Makes the settings that the store relies on. With a mark it makes none, and answers so, where the
/// mark did not arrive: a pooler is between, whose connections other programs get.
pub(super) async fn set(
    client: &Client,
    address: &Address,
    mark: Option<&str>,
) -> Result<bool, tokio_postgres::Error> {
    let ms = |duration: Duration| duration.as_millis().to_string();
    let timeouts = [
        ("statement_timeout", address.statement_timeout),
        ("lock_timeout", address.lock_timeout),
        ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION),
    ];
    let timeouts = timeouts.map(|(name, limit)| (name, ms(limit)));
    let settings = SETTINGS
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()));
    let (names, values): (Vec<&str>, Vec<String>) = timeouts.into_iter().chain(settings).unzip();
    let made = client
        .query_typed(
            "SELECT set_config(name, value, false) FROM unnest($1, $2) AS settings (name, value) \
             WHERE current_setting(name, true) IS NOT NULL AND ($3 IS NULL OR current_setting($4, true) = $3)",
            &[
                (&names, Type::TEXT_ARRAY),
                (&values, Type::TEXT_ARRAY),
                (&mark, Type::TEXT),
                (&pooler::MARK, Type::TEXT),
            ],
        )
        .await?;
    Ok(!made.is_empty())
}

/// Asks for the server's settings.
pub(super) async fn greet(client: &Client) -> Result<Greeting, tokio_postgres::Error> {
    let row = client
        .query_typed_one(
            "SELECT current_setting('server_version_num')::bigint, pg_backend_pid()::bigint, \
                    current_setting('server_encoding'), pg_is_in_recovery(), \
                    current_setting('transaction_read_only') = 'on', \
                    current_setting('fsync') = 'off', current_setting('full_page_writes') = 'off', \
                    current_setting('synchronous_commit') = 'off'",
            &[],
        )
        .await?;
    let mut unsafe_settings = Vec::new();
    for (column, name) in [
        (5, "fsync"),
        (6, "full_page_writes"),
        (7, "synchronous_commit"),
    ] {
        if row.try_get(column)? {
            unsafe_settings.push(name);
        }
    }
    Ok(Greeting {
        version: row.try_get(0)?,
        backend: row.try_get(1)?,
        encoding: row.try_get(2)?,
        is_standby: row.try_get(3)?,
        is_read_only: row.try_get(4)?,
        unsafe_settings,
    })
}

impl Greeting {
    /// Refuses a server that will not do.
    pub(super) fn check(&self, allow_unsafe: bool, database: &str) -> Result<(), StoreError> {
        let cannot_open = |detail| {
            Err(StoreError::CannotOpen {
                path: database.to_owned(),
                detail,
            })
        };
        // Another server may take its place: worth another try.
        let unavailable = |detail: &str| {
            Err(StoreError::Unavailable {
                database: database.to_owned(),
                detail: detail.to_owned(),
            })
        };
        if self.version < OLDEST_SERVER {
            return cannot_open(format!(
                "the server is PostgreSQL {}; {} is the oldest that will do",
                self.version / 10_000,
                OLDEST_SERVER / 10_000
            ));
        }
        if self.encoding != "UTF8" {
            return cannot_open(format!(
                "the database's encoding is {}; it must be UTF8",
                self.encoding
            ));
        }
        if self.is_standby {
            return unavailable("the server is a standby, which takes no writes");
        }
        if self.is_read_only {
            return unavailable("its transactions are read-only (default_transaction_read_only)");
        }
        if !self.unsafe_settings.is_empty() && !allow_unsafe {
            return cannot_open(format!(
                "the server has {} switched off, so that what was acknowledged may be lost; switch it on, or accept \
                 that by adding unsafe_durability=allow to the address",
                self.unsafe_settings.join(" and ")
            ));
        }
        Ok(())
    }
}
