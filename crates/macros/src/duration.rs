//! Durations as users write them: `"100ms"`, `"5s"`, `"1h30m"`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::{Error, LitStr, Result};

const UNITS: [(&str, u64); 6] = [
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("m", 60 * 1_000_000),
    ("h", 3_600 * 1_000_000),
    ("d", 86_400 * 1_000_000),
];

/// A hundred years, so that adding one to a time never overflows.
const MAX_US: u64 = 100 * 365 * 86_400 * 1_000_000;

/// A duration literal, in microseconds.
#[derive(Clone, Copy)]
pub(crate) struct Duration(u64);

impl Parse for Duration {
    fn parse(input: ParseStream<'_>) -> Result<Duration> {
        let literal: LitStr = input.parse().map_err(|error| {
            Error::new(
                error.span(),
                "expected a duration, such as \"500ms\" or \"1h30m\"",
            )
        })?;
        read(&literal.value())
            .map(Duration)
            .map_err(|why| Error::new(literal.span(), why))
    }
}

impl Duration {
    pub(crate) fn is_zero(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn tokens(self) -> TokenStream {
        let micros = self.0;
        quote!(::core::time::Duration::from_micros(#micros))
    }
}

fn read(text: &str) -> std::result::Result<u64, String> {
    let wrong = || {
        format!(
            "`{text}` is not a duration: write whole numbers with us, ms, s, m, h or d, such as \"500ms\" or \"1h30m\""
        )
    };
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (number, after) = split(rest, |c| c.is_ascii_digit());
        let (unit, after) = split(after, |c| !c.is_ascii_digit());
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let (_, micros) = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(wrong)?;
        let part = number.checked_mul(*micros);
        total = part
            .and_then(|part| total.checked_add(part))
            .unwrap_or(u64::MAX);
        rest = after;
    }
    match total {
        _ if text.is_empty() => Err(wrong()),
        MAX_US.. => Err(format!("`{text}` is longer than a hundred years")),
        _ => Ok(total),
    }
}

/// The longest start of `text` whose characters are all as wanted, and the rest.
fn split(text: &str, wanted: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !wanted(c)).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn every_unit_and_their_sums_are_read() {
        assert_eq!(read("250us"), Ok(250));
        assert_eq!(read("100ms"), Ok(100_000));
        assert_eq!(read("5s"), Ok(5_000_000));
        assert_eq!(read("1m"), Ok(60_000_000));
        assert_eq!(read("2h"), Ok(7_200_000_000));
        assert_eq!(read("1d"), Ok(86_400_000_000));
        assert_eq!(read("1h30m"), Ok(5_400_000_000));
        assert_eq!(read("0s"), Ok(0));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "5",
            "s",
            "5 s",
            "5sec",
            "-1s",
            "1.5s",
            "1h30",
            "5S",
            "99999999999999999999s",
        ] {
            assert!(
                read(text).is_err_and(|why| why.contains("is not a duration")),
                "{text}"
            );
        }
        for text in ["36500d", "999999999d", "9999999999999999999d"] {
            assert!(
                read(text).is_err_and(|why| why.contains("longer than")),
                "{text}"
            );
        }
    }
}
