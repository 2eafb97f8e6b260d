//! What distinguishes processes and sessions.

/// A word that no other process has.
pub(super) fn token() -> String {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let random = RandomState::new().build_hasher().finish();
    format!("{:x}-{random:x}", std::process::id())
}
