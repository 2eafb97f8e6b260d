//! Processes: as whom they run, what they are sent, and whether they are gone.

use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Who runs the server: this process's user, or somebody without rights where that is root, as whom
/// PostgreSQL refuses to run.
#[derive(Clone, Copy)]
pub(crate) struct RunAs(Option<(u32, u32)>);

impl RunAs {
    /// Of the owner of a directory just made.
    pub(crate) fn of(own: &Path) -> Result<RunAs, String> {
        let metadata = std::fs::metadata(own).map_err(|error| error.to_string())?;
        if metadata.uid() != 0 {
            return Ok(RunAs(None));
        }
        let users = std::fs::read_to_string("/etc/passwd").map_err(|error| error.to_string())?;
        let find = |name: &str| {
            let user = users.lines().find_map(|line| {
                let mut fields = line.split(':');
                (fields.next() == Some(name)).then(|| (fields.nth(1), fields.next()))
            });
            match user {
                Some((Some(uid), Some(gid))) => Some((uid.parse().ok()?, gid.parse().ok()?)),
                _ => None,
            }
        };
        let user = find("postgres").or_else(|| find("nobody"));
        user.map(|user| RunAs(Some(user))).ok_or_else(|| {
            "PostgreSQL does not run as root, and there is no user `postgres` or `nobody`"
                .to_owned()
        })
    }

    pub(crate) fn own(self, path: &Path) -> std::io::Result<()> {
        match self.0 {
            Some((uid, gid)) => chown(path, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }

    pub(crate) fn apply(self, command: &mut Command) {
        if let Some((uid, gid)) = self.0 {
            command.gid(gid).uid(uid);
        }
    }
}

/// Sends a signal. A process that is gone needs none.
pub fn send(signal: &str, process: u32) {
    // The shell's own: a small system may have no /bin/kill.
    let status = Command::new("sh")
        .args(["-c", "kill -s \"$1\" \"$2\" 2>/dev/null || true", "sh"])
        .arg(signal)
        .arg(process.to_string())
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "sending a signal takes a shell"
    );
}

/// The processes that a process started and that run still.
pub(crate) fn children(process: u32) -> Vec<u32> {
    let output = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output();
    let listing = match output {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(_) => return children_by_proc(process),
    };
    listing
        .lines()
        .filter_map(|line| {
            let mut numbers = line.split_whitespace().map(str::parse::<u32>);
            Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
        })
        .filter(|(_, parent)| *parent == process)
        .map(|(child, _)| child)
        .collect()
}

/// Where there is no `ps`.
fn children_by_proc(process: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|candidate| {
            let (_, parent) = state(*candidate).unwrap_or_default();
            parent == process
        })
        .collect()
}

/// A process's state and parent, as the system tells.
fn state(process: u32) -> Option<(char, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name before may hold spaces and parentheses.
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

pub(crate) fn is_running(process: u32) -> bool {
    if Path::new("/proc/self").exists() {
        // A process that nobody has waited for yet is gone all the same.
        return state(process).is_some_and(|(state, _)| state != 'Z');
    }
    let status = Command::new("sh")
        .args(["-c", "kill -0 \"$1\" 2>/dev/null", "sh"])
        .arg(process.to_string())
        .status();
    status.is_ok_and(|status| status.success())
}

/// Waits until it is so. The system tells nobody but the parent that a process has ended, so this asks.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    const LIMIT: Duration = Duration::from_secs(120);
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LIMIT, "{what} takes more than {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn wait_until_gone(processes: &[u32]) {
    wait_until("the end of a server's processes", || {
        !processes.iter().any(|process| is_running(*process))
    });
}
