//! Standard output, in the chosen format. Messages for people go to standard error, see [`note`].

pub(crate) mod json;
mod rows;
mod style;
mod table;
pub(crate) mod text;
mod yaml;

use std::io::{self, BufWriter, StdoutLock, Write};

use clap::ValueEnum;
use serde::Serialize;

pub(crate) use rows::{Record, Rows};
pub(crate) use style::Tone;
pub(crate) use table::{Cell, Table};

use json::Layout;

/// How data is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people: columns, relative times
    Table,
    /// One JSON document, indented
    Json,
    /// One JSON document a line, written as soon as it is known
    Jsonl,
    /// YAML
    Yaml,
    /// Only ids, one a line, for other commands
    Name,
}

/// Standard output.
pub(crate) type Out = BufWriter<StdoutLock<'static>>;

/// Standard output, locked and buffered.
pub(crate) fn stdout() -> Out {
    BufWriter::new(io::stdout().lock())
}

/// Whether standard output gets colours.
pub(crate) fn colours() -> bool {
    console::colors_enabled()
}

/// Prints a note to standard error, without the passwords of addresses. A closed standard error is
/// no failure.
pub(crate) fn note(words: impl std::fmt::Display) {
    let words = words.to_string();
    let words = text::without_passwords(&words);
    writeln!(io::stderr().lock(), "{}", text::escape(&words)).ok();
}

/// One document: a record in a format for machines, or the output of `human`.
pub(crate) fn document(
    format: Format,
    name: &str,
    record: &impl Serialize,
    human: impl FnOnce(&mut Out) -> io::Result<()>,
) -> io::Result<()> {
    let mut out = stdout();
    match format {
        Format::Table => human(&mut out)?,
        Format::Json => writeln!(out, "{}", json::text(record, Layout::Indented(0)))?,
        Format::Jsonl => writeln!(out, "{}", json::text(record, Layout::Line))?,
        Format::Yaml => write!(out, "{}", yaml::text(record))?,
        Format::Name => writeln!(out, "{name}")?,
    }
    out.flush()
}
