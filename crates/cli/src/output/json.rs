//! JSON as it is written: one layout for records and for the payloads in them, numbers digit by
//! digit as they were stored, and every control character escaped, so that a terminal shows data
//! and never obeys it.

use std::fmt::Write;

use serde::Serialize;
use serde_json::value::RawValue;

use super::text;

/// How a document is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// On one line.
    Line,
    /// Indented by two spaces a level, from this level on.
    Indented(usize),
}

/// A stored JSON text inside a record.
pub(crate) fn raw(json: &str) -> Box<RawValue> {
    let stored = RawValue::from_string(json.to_owned());
    // What is no JSON is shown as a string rather than refused.
    stored.unwrap_or_else(|_| serde_json::value::to_raw_value(json).expect("a string serialises"))
}

/// A record as JSON text.
pub(crate) fn text(record: &impl Serialize, layout: Layout) -> String {
    let json = serde_json::to_string(record).expect("records have string keys");
    lay_out(&json, layout)
}

/// Lays a JSON text out anew. Everything but whitespace and characters that must be escaped is
/// kept as it is.
pub(crate) fn lay_out(json: &str, layout: Layout) -> String {
    let mut out = String::with_capacity(json.len() + json.len() / 4);
    let mut level = match layout {
        Layout::Line => 0,
        Layout::Indented(level) => level,
    };
    let new_line = |out: &mut String, level: usize| {
        if layout != Layout::Line {
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
                level = level.saturating_sub(1);
                new_line(&mut out, level);
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
                // All of them are in the first plane, so one escape says it.
                write!(out, "\\u{:04x}", u32::from(unsafe_one)).expect("strings take everything");
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
    fn control_characters_that_json_allows_are_escaped() {
        let json = serde_json::to_string("a\u{7f}\u{9b}31m\u{202e}b\u{1b}\\").expect("a string");
        assert_eq!(
            lay_out(&json, Layout::Line),
            r#""a\u007f\u009b31m\u202eb\u001b\\""#
        );
    }

    #[test]
    fn what_is_no_json_becomes_a_string() {
        assert_eq!(raw("{").get(), r#""{""#);
        assert_eq!(raw("[1, 2]").get(), "[1, 2]");
    }
}
