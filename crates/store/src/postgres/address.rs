//! The address of a store: a `postgres://` URL. What tokio-postgres knows goes to it; parameters of
//! Abide's own are taken out first. An unknown one is an error, since it would change nothing
//! without a word. Passwords are never shown.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use tokio_postgres::config::{Config, Host, SslMode, TargetSessionAttrs};

use super::name::SchemaName;
use crate::error::StoreError;

/// What tokio-postgres takes, but for `sslmode`.
const PASSED_ON: &[&str] = &[
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "sslnegotiation",
    "host",
    "hostaddr",
    "port",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "target_session_attrs",
    "channel_binding",
    "load_balance_hosts",
];
const OWN: &[&str] = &[
    "schema",
    "sslmode",
    "sslrootcert",
    "unsafe_durability",
    "statement_timeout",
    "lock_timeout",
];

const DEFAULT_SCHEMA: &str = "abide";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection whose other end is gone is found out within about half a minute.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
const USER_TIMEOUT: Duration = Duration::from_secs(30);
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// How much TLS is asked for, as libpq has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TlsMode {
    /// None.
    Disable,
    /// If the server has it; whose certificate it is isn't looked at.
    Prefer,
    /// Always; whose certificate it is isn't looked at.
    Require,
    /// Always, with a certificate of a known authority, for whatever name.
    VerifyCa,
    /// Always, with a certificate of a known authority for this host.
    VerifyFull,
}

impl TlsMode {
    const ALL: [(&'static str, TlsMode); 5] = [
        ("disable", TlsMode::Disable),
        ("prefer", TlsMode::Prefer),
        ("require", TlsMode::Require),
        ("verify-ca", TlsMode::VerifyCa),
        ("verify-full", TlsMode::VerifyFull),
    ];
}

/// Which certificate authorities are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Roots {
    /// The system's.
    System,
    /// Those in a file in PEM form.
    File(PathBuf),
}

/// Where a store is and how it is spoken to.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) config: Config,
    pub(crate) schema: SchemaName,
    pub(crate) tls: TlsMode,
    pub(crate) roots: Roots,
    /// Settings under which an acknowledged write may be lost are put up with.
    pub(crate) allow_unsafe: bool,
    pub(crate) statement_timeout: Duration,
    pub(crate) lock_timeout: Duration,
    /// A pooler is between, and was seen to keep each session on one server process.
    pub(crate) is_pooled_by_session: Arc<AtomicBool>,
}

impl Address {
    pub(crate) fn parse(url: &str) -> Result<Address, StoreError> {
        if url.contains(char::is_whitespace) {
            return Err(invalid(
                "it holds a space or a line break: in a name or a password write a space as %20",
            ));
        }
        let (base, query) = split(url);
        let parameters = parameters(query)?;
        let passed_on: Vec<String> = parameters
            .iter()
            .filter(|(name, _)| PASSED_ON.contains(&name.as_str()))
            .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
            .collect();
        let config = Config::from_str(&format!("{base}?{}", passed_on.join("&")))
            .map_err(|error| invalid(&in_words(&error)))?;
        let own = |name: &str| {
            let found = parameters.iter().rev().find(|(other, _)| other == name);
            found.map(|(_, value)| value.as_str())
        };
        let roots = match own("sslrootcert") {
            None | Some("system") => Roots::System,
            Some(path) => Roots::File(path.into()),
        };
        let tls = match (own("sslmode"), own("sslrootcert")) {
            (Some(mode), roots) => match choice("sslmode", mode, &TlsMode::ALL)? {
                // As libpq has it: who names an authority wants it checked.
                TlsMode::Require if roots.is_some() => TlsMode::VerifyCa,
                mode => mode,
            },
            (None, Some(_)) => TlsMode::VerifyFull,
            (None, None) => TlsMode::Prefer,
        };
        let allow_unsafe = match own("unsafe_durability") {
            None => false,
            Some(value) => choice(
                "unsafe_durability",
                value,
                &[("allow", true), ("refuse", false)],
            )?,
        };
        let address = Address {
            config: with_defaults(config, tls)?,
            schema: SchemaName::new(own("schema").unwrap_or(DEFAULT_SCHEMA))?,
            tls,
            roots,
            allow_unsafe,
            statement_timeout: milliseconds("statement_timeout", own("statement_timeout"))?
                .unwrap_or(STATEMENT_TIMEOUT),
            lock_timeout: milliseconds("lock_timeout", own("lock_timeout"))?
                .unwrap_or(LOCK_TIMEOUT),
            is_pooled_by_session: Arc::default(),
        };
        address.warn_of_clear_text();
        Ok(address)
    }

    /// The same server and database, another schema.
    pub(crate) fn with_schema(&self, schema: SchemaName) -> Address {
        Address {
            schema,
            ..self.clone()
        }
    }

    /// The server and database in words, for messages.
    pub(crate) fn database(&self) -> String {
        let hosts: Vec<String> = match self.config.get_hosts() {
            [] => {
                let addresses = self.config.get_hostaddrs().iter();
                addresses.map(ToString::to_string).collect()
            }
            hosts => hosts.iter().map(host).collect(),
        };
        let ports: Vec<String> = match self.config.get_ports() {
            [] => vec!["5432".to_owned()],
            ports => ports.iter().map(ToString::to_string).collect(),
        };
        let name = self.config.get_dbname().or(self.config.get_user());
        let name = name.map_or(String::new(), |name| format!("/{name}"));
        format!("{}:{}{name}", hosts.join(","), ports.join(","))
    }

    /// The longest that it may take to connect: each host in its turn, and what is said at first.
    pub(crate) fn connect_limit(&self) -> Duration {
        let each = self.config.get_connect_timeout().copied();
        let each = each.unwrap_or(CONNECT_TIMEOUT);
        let hosts = self.config.get_hosts().len();
        let hosts = hosts.max(self.config.get_hostaddrs().len());
        each.saturating_mul(u32::try_from(hosts).unwrap_or(u32::MAX).saturating_add(1))
    }

    /// Whether every host is this machine.
    fn is_local(&self) -> bool {
        let addresses = self.config.get_hostaddrs();
        if !addresses.is_empty() {
            return addresses.iter().all(std::net::IpAddr::is_loopback);
        }
        self.config.get_hosts().iter().all(|host| match host {
            Host::Tcp(name) => {
                name == "localhost"
                    || name
                        .parse()
                        .is_ok_and(|address: std::net::IpAddr| address.is_loopback())
            }
            #[cfg(unix)]
            Host::Unix(_) => true,
        })
    }

    /// Whether somebody on the way could read or answer in the server's place.
    fn is_exposed(&self) -> bool {
        self.tls < TlsMode::VerifyFull && !self.is_local()
    }

    fn warn_of_clear_text(&self) {
        if self.is_exposed() {
            tracing::warn!(
                database = self.database(),
                "the connection is not proof against others on the network: add sslmode=verify-full to the address"
            );
        }
    }
}

/// As an address without its secrets: for messages.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (schema {})", self.database(), self.schema)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

fn host(host: &Host) -> String {
    match host {
        Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        Host::Unix(path) => path.display().to_string(),
    }
}

/// The address before its parameters, and these. A `?` in a password is none of theirs, and an `@` in
/// a parameter ends no password.
fn split(url: &str) -> (&str, &str) {
    let start = url.find("://").map_or(0, |at| at + 3);
    let rest = &url[start..];
    let before = rest.split('?').next().unwrap_or(rest);
    let is_password = !before.contains('/')
        && before
            .split_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_err());
    let credentials = rest
        .find('@')
        .filter(|at| *at < before.len() || is_password)
        .unwrap_or(0);
    match rest[credentials..].find('?') {
        Some(at) => {
            let at = start + credentials + at;
            (&url[..at], &url[at + 1..])
        }
        None => (url, ""),
    }
}

fn parameters(query: &str) -> Result<Vec<(String, String)>, StoreError> {
    let decode = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8();
        decoded
            .map(|text| text.into_owned())
            .map_err(|_| invalid("a parameter is not UTF-8 once it is decoded"))
    };
    let mut found = Vec::new();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = match parameter.split_once('=') {
            Some((name, value)) => (decode(name)?, decode(value)?),
            None => (decode(parameter)?, String::new()),
        };
        check_known(&name)?;
        found.push((name, value));
    }
    Ok(found)
}

fn check_known(name: &str) -> Result<(), StoreError> {
    let known = || PASSED_ON.iter().chain(OWN);
    if known().any(|other| *other == name) {
        return Ok(());
    }
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        // It may be a part of a password: it isn't shown.
        return Err(invalid(
            "what follows the `?` are not parameters; in a password write `?` as %3F, `@` as %40, `/` as %2F",
        ));
    }
    let nearest = known()
        .max_by(|a, b| strsim::jaro_winkler(name, a).total_cmp(&strsim::jaro_winkler(name, b)));
    Err(invalid(&format!(
        "there is no parameter `{name}`; did you mean `{}`?",
        nearest.expect("there are some")
    )))
}

fn choice<T: Copy>(name: &str, value: &str, choices: &[(&str, T)]) -> Result<T, StoreError> {
    if let Some((_, choice)) = choices.iter().find(|(text, _)| *text == value) {
        return Ok(*choice);
    }
    let texts: Vec<&str> = choices.iter().map(|(text, _)| *text).collect();
    Err(invalid(&format!(
        "`{name}` is one of {}, not `{}`",
        texts.join(", "),
        value.escape_debug()
    )))
}

/// As in PostgreSQL's own settings: a number is of milliseconds, 0 means without end.
fn milliseconds(name: &str, value: Option<&str>) -> Result<Option<Duration>, StoreError> {
    let Some(value) = value else { return Ok(None) };
    match value.parse::<u32>() {
        Ok(ms) if ms <= i32::MAX.unsigned_abs() => Ok(Some(Duration::from_millis(ms.into()))),
        _ => Err(invalid(&format!(
            "`{name}` is a number of milliseconds, not `{}`",
            value.escape_debug()
        ))),
    }
}

fn with_defaults(mut config: Config, tls: TlsMode) -> Result<Config, StoreError> {
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(invalid("it names no host"));
    }
    // The rest of a password, which would be shown as the host's name from here on.
    let is_password = |host: &Host| matches!(host, Host::Tcp(name) if name.contains('@'));
    if config.get_hosts().iter().any(is_password) {
        return Err(invalid(
            "the name of its host holds an `@`: in a password write `@` as %40",
        ));
    }
    config.ssl_mode(match tls {
        TlsMode::Disable => SslMode::Disable,
        TlsMode::Prefer => SslMode::Prefer,
        TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
    });
    if config.get_application_name().is_none() {
        config.application_name("abide");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(USER_TIMEOUT);
    }
    if config.get_keepalives_idle() == Config::new().get_keepalives_idle() {
        config.keepalives_idle(KEEPALIVE_IDLE);
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval(KEEPALIVE_INTERVAL);
    }
    if config.get_keepalives_retries().is_none() {
        config.keepalives_retries(KEEPALIVE_RETRIES);
    }
    let hosts = config.get_hosts().len().max(config.get_hostaddrs().len());
    if hosts > 1 {
        // Of several servers the one that takes writes is meant, whichever it is by now.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    Ok(config)
}

/// tokio-postgres names parameters in its errors, never their values.
fn in_words(error: &tokio_postgres::Error) -> String {
    use std::error::Error as _;
    error
        .source()
        .map_or_else(|| error.to_string(), ToString::to_string)
}

fn invalid(problem: &str) -> StoreError {
    StoreError::Invalid(format!("the database's address does not do: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Address {
        Address::parse(url).expect(url)
    }

    fn refused(url: &str) -> String {
        let error = Address::parse(url).expect_err(url).to_string();
        assert!(!error.contains("secret"), "{error}");
        error
    }

    #[test]
    fn an_address_has_defaults() {
        let address = parse("postgres://app@db.example/prod");
        assert_eq!(address.schema.as_str(), "abide");
        assert_eq!(address.tls, TlsMode::Prefer);
        assert_eq!(address.config.get_application_name(), Some("abide"));
        assert!(!address.allow_unsafe);
        assert_eq!(address.to_string(), "db.example:5432/prod (schema abide)");
        assert_eq!(
            address.config.get_target_session_attrs(),
            TargetSessionAttrs::Any
        );
    }

    #[test]
    fn parameters_of_both_kinds_are_taken() {
        let address = parse(
            "postgresql://app:pa%40ss@[::1]:6000,b:6001/prod?schema=te%22n%40ant&sslmode=disable&application_name=x%40y\
             &statement_timeout=500&unsafe_durability=allow&connect_timeout=3&keepalives_idle=60&tcp_user_timeout=9",
        );
        assert_eq!(address.schema.as_str(), "te\"n@ant");
        assert_eq!(address.tls, TlsMode::Disable);
        assert_eq!(address.config.get_application_name(), Some("x@y"));
        assert_eq!(address.config.get_password(), Some(&b"pa@ss"[..]));
        assert_eq!(address.statement_timeout, Duration::from_millis(500));
        assert!(address.allow_unsafe);
        assert_eq!(
            address.config.get_connect_timeout(),
            Some(&Duration::from_secs(3))
        );
        assert_eq!(
            address.config.get_keepalives_idle(),
            Duration::from_secs(60)
        );
        assert_eq!(
            address.config.get_target_session_attrs(),
            TargetSessionAttrs::ReadWrite
        );
        assert_eq!(address.database(), "::1,b:6000,6001/prod");
    }

    #[test]
    fn an_address_without_a_user_may_have_an_at_sign_in_a_parameter() {
        let address = parse("postgres:///prod?host=/tmp&schema=a@b");
        assert_eq!(address.schema.as_str(), "a@b");
        assert_eq!(address.config.get_user(), None);
    }

    #[test]
    fn a_password_may_have_a_question_mark() {
        let address = parse("postgres://app:is?it=x@db/prod?schema=s");
        assert_eq!(address.config.get_password(), Some(&b"is?it=x"[..]));
        assert_eq!(address.schema.as_str(), "s");
    }

    #[test]
    fn a_named_authority_is_checked() {
        for (url, mode) in [
            ("postgres://db/a?sslrootcert=/ca.pem", TlsMode::VerifyFull),
            (
                "postgres://db/a?sslrootcert=/ca.pem&sslmode=require",
                TlsMode::VerifyCa,
            ),
            (
                "postgres://db/a?sslrootcert=system&sslmode=verify-full",
                TlsMode::VerifyFull,
            ),
        ] {
            assert_eq!(parse(url).tls, mode, "{url}");
        }
    }

    #[test]
    fn mistakes_are_named_with_what_was_meant() {
        for (url, words) in [
            (
                "postgres://db/a?shema=x",
                "no parameter `shema`; did you mean `schema`?",
            ),
            (
                "postgres://db/a?ssl_mode=require",
                "did you mean `sslmode`?",
            ),
            (
                "postgres://db/a?sslmode=allow",
                "one of disable, prefer, require, verify-ca, verify-full, not `allow`",
            ),
            (
                "postgres://db/a?unsafe_durability=yes",
                "one of allow, refuse",
            ),
            ("postgres://db/a?statement_timeout=5s", "milliseconds"),
            ("postgres://db:port/a", "`port`"),
            ("postgres:///a", "names no host"),
            ("postgres://db/a?schema=", "is empty"),
            ("postgres://u:secret@db/a?shema=x", "`shema`"),
            ("postgres://u:x/y@db?secret@z/a?schema=b", "%3F"),
            ("postgres://u:se@secret@db/a", "%40"),
            ("postgres://u:x@db/a password=secret", "%20"),
            ("postgres://u:secret/a", "`port`"),
        ] {
            let error = refused(url);
            assert!(error.contains(words), "{url}: {error}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let address = parse("postgres://u:secret@db/a?password=secret");
        assert!(!format!("{address:?} {address}").contains("secret"));
    }

    #[test]
    fn an_unproved_connection_over_a_network_is_warned_of() {
        for (url, exposed) in [
            ("postgres://db/a", true),
            ("postgres://db/a?sslmode=require", true),
            ("postgres://db/a?sslmode=verify-full", false),
            ("postgres://localhost/a", false),
            ("postgres://127.0.0.1,[::1]/a", false),
            ("postgres://localhost,db/a", true),
            ("postgres://db/a?hostaddr=10.0.0.1", true),
            ("postgres:///a?host=/var/run/postgresql", false),
        ] {
            assert_eq!(parse(url).is_exposed(), exposed, "{url}");
        }
    }
}
