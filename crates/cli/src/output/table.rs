//! Tables for people. Rows are laid out in portions, so that a long table needs little memory and a
//! live table shows every row at once. A column never becomes narrower again.

use std::io::{self, Write};

use console::{Alignment, Term, measure_text_width, pad_str, truncate_str};

use super::{Tone, text};

/// How many rows are laid out together.
const PORTION: usize = 500;

/// Spaces between columns.
const GAP: usize = 3;

/// The last column is not cut to less than this.
const LEAST_WIDTH: usize = 12;

/// Fields of all columns but the last are shortened to this width, so that one long name does not
/// move all rows apart.
const MOST_WIDTH: usize = 40;

/// One field.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
    is_whole: bool,
}

impl Cell {
    /// A field of this colour. Its text is data, so it is escaped.
    pub(crate) fn new(text: impl AsRef<str>, tone: Tone) -> Cell {
        let text = text::escape(text.as_ref()).into_owned();
        Cell {
            text,
            tone,
            is_whole: false,
        }
    }

    /// A field that is never shortened, because people copy it into other commands.
    pub(crate) fn whole(text: impl AsRef<str>) -> Cell {
        Cell {
            is_whole: true,
            ..Cell::from(text)
        }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell::new(text, Tone::Plain)
    }
}

/// A table that is being written.
#[derive(Debug)]
pub(crate) struct Table {
    columns: &'static [&'static str],
    widths: Vec<usize>,
    pending: Vec<Vec<Cell>>,
    has_heading: bool,
    colours: bool,
    /// The width at which lines are cut.
    line_width: Option<usize>,
}

impl Table {
    /// A table with these headings, for standard output.
    pub(crate) fn new(columns: &'static [&'static str]) -> Table {
        let terminal = Term::stdout();
        Table {
            columns,
            widths: columns.iter().map(|name| name.len()).collect(),
            pending: Vec::new(),
            has_heading: false,
            colours: super::colours(),
            line_width: terminal.size_checked().map(|(_, width)| usize::from(width)),
        }
    }

    /// Sets the least width of the columns, for rows that follow.
    pub(crate) fn widen(&mut self, widths: &[usize]) {
        for (width, &least) in self.widths.iter_mut().zip(widths) {
            *width = least.max(*width);
        }
    }

    /// Adds a row. Writes the rows so far when there are enough.
    pub(crate) fn push(&mut self, mut row: Vec<Cell>, out: &mut impl Write) -> io::Result<()> {
        // The last column moves no other column.
        for cell in row.iter_mut().take(self.columns.len().saturating_sub(1)) {
            if !cell.is_whole {
                cell.text = text::shorten(&cell.text, MOST_WIDTH).into_owned();
            }
        }
        self.pending.push(row);
        match self.pending.len() {
            PORTION.. => self.flush(out),
            _ => Ok(()),
        }
    }

    /// Writes the rows since the last call. A table without rows has no headings.
    pub(crate) fn flush(&mut self, out: &mut impl Write) -> io::Result<()> {
        let rows = std::mem::take(&mut self.pending);
        if rows.is_empty() {
            return Ok(());
        }
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = measure_text_width(&cell.text).max(*width);
            }
        }
        if !std::mem::replace(&mut self.has_heading, true) {
            let heading = |name: &&str| Cell::new(name, Tone::Heading);
            let headings: Vec<Cell> = self.columns.iter().map(heading).collect();
            self.write_row(&headings, out)?;
        }
        rows.iter().try_for_each(|row| self.write_row(row, out))
    }

    fn write_row(&self, row: &[Cell], out: &mut impl Write) -> io::Result<()> {
        let last = row.iter().rposition(|cell| !cell.text.is_empty());
        let mut used = 0;
        for (at, (cell, &width)) in row.iter().zip(&self.widths).enumerate() {
            if Some(at) >= last {
                let text = self.cut(&cell.text, used);
                writeln!(out, "{}", cell.tone.paint(&text, self.colours))?;
                break;
            }
            let painted = cell.tone.paint(&cell.text, self.colours);
            let padded = pad_str(&painted, width, Alignment::Left, None);
            write!(out, "{padded}{:GAP$}", "")?;
            used += width + GAP;
        }
        Ok(())
    }

    /// The last field of a line, cut to the rest of the terminal's width.
    fn cut(&self, text: &str, used: usize) -> String {
        match self.line_width {
            Some(width) => {
                let left = width.saturating_sub(used).max(LEAST_WIDTH);
                truncate_str(text, left, "…").into_owned()
            }
            None => text.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(line_width: Option<usize>, rows: &[&[&str]]) -> String {
        let mut table = Table {
            line_width,
            colours: false,
            ..Table::new(&["A", "NAME", "REST"])
        };
        let mut out = Vec::new();
        for row in rows {
            let row = row.iter().map(Cell::from).collect();
            table.push(row, &mut out).expect("memory takes it");
        }
        table.flush(&mut out).expect("memory takes it");
        String::from_utf8(out).expect("texts")
    }

    #[test]
    fn columns_are_as_wide_as_characters_are_shown() {
        let rows: &[&[&str]] = &[&["1", "漢字", "x"], &["22", "b", "y\nz"], &["3", "c", ""]];
        let expected = "A    NAME   REST\n1    漢字   x\n22   b      y\\nz\n3    c\n";
        assert_eq!(written(None, rows), expected);
        assert_eq!(written(None, &[]), "");
    }

    #[test]
    fn a_long_name_is_shortened_but_not_what_is_copied() {
        let long = "n".repeat(255);
        let mut table = Table {
            line_width: None,
            colours: false,
            ..Table::new(&["A", "NAME", "REST"])
        };
        let mut out = Vec::new();
        let row = vec![Cell::whole(&long), Cell::from(&long), Cell::from(&long)];
        table.push(row, &mut out).expect("memory takes it");
        table.flush(&mut out).expect("memory takes it");
        let out = String::from_utf8(out).expect("texts");
        let row: Vec<&str> = out
            .lines()
            .nth(1)
            .expect("a row")
            .split_whitespace()
            .collect();
        let short = format!("{}…{}", "n".repeat(20), "n".repeat(19));
        assert_eq!(row, [long.as_str(), &short, &long]);
    }

    #[test]
    fn a_terminal_gets_the_last_column_cut() {
        let rows: &[&[&str]] = &[&["1", "b", "a long text that does not fit"]];
        assert_eq!(
            written(Some(30), rows),
            "A   NAME   REST\n1   b      a long text that d…\n"
        );
    }
}
