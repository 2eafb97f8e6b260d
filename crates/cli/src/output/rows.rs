//! Many records, each written as soon as it is known.

use std::io::{self, Write};

use serde::Serialize;

use super::json::{self, Layout};
use super::table::{Cell, Table};
use super::{Format, Out, stdout, yaml};

/// A record in a list.
pub(crate) trait Record: Serialize {
    /// The id by which other commands take it.
    fn name(&self) -> String;

    /// Its row in a table.
    fn cells(&self) -> Vec<Cell>;
}

/// Records on their way to standard output.
pub(crate) struct Rows {
    format: Format,
    table: Table,
    out: Out,
    written: usize,
}

impl Rows {
    /// Rows in this format. A table has these headings.
    pub(crate) fn new(format: Format, columns: &'static [&'static str]) -> Rows {
        Rows {
            format,
            table: Table::new(columns),
            out: stdout(),
            written: 0,
        }
    }

    /// Sets the least width of a table's columns, for records that follow.
    pub(crate) fn widen(&mut self, widths: &[usize]) {
        self.table.widen(widths);
    }

    /// Writes a record, or keeps it until the next [`Rows::flush`].
    pub(crate) fn push(&mut self, record: &impl Record) -> io::Result<()> {
        let out = &mut self.out;
        match self.format {
            Format::Table => self.table.push(record.cells(), out)?,
            Format::Json => {
                let before = if self.written == 0 { "[\n  " } else { ",\n  " };
                write!(out, "{before}{}", json::text(record, Layout::Indented(1)))?;
            }
            Format::Jsonl => writeln!(out, "{}", json::text(record, Layout::Line))?,
            Format::Yaml => write!(out, "{}", yaml::text(&[record]))?,
            Format::Name => writeln!(out, "{}", record.name())?,
        }
        self.written += 1;
        Ok(())
    }

    /// How many records were pushed.
    pub(crate) fn written(&self) -> usize {
        self.written
    }

    /// Makes all rows so far visible.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.table.flush(&mut self.out)?;
        self.out.flush()
    }

    /// Writes the end of the document.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        match (self.format, self.written) {
            (Format::Json | Format::Yaml, 0) => writeln!(self.out, "[]")?,
            (Format::Json, _) => writeln!(self.out, "\n]")?,
            _ => {}
        }
        self.flush()
    }
}
