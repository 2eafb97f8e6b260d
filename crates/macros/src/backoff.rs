//! How waits before retries grow: `exponential("100ms", factor = 2.0, max = "5s")`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::{Error, Ident, Lit, LitStr, Result, Token, parenthesized};

use crate::duration::Duration;
use crate::names::{inside, plain, suggestion};

/// A backoff with its arguments.
pub(crate) struct Backoff {
    growth: Ident,
    delay: Duration,
    factor: Option<TokenStream>,
    max: Option<Duration>,
}

impl Parse for Backoff {
    fn parse(input: ParseStream<'_>) -> Result<Backoff> {
        const EXPECTED: &str = "expected `fixed(\"1s\")`, `linear(\"1s\")` or `exponential(\"100ms\", factor = 2.0, max = \"5s\")`";
        let growth: Ident = input
            .parse()
            .map_err(|error| Error::new(error.span(), EXPECTED))?;
        let arguments: &[&str] = match growth.to_string().as_str() {
            "fixed" => &[],
            "linear" => &["max"],
            "exponential" => &["factor", "max"],
            other => {
                let hint = suggestion(other, ["fixed", "linear", "exponential"]);
                return Err(Error::new(
                    growth.span(),
                    format!("`{other}` is not a backoff{hint}"),
                ));
            }
        };
        if !input.peek(syn::token::Paren) {
            return Err(Error::new(growth.span(), EXPECTED));
        }
        let content;
        parenthesized!(content in input);
        inside(&content, |content| {
            Backoff::arguments(growth, content, arguments)
        })
    }
}

impl Backoff {
    fn arguments(growth: Ident, input: ParseStream<'_>, known: &[&str]) -> Result<Backoff> {
        if !input.peek(LitStr) {
            let span = if input.is_empty() {
                growth.span()
            } else {
                input.span()
            };
            return Err(Error::new(
                span,
                format!("`{growth}` takes the first wait, such as \"100ms\""),
            ));
        }
        let mut backoff = Backoff {
            delay: input.parse()?,
            growth,
            factor: None,
            max: None,
        };
        while !input.is_empty() {
            input.parse::<Token![,]>()?;
            if !input.is_empty() {
                backoff.argument(input, known)?;
            }
        }
        Ok(backoff)
    }

    fn argument(&mut self, input: ParseStream<'_>, known: &[&str]) -> Result<()> {
        let growth = &self.growth;
        let takes = match known {
            [] => "one wait and nothing else".to_owned(),
            [one] => format!("the first wait and `{one} = ..`"),
            [one, two, ..] => format!("the first wait, `{one} = ..` and `{two} = ..`"),
        };
        let expected = format!("`{growth}` takes {takes}");
        let argument = input
            .call(Ident::parse_any)
            .map_err(|error| Error::new(error.span(), &expected))?;
        let name = plain(&argument);
        let given = match name.as_str() {
            "factor" => self.factor.is_some(),
            _ => self.max.is_some(),
        };
        if !known.contains(&name.as_str()) {
            return Err(Error::new(argument.span(), expected));
        }
        if given {
            return Err(Error::new(
                argument.span(),
                format!("`{name}` was given before"),
            ));
        }
        input.parse::<Token![=]>()?;
        match name.as_str() {
            "factor" => {
                self.factor = Some(number(input, "a factor of at least 1", |factor| {
                    factor >= 1.0
                })?)
            }
            _ => self.max = Some(input.parse()?),
        }
        Ok(())
    }

    /// An expression of the backoff.
    pub(crate) fn tokens(&self) -> TokenStream {
        let Backoff {
            growth,
            delay,
            factor,
            max,
        } = self;
        let delay = delay.tokens();
        let (factor, max) = (factor.iter(), max.iter().map(|max| max.tokens()));
        quote!(::abide::Backoff::#growth(#delay) #(.factor(#factor))* #(.max(#max))*)
    }
}

/// A number from 0 to 1.
pub(crate) fn share(input: ParseStream<'_>) -> Result<TokenStream> {
    number(input, "a share from 0 to 1", |share| {
        (0.0..=1.0).contains(&share)
    })
}

fn number(input: ParseStream<'_>, what: &str, valid: impl Fn(f64) -> bool) -> Result<TokenStream> {
    let refuse = |span| Error::new(span, format!("expected {what}"));
    let literal: Lit = input.parse().map_err(|error| refuse(error.span()))?;
    let value = match &literal {
        Lit::Int(number) => number.base10_parse::<f64>().ok(),
        Lit::Float(number) => number.base10_parse::<f64>().ok(),
        _ => None,
    };
    match value.filter(|value| valid(*value)) {
        Some(value) => Ok(quote!(#value)),
        None => Err(refuse(literal.span())),
    }
}
