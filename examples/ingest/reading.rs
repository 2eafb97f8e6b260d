//! Reading one file, start to end, in bounded memory.

use std::fmt::Write;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Bytes read at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// How many bytes at the start are checked to tell text from data.
const SNIFFED_BYTES: usize = 8 * 1024;

/// The facts about a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FileInfo {
    /// The path below the directory, as text.
    pub(crate) path: String,
    pub(crate) bytes: u64,
    /// Newline characters, as `wc -l` counts them.
    pub(crate) lines: u64,
    /// Runs of bytes that are not ASCII white space.
    pub(crate) words: u64,
    /// By the name's extension; without a known extension, by the first bytes.
    pub(crate) r#type: String,
    /// In hexadecimal digits.
    pub(crate) sha256: String,
}

/// Reads `file`, whose name in the report is `path`, until its end or until `stop` returns true.
pub(crate) fn read(file: &Path, path: &str, stop: impl Fn() -> bool) -> io::Result<FileInfo> {
    // The path may be another kind of file since it was listed, and some kinds have no end.
    let metadata = fs::symlink_metadata(file)?;
    if !metadata.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "is no longer a regular file",
        ));
    }
    let mut source = File::open(file)?;
    let expected_bytes = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    let mut chunk = vec![0; expected_bytes.clamp(1, CHUNK_BYTES)];
    let mut counts = Counts::default();
    let mut digest = Sha256::new();
    let mut looks_like_text = true;
    loop {
        let length = match source.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let read = &chunk[..length];
        if counts.bytes == 0 {
            looks_like_text = !read[..length.min(SNIFFED_BYTES)].contains(&0);
        }
        counts.add(read);
        digest.update(read);
        if stop() {
            return Err(io::Error::other("the execution is stopping"));
        }
    }
    Ok(FileInfo {
        path: path.to_owned(),
        bytes: counts.bytes,
        lines: counts.lines,
        words: counts.words,
        r#type: type_of(file, counts.bytes, looks_like_text),
        sha256: hex(&digest.finalize()),
    })
}

fn type_of(file: &Path, bytes: u64, looks_like_text: bool) -> String {
    let by_content = match (bytes, looks_like_text) {
        (0, _) => "inode/x-empty",
        (_, true) => "text/plain",
        (_, false) => "application/octet-stream",
    };
    let by_name = mime_guess::from_path(file).first_raw();
    by_name.unwrap_or(by_content).to_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string");
        text
    })
}

/// Counts that continue from chunk to chunk.
#[derive(Default)]
struct Counts {
    bytes: u64,
    lines: u64,
    words: u64,
    in_word: bool,
}

impl Counts {
    fn add(&mut self, chunk: &[u8]) {
        self.bytes += chunk.len() as u64;
        for byte in chunk {
            let is_space = matches!(byte, b' ' | b'\t'..=b'\r');
            self.words += u64::from(!is_space && !self.in_word);
            self.in_word = !is_space;
            self.lines += u64::from(*byte == b'\n');
        }
    }
}

/// Whether another try would give the same error, because the file is the cause and not the moment.
pub(crate) fn is_final(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::InvalidFilename
            | io::ErrorKind::Unsupported
    )
}
