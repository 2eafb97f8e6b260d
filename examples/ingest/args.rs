//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// Size, SHA-256, lines, words and type of every file under a directory, as one durable execution.
///
/// Kill it at any time: the same command continues where it stopped. Once it has finished, the same
/// command starts a new execution.
#[derive(Debug, Parser)]
#[command(name = "ingest")]
pub(crate) struct Args {
    /// The directory to read. Symbolic links in it are counted, not followed.
    pub(crate) dir: PathBuf,

    /// The SQLite file that records everything, created if it does not exist; or the address of a
    /// PostgreSQL database.
    #[arg(long, value_name = "FILE|URL", default_value = "ingest.db")]
    pub(crate) db: String,

    /// The directory for `report.json` and `summary.txt`; created if it does not exist [default:
    /// ingest-report]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// The report is written once this file exists [default: ingest.marker]
    #[arg(long, value_name = "FILE")]
    marker: Option<PathBuf>,

    /// .. or this long after the start, whichever comes first: 300ms, 5s, 2m, 1h [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    marker_timeout: Option<Duration>,

    /// Read only the first N files, in the order of their paths
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
}

impl Args {
    pub(crate) fn out(&self) -> PathBuf {
        self.out.clone().unwrap_or_else(|| "ingest-report".into())
    }

    pub(crate) fn marker(&self) -> PathBuf {
        let marker = self.marker.clone();
        marker.unwrap_or_else(|| "ingest.marker".into())
    }

    pub(crate) fn marker_timeout(&self) -> Duration {
        self.marker_timeout.unwrap_or(Duration::from_secs(5))
    }

    /// The given options that are recorded when an execution starts, so that an execution that
    /// continues keeps the options with which it was started.
    pub(crate) fn recorded(&self) -> Vec<&'static str> {
        let given = [
            (self.out.is_some(), "--out"),
            (self.marker.is_some(), "--marker"),
            (self.marker_timeout.is_some(), "--marker-timeout"),
            (self.limit.is_some(), "--limit"),
        ];
        let given = given.into_iter().filter(|(given, _)| *given);
        given.map(|(_, name)| name).collect()
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let number: u64 = number
        .parse()
        .map_err(|_| "a time is a number and a unit, such as 5s".to_owned())?;
    let ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("`{unit}` is no unit of time: use ms, s, m or h")),
    };
    let ms = number.checked_mul(ms);
    ms.map(Duration::from_millis)
        .ok_or_else(|| "that is too long".to_owned())
}
