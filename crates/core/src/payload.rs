//! Payloads: JSON texts that users' code reads and writes. The engine stores each once, in its
//! row, and history carries its length and digest.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// The most bytes a payload may have unless the store is opened with another limit.
pub const DEFAULT_PAYLOAD_LIMIT_BYTES: usize = 4 * 1024 * 1024;

/// A JSON text. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(Arc<str>);

impl Payload {
    /// A payload of this text, which the caller knows to be JSON: it was just serialised, or it
    /// comes from the store.
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

    /// What history says of this payload.
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

/// A payload's length and the first half of its SHA-256: enough to tell that a stored payload is
/// the one that history speaks of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Digest {
    /// Bytes.
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

/// The digest by which two starts of one instance are compared: object keys sorted, whitespace
/// gone, so that equal values have equal digests however they were written.
pub fn canonical_digest(json: &str) -> Result<String, serde_json::Error> {
    // serde_json's map is sorted unless `preserve_order` is on somewhere in the build, so the
    // order is made here rather than relied on.
    fn write(value: &serde_json::Value, out: &mut String) {
        match value {
            serde_json::Value::Object(map) => {
                let mut keys: Vec<&String> = map.keys().collect();
                keys.sort_unstable();
                out.push('{');
                for (i, key) in keys.into_iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    out.push_str(&serde_json::Value::from(key.as_str()).to_string());
                    out.push(':');
                    write(&map[key], out);
                }
                out.push('}');
            }
            serde_json::Value::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    write(item, out);
                }
                out.push(']');
            }
            scalar => out.push_str(&scalar.to_string()),
        }
    }
    let value: serde_json::Value = serde_json::from_str(json)?;
    let mut canonical = String::with_capacity(json.len());
    write(&value, &mut canonical);
    Ok(digest_hex(canonical.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_have_equal_digests_however_written() {
        let one = canonical_digest(r#"{"b":[1,{"y":null,"x":2}],"a":"z"}"#).expect("json");
        let two =
            canonical_digest("{ \"a\": \"z\", \"b\": [1, {\"x\":2, \"y\":null}] }").expect("json");
        let other = canonical_digest(r#"{"b":[1,{"y":null,"x":3}],"a":"z"}"#).expect("json");
        assert_eq!(one, two);
        assert_ne!(one, other);
        assert!(canonical_digest("{").is_err());
    }

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
