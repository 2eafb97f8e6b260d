//! Who may open the files beside the database: no other user at first, then every user who may open
//! the database.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

/// Makes a file that no other user may open: a user who can read a file can hold its lock.
pub(super) fn make_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

pub(super) fn make_private_directory(path: &Path) -> io::Result<()> {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "there are no modes to set"))]
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Gives a file or directory the permissions of the database.
#[cfg(unix)]
pub(super) fn allow_like(database: &Path, path: &Path, directory: bool) {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    let allowed = std::fs::metadata(database).and_then(|found| {
        let mode = found.permissions().mode() & 0o666;
        // Who may read a directory must be able to enter it.
        let enter = if directory { (mode & 0o444) >> 2 } else { 0 };
        let permissions = std::fs::metadata(path)?.permissions();
        if permissions.mode() & 0o777 == mode | enter {
            return Ok(());
        }
        // Without the bit that hands a directory's group on, a shared directory would lose it.
        let kept = permissions.mode() & 0o2000;
        std::fs::set_permissions(path, Permissions::from_mode(mode | enter | kept))
    });
    if let Err(error) = allowed {
        tracing::debug!(path = %path.display(), %error, "its permissions are not the database's");
    }
}

#[cfg(not(unix))]
pub(super) fn allow_like(_: &Path, _: &Path, _: bool) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn nobody_may_open_a_file_before_it_is_known_who_may() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mode = |made: std::fs::Metadata| made.permissions().mode() & 0o777;
        let file = make_private(&directory.path().join("file")).expect("made");
        assert_eq!(mode(file.metadata().expect("read")), 0o600);
        let path = directory.path().join("directory");
        make_private_directory(&path).expect("made");
        assert_eq!(mode(path.metadata().expect("read")), 0o700);
    }
}
