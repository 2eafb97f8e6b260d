//! JSON output: one layout for records and for the payloads in them. Numbers keep every stored
//! digit, and every control character is escaped, so that a terminal shows data and never obeys it.

use std::fmt::Write;

use serde::Serialize;
use serde_json::value::RawValue;

use super::text;

/// How a document is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// On one line.
    Line,
    /// Indented by two spaces for each level, starting with this level.
    Indented(usize),
}

/// The deepest level that is indented; deeper values stay on one line. No payload that is written
/// now is as deep, but an older store may contain one, and its indentation would be as large as the
/// square of its depth.
const MOST_LEVELS: usize = 128;

/// A stored JSON text inside a record.
pub(crate) fn raw(json: &str) -> Box<RawValue> {
    let stored = RawValue::from_string(json.to_owned());
    // A text that is not JSON is shown as a string rather than refused.
    stored.unwrap_or_else(|_| serde_json::value::to_raw_value(json).expect("a string serialises"))
}

/// A record as JSON text.
pub(crate) fn text(record: &impl Serialize, layout: Layout) -> String {
    let json = serde_json::to_string(record).expect("records have string keys");
    lay_out(&json, layout)
}

/// Lays out a JSON text. Changes only whitespace, and escapes characters that must be escaped.
pub(crate) fn lay_out(json: &str, layout: Layout) -> String {
    let mut out = String::with_capacity(json.len() + json.len() / 4);
    let mut level = match layout {
        Layout::Line => 0,
        Layout::Indented(level) => level,
    };
    let new_line = |out: &mut String, level: usize| {
        if layout != Layout::Line && level <= MOST_LEVELS {
            out.push('\n');
            out.extend(std::iter::repeat_n("  ", level));
        }
    };
    let mut characters = json.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' => copy_string(&mut characters, &mut out),
            '{' | '[' => {
                out.push(character);
                while characters
                    .next_if(|next| next.is_ascii_whitespace())
                    .is_some()
                {}
                match characters.next_if(|&next| next == '}' || next == ']') {
                    Some(close) => out.push(close),
                    None => {
                        level += 1;
                        new_line(&mut out, level);
                    }
                }
            }
            '}' | ']' => {
                if level <= MOST_LEVELS {
                    new_line(&mut out, level.saturating_sub(1));
                }
                level = level.saturating_sub(1);
                out.push(character);
            }
            ',' => {
                out.push(',');
                new_line(&mut out, level);
            }
            ':' => out.push_str(if layout == Layout::Line { ":" } else { ": " }),
            other if other.is_ascii_whitespace() => {}
            other => out.push(other),
        }
    }
    out
}

/// Copies a string whose opening quote was just read.
fn copy_string(characters: &mut impl Iterator<Item = char>, out: &mut String) {
    out.push('"');
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                out.push('\\');
                out.extend(characters.next());
            }
            '"' => break,
            unsafe_one if text::is_unsafe(unsafe_one) => {
                for unit in unsafe_one.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}").expect("strings take everything");
                }
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_changes_whitespace_only() {
        let json = "{\"b\" :[1.0, 1e400,\n{}],\"a\":{\"x\":[ ]},\"s\":\"a: [b], \\\"{\"}";
        assert_eq!(
            lay_out(json, Layout::Line),
            r#"{"b":[1.0,1e400,{}],"a":{"x":[]},"s":"a: [b], \"{"}"#
        );
        assert_eq!(
            lay_out(json, Layout::Indented(0)),
            "{\n  \"b\": [\n    1.0,\n    1e400,\n    {}\n  ],\n  \"a\": {\n    \"x\": []\n  },\n  \"s\": \"a: [b], \\\"{\"\n}"
        );
    }

    #[test]
    fn a_deep_text_is_laid_out_in_not_much_more_space_than_it_has() {
        const DEPTH: usize = 100_000;
        let json = "[".repeat(DEPTH) + &"]".repeat(DEPTH);
        let laid_out = lay_out(&json, Layout::Indented(0));
        assert!(laid_out.len() < 3 * json.len(), "{}", laid_out.len());
        assert_eq!(lay_out(&laid_out, Layout::Line), json);
        let last = laid_out.lines().last();
        assert_eq!(last, Some("]"), "what can be indented is");
    }

    #[test]
    fn control_characters_that_json_allows_are_escaped() {
        let json = serde_json::to_string("a\u{7f}\u{9b}31m\u{202e}b\u{1b}\\").expect("a string");
        assert_eq!(
            lay_out(&json, Layout::Line),
            r#""a\u007f\u009b31m\u202eb\u001b\\""#
        );
        let json = serde_json::to_string("\u{200b}\u{e0041}").expect("a string");
        let laid_out = lay_out(&json, Layout::Line);
        assert_eq!(laid_out, r#""\u200b\udb40\udc41""#);
        let read: String = serde_json::from_str(&laid_out).expect("JSON");
        assert_eq!(read, "\u{200b}\u{e0041}");
    }

    #[test]
    fn what_is_no_json_becomes_a_string() {
        assert_eq!(raw("{").get(), r#""{""#);
        assert_eq!(raw("[1, 2]").get(), "[1, 2]");
    }
}
