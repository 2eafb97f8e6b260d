//! The tasks of a `#[workflow]` module, as far as their attributes and signatures can be read. What
//! can't be read is left out: each task's own attribute reports it.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{ParseStream, Parser};
use syn::spanned::Spanned;
use syn::{Attribute, Error, Ident, Item, ItemFn, LitStr, Meta, Path, Type};

use crate::graph::Node;
use crate::names::{TaskName, plain, suggestion};
use crate::options::{Options, Place};
use crate::signature::Signature;
use crate::task;

/// A task of the module.
pub(crate) struct Member {
    /// Which of the module's items it is.
    pub(crate) item: usize,
    pub(crate) function: Ident,
    pub(crate) id: LitStr,
    pub(crate) cfgs: Vec<Attribute>,
    pub(crate) dependencies: Vec<TaskName>,
    /// The tasks its rule names.
    named: Vec<TaskName>,
    /// The tasks whose outputs it takes.
    pub(crate) outputs: Vec<Path>,
    pub(crate) input: Option<Type>,
    pub(crate) output: TokenStream,
}

/// All tasks among the items, in declared order.
pub(crate) struct Members(pub(crate) Vec<Member>);

impl Members {
    pub(crate) fn of(items: &[Item]) -> Members {
        let members = items
            .iter()
            .enumerate()
            .filter_map(|(at, item)| match item {
                Item::Fn(function) => Member::of(at, function),
                _ => None,
            });
        Members(members.collect())
    }

    /// The member that a name in one of the module's attributes means, if it means one.
    pub(crate) fn find(&self, name: &TaskName) -> Option<&Member> {
        self.place(name).map(|at| &self.0[at])
    }

    /// The member whose output is the workflow's.
    pub(crate) fn output(&self, name: &TaskName) -> Result<&Member, Error> {
        self.find(name).ok_or_else(|| self.unknown(name))
    }

    fn place(&self, name: &TaskName) -> Option<usize> {
        self.0.iter().position(|member| match name {
            TaskName::Path(path) => path.is_ident(&member.function),
            TaskName::Id(id) => id.value() == member.id.value(),
        })
    }

    fn unknown(&self, name: &TaskName) -> Error {
        let known = self.0.iter().map(|member| match name {
            TaskName::Path(_) => plain(&member.function),
            TaskName::Id(_) => member.id.value(),
        });
        let known: Vec<String> = known.collect();
        let hint = suggestion(&name.text(), known.iter().map(String::as_str));
        let message = format!("this workflow has no task `{}`{hint}", name.text());
        Error::new(name.span(), message)
    }

    /// The module's graph, with an error for each dependency that is no task of it. The compiler
    /// checks paths into other modules and the tasks of output parameters: it reports a missing
    /// type.
    pub(crate) fn nodes(&self) -> Vec<Node> {
        let node = |member: &Member| {
            let outputs = member.outputs.iter();
            let waits = outputs.filter_map(|path| {
                let at = self.place(&TaskName::Path(path.clone()))?;
                Some((at, path.span()))
            });
            let mut node = Node {
                id: member.id.clone(),
                is_conditional: !member.cfgs.is_empty(),
                waits_for: waits.collect(),
                unknown: Vec::new(),
            };
            for name in &member.dependencies {
                match self.place(name) {
                    Some(at) => node.waits_for.push((at, name.span())),
                    None if name.is_elsewhere() => {}
                    None => node.unknown.push(self.unknown(name)),
                }
            }
            node
        };
        self.0.iter().map(node).collect()
    }

    /// The functions of this module that a task names, with the ids of their tasks.
    pub(crate) fn named_by(&self, member: &Member) -> Vec<&Member> {
        let outputs = member.outputs.iter().cloned().map(TaskName::Path);
        let names = member.dependencies.iter().chain(&member.named).cloned();
        let local = names.chain(outputs).filter(|name| name.local().is_some());
        local.filter_map(|name| self.find(&name)).collect()
    }

    /// The input type that all tasks with an input share, compared as text, as types aren't known
    /// yet.
    pub(crate) fn input(&self) -> TokenStream {
        let written = |ty: &Type| quote!(#ty).to_string();
        let mut inputs = self.0.iter().filter_map(|member| member.input.as_ref());
        match inputs.next() {
            None => quote!(()),
            Some(first) if inputs.all(|input| written(input) == written(first)) => quote!(#first),
            Some(_) => quote!(::abide::NodesOnly),
        }
    }
}

impl Member {
    fn of(item: usize, function: &ItemFn) -> Option<Member> {
        let tokens = match &task::attribute(&function.attrs)?.meta {
            Meta::List(list) => list.tokens.clone(),
            _ => TokenStream::new(),
        };
        let parser = |input: ParseStream<'_>| Ok(Options::parse(input, Place::Task));
        let options = parser.parse2(tokens).unwrap_or_default();
        let signature = Signature::of(function);
        let named = options.trigger.iter().flat_map(|rule| rule.tasks());
        Some(Member {
            item,
            function: function.sig.ident.clone(),
            id: task::id(&options, function),
            cfgs: task::cfgs(&function.attrs).cloned().collect(),
            named: named.cloned().collect(),
            dependencies: options.dependencies,
            outputs: signature.outputs().cloned().collect(),
            input: signature.input().cloned(),
            output: signature.output,
        })
    }
}
