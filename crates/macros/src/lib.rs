//! The attributes of the Abide durable execution engine. They are thin: each expands to what its
//! user could have written with the builders of the crate `abide`, where they are re-exported and
//! documented.

mod backoff;
mod duration;
mod function;
mod graph;
mod members;
mod module;
mod names;
mod options;
mod signature;
mod task;
mod trigger;

use proc_macro::TokenStream;
use syn::parse::Parser;
use syn::{Error, Item, parse_macro_input};

use crate::options::{Options, Place};

/// Makes a task of an async function; see `abide::task`.
#[proc_macro_attribute]
pub fn task(arguments: TokenStream, item: TokenStream) -> TokenStream {
    match parse_macro_input!(item as Item) {
        Item::Fn(function) => task::expand(options(arguments, Place::Task), &function).into(),
        other => misplaced(&other, "`#[task]` stands on an async function"),
    }
}

/// Makes a workflow of a module with tasks, or a durable function of an async function; see
/// `abide::workflow`.
#[proc_macro_attribute]
pub fn workflow(arguments: TokenStream, item: TokenStream) -> TokenStream {
    match parse_macro_input!(item as Item) {
        Item::Mod(module) => module::expand(options(arguments, Place::Module), module).into(),
        Item::Fn(function) => {
            function::expand(options(arguments, Place::Function), &function).into()
        }
        other => misplaced(
            &other,
            "`#[workflow]` stands on a module with tasks, or on an async function",
        ),
    }
}

fn misplaced(item: &Item, message: &str) -> TokenStream {
    let error = Error::new_spanned(item, message).to_compile_error();
    quote::quote!(#item #error).into()
}

fn options(arguments: TokenStream, place: Place) -> Options {
    let parser = |input: syn::parse::ParseStream<'_>| Ok(Options::parse(input, place));
    parser.parse(arguments).unwrap_or_else(|error| Options {
        mistakes: vec![error],
        ..Options::default()
    })
}
