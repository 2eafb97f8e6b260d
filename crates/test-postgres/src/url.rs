//! Addresses as Abide takes them, and as other clients do.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio_postgres::{Client, NoTls};

/// Parameters that only Abide knows.
const ABIDES: [&str; 4] = [
    "schema",
    "unsafe_durability",
    "statement_timeout",
    "lock_timeout",
];

/// The address with one more parameter.
pub fn with_parameter(url: &str, name: &str, value: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
    format!("{url}{separator}{name}={value}")
}

/// The address without the parameters that only Abide knows.
pub fn plain_url(url: &str) -> String {
    let Some((base, query)) = url.split_once('?') else {
        return url.to_owned();
    };
    let kept: Vec<&str> = query
        .split('&')
        .filter(|parameter| {
            let name = parameter.split('=').next().unwrap_or_default();
            !ABIDES.contains(&name)
        })
        .collect();
    format!("{base}?{}", kept.join("&"))
}

/// A connection of a test's own, beside the store's. It runs on the runtime that this is called on.
pub async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(&plain_url(url), NoTls)
        .await
        .expect("the test's server takes connections");
    tokio::spawn(connection);
    client
}
