//! Opening connections: every one with the same pragmas, read back, because a misspelt or refused
//! pragma is silent. Errors of SQLite become the store's.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::DEFAULT_FILE_MODE;
use crate::error::StoreError;
use crate::migrations::Migrations;

use super::identity::Identity;
use super::permissions::make_private;
use super::schema;

/// A log that was longer is cut to so many bytes when it begins again: to about as many as the writer lets
/// it have between two checkpoints.
const LOG_LIMIT_BYTES: &str = "16777216";

/// A database file and how it is opened.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    named: Arc<PathBuf>,
    pub(crate) path: Arc<PathBuf>,
    pub(crate) busy_timeout: Duration,
    /// The permissions of a file that is created.
    mode: u32,
    /// Which files it is, once it is open.
    identity: Option<Arc<Identity>>,
    /// The versions of its schema that are known here.
    pub(crate) migrations: &'static Migrations,
}

/// Statements kept prepared on each connection.
const STATEMENT_CACHE: usize = 128;

/// The longest that SQLite can be told to wait: 24 days.
const LONGEST_BUSY: Duration = Duration::from_millis(i32::MAX as u64);

/// Between two tries at what SQLite does not wait for, or not well.
const BUSY_PAUSE: Duration = Duration::from_micros(100);

/// Closing a connection leaves the log as it is.
const KEEP_LOG: DbConfig = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;

/// Held by a thread that creates a file.
static CREATING: Mutex<()> = Mutex::new(());

impl Database {
    pub(crate) fn new(path: PathBuf, busy_timeout: Duration) -> Database {
        let path = Arc::new(path);
        Database {
            named: Arc::clone(&path),
            path,
            busy_timeout: busy_timeout.min(LONGEST_BUSY),
            mode: DEFAULT_FILE_MODE,
            identity: None,
            migrations: &schema::MIGRATIONS,
        }
    }

    /// The same, of whose schema these versions are known.
    pub(crate) fn with_migrations(self, migrations: &'static Migrations) -> Database {
        Database { migrations, ..self }
    }

    /// The same, which is created with these permissions. SQLite gives those to the log as well, and
    /// the store to its own files.
    pub(crate) fn with_mode(self, mode: u32) -> Database {
        Database { mode, ..self }
    }

    /// The same, once the file exists, by the file's own path: the lock beside it must be one for
    /// all who name the file differently, and connections that are opened later must be of this
    /// file, wherever the process has moved to by then.
    pub(crate) fn resolved(self) -> Result<Database, StoreError> {
        let path = std::fs::canonicalize(&*self.path).map_err(|error| StoreError::CannotOpen {
            path: self.name(),
            detail: error.to_string(),
        })?;
        Ok(Database {
            path: Arc::new(path),
            ..self
        })
    }

    /// The same, once a connection has read it, as the files that its names mean now.
    pub(crate) fn identified(self) -> Result<Database, StoreError> {
        let identity = Identity::of(&self)?;
        Ok(Database {
            identity: Some(Arc::new(identity)),
            ..self
        })
    }

    /// Refuses to go on once the database's names lead to other files than those that were opened, or
    /// to none. `unknown` tells that something was committed before, to whatever file that was.
    pub(crate) fn require_same_file(&self, unknown: bool) -> Result<(), StoreError> {
        match self.gone() {
            None => Ok(()),
            Some(detail) => Err(StoreError::FileGone {
                path: self.name(),
                detail: detail.to_owned(),
                unknown,
            }),
        }
    }

    /// What became of the files that were opened, if their names no longer lead to them.
    pub(crate) fn gone(&self) -> Option<&str> {
        self.identity.as_deref().and_then(Identity::gone)
    }

    /// The same, which messages call `name`.
    #[cfg(feature = "postgres")]
    pub(crate) fn called(self, name: &str) -> Database {
        Database {
            named: Arc::new(PathBuf::from(name)),
            ..self
        }
    }

    /// As its user named it.
    pub(crate) fn name(&self) -> String {
        self.named.display().to_string()
    }

    /// A file beside the database, such as `app.db-turn`.
    pub(crate) fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    }

    /// Opens a connection that writes.
    pub(crate) fn open_writer(&self, create: bool) -> Result<Connection, StoreError> {
        if !create && !self.path.exists() {
            return Err(StoreError::CannotOpen {
                path: self.name(),
                detail: "no such file".into(),
            });
        }
        self.explain_path()?;
        if create {
            self.create()?;
        }
        let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        flags.set(OpenFlags::SQLITE_OPEN_CREATE, create);
        let connection = Connection::open_with_flags(&*self.path, flags)
            .map_err(|error| self.open_error(error))?;
        self.set_up(&connection)?;
        // Before anything is changed: it may be another program's, and keep its journal mode.
        if schema::check(self, &connection)? == 0 && !create {
            return Err(StoreError::NotADatabase(self.name()));
        }
        self.log_ahead(&connection)?;
        self.expect(&connection, "synchronous", "2", false)?;
        // Pages go back into the main file apart from commits, see `Writer`.
        self.expect(&connection, "wal_autocheckpoint", "0", false)?;
        // A log that grew longer, under somebody who read for long, is cut when it begins again.
        self.expect(&connection, "journal_size_limit", LOG_LIMIT_BYTES, false)?;
        // In memory. A statement that inserts several rows copies each page that it changes first, and SQLite puts
        // more than 64 KB of copies into a temporary file: as many writes as the log itself takes.
        self.expect(&connection, "temp_store", "2", false)?;
        Ok(connection)
    }

    /// Creates the file, if there is none, with the permissions it is to have: SQLite would let others
    /// open it for a moment.
    fn create(&self) -> Result<(), StoreError> {
        // To close a file frees the locks that this process holds on it: no other thread may open it
        // before this one is closed.
        let alone = CREATING.lock().unwrap_or_else(PoisonError::into_inner);
        // A link to no file: SQLite would make the file that the link names.
        let linked = std::fs::read_link(&*self.path).ok();
        let linked = linked.and_then(|target| Some(self.path.parent()?.join(target)));
        let path = linked.as_deref().unwrap_or(&self.path);
        let made = make_private(path);
        let created = made.is_ok();
        drop(made);
        if created && let Err(error) = set_mode(path, self.mode) {
            return Err(StoreError::CannotOpen {
                path: self.name(),
                detail: format!("its permissions cannot be set: {error}"),
            });
        }
        drop(alone);
        // Whatever else is wrong, SQLite finds as well.
        Ok(())
    }

    /// Turns the log on. SQLite refuses that at once when several do so at the same time, rather
    /// than let one wait for the other.
    fn log_ahead(&self, connection: &Connection) -> Result<(), StoreError> {
        self.while_busy(|| self.expect(connection, "journal_mode", "wal", true))
    }

    /// Begins a transaction that writes. SQLite itself would soon ask for the lock ten times a second
    /// only, and a program that writes one transaction after another frees it for moments.
    pub(crate) fn begin(&self, connection: &Connection) -> Result<(), StoreError> {
        self.while_busy(|| self.try_begin(connection))
    }

    /// The same, or an error at once if another connection writes.
    pub(crate) fn try_begin(&self, connection: &Connection) -> Result<(), StoreError> {
        let fail = |error| self.error(error, false);
        connection.busy_timeout(Duration::ZERO).map_err(fail)?;
        let begun = connection.execute_batch("BEGIN IMMEDIATE").map_err(fail);
        connection.busy_timeout(self.busy_timeout).map_err(fail)?;
        begun
    }

    /// That the schema is still of the version with which the database was opened: a newer program may have brought
    /// it to another since. Asked while the write lock is held, which no migration goes on without. It reads a
    /// number in the file's header.
    pub(crate) fn require_version(&self, connection: &Connection) -> Result<(), StoreError> {
        let read = || {
            let mut statement = connection.prepare_cached("PRAGMA main.user_version")?;
            statement.query_row([], |row| row.get(0))
        };
        let found = read().map_err(|error| self.error(error, false))?;
        self.migrations.require(|| self.name(), found)
    }

    /// Tries again until somebody else's lock is free, or the busy timeout is over.
    fn while_busy(
        &self,
        mut attempt: impl FnMut() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let begun = Instant::now();
        loop {
            match attempt() {
                Err(StoreError::Busy(_)) if begun.elapsed() < self.busy_timeout => {
                    std::thread::sleep(BUSY_PAUSE);
                }
                done => return done,
            }
        }
    }

    /// Opens a connection that reads.
    pub(crate) fn open_reader(&self) -> Result<Connection, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&*self.path, flags)
            .map_err(|error| self.open_error(error))?;
        self.set_up(&connection)?;
        self.expect(&connection, "query_only", "1", false)?;
        self.require_same_file(false)?;
        Ok(connection)
    }

    /// No connection writes the log back and deletes it when it is closed, unless it is told to: by
    /// then the database's name may lead to another file, whose log that would be.
    fn set_up(&self, connection: &Connection) -> Result<(), StoreError> {
        connection
            .set_db_config(KEEP_LOG, true)
            .map_err(|error| self.open_error(error))?;
        connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
        connection
            .busy_timeout(self.busy_timeout)
            .map_err(|error| self.open_error(error))
    }

    /// Closes the last connection of a store. If no other process has the file open, SQLite writes
    /// the log back and deletes it: then the one file is the whole database.
    pub(crate) fn close(&self, connection: Connection) {
        if self.gone().is_none()
            && let Err(error) = connection.set_db_config(KEEP_LOG, false)
        {
            tracing::warn!(%error, "the log stays beside the database");
        }
        drop(connection);
    }

    /// Sets a pragma and reads it back.
    fn expect(
        &self,
        connection: &Connection,
        pragma: &str,
        value: &str,
        text: bool,
    ) -> Result<(), StoreError> {
        let fail = |error: rusqlite::Error| match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => StoreError::NotADatabase(self.name()),
            _ => self.error(error, false),
        };
        let sql = format!("PRAGMA {pragma} = {value}");
        let mut statement = connection.prepare(&sql).map_err(fail)?;
        let mut rows = statement.query([]).map_err(fail)?;
        while rows.next().map_err(fail)?.is_some() {}
        drop(rows);
        let found = connection
            .query_row(&format!("PRAGMA {pragma}"), [], |row| match text {
                true => row.get::<_, String>(0),
                false => row.get::<_, i64>(0).map(|number| number.to_string()),
            })
            .map_err(fail)?;
        match found == value {
            true => Ok(()),
            false => Err(StoreError::CannotOpen {
                path: self.name(),
                detail: format!("{pragma} is {found} and cannot be set to {value}"),
            }),
        }
    }

    /// Says in words what SQLite would call "unable to open database file".
    fn explain_path(&self) -> Result<(), StoreError> {
        let refuse = |detail: String| {
            Err(StoreError::CannotOpen {
                path: self.name(),
                detail,
            })
        };
        let directory = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        if self.path.is_dir() {
            return refuse("it is a directory; name a file in it".into());
        }
        match directory.metadata() {
            Err(error) => refuse(format!("its directory {}: {error}", directory.display())),
            Ok(metadata) if !metadata.is_dir() => {
                refuse(format!("{} is not a directory", directory.display()))
            }
            Ok(_) => Ok(()),
        }
    }

    fn open_error(&self, error: rusqlite::Error) -> StoreError {
        match error.sqlite_error_code() {
            Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => StoreError::CannotOpen {
                path: self.name(),
                detail: format!("{error}; check the permissions of the file and its directory"),
            },
            Some(ErrorCode::NotADatabase) => StoreError::NotADatabase(self.name()),
            _ => self.error(error, false),
        }
    }

    /// The store's error for one met while writing a flush. Ids are made without coordination, so
    /// a taken one is expected now and then.
    pub(crate) fn write_error(&self, error: rusqlite::Error) -> StoreError {
        let id_taken = matches!(
            &error,
            rusqlite::Error::SqliteFailure(failure, Some(text))
                if failure.code == ErrorCode::ConstraintViolation && text.contains("executions.id")
        );
        if id_taken {
            StoreError::IdTaken
        } else {
            self.error(error, false)
        }
    }

    /// The store's error for one of SQLite's. `committing` tells that it came from the commit.
    pub(crate) fn error(&self, error: rusqlite::Error, committing: bool) -> StoreError {
        let path = self.name();
        let detail = error.to_string();
        let extended = error.sqlite_error().map(|failure| failure.extended_code);
        if extended == Some(rusqlite::ffi::SQLITE_BUSY_SNAPSHOT) {
            let what = format!(
                "another connection has written to the database {path} since this transaction began to read \
                 (one that begins with BEGIN IMMEDIATE is not met with that)"
            );
            return StoreError::Conflict(what);
        }
        match error.sqlite_error_code() {
            // The last one: too many others came first while it opened the log.
            Some(
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::FileLockingProtocolFailed,
            ) => StoreError::Busy(path),
            Some(ErrorCode::DiskFull) => StoreError::Full(path),
            Some(ErrorCode::ReadOnly) => StoreError::ReadOnly(path),
            Some(ErrorCode::DatabaseCorrupt) => StoreError::Corrupt { path, detail },
            Some(ErrorCode::NotADatabase) => StoreError::NotADatabase(path),
            Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                StoreError::CannotOpen { path, detail }
            }
            Some(ErrorCode::SystemIoFailure) => StoreError::Io {
                path,
                detail: io_detail(&error).unwrap_or(detail),
                unknown: committing,
            },
            // Memory, a cancelled statement, whatever is new: nothing of it is about what was asked.
            Some(
                ErrorCode::Unknown
                | ErrorCode::OutOfMemory
                | ErrorCode::OperationAborted
                | ErrorCode::OperationInterrupted
                | ErrorCode::InternalMalfunction
                | ErrorCode::SchemaChanged,
            ) => StoreError::Unexpected {
                database: path,
                detail,
            },
            _ => StoreError::Internal(detail),
        }
    }
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn set_mode(_: &Path, _: u32) -> std::io::Result<()> {
    Ok(())
}

/// What exactly failed: SQLite's own message is the same for all of it.
fn io_detail(error: &rusqlite::Error) -> Option<String> {
    use rusqlite::ffi;
    let code = error.sqlite_error()?.extended_code;
    Some(match code {
        ffi::SQLITE_IOERR_READ | ffi::SQLITE_IOERR_SHORT_READ => "a read failed".to_owned(),
        ffi::SQLITE_IOERR_WRITE => "a write failed".to_owned(),
        ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC => "a sync failed".to_owned(),
        ffi::SQLITE_IOERR_TRUNCATE => "a file could not be given its size".to_owned(),
        // Here SQLite does not say that it is full.
        ffi::SQLITE_IOERR_SHMOPEN | ffi::SQLITE_IOERR_SHMSIZE => {
            "no room could be made for the index of its log; is the disk full?".to_owned()
        }
        code => format!("SQLite's error {code}"),
    })
}
