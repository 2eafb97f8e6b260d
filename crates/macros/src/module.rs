//! `#[workflow]` on a module: the functions with `#[task]` in it are the workflow's tasks. The
//! checks that need all of them (ids, dependencies, cycles, the output) are here; each task's own
//! attribute checks its options and signature.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{
    AttrStyle, Attribute, Error, Ident, Item, ItemMod, LitStr, Meta, UseTree, Visibility,
    parse_quote,
};

use crate::graph;
use crate::members::{Member, Members};
use crate::names::{TaskName, plain};
use crate::options::Options;
use crate::task;

/// The module with the items that are added to it, and every mistake as a compile error.
pub(crate) fn expand(mut options: Options, mut module: ItemMod) -> TokenStream {
    let Some((_, mut items)) = module.content.take() else {
        let message = "`#[workflow]` needs the module's body here: `mod name { .. }`";
        let error = Error::new(module.ident.span(), message).to_compile_error();
        return quote!(#module #error);
    };
    let members = Members::of(&items);
    let mut mistakes = std::mem::take(&mut options.mistakes);
    mistakes.extend(is_empty(&members, &module.ident));
    mistakes.extend(graph::check(&members.nodes()));
    let output = options
        .output
        .as_ref()
        .map(|name| members.output(name))
        .transpose();
    let output = output.unwrap_or_else(|mistake| {
        mistakes.push(mistake);
        None
    });
    let visibility = outside(&module.vis);
    let taken: Vec<Error> = items.iter().filter_map(taken).collect();
    // An added item beside one of the same name would only cause more errors.
    let workflow = taken.is_empty().then(|| {
        let name = options.name.clone();
        let name = name.unwrap_or_else(|| LitStr::new(&plain(&module.ident), module.ident.span()));
        let workflow = workflow(&name, &options, &members, output, &visibility);
        let strangers = strangers(&members);
        quote!(#workflow #strangers)
    });
    mistakes.extend(taken);
    for member in &members.0 {
        tell(
            &mut items[member.item],
            &members.named_by(member),
            &visibility,
        );
    }
    items.extend(surroundings(&items));
    let mistakes = mistakes.iter().map(Error::to_compile_error);
    let (inner, outer): (Vec<Attribute>, Vec<Attribute>) = module
        .attrs
        .into_iter()
        .partition(|attribute| matches!(attribute.style, AttrStyle::Inner(_)));
    let (own, name) = (&module.vis, &module.ident);
    quote! {
        #(#outer)*
        #own mod #name {
            #(#inner)*
            #(#items)*
            #workflow
            #(#mistakes)*
        }
    }
}

fn is_empty(members: &Members, module: &Ident) -> Option<Error> {
    let message =
        "a workflow has at least one task: put `#[task]` on an async function in this module";
    members
        .0
        .is_empty()
        .then(|| Error::new(module.span(), message))
}

/// The error for an item whose name the attribute needs.
fn taken(item: &Item) -> Option<Error> {
    let (name, wanted) = match item {
        Item::Fn(function) => (&function.sig.ident, "graph"),
        Item::Struct(item) => (&item.ident, "Workflow"),
        Item::Enum(item) => (&item.ident, "Workflow"),
        Item::Type(item) => (&item.ident, "Workflow"),
        Item::Union(item) => (&item.ident, "Workflow"),
        Item::Mod(item) => (&item.ident, "Workflow"),
        Item::Trait(item) => (&item.ident, "Workflow"),
        Item::Use(item) => (imported(&item.tree, "Workflow")?, "Workflow"),
        Item::Const(item) => (&item.ident, "graph"),
        Item::Static(item) => (&item.ident, "graph"),
        _ => return None,
    };
    (name == wanted).then(|| {
        Error::new(
            name.span(),
            format!("`#[workflow]` makes a `{wanted}` in this module; rename this one"),
        )
    })
}

/// The name in an import that brings in `wanted`, if one does. An item takes precedence over a
/// glob.
fn imported<'a>(tree: &'a UseTree, wanted: &str) -> Option<&'a Ident> {
    let name = match tree {
        UseTree::Path(path) => return imported(&path.tree, wanted),
        UseTree::Group(group) => return group.items.iter().find_map(|item| imported(item, wanted)),
        UseTree::Name(name) => &name.ident,
        UseTree::Rename(rename) => &rename.rename,
        UseTree::Glob(_) => return None,
    };
    (name == wanted).then_some(name)
}

/// Adds to a task's attribute what only the module knows.
fn tell(item: &mut Item, named: &[&Member], visibility: &Visibility) {
    let Item::Fn(function) = item else { return };
    let Some(attribute) = task::attribute_mut(&mut function.attrs) else {
        return;
    };
    let said = match &attribute.meta {
        Meta::List(list) => list.tokens.clone(),
        Meta::Path(_) => TokenStream::new(),
        Meta::NameValue(_) => return,
    };
    let functions = named.iter().map(|member| &member.function);
    let ids = named.iter().map(|member| &member.id);
    let path = attribute.path();
    attribute.meta = parse_quote!(#path(__within(#visibility #(, #functions = #ids)*), #said));
}

/// An import of the surrounding module's items, unless the module has it already.
fn surroundings(items: &[Item]) -> Option<Item> {
    fn is_super_glob(tree: &UseTree) -> bool {
        match tree {
            UseTree::Path(path) if path.ident == "super" => matches!(*path.tree, UseTree::Glob(_)),
            UseTree::Group(group) => group.items.iter().any(is_super_glob),
            _ => false,
        }
    }
    let said = items
        .iter()
        .any(|item| matches!(item, Item::Use(item) if is_super_glob(&item.tree)));
    // The compiler does not warn if it goes unused, because a macro wrote it.
    (!said).then(|| {
        parse_quote!(
            use super::*;
        )
    })
}

fn workflow(
    name: &LitStr,
    options: &Options,
    members: &Members,
    output: Option<&Member>,
    visibility: &Visibility,
) -> TokenStream {
    let functions: Vec<&Ident> = members.0.iter().map(|member| &member.function).collect();
    let cfgs: Vec<&[Attribute]> = members.0.iter().map(|member| &*member.cfgs).collect();
    let input = members.input();
    let output_type = output.map_or_else(|| quote!(()), |member| member.output.clone());
    let output_call = output.map(|member| &member.id).into_iter();
    let calls = options.workflow_calls();
    let doc = format!("The workflow `{}`.", name.value());
    quote! {
        #[doc = #doc]
        #[allow(missing_debug_implementations, reason = "it stands for its types alone")]
        #visibility struct Workflow {}

        #[automatically_derived]
        impl ::abide::Workflow for Workflow {
            const NAME: &'static ::core::primitive::str = #name;
            type Input = #input;
            type Output = #output_type;
            type Error = ::abide::TaskError;

            fn builder() -> ::abide::WorkflowBuilder {
                let workflow = ::abide::WorkflowBuilder::new(<Self as ::abide::Workflow>::NAME);
                #(#(#cfgs)* let workflow = workflow.add::<#functions>();)*
                workflow #(.output(#output_call))* #calls
            }
        }

        #(#(#cfgs)* #[automatically_derived] impl ::abide::PartOf<Workflow> for #functions {})*

        /// A graph of this workflow for one execution, without nodes yet.
        #visibility fn graph() -> ::abide::GraphOf<Workflow> {
            ::abide::GraphOf::new()
        }

        // Uses the function, so that the compiler does not warn of a workflow that no graph is
        // built for.
        const _: fn() -> ::abide::GraphOf<Workflow> = graph;
    }
}

/// Makes the compiler check that outputs are taken of this workflow's tasks only.
fn strangers(members: &Members) -> TokenStream {
    let outputs = members.0.iter().flat_map(|member| &member.outputs);
    let strangers = outputs.filter(|path| members.find(&TaskName::Path((*path).clone())).is_none());
    let checks = strangers.map(|path| {
        quote_spanned! {path.span()=>
            const _: () = ::abide::__private::part_of::<#path, Workflow>();
        }
    });
    quote!(#(#checks)*)
}

/// A visibility written outside of the module, as it is written inside.
fn outside(visibility: &Visibility) -> Visibility {
    match visibility {
        Visibility::Public(_) => visibility.clone(),
        Visibility::Inherited => parse_quote!(pub(super)),
        Visibility::Restricted(restricted) => {
            let path = &restricted.path;
            match path.segments.first() {
                Some(first) if first.ident == "super" => parse_quote!(pub(in super::#path)),
                Some(first) if first.ident == "self" => parse_quote!(pub(super)),
                _ => visibility.clone(),
            }
        }
    }
}
