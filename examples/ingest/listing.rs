//! The files to read under a directory: every regular file, in the order of paths. Links are not
//! followed, so there are no loops. A path that cannot be read is part of the list, with the
//! reason.

use std::collections::HashSet;
use std::fs::{self, FileType};
use std::io;
use std::path::{Path, PathBuf};
use std::vec::IntoIter;

/// A file to read, or the reason why it cannot be read.
pub(crate) struct Found {
    /// The path below the directory.
    pub(crate) path: PathBuf,
    pub(crate) problem: Option<String>,
}

/// A directory's files, at most as many as requested, and the number of further files.
#[derive(Default)]
pub(crate) struct Listing {
    pub(crate) files: Vec<Found>,
    /// Files beyond the limit.
    pub(crate) left_out: usize,
    pub(crate) links: usize,
    /// Pipes, sockets and devices, which may have no end.
    pub(crate) special: usize,
}

/// A directory's entry. Not a `DirEntry`, because that type keeps its directory open.
struct Entry {
    path: PathBuf,
    kind: io::Result<FileType>,
}

struct Walk<'a> {
    root: &'a Path,
    own: &'a HashSet<PathBuf>,
    limit: usize,
    listing: Listing,
}

/// Lists `root`, which must be readable itself. Leaves out the paths in `own`, because this program
/// writes them.
pub(crate) fn list(root: &Path, limit: usize, own: &HashSet<PathBuf>) -> io::Result<Listing> {
    let mut walk = Walk {
        root,
        own,
        limit,
        listing: Listing::default(),
    };
    // A stack on the heap, because directories may be nested deeper than a thread's stack.
    let mut open = vec![walk.entries(Path::new(""))?];
    while let Some(directory) = open.last_mut() {
        let Some(entry) = directory.next() else {
            open.pop();
            continue;
        };
        if let Some(inner) = walk.visit(&entry) {
            open.push(inner);
        }
    }
    Ok(walk.listing)
}

impl Walk<'_> {
    /// Adds the entry to the list, or returns the entries in it.
    fn visit(&mut self, entry: &Entry) -> Option<IntoIter<Entry>> {
        let path = &entry.path;
        match &entry.kind {
            Err(error) => self.cannot(path, error),
            Ok(_) if self.own.contains(&self.root.join(path)) => {}
            Ok(kind) if kind.is_dir() => match self.entries(path) {
                Ok(inner) => return Some(inner),
                Err(error) => self.cannot(path, &error),
            },
            Ok(kind) if kind.is_symlink() => self.listing.links += 1,
            Ok(kind) if !kind.is_file() => self.listing.special += 1,
            Ok(_) => self.add(path, None),
        }
        None
    }

    /// The entries of a directory, in the order of names.
    fn entries(&mut self, directory: &Path) -> io::Result<IntoIter<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(self.root.join(directory))? {
            match entry {
                Ok(entry) => entries.push(Entry {
                    path: directory.join(entry.file_name()),
                    kind: entry.file_type(),
                }),
                Err(error) => self.cannot(directory, &error),
            }
        }
        entries.sort_unstable_by(|a, b| a.path.as_os_str().cmp(b.path.as_os_str()));
        Ok(entries.into_iter())
    }

    fn cannot(&mut self, path: &Path, error: &io::Error) {
        self.add(path, Some(format!("can't be listed: {error}")));
    }

    fn add(&mut self, path: &Path, problem: Option<String>) {
        if self.listing.files.len() < self.limit {
            let path = path.to_owned();
            self.listing.files.push(Found { path, problem });
        } else {
            self.listing.left_out += 1;
        }
    }
}
