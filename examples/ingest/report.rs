//! The sums over all files, and the two files of the report. They depend only on the directory:
//! they contain no times and no ids, and have one order.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use abide::TaskError;
use indicatif::{HumanBytes, HumanCount};
use serde::{Deserialize, Serialize};

use crate::names::path_of;
use crate::reading::FileInfo;
use crate::workflow::{MarkerSeen, Outcome, Settings, Unreadable};

/// How many types and unreadable files a summary names.
const SUMMARY_LINES: usize = 10;

/// The full report, as it is written to disk.
pub(crate) struct Report {
    settings: Settings,
    files: Vec<FileInfo>,
    unreadable: Vec<Unreadable>,
    summary: Summary,
}

/// The summary, small enough to be recorded: the workflow's result.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Summary {
    directory: String,
    /// The report's path, as text; see [`crate::names`].
    pub(crate) report: String,
    totals: Totals,
    /// The most frequent ones.
    types: Vec<OfType>,
    other_types: usize,
    /// The first ones.
    unreadable: Vec<Unreadable>,
    marker: MarkerSeen,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Totals {
    files: u64,
    bytes: u64,
    lines: u64,
    words: u64,
    unreadable: u64,
    /// Symbolic links, not followed.
    links: usize,
    /// Pipes, sockets and devices.
    special: usize,
    /// Files beyond the limit.
    left_out: usize,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct OfType {
    r#type: String,
    files: u64,
    bytes: u64,
    lines: u64,
    words: u64,
}

impl Report {
    pub(crate) fn new(
        settings: Settings,
        outcomes: impl IntoIterator<Item = Outcome>,
        marker: MarkerSeen,
    ) -> Report {
        let (mut files, mut unreadable) = (Vec::new(), Vec::new());
        for outcome in outcomes {
            match outcome {
                Outcome::Read(file) => files.push(file),
                Outcome::Unreadable(file) => unreadable.push(file),
            }
        }
        let sum = |of: fn(&FileInfo) -> u64| files.iter().map(of).sum();
        let totals = Totals {
            files: files.len() as u64,
            bytes: sum(|file| file.bytes),
            lines: sum(|file| file.lines),
            words: sum(|file| file.words),
            unreadable: unreadable.len() as u64,
            links: settings.links,
            special: settings.special,
            left_out: settings.left_out,
        };
        let types = types(&files);
        let summary = Summary {
            directory: settings.root.clone(),
            report: format!("{}/report.json", settings.out),
            totals,
            other_types: types.len().saturating_sub(SUMMARY_LINES),
            types,
            unreadable: unreadable.clone(),
            marker,
        };
        Report {
            settings,
            files,
            unreadable,
            summary,
        }
    }

    /// Writes both files, each in one step: a reader sees an old or a new file, never half of one.
    /// Returns the summary, cut to a size that can be recorded.
    pub(crate) fn write(self) -> Result<Summary, TaskError> {
        let out = path_of(&self.settings.out);
        let failed = |name: &str, error: io::Error| {
            let file = out.join(name);
            TaskError::new(
                "unwritable",
                format!("can't write {}: {error}", file.display()),
            )
        };
        fs::create_dir_all(&out).map_err(|error| failed("", error))?;
        write_whole(&out, "report.json", |to| self.write_json(to))
            .map_err(|error| failed("report.json", error))?;
        let mut summary = self.summary;
        summary.types.truncate(SUMMARY_LINES);
        summary.unreadable.truncate(SUMMARY_LINES);
        write_whole(&out, "summary.txt", |to| write!(to, "{summary}"))
            .map_err(|error| failed("summary.txt", error))?;
        Ok(summary)
    }

    /// One line for each file, so that tools for lines can read the report too.
    fn write_json(&self, to: &mut impl Write) -> io::Result<()> {
        let text = |value: &str| serde_json::to_string(value).map_err(io::Error::from);
        writeln!(to, "{{\n\"directory\": {},", text(&self.settings.root)?)?;
        writeln!(
            to,
            "\"totals\": {},",
            serde_json::to_string(&self.summary.totals)?
        )?;
        write_list(to, "types", &self.summary.types)?;
        writeln!(to, ",")?;
        write_list(to, "unreadable", &self.unreadable)?;
        writeln!(to, ",")?;
        write_list(to, "files", &self.files)?;
        writeln!(to, "\n}}")
    }
}

/// By type, the most frequent first.
fn types(files: &[FileInfo]) -> Vec<OfType> {
    let mut types: HashMap<&str, OfType> = HashMap::new();
    for file in files {
        let of = types.entry(&file.r#type).or_default();
        of.files += 1;
        of.bytes += file.bytes;
        of.lines += file.lines;
        of.words += file.words;
    }
    let named = types.into_iter().map(|(name, of)| OfType {
        r#type: name.to_owned(),
        ..of
    });
    let mut types: Vec<OfType> = named.collect();
    types.sort_unstable_by(|a, b| b.files.cmp(&a.files).then_with(|| a.r#type.cmp(&b.r#type)));
    types
}

fn write_list(to: &mut impl Write, name: &str, items: &[impl Serialize]) -> io::Result<()> {
    write!(to, "\"{name}\": [")?;
    for (number, item) in items.iter().enumerate() {
        to.write_all(if number == 0 { b"\n  " } else { b",\n  " })?;
        serde_json::to_writer(&mut *to, item)?;
    }
    let end = if items.is_empty() { "]" } else { "\n]" };
    to.write_all(end.as_bytes())
}

/// Writes a file beside its final path, syncs it, and moves it there.
fn write_whole(
    directory: &Path,
    name: &str,
    content: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let unfinished = directory.join(format!("{name}.unfinished"));
    let mut file = BufWriter::new(File::create(&unfinished)?);
    content(&mut file)?;
    file.into_inner()?.sync_all()?;
    fs::rename(unfinished, directory.join(name))
}

/// The files that are written to a report's directory.
pub(crate) fn own_files(out: &Path) -> Vec<PathBuf> {
    let names = ["report.json", "summary.txt"];
    let files = names.map(|name| [out.join(name), out.join(format!("{name}.unfinished"))]);
    files.into_iter().flatten().collect()
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.directory)?;
        write!(f, "{}", self.totals)?;
        match self.marker {
            MarkerSeen::Seen => writeln!(f, "the marker was seen")?,
            MarkerSeen::TimedOut => writeln!(f, "the marker was not seen in time")?,
        }
        self.write_types(f)?;
        self.write_unreadable(f)
    }
}

impl Summary {
    fn write_types(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.types.is_empty() {
            return Ok(());
        }
        let row = |f: &mut fmt::Formatter<'_>, cells: [&str; 4]| {
            let [name, files, size, lines] = cells;
            writeln!(f, "{name:<36} {files:>9} {size:>12} {lines:>13}")
        };
        writeln!(f)?;
        row(f, ["type", "files", "size", "lines"])?;
        for of in &self.types {
            let (files, lines) = (HumanCount(of.files), HumanCount(of.lines));
            let size = HumanBytes(of.bytes).to_string();
            row(
                f,
                [&of.r#type, &files.to_string(), &size, &lines.to_string()],
            )?;
        }
        match self.other_types {
            0 => Ok(()),
            more => writeln!(f, "and {more} more types"),
        }
    }

    fn write_unreadable(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unreadable = self.totals.unreadable;
        if unreadable > 0 {
            writeln!(f, "\n{} unreadable:", HumanCount(unreadable))?;
        }
        for Unreadable { path, reason } in &self.unreadable {
            writeln!(f, "  {path}: {reason}")?;
        }
        match unreadable - self.unreadable.len() as u64 {
            0 => Ok(()),
            more => writeln!(f, "  and {} more", HumanCount(more)),
        }
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} files, {}, {} lines, {} words",
            HumanCount(self.files),
            HumanBytes(self.bytes),
            HumanCount(self.lines),
            HumanCount(self.words)
        )?;
        let not_read = [
            (self.links, "symbolic links not followed"),
            (self.special, "pipes, sockets and devices not read"),
            (self.left_out, "files beyond the limit not read"),
        ];
        for (count, what) in not_read.into_iter().filter(|(count, _)| *count > 0) {
            writeln!(f, "{} {what}", HumanCount(count as u64))?;
        }
        Ok(())
    }
}
