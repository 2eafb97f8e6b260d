//! Where the killed processes' stores are: each in a SQLite file of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use abide_store::{VerifyOptions, VerifyReport, verify_file};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::child::Home;
use crate::record::Stage;

/// What the calls that a process is killed at write to: the database's files.
pub(crate) fn written(home: &Home) -> PathBuf {
    home.database()
}

/// The first role is killed at every call up to here.
pub(crate) const EVERY_UP_TO: u64 = 100;
/// How many kill points there are beyond, unless `ABIDE_KILL_POINTS=all`.
pub(crate) const BEYOND: u64 = 60;
/// And every one of the last, when all has ended and the store is closed.
pub(crate) const LAST: u64 = 20;
/// What so few points may miss: nothing.
pub(crate) const BRIEF: &[Stage] = &[];
/// Processes at a time: they wait more than they work.
pub(crate) const AT_ONCE: usize = 4;
/// Kills of a storm, unless `ABIDE_STORM_KILLS` says otherwise, and after how many the store is looked at.
pub(crate) const KILLS: u32 = 200;
pub(crate) const BETWEEN_LOOKS: u32 = 1;
/// How long the processes of a storm wait for a store that is busy: so shortly that they meet that.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_millis(50);

/// A place for a store, gone with the test.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Place {
        Place(tempfile::tempdir().expect("a temporary directory"))
    }

    pub(crate) fn home(&self) -> Home {
        Home::at(self.0.path())
    }

    /// Lets those who died be noticed, which their locks do.
    pub(crate) fn bury(&self) {}
}

impl Home {
    pub(crate) fn at(path: &Path) -> Home {
        let url = format!("sqlite:{}", path.join("app.db").display());
        Home::new(path, url)
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.file("app.db")
    }
}

/// The roles that only processes on a file play.
pub(crate) async fn run(role: &str, home: &Home) {
    match role {
        "herd" => crate::herd::run(home).await,
        "several" => crate::several::run(home).await,
        "busy" => crate::several::keep_writing(home).await,
        "writes" => crate::trouble::write(home).await,
        other => panic!("no role is called {other}"),
    }
}

/// A look at a store: at a copy of its files, so that the next process finds them as they were.
pub(crate) struct Look {
    copy: TempDir,
    sqlite: Connection,
}

impl Look {
    /// None before the first commit.
    pub(crate) fn at(home: &Home) -> Option<Look> {
        let copy = tempfile::tempdir().expect("a temporary directory");
        for suffix in ["", "-wal"] {
            let from = home.file(&format!("app.db{suffix}"));
            if from.exists() {
                fs::copy(from, copy.path().join(format!("app.db{suffix}"))).expect("copied");
            }
        }
        let path = copy.path().join("app.db");
        if !path.exists() {
            return None;
        }
        let sqlite = Connection::open(&path).expect("opens");
        let look = Look { copy, sqlite };
        let tables = look.count("SELECT count(*) FROM sqlite_schema WHERE type = 'table'");
        (tables > 0).then_some(look)
    }

    pub(crate) fn verify(&self) -> VerifyReport {
        let path = self.copy.path().join("app.db");
        let url = path.to_str().expect("utf-8");
        verify_file(url, &VerifyOptions::default()).expect("reads")
    }

    pub(crate) fn count(&self, sql: &str) -> usize {
        let number: i64 = self
            .sqlite
            .query_row(sql, [], |row| row.get(0))
            .expect("a number");
        usize::try_from(number).expect("a count")
    }

    /// Texts with a number each.
    pub(crate) fn counts(&self, sql: &str) -> Vec<(String, i64)> {
        let mut statement = self.sqlite.prepare(sql).expect("sound");
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        let rows = rows.expect("reads").collect::<Result<_, _>>();
        rows.expect("texts and numbers")
    }
}
