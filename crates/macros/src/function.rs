//! `#[workflow]` on a function: a durable function, which is a workflow of one task. The type of
//! the function's name is both.

use proc_macro2::TokenStream;
use quote::quote;
use syn::spanned::Spanned;
use syn::{Error, ItemFn};

use crate::options::Options;
use crate::signature::Signature;
use crate::task;

pub(crate) fn expand(mut options: Options, function: &ItemFn) -> TokenStream {
    let signature = Signature::of(function);
    for task in signature.outputs() {
        let message = "a durable function has no dependencies; it calls tasks through its handle";
        options.mistakes.push(Error::new(task.span(), message));
    }
    let workflow_calls = options.workflow_calls();
    // The priority is that of the execution, so its task has none of its own.
    options.priority = None;
    let name = &function.sig.ident;
    let cfgs = task::cfgs(&function.attrs);
    let beside = quote! {
        #(#cfgs)*
        #[automatically_derived]
        const _: () = {
            impl ::abide::Workflow for #name {
                const NAME: &'static ::core::primitive::str = <#name as ::abide::Task>::ID;
                type Input = <#name as ::abide::Task>::Input;
                type Output = <#name as ::abide::Task>::Output;
                type Error = <#name as ::abide::Task>::Error;

                fn builder() -> ::abide::WorkflowBuilder {
                    ::abide::WorkflowBuilder::function(<#name as ::abide::Task>::builder()) #workflow_calls
                }
            }

            impl ::abide::PartOf<#name> for #name {}
        };
    };
    let task = task::expand(options, function);
    quote!(#task #beside)
}
