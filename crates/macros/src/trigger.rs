//! Trigger rules: `any(success(marker), skipped(marker), context("mode") == "fast")`.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Ident, Lit, LitStr, Result, Token, bracketed, parenthesized};

use crate::names::{self, TaskName, inside, suggestion};

const FUNCTIONS: [&str; 7] = [
    "all", "any", "none", "success", "failed", "skipped", "context",
];

const COMPARISON: &str = "expected a comparison: `==`, `!=`, `<`, `<=`, `>`, `>=`, `contains`, `exists`, `not contains` or `not exists`";

/// How deep rules may be nested, as in the engine.
const MAX_DEPTH: usize = 32;

/// A rule: when a task runs, once its dependencies have ended.
pub(crate) enum Rule {
    /// `all`, `any` or `none`, by its variant's name.
    Parts(Ident, Vec<Rule>),
    /// `success`, `failed` or `skipped`, by its variant's name.
    Task(Ident, TaskName),
    /// A comparison with a value of the context.
    Context {
        key: LitStr,
        op: Ident,
        value: TokenStream,
    },
}

impl Parse for Rule {
    fn parse(input: ParseStream<'_>) -> Result<Rule> {
        Rule::nested(input, 0)
    }
}

impl Rule {
    fn nested(input: ParseStream<'_>, depth: usize) -> Result<Rule> {
        let function = input.call(Ident::parse_any).map_err(|error| {
            Error::new(
                error.span(),
                "expected a rule, such as `success(task)` or `any(failed(a), failed(b))`",
            )
        })?;
        if depth >= MAX_DEPTH {
            return Err(Error::new(
                function.span(),
                "rules are nested at most 32 deep",
            ));
        }
        let variant = |name| Ident::new(name, Span::call_site());
        match names::plain(&function).as_str() {
            "all" => Ok(Rule::Parts(variant("All"), parts(input, depth)?)),
            "any" => Ok(Rule::Parts(variant("Any"), parts(input, depth)?)),
            "none" => Ok(Rule::Parts(variant("None"), parts(input, depth)?)),
            "success" => Ok(Rule::Task(variant("Success"), one_task(input)?)),
            "failed" => Ok(Rule::Task(variant("Failed"), one_task(input)?)),
            "skipped" => Ok(Rule::Task(variant("Skipped"), one_task(input)?)),
            "context" => comparison(&function, input),
            other => {
                let hint = suggestion(other, FUNCTIONS);
                Err(Error::new(
                    function.span(),
                    format!("`{other}` is not a trigger rule{hint}"),
                ))
            }
        }
    }

    /// Every task the rule names.
    pub(crate) fn tasks(&self) -> Vec<&TaskName> {
        match self {
            Rule::Parts(_, parts) => parts.iter().flat_map(Rule::tasks).collect(),
            Rule::Task(_, task) => vec![task],
            Rule::Context { .. } => Vec::new(),
        }
    }

    /// An expression of the rule; `id` gives that of a task's id.
    pub(crate) fn tokens(&self, id: &dyn Fn(&TaskName) -> TokenStream) -> TokenStream {
        let rule = match self {
            Rule::Parts(variant, parts) => {
                let parts = parts.iter().map(|part| part.tokens(id));
                quote!(#variant(::std::vec![#(#parts),*]))
            }
            Rule::Task(variant, task) => {
                let id = id(task);
                quote!(#variant(::std::string::String::from(#id)))
            }
            Rule::Context { key, op, value } => quote!(Context {
                key: ::std::string::String::from(#key),
                op: ::abide::ContextOp::#op,
                value: ::abide::__private::json!(#value),
            }),
        };
        quote!(::abide::Trigger::#rule)
    }
}

fn parts(input: ParseStream<'_>, depth: usize) -> Result<Vec<Rule>> {
    let content;
    parenthesized!(content in input);
    inside(&content, |content| {
        let mut parts = Vec::new();
        while !content.is_empty() {
            parts.push(Rule::nested(content, depth + 1)?);
            if !content.is_empty() {
                content.parse::<Token![,]>()?;
            }
        }
        Ok(parts)
    })
}

fn one_task(input: ParseStream<'_>) -> Result<TaskName> {
    let content;
    parenthesized!(content in input);
    inside(&content, |content| {
        let task = content.parse()?;
        end(
            content,
            "a rule on a task names one task; combine rules with `all(..)`, `any(..)` or `none(..)`",
        )?;
        Ok(task)
    })
}

/// `context("key")`, then an operator and, for most, a value.
fn comparison(function: &Ident, input: ParseStream<'_>) -> Result<Rule> {
    let content;
    parenthesized!(content in input);
    let key = inside(&content, |content| {
        let key = content.parse().map_err(|error| {
            Error::new(error.span(), "expected a key of the context as a string")
        })?;
        end(
            content,
            "expected one key; the comparison stands behind the parenthesis: `context(\"key\") == 1`",
        )?;
        names::name(key)
    })?;
    if input.is_empty() {
        return Err(Error::new(
            function.span(),
            format!("`context` alone is no rule: {COMPARISON}"),
        ));
    }
    let (op, has_value) = operator(input)?;
    let value = match has_value {
        true => value(input)?,
        false => quote!(null),
    };
    Ok(Rule::Context {
        key,
        op: Ident::new(op, Span::call_site()),
        value,
    })
}

/// The operator's variant, and whether a value follows.
fn operator(input: ParseStream<'_>) -> Result<(&'static str, bool)> {
    // Longer ones first: `<` is how `<=` starts.
    let op = if input.parse::<Option<Token![==]>>()?.is_some()
        || input.parse::<Option<Token![=]>>()?.is_some()
    {
        "Eq"
    } else if input.parse::<Option<Token![!=]>>()?.is_some() {
        "Ne"
    } else if input.parse::<Option<Token![<=]>>()?.is_some() {
        "Le"
    } else if input.parse::<Option<Token![>=]>>()?.is_some() {
        "Ge"
    } else if input.parse::<Option<Token![<]>>()?.is_some() {
        "Lt"
    } else if input.parse::<Option<Token![>]>>()?.is_some() {
        "Gt"
    } else {
        return word(input);
    };
    Ok((op, true))
}

fn word(input: ParseStream<'_>) -> Result<(&'static str, bool)> {
    let first: Ident = input
        .parse()
        .map_err(|error| Error::new(error.span(), COMPARISON))?;
    let negated = first == "not";
    let word = match negated {
        true => input
            .parse()
            .map_err(|error| Error::new(error.span(), COMPARISON))?,
        false => first,
    };
    match (word.to_string().as_str(), negated) {
        ("contains", false) => Ok(("Contains", true)),
        ("contains", true) => Ok(("NotContains", true)),
        ("exists", false) => Ok(("Exists", false)),
        ("exists", true) => Ok(("NotExists", false)),
        _ => Err(Error::new(word.span(), COMPARISON)),
    }
}

/// A JSON value: a literal, `null`, or an array of values.
fn value(input: ParseStream<'_>) -> Result<TokenStream> {
    if input.peek(syn::token::Bracket) {
        let content;
        bracketed!(content in input);
        let values: Punctuated<TokenStream, Token![,]> =
            content.parse_terminated(value, Token![,])?;
        return Ok(quote!([#values]));
    }
    if input.peek(Ident)
        && input
            .fork()
            .parse::<Ident>()
            .is_ok_and(|word| word == "null")
    {
        let null: Ident = input.parse()?;
        return Ok(quote!(#null));
    }
    let minus: Option<Token![-]> = input.parse()?;
    let expected =
        "expected a value: a string, a number, `true`, `false`, `null` or an array of these";
    let literal: Lit = input
        .parse()
        .map_err(|error| Error::new(error.span(), expected))?;
    match (&literal, minus) {
        (Lit::Int(_) | Lit::Float(_), minus) => Ok(quote!(#minus #literal)),
        (Lit::Str(_) | Lit::Bool(_), None) => Ok(quote!(#literal)),
        _ => Err(Error::new(literal.span(), expected)),
    }
}

fn end(input: ParseStream<'_>, message: &str) -> Result<()> {
    match input.is_empty() {
        true => Ok(()),
        false => Err(input.error(message)),
    }
}
