//! The second sign of life beside a worker's lock. A lock lives as long as any process has the file
//! open: a child that a worker's process forked, or any process that may read the file, can hold the lock
//! of a dead worker. So a worker's file also says which process the worker belongs to, and Linux says
//! whether that process still exists.
//!
//! Where the system does not say, the lock alone counts: a worker is never taken for dead by a guess.

use std::fmt;
use std::path::Path;

/// A process, told from a later one with the same number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pid: u32,
    /// In ticks since the system was started.
    started: u64,
    /// Within which the number means this process, and the ticks this time: containers have their own.
    namespace: String,
}

impl Process {
    /// This process; none where the system does not describe it.
    pub(crate) fn this() -> Option<Process> {
        Process::of(std::process::id())
    }

    /// A process that this one can see.
    pub(crate) fn of(pid: u32) -> Option<Process> {
        Some(Process {
            pid,
            started: Stat::read(pid)?.started,
            namespace: own_namespace()?,
        })
    }

    /// Whether the process certainly no longer exists. False where that cannot be told.
    pub(crate) fn is_gone(&self) -> bool {
        // In another namespace the number means another process. Where the first process is hidden,
        // others are as well.
        if own_namespace().is_none_or(|own| own != self.namespace) || Stat::read(1).is_none() {
            return false;
        }
        match Stat::read(self.pid) {
            None => !Path::new(&format!("/proc/{}", self.pid)).exists(),
            Some(stat) => stat.started != self.started || stat.has_ended(self.pid),
        }
    }

    /// The number, for people.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// The reverse of `Display`.
    pub(crate) fn parse(text: &str) -> Option<Process> {
        let mut words = text.split(' ');
        let process = Process {
            pid: words.next()?.parse().ok()?,
            started: words.next()?.parse().ok()?,
            namespace: words.next()?.to_owned(),
        };
        words.next().is_none().then_some(process)
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.pid, self.started, self.namespace)
    }
}

/// Of this process; none if `/proc` is of another namespace, as in a sandbox that kept the one outside:
/// there a number is somebody else's.
fn own_namespace() -> Option<String> {
    let number = std::fs::read_link("/proc/self").ok()?;
    if number.to_str()?.parse() != Ok(std::process::id()) {
        return None;
    }
    let link = |kind: &str| std::fs::read_link(format!("/proc/self/ns/{kind}")).ok();
    // The system may be too old for namespaces of time.
    let time = link("time").unwrap_or_default();
    Some(format!("{},{}", link("pid")?.to_str()?, time.to_str()?))
}

/// What matters of `/proc/<pid>/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    started: u64,
}

impl Stat {
    fn read(pid: u32) -> Option<Stat> {
        Stat::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The second field is the program's name in parentheses, which may have any characters in it.
    fn parse(text: &str) -> Option<Stat> {
        let (_, fields) = text.rsplit_once(") ")?;
        let mut fields = fields.split(' ');
        Some(Stat {
            state: fields.next()?.chars().next()?,
            started: fields.nth(18)?.parse().ok()?,
        })
    }

    /// Whether the process has ended and only its parent has not asked for its status yet. The first
    /// thread of a process that lives may have ended as well.
    fn has_ended(&self, pid: u32) -> bool {
        let threads = || std::fs::read_dir(format!("/proc/{pid}/task"));
        matches!(self.state, 'Z' | 'X') && threads().is_ok_and(|threads| threads.count() <= 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_a_process_is_found_behind_any_name() {
        let stat = "77 (a) Z (b) S 1 77 77 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 9 9";
        let (state, started) = ('S', 4242);
        assert_eq!(Stat::parse(stat), Some(Stat { state, started }));
        assert_eq!(Stat::parse("77 (a) S 1"), None);
    }

    #[test]
    fn a_process_is_read_as_it_was_written() {
        let process = Process {
            pid: 7,
            started: 42,
            namespace: "pid:[4026531836]".to_owned(),
        };
        assert_eq!(Process::parse(&process.to_string()), Some(process));
        for text in ["", "7", "7 42", "7 x pid:[1]", "7 42 pid:[1] more"] {
            assert_eq!(Process::parse(text), None, "{text}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_is_gone_once_it_has_ended_and_not_before() {
        let mut child = std::process::Command::new("sleep");
        let mut child = child.arg("100000").spawn().expect("a program that waits");
        let process = Process::of(child.id()).expect("described");
        assert!(!process.is_gone());
        assert!(!Process::this().expect("described").is_gone());
        let elsewhere = Process {
            namespace: "pid:[1]".to_owned(),
            ..process.clone()
        };
        let later = Process {
            started: process.started + 1,
            ..process.clone()
        };
        assert!(later.is_gone(), "another process has the number now");
        child.kill().expect("killed");
        child.wait().expect("ended");
        assert!(process.is_gone());
        assert!(!elsewhere.is_gone(), "that cannot be told from here");
    }
}
