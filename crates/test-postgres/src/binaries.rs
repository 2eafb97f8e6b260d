//! Where the server's programs are.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Names the directory of `initdb` and `postgres`.
const VARIABLE: &str = "ABIDE_TEST_POSTGRES_BIN";
/// The oldest version that Abide works with.
const OLDEST: u32 = 14;
/// Where packages put each version: Debian, Red Hat.
const PACKAGES: [(&str, &str); 2] = [("/usr/lib/postgresql", ""), ("/usr", "pgsql-")];

/// The directory of the programs: what the environment names, what PATH finds, or the newest that a
/// package installed.
pub(crate) fn find() -> Result<PathBuf, String> {
    if let Some(named) = std::env::var_os(VARIABLE) {
        let named = PathBuf::from(named);
        return match version(&named) {
            Some(found) if found >= OLDEST => Ok(named),
            Some(found) => Err(format!(
                "{VARIABLE} names PostgreSQL {found}; {OLDEST} is the oldest that will do"
            )),
            None => Err(format!(
                "{VARIABLE} names {}, where initdb and postgres are not",
                named.display()
            )),
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path)
        .find(|directory| version(directory).is_some_and(|version| version >= OLDEST));
    in_path.or_else(packaged).ok_or_else(|| {
        format!(
            "there is no PostgreSQL server of version {OLDEST} or newer here: scripts/postgres installs one or says \
             how; {VARIABLE} names the directory of one that is elsewhere"
        )
    })
}

fn packaged() -> Option<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = PACKAGES
        .iter()
        .filter_map(|(parent, prefix)| Some((std::fs::read_dir(parent).ok()?, prefix)))
        .flat_map(|(entries, prefix)| {
            entries
                .filter_map(Result::ok)
                .filter(move |entry| entry.file_name().to_string_lossy().starts_with(prefix))
        })
        .map(|entry| entry.path().join("bin"))
        .filter_map(|directory| Some((version(&directory)?, directory)))
        .filter(|(version, _)| *version >= OLDEST)
        .collect();
    found.sort();
    found.pop().map(|(_, directory)| directory)
}

/// The server's major version, if it is there.
fn version(directory: &Path) -> Option<u32> {
    if !directory.join("initdb").is_file() || !directory.join("postgres").is_file() {
        return None;
    }
    let output = Command::new(directory.join("postgres"))
        .arg("--version")
        .output()
        .ok()?;
    // postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)
    let said = String::from_utf8(output.stdout).ok()?;
    let number = said.split_whitespace().nth(2)?;
    let major: String = number.chars().take_while(char::is_ascii_digit).collect();
    major.parse().ok()
}
