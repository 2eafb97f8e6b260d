//! `ingest`: a directory read by a task per file, whatever happens to the process.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use abide::{Engine, ExecutionId, ExecutionView, Phase, TaskView};
use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::common::{Process, all_tasks, assert_sound, history, look_into, run};
use crate::place::Place;

/// Enough that there is time to kill it between any two of them, and little enough to take a second.
const FILES: u32 = 1_500;

/// The tasks that aren't about a file.
const OTHER_TASKS: u32 = 2;

/// A directory to read, and a place for what comes of it.
struct Home {
    directory: TempDir,
    place: Place,
}

impl Home {
    fn new() -> Home {
        let directory = tempdir().expect("a directory");
        fs::create_dir(directory.path().join("data")).expect("a new directory");
        let place = Place::new();
        Home { directory, place }
    }

    /// With files in directories of a hundred.
    fn with_files(files: u32) -> Home {
        let home = Home::new();
        for number in 0..files {
            let path = format!("{:02}/{number:04}.txt", number / 100);
            home.write(
                &path,
                format!("file {number}\n").repeat(number as usize % 50),
            );
        }
        home
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    fn data(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path("data").join(name)
    }

    fn write(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        let path = self.data(name);
        fs::create_dir_all(path.parent().expect("it is in data")).expect("writable");
        fs::write(path, content).expect("writable");
    }

    fn start(&self, args: &[&str]) -> Process {
        let place = match args.contains(&"--db") {
            true => Vec::new(),
            false => self.place.arguments(),
        };
        let args = [&["data"], args].concat().into_iter();
        let args = args.chain(place.iter().map(String::as_str));
        let args: Vec<&OsStr> = args.map(OsStr::new).collect();
        Process::start("ingest", self.directory.path(), &args)
    }

    /// Runs it to its end without waiting for a marker.
    fn ingest(&self, args: &[&str]) -> String {
        let at_once = ["--marker-timeout", "0s"];
        self.start(&[&at_once, args].concat()).ends()
    }

    async fn look(&self) -> Engine {
        look_into(self.place.url(self.directory.path(), "ingest")).await
    }

    async fn latest(&self, engine: &Engine) -> ExecutionView {
        let instance = self.data("").canonicalize().expect("it is there");
        let instance = instance.to_str().expect("a plain name");
        let latest = engine.store().latest(instance).await;
        latest.expect("readable").expect("it was started")
    }

    fn report(&self) -> Value {
        serde_json::from_str(&self.read("ingest-report/report.json")).expect("JSON")
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("it was written")
    }
}

fn completed(tasks: Vec<TaskView>) -> Vec<TaskView> {
    let completed = tasks
        .into_iter()
        .filter(|view| view.task.phase == Phase::Completed);
    completed.collect()
}

/// Waits until so many files are done.
async fn done(engine: &Engine, id: ExecutionId, files: u32) -> Vec<TaskView> {
    loop {
        let done = completed(all_tasks(engine, id).await);
        if done.len() >= files as usize {
            return done;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn killed_at_any_moment_it_goes_on_and_reads_no_finished_file_again() {
    let home = Home::with_files(FILES);
    // The marker keeps it from ending between two looks.
    let patient = ["--marker-timeout", "1h"];

    let mut process = home.start(&patient);
    process.prints("New execution");
    let engine = home.look().await;
    let first = home.latest(&engine).await;
    let id = first.execution.id;
    let mut finished: Vec<TaskView> = Vec::new();
    for kill_at in [0, 1, 400, 900, FILES] {
        finished.extend(done(&engine, id, kill_at).await);
        process.kill();
        home.place.bury().await;
        process = home.start(&patient);
        process.prints("resuming");
    }
    assert_eq!(home.latest(&engine).await.execution.id, id, "one execution");
    fs::write(home.path("ingest.marker"), "").expect("writable");
    process.ends();

    let tasks = all_tasks(&engine, id).await;
    assert_eq!(tasks.len(), (FILES + OTHER_TASKS) as usize);
    for before in finished {
        let now = &tasks[before.task.key.number as usize - 1];
        assert_eq!(
            now.task, before.task,
            "{} changed after it had completed",
            now.node
        );
    }
    let completions = history(&engine, id).await;
    let completions = completions
        .iter()
        .filter(|event| event.kind == "task.completed");
    assert_eq!(completions.count(), tasks.len(), "each completed once");

    let (report, summary) = (
        home.read("ingest-report/report.json"),
        home.read("ingest-report/summary.txt"),
    );
    home.ingest(&["--db", "other.db", "--out", "other"]);
    assert!(
        home.read("other/report.json") == report,
        "the report of an undisturbed run differs"
    );
    assert_eq!(home.read("other/summary.txt"), summary);

    home.ingest(&[]);
    let next = home.latest(&engine).await.execution;
    assert_ne!(next.id, id, "nothing was open, so this is a new execution");
    assert_eq!(next.generation, Some(2));
    assert!(
        home.read("ingest-report/report.json") == report,
        "the same files, another report"
    );
    assert_sound(&engine).await;
}

#[test]
fn a_file_is_measured_as_the_usual_tools_do() {
    let home = Home::new();
    home.write("a.md", "# Title\n\nthree more words\n");
    home.write("no newline", "one two");
    home.write("empty", "");
    home.write("b.unknown", [0, 1, 2, b'\n']);
    home.ingest(&[]);
    let report = home.report();
    let files = report["files"].as_array().expect("a list");
    let of = |path: &str| {
        files
            .iter()
            .find(|file| file["path"] == path)
            .expect("it is there")
    };
    let check = |path: &str, bytes: u32, lines: u32, words: u32, kind: &str| {
        let file = of(path);
        let found = (
            &file["bytes"],
            &file["lines"],
            &file["words"],
            &file["type"],
        );
        assert_eq!(
            found,
            (&bytes.into(), &lines.into(), &words.into(), &kind.into()),
            "{path}"
        );
    };
    check("a.md", 26, 3, 5, "text/markdown");
    check("no newline", 7, 0, 2, "text/plain");
    check("empty", 0, 0, 0, "inode/x-empty");
    check("b.unknown", 4, 1, 1, "application/octet-stream");
    assert_eq!(
        of("empty")["sha256"],
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    let sha256sum = Command::new("sha256sum")
        .arg(home.data("a.md"))
        .output()
        .expect("coreutils");
    let sha256sum = String::from_utf8(sha256sum.stdout).expect("text");
    assert!(sha256sum.starts_with(of("a.md")["sha256"].as_str().expect("a text")));
}

#[test]
fn what_cannot_be_read_is_reported_and_names_survive_as_they_are() {
    let home = Home::new();
    home.write("fine", "fine\n");
    for name in [
        &b"not \xff utf-8"[..],
        b"line\nbreak",
        b"back\\slash",
        "naïve €".as_bytes(),
    ] {
        home.write(OsStr::from_bytes(name), "x");
    }
    home.write("l".repeat(255), "a name too long for an id");
    symlink(".", home.data("loop")).expect("a link");
    symlink("nowhere", home.data("dangling")).expect("a link");
    // Deeper than a path can say: nobody can read that by its name, not even root.
    let nested = |levels| PathBuf::from_iter(std::iter::repeat_n("d".repeat(250), levels));
    fs::create_dir_all(home.data(nested(8))).expect("writable");
    fs::create_dir_all(home.path("inner").join(nested(9))).expect("writable");
    fs::rename(home.path("inner"), home.data(nested(8).join("inner"))).expect("writable");
    let piped = Command::new("mkfifo").arg(home.data("pipe")).status();
    assert!(piped.expect("coreutils").success());

    let told = home.ingest(&[]);
    let report = home.report();
    let files = report["files"].as_array().expect("a list");
    let paths: Vec<&str> = files
        .iter()
        .filter_map(|file| file["path"].as_str())
        .collect();
    let long = "l".repeat(255);
    assert_eq!(
        paths,
        [
            r"back\\slash",
            "fine",
            r"line\x0abreak",
            &long,
            "naïve €",
            r"not \xff utf-8"
        ]
    );
    let unreadable = report["unreadable"].as_array().expect("a list");
    assert_eq!(unreadable.len(), 1, "{unreadable:?}");
    let reason = unreadable[0]["reason"].as_str().expect("a reason");
    assert!(reason.contains("File name too long"), "{reason}");
    let totals = &report["totals"];
    assert_eq!(
        (&totals["links"], &totals["special"]),
        (&2.into(), &1.into())
    );
    assert!(
        told.contains("1 unreadable:") && told.contains("File name too long"),
        "{told}"
    );
}

/// A process that was killed before it had read every file, and the files that are left.
async fn interrupted() -> (Home, Engine, Vec<String>) {
    loop {
        let home = Home::with_files(300);
        let mut process = home.start(&["--marker-timeout", "1h"]);
        process.prints("New execution");
        process.kill();
        home.place.bury().await;
        let engine = home.look().await;
        let tasks = all_tasks(&engine, home.latest(&engine).await.execution.id).await;
        let open = tasks
            .iter()
            .filter(|view| view.task.phase != Phase::Completed);
        let open = open.filter_map(|view| view.node.strip_prefix("file:"));
        let open: Vec<String> = open.map(str::to_owned).collect();
        if !open.is_empty() {
            fs::write(home.path("ingest.marker"), "").expect("writable");
            return (home, engine, open);
        }
        // It was faster than this process. Next time it may not be.
    }
}

#[tokio::test]
async fn a_file_that_vanished_since_it_was_listed_is_reported() {
    let (home, _, open) = interrupted().await;
    for file in &open {
        fs::remove_file(home.data(file)).expect("it was listed");
    }
    home.start(&[]).ends();
    let report = home.report();
    let unreadable = report["unreadable"].as_array().expect("a list");
    let named = unreadable.iter().filter_map(|file| file["path"].as_str());
    assert_eq!(named.collect::<Vec<_>>(), open);
    let found = report["files"].as_array().expect("a list");
    assert_eq!(found.len() + open.len(), 300);
}

#[tokio::test]
async fn an_error_that_passes_is_retried() {
    let (home, engine, open) = interrupted().await;
    // The last file's directory becomes a link to itself, until a read has failed.
    let name = Path::new(open.last().expect("one"))
        .parent()
        .expect("a directory");
    let (directory, aside) = (home.data(name), home.path("aside"));
    fs::rename(&directory, &aside).expect("writable");
    symlink(name, &directory).expect("a link");
    let process = home.start(&[]);
    let id = home.latest(&engine).await.execution.id;
    let retried = |tasks: Vec<TaskView>| tasks.iter().any(|view| view.error.is_some());
    while !retried(all_tasks(&engine, id).await) {
        tokio::task::yield_now().await;
    }
    // At once, so that no read finds nothing there.
    symlink(&aside, home.path("mended")).expect("a link");
    fs::rename(home.path("mended"), &directory).expect("writable");
    process.ends();
    let totals = &home.report()["totals"];
    assert_eq!(
        (&totals["files"], &totals["unreadable"]),
        (&300.into(), &0.into())
    );
    let failed = history(&engine, id).await;
    let failed = failed.iter().filter(|event| event.kind == "task.failed");
    let errors = failed.filter_map(|event| event.data.as_ref());
    let errors: Vec<&str> = errors.map(|data| data.get()).collect();
    assert!(
        errors.iter().all(|error| error.contains("symbolic links")),
        "{errors:?}"
    );
    assert_sound(&engine).await;
}

#[test]
fn an_empty_directory_gives_an_empty_report() {
    let home = Home::new();
    home.ingest(&[]);
    assert_eq!(home.report()["totals"]["files"], 0);
    assert_eq!(home.report()["files"], Value::Array(Vec::new()));
}

#[test]
fn what_it_writes_itself_is_not_read() {
    let home = Home::new();
    home.write("file", "x");
    let here = ["--db", "data/ingest.db", "--out", "data"];
    home.ingest(&here);
    home.ingest(&here);
    let report = fs::read_to_string(home.data("report.json")).expect("it was written");
    let report: Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report["totals"]["files"], 1);
}

#[test]
fn a_limit_reads_the_first_files_only_and_says_so() {
    let home = Home::with_files(150);
    let told = home.ingest(&["--limit", "120"]);
    assert!(
        told.contains("30 files beyond the limit not read"),
        "{told}"
    );
    assert_eq!(home.report()["totals"]["files"], 120);
    assert_eq!(home.report()["files"][119]["path"], "01/0119.txt");
}

#[test]
fn mistakes_in_the_command_line_are_told_with_exit_status_2() {
    let home = Home::new();
    home.write("file", "x");
    let check = |args: &[&str], expected: &str| {
        let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
        let output = run("ingest", &home.path(""), &args);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(expected), "{told}");
    };
    check(&["nowhere"], "nowhere: No such file or directory");
    check(&["data/file"], "data/file: is not a directory");
    check(&["data", "--out", "data/file"], "data/file: File exists");
    check(
        &["data", "--marker-timeout", "5 days"],
        "` days` is no unit of time",
    );
    check(&[], "<DIR>");
}

#[tokio::test]
async fn a_second_process_on_the_same_database_helps_and_goes_on_when_the_first_is_killed() {
    let home = Home::with_files(30);
    let mut first = home.start(&["--marker-timeout", "1h"]);
    first.prints("New execution");
    let mut second = home.start(&[]);
    second.prints("resuming execution");
    first.kill();
    fs::write(home.path("ingest.marker"), "").expect("writable");
    second.ends();
    assert_eq!(home.report()["totals"]["files"], 30);
    assert_sound(&home.look().await).await;
}
