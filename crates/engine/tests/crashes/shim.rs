//! The library that is preloaded into processes to kill them, or to make their writes fail, in the middle.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::child::Home;
use crate::place::written;

/// Built when it is asked for; see `shim.c`.
pub(crate) struct Shim {
    directory: TempDir,
}

impl Shim {
    pub(crate) fn build() -> Shim {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crashes/shim.c");
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let output = Command::new(compiler)
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .arg(directory.path().join("shim.so"))
            .arg(source)
            .arg("-ldl")
            .output()
            .expect("a C compiler");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        Shim { directory }
    }

    fn library(&self) -> PathBuf {
        self.directory.path().join("shim.so")
    }

    /// A process whose writes to its store are watched.
    pub(crate) fn process(&self, home: &Home, role: &str) -> Command {
        let mut process = home.process(role);
        let synced = home.file("synced");
        fs::create_dir_all(&synced).expect("made");
        process
            .env("LD_PRELOAD", self.library())
            .env("ABIDE_FILES", written(home))
            .env("ABIDE_COUNTS", home.file("counts"))
            .env("ABIDE_FAULT", home.file("fault"))
            .env("ABIDE_SYNCED", synced);
        process
    }

    /// How many calls a process made, and how many of them failed because they were made to.
    pub(crate) fn counts(&self, home: &Home) -> (u64, u64) {
        let counts = fs::read(home.file("counts")).expect("the process counted");
        let (calls, failed) = counts.split_at(size_of::<u64>());
        let number = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().expect("a number"));
        (number(calls), number(failed))
    }
}
