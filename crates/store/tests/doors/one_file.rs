//! A store is one file: it has one name, is nobody else's to open, stays where it is while it is in use,
//! and has everything in it once nobody uses it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use abide_core::ids::WorkerId;
use abide_core::payload::Payload;
use abide_store::{ApplyError, NewWorker, Store, StoreError, StoreOptions};

use crate::home::{Home, single};

async fn open(path: &Path, options: StoreOptions) -> Result<Store, StoreError> {
    Store::open(path.to_str().expect("utf-8"), options).await
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

// ---- one name ----

#[tokio::test]
async fn a_file_with_two_names_is_refused_by_either() {
    let home = Home::new().await;
    home.store.close().await;
    let path = home.database.path();
    let second = path.with_file_name("second.db");
    fs::hard_link(&path, &second).expect("linked");
    for name in [&path, &second] {
        let before = fs::read(name).expect("reads");
        let error = open(name, StoreOptions::default()).await;
        let said = error.expect_err("two names").to_string();
        let says = |words: &str| assert!(said.contains(words), "{words}: {said}");
        says(name.to_str().expect("utf-8"));
        says("2 names (hard links)");
        says("find -samefile");
        assert_eq!(
            fs::read(name).expect("reads"),
            before,
            "nothing was written"
        );
    }
    fs::remove_file(&second).expect("removed");
    open(&path, StoreOptions::default())
        .await
        .expect("one name");
}

/// In the process that sees the mount: the file that is mounted.
const MOUNTED: &str = "ABIDE_TEST_MOUNTED";

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_file_that_is_mounted_alone_is_refused() {
    if let Some(mounted) = std::env::var_os(MOUNTED) {
        let error = open(Path::new(&mounted), StoreOptions::default()).await;
        let said = error.expect_err("its log would be elsewhere").to_string();
        assert!(said.contains("mounted alone (a bind mount)"), "{said}");
        return;
    }
    // Mounts are made in a namespace of their own, which ends with its process.
    let alone = ["--map-root-user", "--mount"];
    let allowed = Command::new("unshare").args(alone).arg("true").output();
    if !allowed.is_ok_and(|tried| tried.status.success()) {
        eprintln!("skipped: this system lets nobody make a mount");
        return;
    }
    let home = Home::new().await;
    home.store.close().await;
    let path = home.database.path();
    let mounted = path.with_file_name("mounted.db");
    fs::write(&mounted, "").expect("written");
    let before = fs::read(&path).expect("reads");
    let (_, module) = module_path!().split_once("::").expect("in a module");
    let test = format!("{module}::a_file_that_is_mounted_alone_is_refused");
    let tried = Command::new("unshare")
        .args(alone)
        .args([
            "sh",
            "-ec",
            r#"mount --bind "$1" "$2"; shift 2; exec "$@""#,
            "sh",
        ])
        .args([&path, &mounted])
        .arg(std::env::current_exe().expect("this binary has a path"))
        .args(["--exact", &test])
        .env(MOUNTED, &mounted)
        .output()
        .expect("it can be started");
    let said = String::from_utf8_lossy(&tried.stdout);
    assert!(tried.status.success(), "{tried:?}");
    assert!(said.contains("1 passed"), "{said}");
    assert_eq!(
        fs::read(&path).expect("reads"),
        before,
        "nothing was written"
    );
}

// ---- the same file ----

/// What is done to a file.
type Harm = fn(&Path);

/// What may happen to a file that is in use.
const HARMS: [(&str, Harm); 7] = [
    ("store.db was deleted or renamed", |path| {
        fs::remove_file(path).expect("deleted");
    }),
    ("store.db was deleted or renamed", |path| {
        fs::rename(path, path.with_extension("moved")).expect("renamed");
    }),
    ("store.db was deleted or renamed", |path| {
        let directory = path.parent().expect("in a directory");
        fs::rename(directory, directory.with_extension("moved")).expect("renamed");
    }),
    ("store.db was replaced by another file", |path| {
        let copy = path.with_extension("copy");
        fs::copy(path, &copy).expect("copied");
        fs::rename(&copy, path).expect("replaced");
    }),
    ("store.db-wal was deleted or renamed", |path| {
        fs::remove_file(beside(path, "-wal")).expect("deleted");
    }),
    ("store.db-wal was replaced by another file", |path| {
        let copy = path.with_extension("copy");
        fs::write(&copy, "").expect("written");
        fs::rename(&copy, beside(path, "-wal")).expect("replaced");
    }),
    ("store.db-shm was deleted or renamed", |path| {
        fs::remove_file(beside(path, "-shm")).expect("deleted");
    }),
];

fn gone(error: &StoreError, words: &str, is_definite: bool) {
    assert!(matches!(error, StoreError::FileGone { .. }), "{error:?}");
    assert_eq!(error.is_definite(), is_definite, "{error:?}");
    let said = error.to_string();
    assert!(said.contains(words), "{said}");
    assert!(said.contains("put the right file in its place"), "{said}");
}

#[tokio::test]
async fn a_store_whose_file_is_gone_acknowledges_nothing() {
    for (words, harm) in HARMS {
        let home = Home::new().await;
        home.start(&single()).await;
        let (first, second) = (home.request(&single()).await, home.request(&single()).await);
        let path = home.database.path();
        // Where there is no file any more nobody knows what became of the last write.
        let answer = home.in_between(home.store.start(first), |_| harm(&path));
        match answer {
            Err(ApplyError::Store(error)) => gone(&error, words, false),
            other => panic!("{words}: {other:?}"),
        }
        match home.store.start(second).await {
            Err(ApplyError::Store(error)) => gone(&error, words, true),
            other => panic!("{words}: {other:?}"),
        }
        let lease = std::time::Duration::from_secs(1);
        let renewed = home.store.heartbeat(home.worker, lease).await;
        gone(&renewed.expect_err("it is gone"), words, true);
        home.store.close().await;
        let moved = path
            .parent()
            .expect("in a directory")
            .with_extension("moved");
        if moved.exists() {
            fs::remove_dir_all(moved).expect("removed");
        }
    }
}

#[tokio::test]
async fn a_file_that_takes_the_place_of_one_in_use_keeps_its_own_content() {
    let home = Home::new().await;
    let request = home.request(&single()).await;
    let path = home.database.path();
    // A backup, which is put back while the program runs.
    let backup = Home::new().await;
    let kept = backup.start(&single()).await;
    backup.store.close().await;
    fs::copy(backup.database.path(), path.with_extension("backup")).expect("copied");
    fs::rename(path.with_extension("backup"), &path).expect("replaced");
    let before = fs::read(&path).expect("reads");

    let error = open(&path, StoreOptions::default()).await;
    let said = error.expect_err("a worker lives").to_string();
    assert!(said.contains("stop that process first"), "{said}");
    let answer = home.store.start(request).await;
    assert!(answer.is_err(), "{answer:?}");
    home.store.close().await;
    assert_eq!(fs::read(&path).expect("reads"), before);
    // Of the file that is no more, and what a program that was killed would leave as well.
    for suffix in ["-wal", "-shm"] {
        fs::remove_file(beside(&path, suffix)).expect("left alone");
    }
    let store = open(&path, StoreOptions::default()).await.expect("opens");
    assert!(store.execution(kept).await.expect("reads").is_some());
}

// ---- nobody else's ----

/// The permissions of everything in the store's directory, by name.
fn modes(path: &Path) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    let mut directories = vec![path.parent().expect("in a directory").to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("reads").flatten() {
            let metadata = entry.metadata().expect("reads");
            if metadata.is_dir() {
                directories.push(entry.path());
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            found.push((name, metadata.permissions().mode() & 0o777));
        }
    }
    found
}

#[tokio::test]
async fn only_those_may_open_a_stores_files_who_are_meant_to() {
    for (options, mode, directory) in [
        (StoreOptions::default(), 0o600, 0o700),
        (
            StoreOptions {
                file_mode: 0o660,
                ..StoreOptions::default()
            },
            0o660,
            0o770,
        ),
    ] {
        let home = Home::with(options).await;
        home.start(&single()).await;
        let modes = modes(&home.database.path());
        // The database, its log and the index of that, two locks, the workers' directory, a worker.
        assert_eq!(modes.len(), 7, "{modes:?}");
        for (name, found) in modes {
            let expected = match name.ends_with("-workers") {
                true => directory,
                false => mode,
            };
            assert_eq!(found, expected, "{name}: {found:o}");
        }
    }
}

#[tokio::test]
async fn a_file_that_exists_keeps_its_permissions() {
    let home = Home::new().await;
    home.store.close().await;
    let path = home.database.path();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("set");
    let store = open(&path, StoreOptions::default()).await.expect("opens");
    let log = fs::metadata(beside(&path, "-wal")).expect("there is a log");
    assert_eq!(log.permissions().mode() & 0o777, 0o640);
    store.close().await;
}

#[tokio::test]
async fn what_is_beside_a_file_gets_its_new_permissions() {
    let home = Home::new().await;
    let path = home.database.path();
    home.store.end_worker(home.worker).await.expect("ends");
    home.store.close().await;
    for (mode, directory) in [(0o660, 0o770), (0o600, 0o700)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
        let store = open(&path, StoreOptions::default()).await.expect("opens");
        let id = WorkerId(home.next_id());
        let (host, pid) = ("host".into(), 1);
        let worker = NewWorker { id, host, pid };
        let lease = std::time::Duration::from_secs(1);
        let registered = store.register_worker(worker, lease).await;
        registered.expect("registered");
        let modes = modes(&path);
        assert_eq!(modes.len(), 7, "{modes:?}");
        for (name, found) in modes {
            let expected = match name.ends_with("-workers") {
                true => directory,
                false => mode,
            };
            assert_eq!(found, expected, "{name}: {found:o}");
        }
        store.end_worker(id).await.expect("ends");
        store.close().await;
    }
}

#[tokio::test]
async fn a_file_that_a_link_names_is_made_for_its_owner_alone() {
    let home = Home::new().await;
    let target = home.database.path().with_file_name("target.db");
    let link = home.database.path().with_file_name("link.db");
    std::os::unix::fs::symlink("target.db", &link).expect("linked");
    let store = open(&link, StoreOptions::default()).await.expect("opens");
    let found = fs::metadata(target).expect("made").permissions();
    assert_eq!(found.mode() & 0o777, 0o600);
    store.close().await;
}

#[tokio::test]
async fn permissions_that_make_no_sense_are_refused() {
    let home = Home::new().await;
    let path = home.database.path().with_file_name("other.db");
    for file_mode in [0, 0o400, 0o777, 0o2660, 660] {
        let options = StoreOptions {
            file_mode,
            ..StoreOptions::default()
        };
        let error = open(&path, options).await.expect_err("refused");
        assert!(error.to_string().contains("0o600"), "{error}");
        assert!(!path.exists());
    }
}

// ---- everything in it ----

/// A copy of the one file, opened elsewhere.
async fn copied(path: &Path) -> (tempfile::TempDir, Store) {
    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    let copy = elsewhere.path().join("copy.db");
    fs::copy(path, &copy).expect("copied");
    let store = open(&copy, StoreOptions::default()).await;
    (elsewhere, store.expect("opens"))
}

#[tokio::test]
async fn after_its_last_user_closed_it_the_one_file_is_the_whole_store() {
    let home = Home::new().await;
    let path = home.database.path();
    let other = open(&path, StoreOptions::default()).await.expect("opens");
    let id = home.start(&single()).await;
    assert!(home.store.execution(id).await.expect("reads").is_some());
    home.store.watch_others(true).expect("watches");
    home.store.close().await;
    assert!(beside(&path, "-wal").exists(), "the other one uses it");
    // Nobody closes this one: it is dropped.
    other.execution(id).await.expect("reads");
    other.watch_others(true).expect("watches");
    drop(other);
    for suffix in ["-wal", "-shm"] {
        assert!(!beside(&path, suffix).exists(), "{suffix}");
    }
    let (_elsewhere, copy) = copied(&path).await;
    assert!(copy.execution(id).await.expect("reads").is_some());
}

#[tokio::test]
async fn after_a_checkpoint_the_one_file_is_the_whole_store() {
    let home = Home::new().await;
    let path = home.database.path();
    let id = home.start(&single()).await;
    home.store.checkpoint().await.expect("done");
    let log = fs::metadata(beside(&path, "-wal")).expect("in use");
    assert_eq!(log.len(), 0);
    let (_elsewhere, copy) = copied(&path).await;
    assert!(copy.execution(id).await.expect("reads").is_some());
    // And it goes on.
    let next = home.start(&single()).await;
    assert!(home.store.execution(next).await.expect("reads").is_some());
}

/// What the guide promises of the log.
const LOG_BYTES: u64 = 16 * 1024 * 1024;
/// One transaction may come on top, and what the background had not yet worked off.
const SLACK_BYTES: u64 = 4 * 1024 * 1024;

/// Writes about three megabytes, and answers how long the log was at most meanwhile.
async fn write_much(home: &Home) -> u64 {
    let mut longest = 0;
    for _ in 0..30 {
        let mut request = home.request(&single()).await;
        request.input = Some(Payload::from_json(format!("\"{}\"", "x".repeat(100_000))));
        home.store.start(request).await.expect("starts");
        let log = fs::metadata(beside(&home.database.path(), "-wal"));
        longest = longest.max(log.expect("in use").len());
    }
    longest
}

#[tokio::test]
async fn however_much_is_written_the_log_stays_short() {
    let home = Home::new().await;
    for _ in 0..20 {
        let longest = write_much(&home).await;
        assert!(longest < LOG_BYTES + SLACK_BYTES, "{longest} bytes");
    }
    let written = fs::metadata(home.database.path()).expect("in use").len();
    assert!(written > 2 * LOG_BYTES, "{written} bytes");
}

#[tokio::test]
async fn a_log_that_grew_while_somebody_read_is_cut_when_they_are_done() {
    let home = Home::new().await;
    let reader = home.database.sqlite();
    let read = "BEGIN; SELECT count(*) FROM executions";
    reader.execute_batch(read).expect("reads");
    let mut longest = 0;
    while longest < LOG_BYTES + SLACK_BYTES {
        longest = write_much(&home).await;
    }
    reader.execute_batch("COMMIT").expect("is done");
    // The writer looks for a moment when it may begin the log again, every thousand pages.
    for _ in 0..3 {
        write_much(&home).await;
    }
    let log = fs::metadata(beside(&home.database.path(), "-wal"));
    let length = log.expect("in use").len();
    assert!(length <= LOG_BYTES + SLACK_BYTES, "{length} bytes");
}
