//! Names of tasks as users write them, and which known name a wrong one was meant to be.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{Error, Ident, LitStr, Path, Result};

/// Longest name in bytes, as everywhere in the engine.
const MAX_NAME_BYTES: usize = 255;

/// A task, by the path of its function or by its id.
#[derive(Clone)]
pub(crate) enum TaskName {
    Path(Path),
    Id(LitStr),
}

impl Parse for TaskName {
    fn parse(input: ParseStream<'_>) -> Result<TaskName> {
        if input.peek(LitStr) {
            return Ok(TaskName::Id(name(input.parse()?)?));
        }
        let path = input.call(Path::parse_mod_style);
        path.map(TaskName::Path).map_err(|error| {
            Error::new(
                error.span(),
                "expected a task: its function's name, or its id as a string",
            )
        })
    }
}

impl TaskName {
    pub(crate) fn span(&self) -> Span {
        match self {
            TaskName::Path(path) => path.span(),
            TaskName::Id(id) => id.span(),
        }
    }

    /// The name of a function in the same module, or what comes last of a path elsewhere.
    pub(crate) fn text(&self) -> String {
        match self {
            TaskName::Path(path) => path
                .segments
                .last()
                .map(|last| plain(&last.ident))
                .unwrap_or_default(),
            TaskName::Id(id) => id.value(),
        }
    }

    /// The function's name, if it is one of the same module.
    pub(crate) fn local(&self) -> Option<&Ident> {
        match self {
            TaskName::Path(path) => path.get_ident(),
            TaskName::Id(_) => None,
        }
    }

    /// An expression of the task's id.
    pub(crate) fn id(&self) -> TokenStream {
        match self {
            TaskName::Path(path) => quote!(<#path as ::abide::Task>::ID),
            TaskName::Id(id) => quote!(#id),
        }
    }
}

/// An identifier as text, without the `r#` of a raw one.
pub(crate) fn plain(ident: &Ident) -> String {
    let text = ident.to_string();
    text.strip_prefix("r#").map(str::to_owned).unwrap_or(text)
}

/// Checks a literal that names something.
pub(crate) fn name(literal: LitStr) -> Result<LitStr> {
    let text = literal.value();
    let refuse = |why: &str| Err(Error::new(literal.span(), why));
    match text.chars().find(|c| c.is_control()) {
        _ if text.is_empty() => refuse("a name can't be empty"),
        _ if text.len() > MAX_NAME_BYTES => refuse("a name can't be longer than 255 bytes"),
        Some(_) => refuse("a name can't hold control characters"),
        None => Ok(literal),
    }
}

/// `; did you mean `x`?` for the nearest known name, if one is near; else the list of all, if short.
pub(crate) fn suggestion<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let distance = |name: &&&str| strsim::osa_distance(&wrong.to_lowercase(), &name.to_lowercase());
    match known.iter().min_by_key(distance) {
        Some(near) if distance(&near) <= wrong.chars().count().max(near.chars().count()) / 3 => {
            format!("; did you mean `{near}`?")
        }
        Some(_) if known.len() <= 12 => format!("; known are {}", list(&known)),
        _ => String::new(),
    }
}

fn list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use super::suggestion;

    #[test]
    fn the_nearest_name_is_suggested() {
        assert_eq!(
            suggestion("retrys", ["id", "retries", "retry_if"]),
            "; did you mean `retries`?"
        );
        assert_eq!(suggestion("ID", ["id", "retries"]), "; did you mean `id`?");
    }

    #[test]
    fn without_a_near_name_all_are_listed_if_they_are_few() {
        assert_eq!(
            suggestion("zzz", ["id", "retries"]),
            "; known are `id`, `retries`"
        );
        assert_eq!(suggestion("zzz", std::iter::repeat_n("retries", 13)), "");
        assert_eq!(suggestion("zzz", []), "");
    }
}
