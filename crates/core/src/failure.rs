//! The stored part of an attempt's error: enough to show it, to decide on a retry, and to give a
//! caller the typed error back. The engine turns errors into failures; nothing here retries.

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::payload::is_shallow;
use crate::text::{MAX_PAYLOAD_DEPTH, check_payload, is_default};

/// Most sources kept of an error. Deeper ones are left out.
pub const MAX_CHAIN: usize = 32;

/// The beginning of the reason why no attempt followed although the task's policy had one left.
pub const NOT_RETRIED: &str = "not retried: ";

/// The kinds of failure that the engine itself reports. A task's own errors carry kinds of its own.
pub mod kinds {
    /// The task's function panicked.
    pub const PANIC: &str = "panic";
    /// The attempt ran longer, in active time, than its limit.
    pub const TIMEOUT: &str = "timeout";
    /// The function no longer matches what it recorded.
    pub const NONDETERMINISTIC: &str = "nondeterministic";
    /// An output, signal or recorded result is larger than the payload limit.
    pub const PAYLOAD_TOO_LARGE: &str = "payload_too_large";
    /// A payload contains what no backend can store: NUL, or half of a surrogate pair.
    pub const PAYLOAD_INVALID: &str = "payload_invalid";
    /// The execution, or the task by itself, was cancelled.
    pub const CANCELLED: &str = "cancelled";
    /// An input, output or recorded result couldn't be decoded as the type the code asks for.
    pub const UNDECODABLE: &str = "undecodable";
    /// An operation was called where none can be recorded: in a step's body or in a condition.
    pub const MISPLACED: &str = "misplaced";
    /// The execution's wall-clock deadline passed.
    pub const DEADLINE: &str = "deadline";
    /// The process died while the task ran, more often than the cap allows.
    pub const CRASHED: &str = "crashed";
    /// An error without a kind of its own.
    pub const ERROR: &str = "error";

    /// Whether another attempt cannot end otherwise: the same code fails again on the same input,
    /// or the end was requested.
    pub fn is_final(kind: &str) -> bool {
        matches!(
            kind,
            NONDETERMINISTIC
                | PAYLOAD_TOO_LARGE
                | PAYLOAD_INVALID
                | CANCELLED
                | UNDECODABLE
                | MISPLACED
                | DEADLINE
        )
    }
}

/// One attempt's error as recorded in history and returned to callers.
///
/// Stored as JSON with empty fields left out: `{"kind":"io","message":"disk full"}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// The error's kind, which `retry_if` compares: one of [`kinds`], or the task's own.
    pub kind: String,
    /// The error's own text, without its sources.
    pub message: String,
    /// The texts of its sources, outermost first, at most [`MAX_CHAIN`]. The last text may say why
    /// no attempt followed; it then begins with [`NOT_RETRIED`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<String>,
    /// The typed error, if it can be serialised. `Some(Value::Null)` is a unit error.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub payload: Option<Value>,
    /// The task's retry instruction.
    #[serde(default, skip_serializing_if = "is_default")]
    pub retry: RetryHint,
}

/// The retry instruction of the failed task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryHint {
    /// None: the task's retry policy decides.
    #[default]
    Default,
    /// Never try again, whatever the policy says.
    Fatal,
    /// If the policy allows another attempt, wait this many microseconds before it.
    #[serde(rename = "after_us")]
    After(i64),
}

impl Failure {
    /// A failure with nothing but a kind and a message. The retry policy decides what follows.
    pub fn new(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            message: message.into(),
            chain: Vec::new(),
            payload: None,
            retry: RetryHint::Default,
        }
    }

    /// A failure that is never retried.
    pub fn fatal(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(kind, message).with_retry(RetryHint::Fatal)
    }

    /// A failure of one of the engine's own [`kinds`]. It is fatal if another attempt cannot help;
    /// otherwise the policy decides. A user's error that happens to have the same kind goes through
    /// [`Failure::new`].
    pub fn engine(kind: &str, message: impl Into<String>) -> Self {
        let failure = Self::new(kind, message);
        match kinds::is_final(kind) {
            true => failure.with_retry(RetryHint::Fatal),
            false => failure,
        }
    }

    /// An error with its sources.
    pub fn from_error(kind: impl Into<String>, error: &(dyn Error + 'static)) -> Self {
        let sources = std::iter::successors(error.source(), |source| (*source).source());
        Self {
            chain: sources.take(MAX_CHAIN).map(ToString::to_string).collect(),
            ..Self::new(kind, error.to_string())
        }
    }

    /// Adds the typed error.
    pub fn with_payload(mut self, payload: Value) -> Self {
        self.payload = Some(payload);
        self
    }

    /// Sets the retry instruction.
    pub fn with_retry(mut self, retry: RetryHint) -> Self {
        self.retry = retry;
        self
    }

    /// Records that no attempt follows, even if the retry policy allows one, and why. The reason is the last
    /// text of the chain and begins with [`NOT_RETRIED`].
    pub fn without_retry(mut self, reason: &str) -> Self {
        self.chain.truncate(MAX_CHAIN - 1);
        self.chain.push(format!("{NOT_RETRIED}{reason}"));
        self.with_retry(RetryHint::Fatal)
    }

    /// Whether both are the same error. The retry instruction is not compared.
    pub fn is_same_error(&self, other: &Failure) -> bool {
        self.kind == other.kind
            && self.message == other.message
            && self.chain == other.chain
            && self.payload == other.payload
    }

    /// The failure in a form that every store accepts. NUL characters are replaced by U+FFFD. Texts
    /// are cut to `max_bytes` together. The payload is left out if it is larger than `max_bytes` or
    /// cannot be stored. If it was nested deeper than [`MAX_PAYLOAD_DEPTH`], a source of the
    /// failure says so.
    ///
    /// Nothing here is refused, because recording a failure must not fail because of the error's
    /// contents.
    pub fn recordable(mut self, max_bytes: usize) -> Self {
        let mut left = max_bytes;
        self.chain.truncate(MAX_CHAIN);
        for text in [&mut self.kind, &mut self.message]
            .into_iter()
            .chain(&mut self.chain)
        {
            if text.contains('\0') {
                *text = text.replace('\0', "\u{FFFD}");
            }
            cut(text, left);
            left -= text.len();
        }
        self.chain.retain(|source| !source.is_empty());
        self.payload = self.payload.filter(|payload| {
            let is_shallow = is_shallow(payload, MAX_PAYLOAD_DEPTH);
            // Only a value that is not too deep can be written as text.
            let json = is_shallow.then(|| payload.to_string());
            let is_left_out = "its value was left out: it is nested too deeply to be read again";
            if !is_shallow && self.chain.len() < MAX_CHAIN && is_left_out.len() <= left {
                self.chain.push(is_left_out.to_owned());
            }
            json.is_some_and(|json| json.len() <= max_bytes && check_payload(&json).is_ok())
        });
        self
    }
}

/// `kind: message: source: source`, the usual form of error reports.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)?;
        self.chain
            .iter()
            .try_for_each(|source| write!(f, ": {source}"))
    }
}

impl Error for Failure {}

/// Shortens `text` to at most `bytes`, ending between characters.
fn cut(text: &mut String, bytes: usize) {
    text.truncate(text.floor_char_boundary(bytes));
}

/// Tells `null` from an absent field.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use thiserror::Error as ThisError;

    use super::*;

    #[derive(Debug, ThisError)]
    #[error("could not save")]
    struct Outer(#[source] Inner);

    #[derive(Debug, ThisError)]
    #[error("disk full")]
    struct Inner;

    #[derive(Debug, ThisError)]
    #[error("level {0}")]
    struct Nested(usize, #[source] Option<Box<Nested>>);

    fn round_trip(failure: &Failure) -> Failure {
        let json = serde_json::to_string(failure).expect("a failure is JSON");
        serde_json::from_str(&json).expect("a written failure is read")
    }

    #[test]
    fn empty_fields_are_not_stored() {
        let check = |failure: Failure, expected: Value| {
            assert_eq!(serde_json::to_value(&failure).unwrap(), expected);
            assert_eq!(round_trip(&failure), failure);
        };
        let failure = Failure::new("io", "disk full");
        check(
            failure.clone(),
            json!({"kind": "io", "message": "disk full"}),
        );
        check(
            failure.clone().with_retry(RetryHint::After(1_500)),
            json!({"kind": "io", "message": "disk full", "retry": {"after_us": 1500}}),
        );
        check(
            Failure::fatal("io", "x").with_payload(json!({"code": 28})),
            json!({"kind": "io", "message": "x", "payload": {"code": 28}, "retry": "fatal"}),
        );
    }

    #[test]
    fn unit_error_differs_from_no_payload() {
        let unit = Failure::new("io", "x").with_payload(Value::Null);
        assert_eq!(round_trip(&unit).payload, Some(Value::Null));
        assert_eq!(round_trip(&Failure::new("io", "x")).payload, None);
    }

    #[test]
    fn sources_are_kept_outermost_first() {
        let failure = Failure::from_error("Save", &Outer(Inner));
        assert_eq!(failure.message, "could not save");
        assert_eq!(failure.chain, ["disk full"]);
        assert_eq!(failure.to_string(), "Save: could not save: disk full");
    }

    #[test]
    fn endless_chains_are_cut() {
        let deepest = Nested(0, None);
        let error = (1..100).fold(deepest, |inner, n| Nested(n, Some(Box::new(inner))));
        let failure = Failure::from_error("Nested", &error);
        assert_eq!(failure.chain.len(), MAX_CHAIN);
        assert_eq!(failure.chain[0], "level 98");
    }

    #[test]
    fn final_kinds_are_fatal_only_when_the_engine_reports_them() {
        use kinds::*;
        for kind in [
            NONDETERMINISTIC,
            PAYLOAD_TOO_LARGE,
            PAYLOAD_INVALID,
            CANCELLED,
            UNDECODABLE,
            MISPLACED,
            DEADLINE,
        ] {
            assert_eq!(Failure::engine(kind, "").retry, RetryHint::Fatal, "{kind}");
            assert_eq!(Failure::new(kind, "").retry, RetryHint::Default, "{kind}");
        }
        for kind in [PANIC, TIMEOUT, CRASHED, ERROR] {
            assert_eq!(
                Failure::engine(kind, "").retry,
                RetryHint::Default,
                "{kind}"
            );
        }
    }

    #[test]
    fn recordable_replaces_what_stores_refuse() {
        let failure = Failure {
            chain: vec!["a\0".into(), String::new()],
            ..Failure::new("k\0", "\0").with_payload(json!({"a": "\0"}))
        };
        let expected = Failure {
            chain: vec!["a\u{FFFD}".into()],
            ..Failure::new("k\u{FFFD}", "\u{FFFD}")
        };
        assert_eq!(failure.recordable(1000), expected);
    }

    #[test]
    fn recordable_leaves_ordinary_failures_alone() {
        let failure = Failure::from_error("Save", &Outer(Inner)).with_payload(json!([1]));
        assert_eq!(failure.clone().recordable(1000), failure);
        assert_eq!(failure.recordable(2).payload, None);
    }

    #[test]
    fn recordable_leaves_out_a_payload_that_is_nested_too_deeply() {
        let nested = |depth| (0..depth).fold(json!(1), |inner, _| json!([inner]));
        let fits = Failure::new("k", "m").with_payload(nested(MAX_PAYLOAD_DEPTH));
        assert_eq!(fits.clone().recordable(1000), fits);
        let deep = Failure::new("k", "m").with_payload(nested(MAX_PAYLOAD_DEPTH + 1));
        let kept = deep.clone().recordable(1000);
        assert_eq!(kept.payload, None);
        assert!(kept.chain[0].contains("nested too deeply"), "{kept}");
        assert_eq!(deep.recordable(10).chain, [""; 0]);
    }

    proptest! {
        #[test]
        fn recordable_fits_and_can_be_stored(
            texts in prop::collection::vec("[a-c\\x00\u{e4}]{0,20}", 2..50),
            payload in "[a-c\\x00\u{e4}]{0,20}",
            max_bytes in 0_usize..200,
        ) {
            let failure = Failure {
                chain: texts[2..].to_vec(),
                ..Failure::new(&texts[0], &texts[1]).with_payload(json!(payload))
            };
            let kept = failure.clone().recordable(max_bytes);
            let texts = kept.kind.len() + kept.message.len() + kept.chain.concat().len();
            prop_assert!(texts <= max_bytes);
            prop_assert!(kept.chain.len() <= MAX_CHAIN);
            prop_assert!(check_payload(&serde_json::to_string(&kept).unwrap()).is_ok());
            prop_assert_eq!(&round_trip(&kept), &kept);
            prop_assert_eq!(kept.clone().recordable(max_bytes), kept);
        }
    }
}
