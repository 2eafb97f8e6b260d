//! Benchmarks: what the engine does, beside the floor, which writes the same rows with nothing
//! decided, in the same run.
//!
//! Every group runs in a process of its own, so that none inherits another's memory or caches.
//! Results are counted from the store's rows.

mod floor;
mod home;
mod measure;
mod report;
mod role;
#[expect(unreachable_pub, reason = "written as users write them")]
mod workloads;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::{Parser, ValueEnum};

use tokio::runtime::{Builder, Runtime};

use measure::{GROUPS, Group};
use report::Measured;

/// Measures the engine and prints a table: each figure beside its floor, and their ratio.
///
/// The floor is what the same rows take, in the same run, when plain statements write them and nothing
/// is decided, checked or awaited. For rates the ratio is the share of the floor that is reached, for
/// times and sizes the multiple of it that is needed. `--help` explains every figure.
#[derive(Parser)]
#[command(after_long_help = figures())]
struct Arguments {
    /// The store to measure.
    #[arg(long, value_enum, default_value_t = Backend::Sqlite)]
    backend: Backend,
    /// Also write the results to this file, as a JSON array.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only figures whose name contains this. Repeatable.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Less of everything, to see that it works: the figures mean little.
    #[arg(long)]
    quick: bool,
    /// How long the figures that go by minutes are measured [default: 10; 3, of 3 seconds each, with --quick].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(measure::MOST_MINUTES)))]
    minutes: Option<u32>,
    /// The PostgreSQL database to measure: its schemas are made and dropped. Without TLS.
    #[arg(
        long,
        value_name = "postgres://..",
        required_if_eq("backend", "postgres")
    )]
    url: Option<String>,
    /// Directory for database files. Its file system is part of what is measured.
    #[arg(long, value_name = "DIR", default_value = ".")]
    directory: PathBuf,
    /// Runs one group in this process; for the program itself.
    #[arg(long, hide = true)]
    group: Option<String>,
    /// Is a part of a group that takes several processes; for the program itself.
    #[arg(long, hide = true)]
    role: Option<role::Role>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Backend {
    Sqlite,
    Postgres,
}

impl Backend {
    fn name(self) -> &'static str {
        match self {
            Backend::Sqlite => "sqlite",
            Backend::Postgres => "postgres",
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match (&arguments.role, &arguments.group) {
        (Some(role), _) => run_role(&arguments, *role),
        (None, Some(name)) => run_group(&arguments, name),
        (None, None) => run_all(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("abide-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread().enable_all().build()
}

fn run_role(arguments: &Arguments, role: role::Role) -> Result<(), measure::Error> {
    let url = arguments.url.as_ref().ok_or("a role needs a store")?;
    runtime()?.block_on(role::run(role, url))
}

fn run_group(arguments: &Arguments, name: &str) -> Result<(), measure::Error> {
    let group = GROUPS
        .iter()
        .find(|group| group.name == name)
        .ok_or_else(|| format!("no group `{name}`"))?;
    let setting = measure::Setting {
        directory: arguments.directory.clone(),
        postgres: match arguments.backend {
            Backend::Sqlite => None,
            Backend::Postgres => arguments.url.clone(),
        },
        quick: arguments.quick,
        minutes: arguments
            .minutes
            .unwrap_or(if arguments.quick { 3 } else { 10 }),
    };
    for measured in runtime()?.block_on((group.run)(&setting))? {
        println!("{}", serde_json::to_string(&measured)?);
    }
    Ok(())
}

/// The end of `--help`: every figure and what it means.
fn figures() -> String {
    let mut text = "Figures:".to_owned();
    for group in GROUPS {
        for figure in group.figures {
            text += &format!("\n  {}\n          {}", figure.name, figure.says);
        }
        if group.by_name_only {
            text += "\n          Measured only if it is asked for with --only.";
        }
    }
    text
}

/// The groups with figures that are asked for.
fn chosen(only: &[String]) -> Vec<&'static Group> {
    let is_chosen = |group: &&Group| {
        let asked = |only: &String| group.figures.iter().any(|figure| figure.is_meant(only));
        (only.is_empty() && !group.by_name_only) || only.iter().any(asked)
    };
    GROUPS.iter().filter(is_chosen).collect()
}

fn run_all(arguments: &Arguments) -> Result<(), measure::Error> {
    let wanted = |name: &str| {
        arguments.only.is_empty()
            || arguments
                .only
                .iter()
                .any(|only| name.contains(only.as_str()))
    };
    let groups = chosen(&arguments.only);
    if groups.is_empty() {
        let figures = GROUPS.iter().flat_map(|group| group.figures);
        let names: Vec<&str> = figures.map(|figure| figure.name).collect();
        return Err(format!("no figure is called so; there are: {}", names.join(", ")).into());
    }
    let mut results = Vec::new();
    println!("{}", report::header());
    for group in groups {
        for measured in in_own_process(arguments, group)? {
            if wanted(&measured.name) {
                println!("{measured}");
                results.push(measured);
            }
        }
    }
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_string_pretty(&results)?)?;
    }
    Ok(())
}

fn in_own_process(arguments: &Arguments, group: &Group) -> Result<Vec<Measured>, measure::Error> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("--group")
        .arg(group.name)
        .arg("--backend")
        .arg(arguments.backend.name())
        .arg("--directory")
        .arg(&arguments.directory);
    if let Some(url) = &arguments.url {
        command.arg("--url").arg(url);
    }
    if arguments.quick {
        command.arg("--quick");
    }
    if let Some(minutes) = arguments.minutes {
        command.arg("--minutes").arg(minutes.to_string());
    }
    let output = command.stderr(std::process::Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("measuring {} failed", group.name).into());
    }
    let mut results = Vec::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let measured: Measured = serde_json::from_str(line)?;
        results.push(Measured {
            backend: arguments.backend.name().to_owned(),
            ..measured
        });
    }
    Ok(results)
}
