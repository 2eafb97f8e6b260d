//! The user who runs this program, for history.

use abide_core::text::check_name;

/// The actor for a command without `--actor`: `user:` and the login name, or `uid:` and the user's
/// number if the user has no name, as in many containers.
pub(crate) fn actor() -> String {
    let variables = ["USER", "LOGNAME", "USERNAME"].iter();
    let name = variables
        .filter_map(|variable| std::env::var(variable).ok())
        .find(|name| is_name(name));
    match name {
        Some(name) => format!("user:{name}"),
        None => of_process().unwrap_or_else(|| "user:unknown".to_owned()),
    }
}

/// Whether history can store it after `user:`.
fn is_name(name: &str) -> bool {
    !name.is_empty() && check_name("user", &format!("user:{name}")).is_ok()
}

/// The user of this process, as the system knows it.
#[cfg(unix)]
fn of_process() -> Option<String> {
    use std::os::unix::fs::MetadataExt;

    let uid = std::fs::metadata("/proc/self").ok()?.uid();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    Some(actor_of(&users, uid))
}

#[cfg(not(unix))]
fn of_process() -> Option<String> {
    None
}

/// Finds the user in the lines of the system's list of users.
#[cfg(unix)]
fn actor_of(users: &str, uid: u32) -> String {
    let uid = uid.to_string();
    let found = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number == uid && is_name(name)).then_some(name)
    });
    match found {
        Some(name) => format!("user:{name}"),
        None => format!("uid:{uid}"),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_user_without_a_name_is_a_number() {
        let users = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:\nodd\n";
        assert_eq!(actor_of(users, 1000), "user:ann");
        assert_eq!(actor_of(users, 0), "user:root");
        assert_eq!(actor_of(users, 100), "uid:100");
        assert_eq!(actor_of("", 7), "uid:7");
    }
}
