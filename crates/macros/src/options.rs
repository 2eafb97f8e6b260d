//! The options of the attributes: `name = value`, separated by commas. A wrong option is reported
//! at its token, and the others are still read, so that one mistake shows as one.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Ident, LitInt, LitStr, Result, Token, Visibility, bracketed, parenthesized};

use crate::backoff::{Backoff, share};
use crate::duration::Duration;
use crate::names::{self, TaskName, inside, suggestion};
use crate::trigger::Rule;

/// Which attribute the options stand in, which decides which there are.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Place {
    Task,
    /// `#[workflow]` on a module.
    Module,
    /// `#[workflow]` on a function.
    Function,
}

impl Place {
    fn names(self) -> &'static [&'static str] {
        match self {
            Place::Task => &[
                "id",
                "dependencies",
                "trigger",
                "retries",
                "backoff",
                "jitter",
                "retry_if",
                "timeout",
                "priority",
            ],
            Place::Module => &["name", "version", "output", "priority", "deadline", "tags"],
            Place::Function => &[
                "name", "version", "retries", "backoff", "jitter", "retry_if", "timeout",
                "priority", "deadline", "tags",
            ],
        }
    }
}

/// The options that were given.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) id: Option<LitStr>,
    pub(crate) name: Option<LitStr>,
    pub(crate) version: Option<LitStr>,
    pub(crate) output: Option<TaskName>,
    pub(crate) dependencies: Vec<TaskName>,
    pub(crate) trigger: Option<Rule>,
    pub(crate) retries: Option<LitInt>,
    pub(crate) backoff: Option<Backoff>,
    pub(crate) jitter: Option<TokenStream>,
    pub(crate) retry_if: Vec<LitStr>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) priority: Option<TokenStream>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) tags: Vec<LitStr>,
    /// What a `#[workflow]` module adds to the attributes of its tasks.
    pub(crate) within: Option<Within>,
    pub(crate) mistakes: Vec<Error>,
}

/// What a task knows of the module it stands in.
pub(crate) struct Within {
    /// The widest visibility that its type may have: a wider one could show types that only the
    /// module's parent sees.
    pub(crate) visibility: Visibility,
    /// Functions this task names, with the ids of their tasks.
    pub(crate) ids: Vec<(Ident, LitStr)>,
}

impl Options {
    pub(crate) fn parse(input: ParseStream<'_>, place: Place) -> Options {
        let mut options = Options::default();
        let mut seen: Vec<(String, Span)> = Vec::new();
        while !input.is_empty() {
            if let Err(mistake) = options.one(input, place, &mut seen) {
                options.mistakes.push(mistake);
                skip_to_comma(input);
            }
            if !input.is_empty() && input.parse::<Token![,]>().is_err() {
                options
                    .mistakes
                    .push(input.error("expected `,` and the next option"));
                skip_to_comma(input);
            }
        }
        options.check_retries(&seen);
        options
    }

    fn one(
        &mut self,
        input: ParseStream<'_>,
        place: Place,
        seen: &mut Vec<(String, Span)>,
    ) -> Result<()> {
        let option = input.call(Ident::parse_any).map_err(|error| {
            Error::new(error.span(), "expected an option, such as `retries = 3`")
        })?;
        let name = names::plain(&option);
        if name == "__within" {
            self.within = Some(input.parse()?);
            return Ok(());
        }
        if !place.names().contains(&name.as_str()) {
            return Err(Error::new(option.span(), unknown(&name, place)));
        }
        if seen.iter().any(|(before, _)| *before == name) {
            return Err(Error::new(
                option.span(),
                format!("`{name}` was given before"),
            ));
        }
        seen.push((name.clone(), option.span()));
        if !input.peek(Token![=]) {
            return Err(Error::new(
                option.span(),
                format!("`{name}` needs a value: `{name} = ..`"),
            ));
        }
        input.parse::<Token![=]>()?;
        if input.is_empty() {
            return Err(Error::new(
                option.span(),
                format!("`{name}` needs a value: `{name} = ..`"),
            ));
        }
        self.value(&name, input)
    }

    fn value(&mut self, name: &str, input: ParseStream<'_>) -> Result<()> {
        match name {
            "id" => self.id = Some(text(input, "an id as a string")?),
            "name" => self.name = Some(text(input, "a name as a string")?),
            "version" => self.version = Some(text(input, "a version as a string")?),
            "output" => self.output = Some(input.parse()?),
            "dependencies" => {
                self.dependencies = list(input, "expected a list of tasks: `[hash, \"marker\"]`")?
            }
            "trigger" => self.trigger = Some(input.parse()?),
            "retries" => self.retries = Some(retries(input)?),
            "backoff" => self.backoff = Some(input.parse()?),
            "jitter" => self.jitter = Some(share(input)?),
            "retry_if" => {
                self.retry_if = texts(
                    input,
                    "expected a list of error kinds: `[\"io::TimedOut\"]`",
                )?
            }
            "timeout" => self.timeout = Some(positive(input)?),
            "priority" => self.priority = Some(priority(input)?),
            "deadline" => self.deadline = Some(positive(input)?),
            "tags" => self.tags = texts(input, "expected a list of tags: `[\"nightly\"]`")?,
            _ => unreachable!("`{name}` is not among the names of any place"),
        }
        Ok(())
    }

    /// Options of retries have no effect without `retries`.
    fn check_retries(&mut self, seen: &[(String, Span)]) {
        let has_retries = seen.iter().any(|(name, _)| name == "retries");
        let idle = seen
            .iter()
            .find(|(name, _)| ["backoff", "jitter", "retry_if"].contains(&name.as_str()));
        if let (false, Some((name, span))) = (has_retries, idle) {
            self.mistakes.push(Error::new(
                *span,
                format!("`{name}` does nothing without `retries`"),
            ));
        }
    }

    /// The calls on a `TaskBuilder` that set the options.
    pub(crate) fn task_calls(&self) -> TokenStream {
        let retries = self.retries.iter();
        let backoff = self.backoff.iter().map(Backoff::tokens);
        let jitter = self.jitter.iter();
        let kinds = &self.retry_if;
        let retry_if = (!kinds.is_empty()).then(|| quote!(.retry_if([#(#kinds),*])));
        let timeout = self.timeout.iter().map(|timeout| timeout.tokens());
        quote! {
            #(.retries(#retries))* #(.backoff(#backoff))* #(.jitter(#jitter))* #retry_if #(.timeout(#timeout))*
        }
    }

    /// The calls on a `WorkflowBuilder` that set the options.
    pub(crate) fn workflow_calls(&self) -> TokenStream {
        let version = self.version.iter();
        let priority = self.priority.iter();
        let deadline = self.deadline.iter().map(|deadline| deadline.tokens());
        let tags = &self.tags;
        quote! {
            #(.version(#version))* #(.priority(#priority))* #(.deadline(#deadline))* #(.tag(#tags))*
        }
    }
}

fn unknown(name: &str, place: Place) -> String {
    let attribute = if place == Place::Task {
        "task"
    } else {
        "workflow"
    };
    let elsewhere = match place {
        Place::Task if Place::Module.names().contains(&name) => "; it is one of `#[workflow]`",
        Place::Module if Place::Task.names().contains(&name) => "; it is one of `#[task]`",
        Place::Function if Place::Module.names().contains(&name) => {
            "; it is one of `#[workflow]` on a module"
        }
        Place::Function if Place::Task.names().contains(&name) => {
            "; a durable function has one task and no graph"
        }
        _ => {
            return format!(
                "`#[{attribute}]` has no option `{name}`{}",
                suggestion(name, place.names().iter().copied())
            );
        }
    };
    format!("`#[{attribute}]` has no option `{name}`{elsewhere}")
}

impl Parse for Within {
    fn parse(input: ParseStream<'_>) -> Result<Within> {
        let content;
        parenthesized!(content in input);
        let visibility = content.parse()?;
        let mut ids = Vec::new();
        while !content.is_empty() {
            content.parse::<Token![,]>()?;
            let function = content.call(Ident::parse_any)?;
            content.parse::<Token![=]>()?;
            ids.push((function, content.parse()?));
        }
        Ok(Within { visibility, ids })
    }
}

fn text(input: ParseStream<'_>, what: &str) -> Result<LitStr> {
    names::name(
        input
            .parse()
            .map_err(|error| Error::new(error.span(), format!("expected {what}")))?,
    )
}

fn list<T: Parse>(input: ParseStream<'_>, expected: &str) -> Result<Vec<T>> {
    if !input.peek(syn::token::Bracket) {
        return Err(input.error(expected));
    }
    let content;
    bracketed!(content in input);
    let items: Punctuated<T, Token![,]> = inside(&content, |content| {
        content.parse_terminated(T::parse, Token![,])
    })?;
    Ok(items.into_iter().collect())
}

fn texts(input: ParseStream<'_>, expected: &str) -> Result<Vec<LitStr>> {
    list(input, expected)?
        .into_iter()
        .map(names::name)
        .collect()
}

fn retries(input: ParseStream<'_>) -> Result<LitInt> {
    let expected = "expected how many attempts may follow the first: a whole number, such as 3";
    let number: LitInt = input
        .parse()
        .map_err(|error| Error::new(error.span(), expected))?;
    number
        .base10_parse::<u32>()
        .map_err(|_| Error::new(number.span(), expected))?;
    Ok(number)
}

fn priority(input: ParseStream<'_>) -> Result<TokenStream> {
    let expected = "expected a priority: a whole number from -32768 to 32767";
    let minus: Option<Token![-]> = input.parse()?;
    let number: LitInt = input
        .parse()
        .map_err(|error| Error::new(error.span(), expected))?;
    let signed = format!(
        "{}{}",
        if minus.is_some() { "-" } else { "" },
        number.base10_digits()
    );
    signed
        .parse::<i16>()
        .map_err(|_| Error::new(number.span(), expected))?;
    Ok(quote!(#minus #number))
}

fn positive(input: ParseStream<'_>) -> Result<Duration> {
    let span = input.span();
    let duration: Duration = input.parse()?;
    match duration.is_zero() {
        true => Err(Error::new(span, "a time limit must be more than 0")),
        false => Ok(duration),
    }
}

fn skip_to_comma(input: ParseStream<'_>) {
    while !input.is_empty() && !input.peek(Token![,]) {
        // Groups are single trees, so commas inside them don't count.
        if input.parse::<proc_macro2::TokenTree>().is_err() {
            return;
        }
    }
}
