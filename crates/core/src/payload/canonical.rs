//! One canonical text for each JSON value. This works on the text itself, because a parsed number
//! loses digits beyond 64 bits, and because the features with which `serde_json` is built change
//! how it parses numbers and objects.

use std::fmt::Write;

use serde::de::{Error, IgnoredAny};

/// The depth to which serde_json reads other values.
const MAX_DEPTH: u32 = 128;

/// The longest exponent, in digits, with which numbers are normalised.
const MAX_EXPONENT_DIGITS: usize = 18;

/// The canonical text of a JSON text: no whitespace, object keys sorted, every number and string
/// written in one way.
pub(super) fn text(json: &str) -> Result<String, serde_json::Error> {
    serde_json::from_str::<IgnoredAny>(json)?;
    let mut canonical = String::with_capacity(json.len());
    Walk { json, at: 0 }.value(&mut canonical, MAX_DEPTH)?;
    Ok(canonical)
}

/// A position in a text that is known to be JSON.
struct Walk<'a> {
    json: &'a str,
    at: usize,
}

impl<'a> Walk<'a> {
    /// Writes the value that begins here, after whitespace.
    fn value(&mut self, out: &mut String, depth: u32) -> Result<(), serde_json::Error> {
        match self.peek() {
            b'{' | b'[' if depth == 0 => Err(Error::custom("it is nested too deep")),
            b'{' => self.object(out, depth - 1),
            b'[' => self.array(out, depth - 1),
            b'"' => {
                out.push_str(&written(&self.string()?));
                Ok(())
            }
            b't' | b'f' | b'n' => {
                out.push_str(self.scalar());
                Ok(())
            }
            _ => {
                number(self.scalar(), out);
                Ok(())
            }
        }
    }

    fn object(&mut self, out: &mut String, depth: u32) -> Result<(), serde_json::Error> {
        let mut members = Vec::new();
        self.at += 1;
        while self.peek() != b'}' {
            let key = self.string()?;
            self.skip(b':');
            let mut value = String::new();
            self.value(&mut value, depth)?;
            members.push((key, value));
            self.skip(b',');
        }
        self.at += 1;
        // The sort is stable: both values of a repeated key count, in their order.
        members.sort_by(|(one, _), (other, _)| one.cmp(other));
        out.push('{');
        for (key, value) in members {
            out.push_str(&written(&key));
            out.push(':');
            out.push_str(&value);
            out.push(',');
        }
        out.push('}');
        Ok(())
    }

    fn array(&mut self, out: &mut String, depth: u32) -> Result<(), serde_json::Error> {
        self.at += 1;
        out.push('[');
        while self.peek() != b']' {
            self.value(out, depth)?;
            out.push(',');
            self.skip(b',');
        }
        self.at += 1;
        out.push(']');
        Ok(())
    }

    /// The contents of the string that begins here.
    fn string(&mut self) -> Result<String, serde_json::Error> {
        self.peek();
        let bytes = self.json.as_bytes();
        let (begin, mut end) = (self.at, self.at + 1);
        while bytes[end] != b'"' {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        self.at = end + 1;
        serde_json::from_str(&self.json[begin..self.at])
    }

    /// The text of a number, `true`, `false` or `null`.
    fn scalar(&mut self) -> &'a str {
        let rest = &self.json[self.at..];
        let ends = |c: char| matches!(c, ',' | ']' | '}') || c.is_ascii_whitespace();
        let scalar = &rest[..rest.find(ends).unwrap_or(rest.len())];
        self.at += scalar.len();
        scalar
    }

    /// The next byte that is not whitespace.
    fn peek(&mut self) -> u8 {
        let bytes = self.json.as_bytes();
        while bytes[self.at].is_ascii_whitespace() {
            self.at += 1;
        }
        bytes[self.at]
    }

    /// Skips whitespace and, if it comes next, this byte.
    fn skip(&mut self, byte: u8) {
        if self.peek() == byte {
            self.at += 1;
        }
    }
}

fn written(string: &str) -> String {
    serde_json::Value::from(string).to_string()
}

/// Writes a number as an integer that does not end in 0, times a power of ten.
fn number(text: &str, out: &mut String) {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(mantissa) => ("-", mantissa),
        None => ("", mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        out.push('0');
        return;
    }
    let integer = digits.trim_end_matches('0');
    let shift = (digits.len() - integer.len()) as i64 - fraction.len() as i64;
    let (minus, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ("-", exponent),
        None => ("", exponent.trim_start_matches('+')),
    };
    let exponent = exponent.trim_start_matches('0');
    let written = match exponent.len() {
        0 => write!(out, "{sign}{integer}e{shift}"),
        1..=MAX_EXPONENT_DIGITS => {
            let exponent: i64 = exponent.parse().expect("so many digits fit");
            let exponent = if minus.is_empty() {
                exponent
            } else {
                -exponent
            };
            write!(out, "{sign}{integer}e{}", exponent + shift)
        }
        // Larger than anybody means: told apart from all others, but not brought into one form.
        _ => write!(out, "{sign}{integer}e{minus}{exponent}e{shift}"),
    };
    written.expect("strings take everything");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    fn of(json: &str) -> String {
        text(json).expect("JSON")
    }

    #[track_caller]
    fn check_equal(texts: &[&str]) {
        for text in texts {
            assert_eq!(of(text), of(texts[0]), "{text} and {}", texts[0]);
        }
    }

    #[track_caller]
    fn check_different(texts: &[&str]) {
        let canonical: std::collections::BTreeSet<String> = texts.iter().map(|t| of(t)).collect();
        assert_eq!(canonical.len(), texts.len(), "{texts:?}");
    }

    #[test]
    fn equal_values_are_written_alike() {
        check_equal(&[
            r#"{"b":[1,{"y":null,"x":2}],"a":"z"}"#,
            "{ \"a\": \"z\", \"b\": [1 ,\n\t{\"x\":2, \"y\":null} ] }",
        ]);
        check_equal(&[r#""\u00e4\/\"\n""#, r#""ä/\u0022\u000a""#]);
        check_equal(&[r#"{"\u0061":true,"b":false}"#, r#"{"b":false,"a":true}"#]);
        check_equal(&["0", "-0", "0.0", "-0.0e7", "0e999999999999999999999"]);
        check_equal(&["1", "1.0", "1e0", "10e-1", "0.1E+1", "0.001e003"]);
        check_equal(&["-1200", "-1.2e3", "-12E2"]);
        check_equal(&["[ ]", "[]"]);
        check_equal(&["{ }", "{}"]);
    }

    #[test]
    fn different_values_are_written_differently() {
        check_different(&[
            "[]", "{}", "null", "true", "false", "0", "\"\"", "[[]]", "\"0\"",
        ]);
        check_different(&["[1,2]", "[12]", "[2,1]", "[\"1\",2]", "[[1],2]", "[1,[2]]"]);
        check_different(&[
            "1",
            "-1",
            "10",
            "1.1",
            "1e1000",
            "1e-1000",
            "1e9999999999999999999",
        ]);
        // Numbers that are one and the same when they are read as 64 bits.
        check_different(&[
            "18446744073709551616",
            "18446744073709551617",
            "340282366920938463463374607431768211455",
            "340282366920938463463374607431768211454",
        ]);
        check_different(&["0.1", "0.1000000000000000055", "1e400", "2e400"]);
        // Who reads these may take either value.
        check_different(&[r#"{"a":1,"a":2}"#, r#"{"a":2,"a":1}"#, r#"{"a":2}"#]);
    }

    #[test]
    fn what_is_no_json_or_too_deep_is_refused() {
        for wrong in ["", "{", "[1,]", "01", "\"\\ud800\"", "1 2", "nul"] {
            assert!(text(wrong).is_err(), "{wrong}");
        }
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(text(&nested(128)).is_ok());
        assert!(text(&nested(129)).is_err());
        assert!(text(&nested(100_000)).is_err());
    }

    /// A decimal number, as `mantissa * 10^exponent`.
    fn decimal() -> impl Strategy<Value = (i64, i32)> {
        let mantissa = prop_oneof![-20_i64..20, -2_000_000_i64..2_000_000];
        (mantissa, -6_i32..6)
    }

    /// What it is worth, in millionths.
    fn value((mantissa, exponent): (i64, i32)) -> i128 {
        i128::from(mantissa) * 10_i128.pow((exponent + 6) as u32)
    }

    /// One of the ways to write it.
    fn spelt((mantissa, exponent): (i64, i32), zeros: usize, plain: bool) -> String {
        let sign = if mantissa < 0 { "-" } else { "" };
        let digits = mantissa.unsigned_abs().to_string();
        if !plain || exponent > 0 {
            return format!("{sign}{digits}.{}e{exponent}", "0".repeat(zeros + 1));
        }
        let places = exponent.unsigned_abs() as usize;
        let digits = format!("{digits:0>width$}", width = places + 1);
        let (whole, fraction) = digits.split_at(digits.len() - places);
        format!("{sign}{whole}.{fraction}{}", "0".repeat(zeros + 1))
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-3_i64..3).prop_map(Value::from),
            "[ab\\\\\"é]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 3, |inner| {
            let object = prop::collection::btree_map("[ab]{0,2}", inner.clone(), 0..3);
            prop_oneof![
                prop::collection::vec(inner, 0..3).prop_map(Value::from),
                object.prop_map(|members| Value::from(Map::from_iter(members))),
            ]
        })
    }

    proptest! {
        #[test]
        fn numbers_are_alike_exactly_if_their_values_are(
            one in decimal(), other in decimal(), zeros in 0_usize..3, plain: bool,
        ) {
            let alike = of(&spelt(one, zeros, plain)) == of(&spelt(other, 0, !plain));
            prop_assert_eq!(alike, value(one) == value(other));
            prop_assert_eq!(of(&spelt(one, zeros, plain)), of(&spelt(one, 0, !plain)));
        }

        #[test]
        fn large_integers_are_alike_only_to_themselves(one: u128, bit in 0_u32..128) {
            let other = one ^ (1 << bit);
            prop_assert_ne!(of(&one.to_string()), of(&other.to_string()));
            let shorter = (one / 10).to_string();
            prop_assert_eq!(of(&format!("{shorter}0")), of(&format!("{shorter}e1")));
        }

        #[test]
        fn values_are_alike_exactly_if_they_are_equal(one in any_value(), other in any_value()) {
            let pretty = serde_json::to_string_pretty(&one).expect("JSON");
            prop_assert_eq!(of(&one.to_string()), of(&pretty));
            prop_assert_eq!(of(&one.to_string()) == of(&other.to_string()), one == other);
            let wrapped = json!([one]).to_string();
            prop_assert_eq!(of(&wrapped) == of(&json!([other]).to_string()), one == other);
        }

        #[test]
        fn floats_are_alike_exactly_if_they_are_equal(one: f64, other: f64) {
            prop_assume!(one.is_finite() && other.is_finite());
            let of = |float: f64| of(&json!(float).to_string());
            prop_assert_eq!(of(one) == of(other), one == other);
        }
    }
}
