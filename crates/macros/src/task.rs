//! `#[task]`: the function stays as it is; beside it comes a type of its name that implements
//! `Task`. The type has braces, so that it takes the name of a type only and not of a value.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute, Error, Ident, ItemFn, LitStr, Visibility};

use crate::names::{TaskName, local, nearest, plain};
use crate::options::Options;
use crate::signature::{Param, Signature, param_name};

/// The function with the items that are added beside it, and every mistake as a compile error.
pub(crate) fn expand(mut options: Options, function: &ItemFn) -> TokenStream {
    let mut signature = Signature::of(function);
    let mut mistakes = std::mem::take(&mut options.mistakes);
    mistakes.append(&mut signature.mistakes);
    mistakes.extend(unknown_in_trigger(&options, &signature));
    let is_method = function.sig.receiver().is_some();
    // No type can stand beside a method.
    let beside = (!is_method).then(|| beside(&options, function, &signature, mistakes.is_empty()));
    let mistakes = mistakes.iter().map(Error::to_compile_error);
    quote!(#function #beside #(#mistakes)*)
}

/// The type and its implementation. If the function was refused, only its types are given, so that
/// code that uses them doesn't fail too.
fn beside(
    options: &Options,
    function: &ItemFn,
    signature: &Signature,
    is_sound: bool,
) -> TokenStream {
    let name = &function.sig.ident;
    let visibility = visibility(options, function);
    let cfgs: Vec<&Attribute> = cfgs(&function.attrs).collect();
    let id = id(options, function);
    let input = signature
        .input()
        .map_or_else(|| quote!(()), |ty| quote!(#ty));
    let (output, error) = (&signature.output, &signature.error);
    let builder = match is_sound {
        true => builder(options, function, signature),
        // Never runs: a compile error stands beside it.
        false => quote!(::core::unreachable!()),
    };
    let doc = format!(
        "The task `{id}`: the types of the function of the same name.",
        id = id.value()
    );
    quote! {
        #(#cfgs)*
        #[doc = #doc]
        #[allow(non_camel_case_types, missing_debug_implementations, reason = "it is named as its function and stands for its types alone")]
        #visibility struct #name {}

        #(#cfgs)*
        #[automatically_derived]
        impl ::abide::Task for #name {
            const ID: &'static ::core::primitive::str = #id;
            type Input = #input;
            type Output = #output;
            type Error = #error;

            fn builder() -> ::abide::TaskBuilder {
                #builder
            }
        }
    }
}

fn builder(options: &Options, function: &ItemFn, signature: &Signature) -> TokenStream {
    let name = &function.sig.ident;
    let needs = signature.params.iter().map(|param| param.need());
    let (takes, passes): (Vec<_>, Vec<_>) = signature
        .params
        .iter()
        .enumerate()
        .map(|(index, param)| param.take(index))
        .unzip();
    let context = signature
        .params
        .iter()
        .enumerate()
        .find_map(|(index, param)| match param {
            Param::Context(ty) => Some((index, ty)),
            _ => None,
        });
    let changes = match context {
        Some((index, ty)) => {
            let context = param_name(index);
            quote_spanned!(ty.span()=> <#ty as ::abide::__private::AContext>::into_changes(#context))
        }
        None => quote!(::core::option::Option::None),
    };
    let calls = options.task_calls();
    let priority = options.priority.iter();
    let after = options
        .dependencies
        .iter()
        .filter(|task| is_known(options, task))
        .map(|task| id_of(options, task));
    let trigger = options
        .trigger
        .iter()
        .map(|rule| rule.tokens(&|task| id_of(options, task)));
    let output = &signature.output;
    let body = body(name, signature, &quote!(#(#takes)*), &passes, &changes);
    let all = local("needs");
    quote! {
        let mut #all = ::abide::__private::Needs::none();
        #(#needs)*
        ::abide::__private::task::<#output>(
            <Self as ::abide::Task>::ID,
            #all,
            #body,
        )
        #(.after(#after))* #(.trigger(#trigger))* #calls #(.priority(#priority))*
    }
}

/// The closure that takes the parameters out of a call, runs the function and returns what it
/// produced. The compiler's errors point at the error's type if it doesn't convert, at the
/// function's name if its future isn't Send.
fn body(
    name: &Ident,
    signature: &Signature,
    takes: &TokenStream,
    passes: &[TokenStream],
    changes: &TokenStream,
) -> TokenStream {
    let [call, result, output] = ["call", "result", "output"].map(local);
    let answer = quote_spanned!(name.span()=> #name(#(#passes),*).await);
    let into_result = signature.alias.as_ref().map(|alias| {
        quote_spanned!(alias.span()=> let #result = <#alias as ::abide::__private::TaskReturn>::into_result(#result);)
    });
    // Not `local`: a message about this variable must point at the error's type. No code of the user's can see it.
    let error = Ident::new("error", signature.error.span());
    let convert = quote_spanned! {signature.error.span()=>
        (&&&&::abide::__private::convert::Of(&#error)).conversion_to_task_error().convert(#error)
    };
    let future = quote! {{
        #takes
        let #result = #answer;
        #into_result
        match #result {
            ::core::result::Result::Ok(#output) => ::abide::__private::produced(#changes, &#output),
            ::core::result::Result::Err(#error) => {
                use ::abide::__private::convert::{
                    ChooseBoxed as _, ChoosePlain as _, ChooseSame as _, ChooseTyped as _,
                };
                ::core::result::Result::Err(#convert)
            }
        }
    }};
    let mutable = (!passes.is_empty()).then(|| quote!(mut));
    quote_spanned!(name.span()=> |#mutable #call| ::std::boxed::Box::pin(async move #future))
}

/// The id: what the option says, or else the function's name.
pub(crate) fn id(options: &Options, function: &ItemFn) -> LitStr {
    let name = &function.sig.ident;
    options
        .id
        .clone()
        .or_else(|| options.name.clone())
        .unwrap_or_else(|| LitStr::new(&plain(name), name.span()))
}

/// The attribute that makes a function a task, by its name: it isn't resolved yet.
pub(crate) fn attribute(attributes: &[Attribute]) -> Option<&Attribute> {
    attributes.iter().find(|attribute| is_task(attribute))
}

pub(crate) fn attribute_mut(attributes: &mut [Attribute]) -> Option<&mut Attribute> {
    attributes.iter_mut().find(|attribute| is_task(attribute))
}

fn is_task(attribute: &Attribute) -> bool {
    let last = attribute.path().segments.last();
    last.is_some_and(|last| last.ident == "task")
}

/// The attributes that decide whether an item exists at all.
pub(crate) fn cfgs(attributes: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("cfg"))
}

/// The visibility of the function, but in a workflow's module not wider than the module's. The type
/// shows the types of the function; a `pub fn` in a private module may have private types, a `pub`
/// type may not show them.
fn visibility<'a>(options: &'a Options, function: &'a ItemFn) -> &'a Visibility {
    let own = &function.vis;
    match &options.within {
        Some(within) if is_wider(own, &within.visibility) => &within.visibility,
        _ => own,
    }
}

/// Only `pub` and `pub(crate)` can be compared with every visibility; others are left as they are.
fn is_wider(own: &Visibility, module: &Visibility) -> bool {
    let is_crate = |visibility: &Visibility| matches!(visibility, Visibility::Restricted(restricted) if restricted.path.is_ident("crate"));
    match own {
        Visibility::Public(_) => !matches!(module, Visibility::Public(_)),
        own if is_crate(own) => !matches!(module, Visibility::Public(_)) && !is_crate(module),
        _ => false,
    }
}

/// Whether a name is that of a task. In a module, the names of its tasks are known; the module
/// reported the others.
fn is_known(options: &Options, task: &TaskName) -> bool {
    match (&options.within, task.local()) {
        (Some(within), Some(local)) => within.ids.iter().any(|(function, _)| function == local),
        _ => true,
    }
}

fn id_of(options: &Options, task: &TaskName) -> TokenStream {
    let known = options.within.as_ref().zip(task.local());
    match known
        .and_then(|(within, local)| within.ids.iter().find(|(function, _)| function == local))
    {
        Some((_, id)) => quote!(#id),
        None => task.id(),
    }
}

/// A rule may name only tasks that its task waits for: others may not have ended yet.
fn unknown_in_trigger(options: &Options, signature: &Signature) -> Vec<Error> {
    let text = |task: &TaskName| match (&options.within, task.local()) {
        (Some(within), Some(local)) => within
            .ids
            .iter()
            .find(|(function, _)| function == local)
            .map_or_else(|| task.text(), |(_, id)| id.value()),
        _ => task.text(),
    };
    let outputs = signature.outputs().cloned().map(TaskName::Path);
    let known: Vec<String> = options
        .dependencies
        .iter()
        .cloned()
        .chain(outputs)
        .map(|task| text(&task))
        .collect();
    let named = options.trigger.iter().flat_map(|rule| rule.tasks());
    named
        .filter(|task| !known.contains(&text(task)))
        .map(|task| {
            let hint = match nearest(&task.text(), known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "add it to `dependencies` or take its output".to_owned(),
            };
            Error::new(
                task.span(),
                format!("`{}` is not a dependency of this task; {hint}", task.text()),
            )
        })
        .collect()
}
