//! `#[workflow]` on a module: the functions with `#[task]` in it are the workflow's tasks. What can
//! only be seen with all of them in view is checked here (ids, dependencies, cycles, the output);
//! each task's own options and signature are the business of its own attribute.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::parse::Parser;
use syn::spanned::Spanned;
use syn::{
    Attribute, Error, Ident, Item, ItemFn, ItemMod, LitStr, Meta, Path, Type, UseTree, Visibility,
    parse_quote,
};

use crate::graph::{self, Node};
use crate::names::{TaskName, plain, suggestion};
use crate::options::{Options, Place, is_named};
use crate::signature::Signature;
use crate::task;

/// A task of the module, as far as it could be read.
pub(crate) struct Member {
    pub(crate) function: Ident,
    pub(crate) id: LitStr,
    pub(crate) cfgs: Vec<Attribute>,
    pub(crate) dependencies: Vec<TaskName>,
    /// The tasks its rule names.
    named: Vec<TaskName>,
    /// The tasks whose outputs it takes.
    outputs: Vec<Path>,
    input: Option<Type>,
    output: TokenStream,
}

pub(crate) fn expand(mut options: Options, mut module: ItemMod) -> TokenStream {
    let Some((_, items)) = &mut module.content else {
        let message = "`#[workflow]` needs the module's body here: `mod name { .. }`";
        let error = Error::new(module.ident.span(), message).to_compile_error();
        return quote!(#module #error);
    };
    let members: Vec<Member> = items.iter().filter_map(member).collect();
    let mut mistakes = std::mem::take(&mut options.mistakes);
    if members.is_empty() {
        let message =
            "a workflow has at least one task: put `#[task]` on an async function in this module";
        mistakes.push(Error::new(module.ident.span(), message));
    }
    let taken: Vec<Error> = items.iter().filter_map(taken).collect();
    let is_free = taken.is_empty();
    mistakes.extend(taken);
    mistakes.extend(graph::check(&nodes(&members)));
    let output = options
        .output
        .as_ref()
        .map(|output| find(output, &members).ok_or_else(|| unknown(output, &members)));
    let output = output.transpose().unwrap_or_else(|mistake| {
        mistakes.push(mistake);
        None
    });
    let visibility = outside(&module.vis);
    for item in items.iter_mut() {
        tell(item, &members, &visibility);
    }
    items.extend(surroundings(items));
    let name = options
        .name
        .clone()
        .unwrap_or_else(|| LitStr::new(&plain(&module.ident), module.ident.span()));
    let workflow = is_free.then(|| workflow(&name, &options, &members, output, &visibility));
    let strangers = is_free.then(|| strangers(&members));
    let mistakes = mistakes.iter().map(Error::to_compile_error);
    let (attributes, own, module_name) = (&module.attrs, &module.vis, &module.ident);
    let items = module.content.iter().flat_map(|(_, items)| items);
    quote! {
        #(#attributes)*
        #own mod #module_name {
            #(#items)*
            #workflow
            #strangers
            #(#mistakes)*
        }
    }
}

fn task_attribute(function: &ItemFn) -> Option<&Attribute> {
    function
        .attrs
        .iter()
        .find(|attribute| is_named(attribute.path(), "task"))
}

fn member(item: &Item) -> Option<Member> {
    let Item::Fn(function) = item else {
        return None;
    };
    let attribute = task_attribute(function)?;
    let tokens = match &attribute.meta {
        Meta::List(list) => list.tokens.clone(),
        _ => TokenStream::new(),
    };
    let options = (|input: syn::parse::ParseStream<'_>| Ok(Options::parse(input, Place::Task)))
        .parse2(tokens);
    let options = options.unwrap_or_default();
    let signature = Signature::of(function);
    Some(Member {
        function: function.sig.ident.clone(),
        id: task::id(&options, function),
        cfgs: task::cfgs(&function.attrs).cloned().collect(),
        named: options
            .trigger
            .iter()
            .flat_map(|rule| rule.tasks().into_iter().cloned())
            .collect(),
        dependencies: options.dependencies,
        outputs: signature.outputs().cloned().collect(),
        input: signature.input().cloned(),
        output: signature.output,
    })
}

/// The member that a name in one of the module's attributes means, if it means one.
fn find<'a>(name: &TaskName, members: &'a [Member]) -> Option<&'a Member> {
    members.iter().find(|member| match name {
        TaskName::Path(path) => path.is_ident(&member.function),
        TaskName::Id(id) => id.value() == member.id.value(),
    })
}

fn unknown(name: &TaskName, members: &[Member]) -> Error {
    let known: Vec<String> = match name {
        TaskName::Path(_) => members
            .iter()
            .map(|member| plain(&member.function))
            .collect(),
        TaskName::Id(_) => members.iter().map(|member| member.id.value()).collect(),
    };
    let hint = suggestion(&name.text(), known.iter().map(String::as_str));
    Error::new(
        name.span(),
        format!("this workflow has no task `{}`{hint}", name.text()),
    )
}

/// The module's graph, with what names no task of it as an error. Paths into other modules are left
/// to the compiler, and what an output is taken of as well: it reports a type that doesn't exist.
fn nodes(members: &[Member]) -> Vec<Node> {
    let place = |member: &Member| members.iter().position(|other| std::ptr::eq(other, member));
    let node = |member: &Member| {
        let mut node = Node {
            id: member.id.clone(),
            is_conditional: !member.cfgs.is_empty(),
            waits_for: Vec::new(),
            unknown: Vec::new(),
        };
        for name in &member.dependencies {
            match (find(name, members), name) {
                (Some(found), _) => node
                    .waits_for
                    .extend(place(found).map(|at| (at, name.span()))),
                (None, TaskName::Path(path)) if path.get_ident().is_none() => {}
                (None, _) => node.unknown.push(unknown(name, members)),
            }
        }
        for path in &member.outputs {
            let found = find(&TaskName::Path(path.clone()), members);
            node.waits_for
                .extend(found.and_then(place).map(|at| (at, path.span())));
        }
        node
    };
    members.iter().map(node).collect()
}

/// What has a name that the attribute needs for itself.
fn taken(item: &Item) -> Option<Error> {
    let (name, wanted) = match item {
        Item::Fn(function) => (&function.sig.ident, "graph"),
        Item::Struct(item) => (&item.ident, "Workflow"),
        Item::Enum(item) => (&item.ident, "Workflow"),
        Item::Type(item) => (&item.ident, "Workflow"),
        Item::Trait(item) => (&item.ident, "Workflow"),
        _ => return None,
    };
    (name == wanted).then(|| {
        Error::new(
            name.span(),
            format!("`#[workflow]` makes a `{wanted}` in this module; rename this one"),
        )
    })
}

/// Tells a task what only the module knows, in its attribute.
fn tell(item: &mut Item, members: &[Member], visibility: &Visibility) {
    let Item::Fn(function) = item else { return };
    let Some(member) = members
        .iter()
        .find(|member| member.function == function.sig.ident)
    else {
        return;
    };
    let Some(attribute) = function
        .attrs
        .iter_mut()
        .find(|attribute| is_named(attribute.path(), "task"))
    else {
        return;
    };
    let outputs = member.outputs.iter().cloned().map(TaskName::Path);
    let names = member
        .dependencies
        .iter()
        .chain(&member.named)
        .cloned()
        .chain(outputs);
    let known = names
        .filter(|name| name.local().is_some())
        .filter_map(|name| find(&name, members));
    let (functions, ids): (Vec<_>, Vec<_>) =
        known.map(|member| (&member.function, &member.id)).unzip();
    let path = attribute.path().clone();
    let said = match &attribute.meta {
        Meta::List(list) => list.tokens.clone(),
        Meta::Path(_) => TokenStream::new(),
        Meta::NameValue(_) => return,
    };
    attribute.meta = parse_quote!(#path(__within(#visibility #(, #functions = #ids)*), #said));
}

/// The module sees what stands around it, as if written there, unless it says so itself.
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
    (!said).then(|| {
        parse_quote!(
            #[allow(unused_imports)]
            use super::*;
        )
    })
}

fn workflow(
    name: &LitStr,
    options: &Options,
    members: &[Member],
    output: Option<&Member>,
    visibility: &Visibility,
) -> TokenStream {
    let functions: Vec<&Ident> = members.iter().map(|member| &member.function).collect();
    let cfgs: Vec<&[Attribute]> = members.iter().map(|member| &*member.cfgs).collect();
    let input = input(members);
    let output_type = output.map_or_else(|| quote!(()), |member| member.output.clone());
    let output_call = output.map(|member| &member.id).into_iter();
    let calls = options.workflow_calls();
    let doc = format!("The workflow `{}`.", name.value());
    quote! {
        #[doc = #doc]
        #[allow(missing_debug_implementations)]
        #visibility struct Workflow {}

        #[automatically_derived]
        impl ::abide::Workflow for Workflow {
            const NAME: &'static str = #name;
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

        // A workflow that is never given a graph at run time doesn't leave an unused function.
        const _: fn() -> ::abide::GraphOf<Workflow> = graph;
    }
}

/// The input that all tasks with an input share. Told by how it is written, as types aren't known yet.
fn input(members: &[Member]) -> TokenStream {
    let mut inputs = members.iter().filter_map(|member| member.input.as_ref());
    match inputs.next() {
        None => quote!(()),
        Some(first) if inputs.all(|input| written(input) == written(first)) => quote!(#first),
        Some(_) => quote!(::abide::NodesOnly),
    }
}

fn written(ty: &Type) -> String {
    quote!(#ty).to_string()
}

/// Makes the compiler check that outputs are taken of this workflow's tasks only.
fn strangers(members: &[Member]) -> TokenStream {
    let outputs = members.iter().flat_map(|member| &member.outputs);
    let strangers =
        outputs.filter(|path| find(&TaskName::Path((*path).clone()), members).is_none());
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
