//! Paths as text, and back, without loss: names of files are bytes, but records are text. A
//! backslash becomes `\\`. A byte that is not UTF-8, or belongs to a control character, becomes
//! `\xNN`.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The longest id that the engine accepts.
const MAX_ID_BYTES: usize = 255;

/// The path as text without control characters.
pub(crate) fn text_of(path: &Path) -> String {
    let bytes = bytes_of(path);
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                c if c.is_control() => escape(c.encode_utf8(&mut [0; 4]).as_bytes(), &mut text),
                c => text.push(c),
            }
        }
        escape(chunk.invalid(), &mut text);
    }
    text
}

fn escape(bytes: &[u8], text: &mut String) {
    for byte in bytes {
        write!(text, "\\x{byte:02x}").expect("writing to a string");
    }
}

/// The path from which [`text_of`] made this text.
pub(crate) fn path_of(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let escaped = &rest[at + 1..];
        let byte = escaped
            .strip_prefix('x')
            .and_then(|hex| u8::from_str_radix(hex.get(..2)?, 16).ok());
        let taken = match byte {
            Some(byte) => {
                bytes.push(byte);
                3
            }
            None => {
                bytes.push(b'\\');
                escaped.chars().next().map_or(0, char::len_utf8)
            }
        };
        rest = &escaped[taken..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    path_of_bytes(bytes)
}

/// The text as an id: if the text is too long, its beginning and the digest of all of it.
pub(crate) fn shortened(text: String) -> String {
    if text.len() <= MAX_ID_BYTES {
        return text;
    }
    let digest = Sha256::digest(&text);
    let digest: String = digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let start = text.floor_char_boundary(MAX_ID_BYTES - 1 - digest.len());
    format!("{}~{digest}", &text[..start])
}

#[cfg(unix)]
fn bytes_of(path: &Path) -> std::borrow::Cow<'_, [u8]> {
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes().into()
}

#[cfg(unix)]
fn path_of_bytes(bytes: Vec<u8>) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    std::ffi::OsString::from_vec(bytes).into()
}

/// On other systems names are Unicode. Invalid parts are not kept.
#[cfg(not(unix))]
fn bytes_of(path: &Path) -> std::borrow::Cow<'_, [u8]> {
    path.to_string_lossy().into_owned().into_bytes().into()
}

#[cfg(not(unix))]
fn path_of_bytes(bytes: Vec<u8>) -> PathBuf {
    String::from_utf8_lossy(&bytes).into_owned().into()
}
