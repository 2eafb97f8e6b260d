//! Stores that can't be opened, read or written: each says in words what is wrong, nothing is written, and what
//! heals is as good as new.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use abide_store::{ApplyError, Store, StoreError, StoreOptions, VerifyOptions, verify_file};
use tempfile::TempDir;

use crate::home::{Home, completed, finish, held, single};

fn options() -> StoreOptions {
    StoreOptions {
        busy_timeout: Duration::from_millis(20),
        ..StoreOptions::default()
    }
}

/// Opens what can't be opened, and says what was said; the file is left as it was.
async fn refused(path: &Path) -> (StoreError, String) {
    let before = fs::read(path).ok();
    let url = path.to_str().expect("utf-8");
    let error = Store::open(url, options()).await.expect_err("not a store");
    assert_eq!(fs::read(path).ok(), before, "nothing was written");
    let words = error.to_string();
    assert!(words.contains(url), "it names the file: {words}");
    assert!(error.is_definite(), "{words}");
    (error, words)
}

struct Files {
    directory: TempDir,
}

impl Files {
    fn new() -> Files {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Files { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A sound, empty store, closed.
    async fn store(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        let store = Store::open(path.to_str().expect("utf-8"), options()).await;
        store.expect("opens").close().await;
        path
    }
}

// ---- what is no store ----

#[tokio::test]
async fn a_path_that_leads_nowhere_is_told_by_what_is_in_its_way() {
    let files = Files::new();
    fs::write(files.path("file"), "text").expect("written");
    for (path, words) in [
        (files.path("."), "it is a directory; name a file in it"),
        (files.path("missing/app.db"), "No such file or directory"),
        (files.path("file/app.db"), "is not a directory"),
    ] {
        let (error, said) = refused(&path).await;
        assert!(matches!(error, StoreError::CannotOpen { .. }), "{error:?}");
        assert!(said.contains(words), "{said}");
    }
    let options = StoreOptions {
        create: false,
        ..options()
    };
    let path = files.path("missing.db");
    let error = Store::open(path.to_str().expect("utf-8"), options).await;
    let said = error.expect_err("nothing is created").to_string();
    assert!(said.contains("no such file"), "{said}");
    assert!(!path.exists());
}

#[tokio::test]
async fn an_address_that_names_no_file_is_refused() {
    for (url, words) in [
        ("", "names no file"),
        ("sqlite:", "names no file"),
        (":memory:", "names no file"),
        ("sqlite::memory:", "names no file"),
        ("a\0b.db", "names no file"),
        ("postgres:app", "`postgres:` is no kind of store"),
        ("mysql://localhost/app", "`mysql:` is no kind of store"),
    ] {
        let error = Store::open(url, options()).await.expect_err(url);
        assert!(matches!(error, StoreError::Invalid(_)), "{error:?}");
        assert!(error.to_string().contains(words), "{url}: {error}");
    }
}

#[tokio::test]
async fn what_is_no_database_of_ours_is_left_alone() {
    let files = Files::new();
    let text = files.path("text.db");
    fs::write(&text, "Dear Sir or Madam, ".repeat(100)).expect("written");
    let short = files.path("short.db");
    fs::write(&short, "hello").expect("written");
    let other = files.path("other.db");
    let sqlite = rusqlite::Connection::open(&other).expect("opens");
    sqlite
        .execute_batch("CREATE TABLE customers (name TEXT); PRAGMA user_version = 1")
        .expect("sound");
    drop(sqlite);
    for path in [text, short, other] {
        let (error, said) = refused(&path).await;
        assert!(matches!(error, StoreError::NotADatabase(_)), "{error:?}");
        assert!(
            said.contains("is not an Abide database; name another file"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn an_empty_file_is_a_store_to_be() {
    let files = Files::new();
    let path = files.path("empty.db");
    fs::write(&path, "").expect("written");
    let store = Store::open(path.to_str().expect("utf-8"), options()).await;
    assert_eq!(
        store.expect("opens").last_position().await.expect("reads"),
        0
    );
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_not_touched() {
    let files = Files::new();
    let path = files.store("new.db").await;
    let sqlite = rusqlite::Connection::open(&path).expect("opens");
    let known: i64 = sqlite
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .expect("a number");
    sqlite
        .pragma_update(None, "user_version", known + 1)
        .expect("set");
    drop(sqlite);
    let (error, said) = refused(&path).await;
    assert!(matches!(error, StoreError::TooNew { .. }), "{error:?}");
    assert!(
        said.contains(
            "written by a newer version; nothing was written; stop this program and upgrade it"
        ),
        "{said}"
    );
}

#[tokio::test]
async fn a_store_of_a_build_that_was_never_published_is_told_so_and_not_touched() {
    let files = Files::new();
    // What told builds apart is younger than some of them; others had another text.
    for (name, earlier) in [
        ("first.db", "DROP VIEW abide_schema"),
        (
            "second.db",
            "ALTER TABLE workers DROP COLUMN queues; DROP VIEW abide_schema; \
             CREATE VIEW abide_schema AS SELECT '0123456789abcdef' AS fingerprint",
        ),
    ] {
        let path = files.store(name).await;
        let sqlite = rusqlite::Connection::open(&path).expect("opens");
        sqlite.execute_batch(earlier).expect("sound");
        drop(sqlite);
        let (error, said) = refused(&path).await;
        assert!(matches!(error, StoreError::Unpublished { .. }), "{error:?}");
        assert!(
            said.contains("another build of Abide that was never published")
                && said.contains("set it aside"),
            "{said}"
        );
        assert!(!error.is_transient(), "{said}");
        let url = path.to_str().expect("utf-8");
        let verified = verify_file(url, &VerifyOptions::default()).expect_err("not this version's");
        assert!(
            matches!(verified, StoreError::Unpublished { .. }),
            "{verified:?}"
        );
    }
}

// ---- damage ----

/// Overwrites the middle of every page after the first.
fn damage(path: &Path) {
    const PAGE: u64 = 4096;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .open(path)
        .expect("opens");
    let pages = file.metadata().expect("a file").len() / PAGE;
    for page in 1..pages {
        file.seek(SeekFrom::Start(page * PAGE)).expect("within");
        file.write_all(&[0x5a; 512]).expect("written");
    }
}

#[tokio::test]
async fn a_damaged_store_says_so_and_answers_nothing_wrong() {
    let home = Home::new().await;
    let id = home.start(&single()).await;
    let request = home.request(&single()).await;
    home.store.close().await;
    damage(&home.database.path());
    let path = home.database.path();
    // What is damaged may be found at once, or by the first who reads or writes there.
    let error = match Store::open(path.to_str().expect("utf-8"), options()).await {
        Err(error) => error,
        Ok(store) => {
            let read = store.execution(id).await.expect_err("damaged");
            assert!(matches!(read, StoreError::Corrupt { .. }), "{read:?}");
            match store.start(request).await {
                Err(ApplyError::Store(error)) => error,
                other => panic!("{other:?}"),
            }
        }
    };
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    let said = error.to_string();
    assert!(said.contains("is damaged"), "{said}");
    assert!(said.contains("restore it from a backup"), "{said}");
}

#[tokio::test]
async fn a_store_that_was_cut_short_says_so() {
    let files = Files::new();
    let path = files.store("cut.db").await;
    let length = fs::metadata(&path).expect("a file").len();
    let file = fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .expect("opens");
    file.set_len(length / 2 / 4096 * 4096).expect("cut");
    let url = path.to_str().expect("utf-8");
    let error = match Store::open(url, options()).await {
        Err(error) => error,
        Ok(store) => store
            .versions()
            .await
            .map(drop)
            .and(store.workers().await.map(drop))
            .expect_err("damaged"),
    };
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
}

// ---- what passes ----

#[tokio::test]
async fn a_store_locked_by_another_process_is_busy_until_it_is_not() {
    let home = Home::with(options()).await;
    home.start(&single()).await;
    let held = held(&home.claim().await);
    let sqlite = home.database.sqlite();
    sqlite.execute_batch("BEGIN IMMEDIATE").expect("locked");
    let before = home.dump().await;
    let answer = home.store.apply(finish(held, completed())).await;
    match answer {
        Err(ApplyError::Store(error @ StoreError::Busy(_))) => {
            assert!(error.is_definite() && error.is_transient());
            let said = error.to_string();
            assert!(
                said.contains("locked by another process or too busy; nothing was written"),
                "{said}"
            );
        }
        other => panic!("not busy: {other:?}"),
    }
    assert_eq!(home.dump().await, before);
    sqlite.execute_batch("ROLLBACK").expect("unlocked");
    assert!(home.finish(held, completed()).await.recorded);
}

#[tokio::test]
async fn a_store_that_another_process_keeps_to_itself_is_busy() {
    let files = Files::new();
    let path = files.store("kept.db").await;
    let sqlite = rusqlite::Connection::open(&path).expect("opens");
    sqlite
        .execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT")
        .expect("locked");
    let url = path.to_str().expect("utf-8");
    let error = Store::open(url, options()).await.expect_err("busy");
    assert!(matches!(error, StoreError::Busy(_)), "{error:?}");
    drop(sqlite);
    Store::open(url, options()).await.expect("opens again");
}

// ---- permissions ----

const ROLE: &str = "ABIDE_OPENS";
/// Nobody: a user that owns nothing.
const NOBODY: u32 = 65534;

/// Not a test by itself: a process that opens a store and says what comes of it.
#[tokio::test]
async fn opens() {
    let Ok(path) = std::env::var(ROLE) else {
        return;
    };
    match Store::open(&path, options()).await {
        Ok(store) => {
            let id = abide_core::ids::WorkerId(1);
            let written = store.end_worker(id).await;
            store.close().await;
            let said = written
                .as_ref()
                .map_or_else(ToString::to_string, |()| String::new());
            println!("SAID opened, {written:?}\nSAID {said}");
        }
        Err(error) => println!("SAID {error:?}\nSAID {error}"),
    }
}

/// What a process without rights says when it opens a store.
fn opened_by_nobody(files: &Files, path: &Path) -> String {
    // Root may do everything; and the test's own directories may be closed to others.
    let is_root =
        fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    let mut binary = std::env::current_exe().expect("this binary has a path");
    if is_root {
        let copy = files.path("opens");
        if !copy.exists() {
            fs::copy(&binary, &copy).expect("copied");
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("set");
        }
        binary = copy;
    }
    let mut process = Command::new(binary);
    process
        .args(["--exact", "bad_stores::opens", "--nocapture"])
        .env(ROLE, path)
        .current_dir("/");
    if is_root {
        process.uid(NOBODY).gid(NOBODY);
    }
    let output = process.output().expect("it can be started");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = said
        .lines()
        .filter_map(|line| line.split_once("SAID ").map(|(_, said)| said.to_owned()));
    lines.collect::<Vec<_>>().join("\n")
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
}

#[tokio::test]
async fn a_store_without_permission_says_what_to_look_at() {
    let files = Files::new();
    set_mode(files.directory.path(), 0o755);
    let room = files.path("room");
    fs::create_dir(&room).expect("made");
    let path = files.store("room/app.db").await;

    // Everything is allowed: it opens, which shows that the rest is about permissions.
    set_mode(&room, 0o777);
    set_mode(&path, 0o666);
    for beside in ["-turn", "-write", "-wal", "-shm"] {
        let mut name = path.clone().into_os_string();
        name.push(beside);
        drop(fs::remove_file(name));
    }
    let said = opened_by_nobody(&files, &path);
    assert!(said.starts_with("opened, Ok"), "{said}");

    // The file can be read only: whoever only looks may look.
    set_mode(&path, 0o444);
    let said = opened_by_nobody(&files, &path);
    assert!(said.starts_with("opened, Err(ReadOnly"), "{said}");
    assert!(
        said.contains(
            "is read-only; nothing was written; make the file and its directory writable"
        ),
        "{said}"
    );

    // The file can't even be read.
    set_mode(&path, 0o000);
    let said = opened_by_nobody(&files, &path);
    assert!(said.starts_with("CannotOpen"), "{said}");
    assert!(
        said.contains("check the permissions of the file and its directory"),
        "{said}"
    );

    // No log can be written beside it.
    set_mode(&path, 0o666);
    set_mode(&room, 0o555);
    let said = opened_by_nobody(&files, &path);
    assert!(
        said.contains("permissions") || said.contains("writable"),
        "{said}"
    );

    // No file can be made in the directory.
    let said = opened_by_nobody(&files, &room.join("new.db"));
    assert!(said.starts_with("CannotOpen"), "{said}");
    assert!(
        said.contains("check the permissions of the file and its directory"),
        "{said}"
    );

    // The directory is closed.
    set_mode(&room, 0o000);
    let said = opened_by_nobody(&files, &path);
    assert!(said.starts_with("CannotOpen"), "{said}");
    assert!(said.to_lowercase().contains("permission"), "{said}");

    // It is as good as before once it is allowed again, the files beside it included.
    set_mode(&room, 0o777);
    for entry in fs::read_dir(&room).expect("reads") {
        set_mode(&entry.expect("an entry").path(), 0o666);
    }
    let said = opened_by_nobody(&files, &path);
    assert!(said.starts_with("opened, Ok"), "{said}");
}
