//! Which file a database is, told by device and inode, since a name can come to mean another file.
//! SQLite finds a database's log by the database's name, so each of these loses what was committed: a
//! second name for the file, another file under its name, a log that was deleted. The first is refused
//! when the file is opened, the others before a commit and again before the commit is acknowledged.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::OnceLock;

use crate::error::StoreError;

use super::connection::Database;

/// A file as the system knows it, whatever its names are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// The file of that name; none if there is no such file.
    #[cfg(unix)]
    pub(crate) fn of(path: &Path) -> std::io::Result<Option<FileId>> {
        use std::os::unix::fs::MetadataExt;
        match std::fs::metadata(path) {
            Ok(found) => Ok(Some(FileId {
                device: found.dev(),
                inode: found.ino(),
            })),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where the system tells no inodes, open files can be neither deleted nor replaced.
    #[cfg(not(unix))]
    pub(crate) fn of(_: &Path) -> std::io::Result<Option<FileId>> {
        Ok(None)
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.device, self.inode)
    }
}

impl FromStr for FileId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<FileId, Self::Err> {
        let (device, inode) = text.split_once(':').unwrap_or((text, ""));
        Ok(FileId {
            device: device.parse()?,
            inode: inode.parse()?,
        })
    }
}

/// Refuses a database file that can be reached by two names in different places.
pub(crate) fn refuse_second_name(database: &Database) -> Result<(), StoreError> {
    let refuse = |detail: String| {
        Err(StoreError::CannotOpen {
            path: database.name(),
            detail,
        })
    };
    let path = match std::fs::canonicalize(&*database.path) {
        Ok(path) if path.is_file() => path,
        // There is no such file yet, or something is in its way, which opening it tells.
        _ => return Ok(()),
    };
    let links = links(&path);
    if links > 1 {
        return refuse(format!(
            "the file has {links} names (hard links), and its log is beside only one of them: what \
             is written by one name is lost by another; find the others with `find -samefile {path}` \
             and remove them, or replace each with a copy or a symbolic link",
            path = path.display(),
        ));
    }
    if is_mount_point(&path) {
        return refuse(
            "the file is mounted alone (a bind mount), so that its log is not beside the original: what \
             is written here is lost there; mount its directory instead"
                .to_owned(),
        );
    }
    Ok(())
}

#[cfg(unix)]
fn links(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).map_or(0, |found| found.nlink())
}

#[cfg(not(unix))]
fn links(_: &Path) -> u64 {
    1
}

/// Whether something is mounted at this very path. Where the system has no list of mounts, nothing is.
fn is_mount_point(path: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    path.to_str().is_some_and(|path| lists_mount(&mounts, path))
}

/// The fifth field of each line is where something is mounted, with a few characters in octal.
fn lists_mount(mounts: &str, path: &str) -> bool {
    let path = path.replace('\\', "\\134");
    let path = path.replace(' ', "\\040").replace('\t', "\\011");
    let path = path.replace('\n', "\\012");
    let mut places = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    places.any(|place| place == path)
}

/// The files of an open database.
#[derive(Debug)]
pub(crate) struct Identity {
    files: Vec<(PathBuf, FileId)>,
    /// What was found wrong first. It stays: once another file had the name, nobody knows what was
    /// written to which.
    gone: OnceLock<String>,
}

impl Identity {
    /// Of a database that a connection has read: from then on until that is closed, SQLite neither
    /// deletes nor replaces the log and its index.
    pub(crate) fn of(database: &Database) -> Result<Identity, StoreError> {
        let mut files = Vec::new();
        for suffix in ["", "-wal", "-shm"] {
            let path = database.beside(suffix);
            let id = FileId::of(&path).map_err(|error| cannot_tell(database, &path, &error))?;
            files.extend(id.map(|id| (path, id)));
        }
        Ok(Identity {
            files,
            gone: OnceLock::new(),
        })
    }

    /// What became of the files, if their names no longer lead to them.
    pub(crate) fn gone(&self) -> Option<&str> {
        if self.gone.get().is_none()
            && let Some(found) = self.look()
        {
            tracing::error!("{found}: nothing more is written");
            self.gone.set(found).ok();
        }
        self.gone.get().map(String::as_str)
    }

    fn look(&self) -> Option<String> {
        self.files.iter().find_map(|(path, id)| {
            let what = match FileId::of(path) {
                Ok(Some(found)) if found == *id => return None,
                Ok(Some(_)) => "was replaced by another file",
                Ok(None) => "was deleted or renamed",
                // The system cannot tell, which is no sign of another file.
                Err(_) => return None,
            };
            Some(format!("{} {what}", path.display()))
        })
    }
}

fn cannot_tell(database: &Database, path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::CannotOpen {
        path: database.name(),
        detail: format!("{} cannot be looked at: {error}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_found_by_its_place_whatever_characters_it_has() {
        let mounts = "36 35 98:0 / / rw,noatime master:1 - ext4 /dev/root rw\n\
                      90 36 98:0 /a.db /srv/my\\040data/back\\134slash.db rw - ext4 /dev/root rw\n";
        assert!(lists_mount(mounts, "/srv/my data/back\\slash.db"));
        assert!(lists_mount(mounts, "/"));
        assert!(!lists_mount(mounts, "/srv"));
        assert!(!lists_mount(mounts, "/a.db"));
        assert!(!lists_mount("", "/srv"));
    }

    #[test]
    fn a_file_id_is_read_as_it_was_written() {
        let id = FileId {
            device: 42,
            inode: u64::MAX,
        };
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "7", "7:", ":7", "7:x"] {
            assert!(text.parse::<FileId>().is_err(), "{text}");
        }
    }
}
