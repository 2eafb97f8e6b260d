//! Names of tasks as users write them, and which known name a wrong one was meant to be.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::quote;
use syn::parse::{Parse, ParseBuffer, ParseStream};
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

    /// The last segment of the path, or the id.
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

    /// Whether it is a path into another module.
    pub(crate) fn is_elsewhere(&self) -> bool {
        matches!(self, TaskName::Path(path) if path.get_ident().is_none())
    }

    /// An expression of the task's id.
    pub(crate) fn id(&self) -> TokenStream {
        match self {
            TaskName::Path(path) => quote!(<#path as ::abide::Task>::ID),
            TaskName::Id(id) => quote!(#id),
        }
    }
}

/// A name for a variable that only the expansion sees, even if a task has the same name, or a macro of the user's
/// wrote the task.
pub(crate) fn local(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}

/// An identifier as text, without the `r#` of a raw one.
pub(crate) fn plain(ident: &Ident) -> String {
    let text = ident.to_string();
    text.strip_prefix("r#").map(str::to_owned).unwrap_or(text)
}

/// Parses the content of a group. After a mistake the rest is skipped, so that it is not reported
/// as unexpected.
pub(crate) fn inside<T>(
    content: &ParseBuffer<'_>,
    parse: impl FnOnce(ParseStream<'_>) -> Result<T>,
) -> Result<T> {
    let parsed = parse(content);
    if parsed.is_err() {
        while content.parse::<TokenTree>().is_ok() {}
    }
    parsed
}

/// Checks a literal that is a name.
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

/// The known name that a wrong one was probably meant to be: few edits away for its length.
pub(crate) fn nearest<'a>(
    wrong: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let distance = |name: &&str| strsim::osa_distance(&wrong.to_lowercase(), &name.to_lowercase());
    let near = known.into_iter().min_by_key(distance)?;
    (distance(&near) <= wrong.chars().count().max(near.chars().count()) / 3).then_some(near)
}

/// `; did you mean `x`?` if a known name is near; else all of them, if they are few.
pub(crate) fn suggestion<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    match nearest(wrong, known.iter().copied()) {
        Some(near) => format!("; did you mean `{near}`?"),
        None if (1..=12).contains(&known.len()) => format!("; known are {}", list(&known)),
        None => String::new(),
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
