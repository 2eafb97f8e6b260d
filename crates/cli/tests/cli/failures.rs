//! What goes wrong: clear words, the right exit code, never a panic.

use std::io::Read;
use std::process::Stdio;

use crate::support::{Run, World, abide, chain, wide};

fn run(arguments: &[&str]) -> Run {
    Run::of(&mut abide(arguments), "")
}

#[test]
fn a_database_must_be_named() {
    run(&["list"]).failed_with(2, "--db FILE");
    Run::of(abide(&["list"]).env("ABIDE_DB", ""), "").failed_with(2, "--db FILE");
    run(&["list", "--db", "mysql://localhost/app"]).failed_with(2, "PostgreSQL");
    run(&["list", "--db", "ftp:file"]).failed_with(2, "`ftp:`");
    run(&["--db", "sqlite::memory:", "list"]).failed_with(2, "names no file");
}

#[test]
fn an_address_with_a_password_is_never_shown() {
    let directory = tempfile::tempdir().expect("a directory");
    let addresses = [
        "host=db user=app password=secret",
        " postgres://app:secret@db/prod",
        "'postgres://app:secret@db/prod'",
        "\"postgres://app:secret@db/prod\"",
        "postgres://app:secret@db/prod\n",
        "postgres://app:se@secret@db/prod",
        "Postgres://app:secret@db/prod",
        "postgresql+asyncpg://app:secret@db/prod",
        "app_1:secret@db/prod",
        "sqlite:host=db password=secret",
        "sqlite:rt.db?key=secret",
    ];
    for address in addresses {
        for command in [&["list"][..], &["verify"], &["tenant", "list"]] {
            let mut program = abide(command);
            program.current_dir(&directory).env("ABIDE_DB", address);
            let run = Run::of(&mut program, "");
            run.failed_with(2, "error: ");
            assert!(!run.err.contains("secret"), "{address}: {run:?}");
        }
    }
    let left = std::fs::read_dir(&directory).expect("reads").count();
    assert_eq!(left, 0, "no file was made");
    // An address in the wrong place.
    let address = "postgres://app:secret@db/prod";
    for arguments in [&["list", address][..], &["list", "--status", address]] {
        let run = run(arguments);
        run.failed_with(2, "postgres://app:…@db/prod");
        assert!(!run.err.contains("secret"), "{run:?}");
    }
}

#[tokio::test]
async fn an_address_in_place_of_an_execution_is_shown_without_its_password() {
    let world = World::new().await;
    let run = world.abide(&["describe", "postgres://app:secret@db/prod"]);
    run.failed_with(3, "postgres://app:…@db/prod");
    assert!(!run.err.contains("secret"), "{run:?}");
}

#[test]
fn help_offers_what_can_occur() {
    let help = |command: &str| run(&[command, "--help"]).out;
    let all = [help("list"), help("wait"), help("events"), help("tasks")].concat();
    for name in [
        "Completed",
        "cancelled",
        "task.late_result_discarded",
        "Deferred",
    ] {
        assert!(all.contains(name), "{name}: {all}");
    }
    let all = all.to_lowercase();
    for name in [
        "paused",
        "continuedasnew",
        "continued_as_new",
        "forced",
        "retried",
        "task.reset",
    ] {
        assert!(!all.contains(name), "{name}: {all}");
    }
    run(&["list", "--status", "paused"]).failed_with(2, "Completed");
}

#[test]
fn misuse_is_explained_by_the_option() {
    let refuse = |arguments: &[&str], part: &str| run(arguments).failed_with(2, part);
    refuse(&[], "Usage: abide");
    refuse(&["lsit"], "similar subcommands exist: 'ls', 'list'");
    refuse(&["list", "--status", "runing"], "'Running'");
    refuse(&["list", "--since", "yesterday"], "--since");
    refuse(&["list", "--cursor", "page2"], "--cursor");
    refuse(&["list", "--limit", "many"], "--limit");
    refuse(&["list", "-o", "xml"], "jsonl");
    refuse(&["wait"], "<EXEC>");
    refuse(&["wait", "x", "--for", "tea"], "completed");
    refuse(&["completions", "cmd"], "bash");
    let help = run(&["--help"]);
    assert_eq!((help.code, help.err.as_str()), (0, ""));
    assert!(help.out.contains("124 time is up"), "{}", help.out);
}

#[tokio::test]
async fn odd_names_are_looked_up_and_not_found() {
    let mut world = World::new().await;
    world.start("order-1", "ship", &chain(&["a"])).await;
    for name in [
        "",
        "/",
        "/1",
        "order-1/",
        "order-1/0",
        "order-1/99999999999",
        "%",
        "'; --",
        "\u{1b}[31m",
        "0000000000000",
        "zzzzzzzzzzzzz",
        "漢字",
    ] {
        for command in ["describe", "tasks", "events", "wait", "watch", "cancel"] {
            let run = world.abide(&[command, name]);
            run.failed_with(3, "no execution or instance");
            assert!(!run.err.contains('\u{1b}'), "{run:?}");
        }
    }
    let long = "x".repeat(100_000);
    world
        .abide(&["describe", &long])
        .failed_with(3, "no execution or instance");
}

#[tokio::test]
async fn a_reader_that_has_enough_is_no_error() {
    let mut world = World::new().await;
    world.start("order-1", "ship", &wide(3000)).await;
    for arguments in [
        &["tasks", "order-1"][..],
        &["tasks", "order-1", "-o", "json"],
        &["tasks", "order-1", "-o", "yaml"],
        &["events", "order-1", "-o", "jsonl"],
    ] {
        let mut child = world
            .command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut first = [0; 10];
        let mut output = child.stdout.take().expect("piped");
        output.read_exact(&mut first).expect("reads");
        drop(output);
        let mut words = String::new();
        let mut err = child.stderr.take().expect("piped");
        err.read_to_string(&mut words).expect("reads");
        let code = child.wait().expect("ends").code();
        assert_eq!((code, words.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_output_that_cannot_be_written_is_an_error() {
    let mut world = World::new().await;
    world.start("order-1", "ship", &wide(300)).await;
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .expect("opens");
    let output = world
        .command(&["tasks", "order-1", "-o", "json"])
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(1));
    let words = String::from_utf8(output.stderr).expect("texts");
    assert!(
        words.starts_with("error: cannot write the output"),
        "{words}"
    );
}
