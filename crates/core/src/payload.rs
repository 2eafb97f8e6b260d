//! Payloads: JSON texts that users' code reads and writes. The engine stores each once, in its
//! row, and history carries its length and digest.

mod canonical;
mod depth;

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

pub(crate) use depth::is_shallow;

/// The most bytes that a payload may have, unless the store is opened with another limit.
pub const DEFAULT_PAYLOAD_LIMIT_BYTES: usize = 4 * 1024 * 1024;

/// A JSON text. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(Arc<str>);

impl Payload {
    /// A payload of this text. The caller knows that the text is JSON: it was just serialised, or
    /// it comes from the store.
    pub fn from_json(json: impl Into<Arc<str>>) -> Payload {
        Payload(json.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, shared.
    pub fn into_json(self) -> Arc<str> {
        self.0
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the text is empty, which no JSON text is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The digest that history records for this payload.
    pub fn digest(&self) -> Digest {
        Digest {
            len: self.0.len() as u64,
            sha256: digest_hex(self.0.as_bytes()),
        }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(80) {
            Some((cut, _)) => write!(f, "Payload({}.. {} bytes)", &self.0[..cut], self.0.len()),
            None => write!(f, "Payload({})", self.0),
        }
    }
}

/// A payload's length and the first half of its SHA-256: enough to check that a stored payload is
/// the one that history names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Digest {
    /// Length in bytes.
    pub len: u64,
    /// 128 bits, as 32 hexadecimal digits.
    pub sha256: String,
}

/// The first 128 bits of the SHA-256 of `bytes`, in hexadecimal.
pub fn digest_hex(bytes: &[u8]) -> String {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digest = Sha256::digest(bytes);
    let mut text = String::with_capacity(32);
    for byte in &digest[..16] {
        text.push(char::from(HEX[usize::from(byte >> 4)]));
        text.push(char::from(HEX[usize::from(byte & 15)]));
    }
    text
}

/// The digest by which two starts of one instance are compared. Equal JSON values have equal
/// digests, in whatever way they were written; different values have different digests.
///
/// Objects are equal whatever the order of their keys. Numbers are compared by their exact value,
/// whatever their size, so `1`, `1.0` and `10e-1` are equal. An object with a repeated key differs
/// from an object that has the key once.
///
/// # Errors
///
/// The text is not JSON, contains half of a surrogate pair, or is nested more than 128 deep.
pub fn canonical_digest(json: &str) -> Result<String, serde_json::Error> {
    Ok(digest_hex(canonical::text(json)?.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_half_a_sha256() {
        let digest = Payload::from_json("abc").digest();
        assert_eq!(digest.len, 3);
        assert_eq!(digest.sha256, "ba7816bf8f01cfea414140de5dae2223");
    }

    #[test]
    fn a_long_payload_is_cut_when_debugged() {
        let payload = Payload::from_json(format!("\"{}\"", "é".repeat(500)));
        assert!(format!("{payload:?}").len() < 250);
    }
}
