//! `abide verify`.

use std::io::{self, Write};

use abide::admin::{Finding, Integrity, VerifyOptions, VerifyReport, is_postgres, verify_file};
use clap::{Args, ValueEnum};

use crate::output::text::escape;
use crate::output::{Cell, Format, Record, Rows, Tone, colours, document};
use crate::problem::{Outcome, Problem};
use crate::session::Session;

/// Check that a store keeps its promises.
///
/// Replays every history and compares it with the stored rows, and checks that something will wake
/// each open task. Changes nothing; the store may be in use, or damaged. Exit code 1 if there are
/// findings.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// How SQLite checks the file; for a PostgreSQL server's pages and indexes use pg_amcheck
    #[arg(long, value_enum, default_value_t = Check::Full)]
    integrity: Check,

    /// Show at most this many findings; further ones are counted
    #[arg(long, default_value_t = 1000, value_name = "N")]
    max_findings: usize,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Check {
    /// Every page and every index entry
    Full,
    /// Every page, but not whether indexes match their tables: faster
    Quick,
    /// Not at all
    Skip,
}

impl Verify {
    pub(crate) async fn run(&self, session: &Session) -> Result<Outcome, Problem> {
        let options = VerifyOptions {
            max_findings: self.max_findings,
            integrity: match self.integrity {
                Check::Full => Integrity::Full,
                Check::Quick => Integrity::Quick,
                Check::Skip => Integrity::Skip,
            },
            ..VerifyOptions::default()
        };
        let database = session.database()?;
        let report = match is_postgres(database) {
            // A file may be too damaged to open it as a store.
            false => verify_file(database, &options)?,
            true => session.open().await?.verify(options).await?,
        };
        match session.format {
            Format::Jsonl | Format::Name => write_findings(session.format, &report)?,
            format => document(format, "", &report, |out| write_report(&report, out))?,
        }
        Ok(match report.is_clean() {
            true => Outcome::Good,
            false => Outcome::Bad,
        })
    }
}

/// One finding a line.
fn write_findings(format: Format, report: &VerifyReport) -> io::Result<()> {
    let mut rows = Rows::new(format, &[]);
    for finding in &report.findings {
        rows.push(finding)?;
    }
    rows.finish()
}

/// For people: one finding a line, then what was checked, and the result.
fn write_report(report: &VerifyReport, out: &mut impl Write) -> io::Result<()> {
    let mut lines_of_findings = 0;
    for finding in &report.findings {
        let finding = finding.to_string();
        lines_of_findings += finding.lines().count();
        writeln!(out, "{}", escape(&finding))?;
    }
    let whole = report.to_string();
    let mut rest = whole.lines().skip(lines_of_findings).peekable();
    while let Some(line) = rest.next() {
        let tone = match (rest.peek(), report.is_clean()) {
            (Some(_), _) => Tone::Plain,
            (None, true) => Tone::Good,
            (None, false) => Tone::Bad,
        };
        writeln!(out, "{}", tone.paint(&escape(line), colours()))?;
    }
    Ok(())
}

impl Record for Finding {
    fn name(&self) -> String {
        self.subject.to_string()
    }

    fn cells(&self) -> Vec<Cell> {
        vec![self.to_string().into()]
    }
}
