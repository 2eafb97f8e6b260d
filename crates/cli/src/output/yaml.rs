//! YAML, made from the same JSON as the other formats, so that the formats never differ.
//!
//! The YAML writer escapes control characters, but not the other characters that should not be sent
//! to a terminal. Such characters are marked before writing, in a way that makes the writer quote
//! the string, and escaped afterwards.

use std::fmt::Write;

use serde::Serialize;
use serde_transcode::Transcoder;

use super::json::{Layout, lay_out};
use super::text::is_unsafe;

/// Stands on both sides of a marked character. It is an unsafe character itself, so it is marked in
/// data too, and the writer's input contains it only as a mark.
const MARK: char = '\u{fdd0}';

/// Makes the writer quote the string, in which it then appears as `\uFFFF`.
const QUOTE: char = '\u{ffff}';

/// A record as a YAML document.
pub(crate) fn text(record: &impl Serialize) -> String {
    let json = serde_json::to_string(record).expect("records have string keys");
    let marked = mark_strings(&json);
    let mut reader = serde_json::Deserializer::from_str(&marked);
    match serde_saphyr::to_string(&Transcoder::new(&mut reader)) {
        Ok(yaml) => escape_marked(&yaml),
        // JSON is valid YAML too, in case a number is beyond the writer's range.
        Err(_) => lay_out(&json, Layout::Line) + "\n",
    }
}

/// Marks the unsafe characters in the strings of a JSON text, whether they are escaped there or
/// not.
fn mark_strings(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(start) = rest.find('"') {
        let end = string_end(&rest[start..]).map_or(rest.len(), |length| start + length);
        let string = &rest[start..end];
        out.push_str(&rest[..start]);
        match string.contains('\\') || string.contains(is_unsafe) {
            true => out.push_str(&mark_string(string)),
            false => out.push_str(string),
        }
        rest = &rest[end..];
    }
    out + rest
}

/// The end of the string that begins here.
fn string_end(json: &str) -> Option<usize> {
    let mut is_escaped = false;
    for (at, byte) in json.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn mark_string(string: &str) -> String {
    let Ok(data) = serde_json::from_str::<String>(string) else {
        return string.to_owned();
    };
    let mut marked = String::with_capacity(data.len());
    for character in data.chars() {
        match character {
            control if control.is_control() => marked.push(control),
            other if is_unsafe(other) => {
                write!(marked, "{MARK}{QUOTE}{:08x}{MARK}", u32::from(other))
                    .expect("strings take everything");
            }
            other => marked.push(other),
        }
    }
    serde_json::to_string(&marked).expect("a string serialises")
}

/// What was marked, as YAML escapes it.
fn escape_marked(yaml: &str) -> String {
    let escape = |(at, part): (usize, &str)| match part.strip_prefix("\\uFFFF") {
        Some(code) if at % 2 == 1 => format!("\\U{code}"),
        _ => part.to_owned(),
    };
    yaml.split(MARK).enumerate().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_that_look_like_something_else_are_quoted() {
        let record =
            serde_json::json!([{"a": "yes", "b": "1", "c": "\u{1b}[31m", "d": [], "e": 1.5}]);
        assert_eq!(
            text(&record),
            "- a: \"yes\"\n  b: \"1\"\n  c: \"\\e[31m\"\n  d: []\n  e: 1.5\n"
        );
    }

    #[test]
    fn invisible_characters_are_escaped() {
        let record = serde_json::json!({
            "a\u{202e}": "x\u{200b}y",
            "b": "\u{e0041} \u{fdd0}\u{ffff}",
            "c": "a \\uFFFF0000200b stays",
        });
        assert_eq!(
            text(&record),
            "\"a\\U0000202e\": \"x\\U0000200by\"\nb: \"\\U000e0041 \\U0000fdd0\\U0000ffff\"\n\
             c: a \\uFFFF0000200b stays\n"
        );
        let escaped = super::super::json::raw(r#""x\u200by""#);
        assert_eq!(text(&escaped), "\"x\\U0000200by\"\n");
    }
}
