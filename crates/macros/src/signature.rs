//! A task's function as its signature tells it: what each parameter is, by its type, and what it
//! returns. A parameter's name means nothing.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{
    Error, FnArg, GenericArgument, GenericParam, Ident, ItemFn, PatType, Path, PathArguments,
    PathSegment, ReturnType, Type, TypePath, TypeReference,
};

use crate::names::local;

/// See the module's documentation.
pub(crate) struct Signature {
    pub(crate) params: Vec<Param>,
    pub(crate) output: TokenStream,
    pub(crate) error: TokenStream,
    /// The return type, if it isn't written `Result<_, _>`: an alias, which only the compiler can
    /// resolve.
    pub(crate) alias: Option<Type>,
    pub(crate) mistakes: Vec<Error>,
}

/// One parameter.
pub(crate) enum Param {
    /// `&mut Context<_>`, by the type behind the reference.
    Context(Type),
    /// `&TaskHandle`, by the type behind the reference.
    Handle(Type),
    /// A type of the engine that is taken by value.
    Extracted(Type),
    /// `Input<T>`, by `T`.
    Input(Type),
    /// Any other type: the input itself.
    Bare(Type),
    /// `Output<task>`, `Outputs<task>` or `Option<Output<task>>`.
    Output(Type, Path),
    /// A parameter whose mistake was reported.
    Wrong,
}

impl Signature {
    pub(crate) fn of(function: &ItemFn) -> Signature {
        let mut signature = Signature {
            params: Vec::new(),
            output: quote!(()),
            error: quote!(::abide::TaskError),
            alias: None,
            mistakes: qualifiers(function),
        };
        for argument in &function.sig.inputs {
            let param = param(argument).unwrap_or_else(|mistake| {
                signature.mistakes.push(mistake);
                Param::Wrong
            });
            signature.add(param);
        }
        signature.returns(function);
        signature
    }

    fn returns(&mut self, function: &ItemFn) {
        let (path, ty) = match &function.sig.output {
            ReturnType::Type(_, ty) => match &**ty {
                Type::Path(path) => (path, ty),
                other => return self.mistakes.push(no_result(other)),
            },
            ReturnType::Default => return self.mistakes.push(no_result(&function.sig.ident)),
        };
        if let Some((output, error)) = result_arguments(path) {
            (self.output, self.error) = (quote!(#output), quote!(#error));
            return;
        }
        let part = |name: &str| {
            let name = Ident::new(name, ty.span());
            quote_spanned!(ty.span()=> <#ty as ::abide::__private::TaskReturn>::#name)
        };
        (self.output, self.error) = (part("Output"), part("Error"));
        self.alias = Some((**ty).clone());
    }

    fn add(&mut self, param: Param) {
        let second = |ty: &Type, message: &str| Some(Error::new_spanned(ty, message));
        let any = |wanted: fn(&Param) -> bool| self.params.iter().any(wanted);
        let mistake = match &param {
            Param::Context(ty) if any(|p| matches!(p, Param::Context(_))) => {
                second(ty, "a task has one context")
            }
            Param::Handle(ty) if any(|p| matches!(p, Param::Handle(_))) => {
                second(ty, "a task has one handle")
            }
            Param::Input(ty) | Param::Bare(ty)
                if any(|p| matches!(p, Param::Input(_) | Param::Bare(_))) =>
            {
                second(
                    ty,
                    "a task takes one input, and this is a second; put both into one struct or tuple",
                )
            }
            _ => None,
        };
        self.mistakes.extend(mistake);
        self.params.push(param);
    }

    /// The input's type, if the task takes one.
    pub(crate) fn input(&self) -> Option<&Type> {
        self.params.iter().find_map(|param| match param {
            Param::Input(ty) | Param::Bare(ty) => Some(ty),
            _ => None,
        })
    }

    /// The tasks whose outputs are taken.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = &Path> {
        self.params.iter().filter_map(|param| match param {
            Param::Output(_, task) => Some(task),
            _ => None,
        })
    }
}

impl Param {
    /// A statement that adds what the parameter needs to `needs`. Not called as a method: a trait of the user's may
    /// have a method of the same name.
    pub(crate) fn need(&self) -> TokenStream {
        let (ty, add) = match self {
            Param::Context(ty) => (ty, quote!(context)),
            Param::Handle(ty) => (ty, quote!(handle)),
            Param::Extracted(ty) | Param::Output(ty, _) => (ty, quote!(add::<#ty>)),
            Param::Input(ty) | Param::Bare(ty) => (ty, quote!(add::<::abide::Input<#ty>>)),
            Param::Wrong => return TokenStream::new(),
        };
        let needs = local("needs");
        quote_spanned!(ty.span()=> ::abide::__private::Needs::#add(&mut #needs);)
    }

    /// A statement that takes the parameter out of `call`, and the expression that passes it on.
    pub(crate) fn take(&self, index: usize) -> (TokenStream, TokenStream) {
        let (name, call) = (param_name(index), local("call"));
        match self {
            Param::Context(ty) => (
                quote_spanned!(ty.span()=> let mut #name = <#ty as ::abide::__private::AContext>::take(&mut #call);),
                quote!(&mut #name),
            ),
            Param::Handle(ty) => (
                quote_spanned!(ty.span()=> let #name = <#ty as ::abide::__private::AHandle>::take(&mut #call);),
                quote!(&#name),
            ),
            Param::Extracted(ty) | Param::Output(ty, _) => (
                quote_spanned!(ty.span()=> let #name = <#ty as ::abide::__private::Extract>::extract(&mut #call)?;),
                quote!(#name),
            ),
            Param::Input(ty) => (input(ty, &name), quote!(#name)),
            Param::Bare(ty) => (input(ty, &name), quote!(#name.0)),
            Param::Wrong => (TokenStream::new(), TokenStream::new()),
        }
    }
}

/// The variable that holds a parameter between taking it and passing it on.
pub(crate) fn param_name(index: usize) -> Ident {
    local(&format!("parameter_{index}"))
}

fn input(ty: &Type, name: &Ident) -> TokenStream {
    let call = local("call");
    quote_spanned! {ty.span()=>
        let #name = <::abide::Input<#ty> as ::abide::__private::Extract>::extract(&mut #call)?;
    }
}

/// The mistakes in the function's qualifiers, such as `unsafe`, and its generic parameters.
fn qualifiers(function: &ItemFn) -> Vec<Error> {
    let signature = &function.sig;
    let mut mistakes = Vec::new();
    let mut refuse = |span, message: &str| mistakes.push(Error::new(span, message));
    if signature.asyncness.is_none() {
        refuse(signature.fn_token.span(), "a task is an `async fn`");
    }
    if let Some(unsafety) = &signature.unsafety {
        refuse(
            unsafety.span(),
            "a task can't be unsafe: the engine calls it at any time",
        );
    }
    if let Some(abi) = &signature.abi {
        refuse(abi.span(), "a task is a Rust function");
    }
    for generic in &signature.generics.params {
        if !matches!(generic, GenericParam::Lifetime(_)) {
            refuse(
                generic.span(),
                "a task can't be generic: it is found by its name when it runs",
            );
        }
    }
    if let Some(variadic) = &signature.variadic {
        refuse(variadic.span(), "a task has a fixed number of parameters");
    }
    mistakes
}

fn param(argument: &FnArg) -> Result<Param, Error> {
    let ty = match argument {
        FnArg::Receiver(receiver) => {
            let message =
                "a task is a free function; what it shares with others it takes as `State<_>`";
            return Err(Error::new(receiver.self_token.span(), message));
        }
        FnArg::Typed(PatType { ty, .. }) => ty,
    };
    match &**ty {
        Type::Reference(TypeReference {
            mutability: Some(_),
            elem,
            ..
        }) => Ok(Param::Context((**elem).clone())),
        Type::Reference(TypeReference { elem, .. }) if is_named(elem) => {
            Ok(Param::Handle((**elem).clone()))
        }
        Type::Reference(_) => Err(Error::new_spanned(
            ty,
            "a task owns its input; by `&` it takes its handle: `&TaskHandle`",
        )),
        Type::ImplTrait(_) => Err(Error::new_spanned(
            ty,
            "a task can't be generic: give the parameter one type",
        )),
        Type::Path(path) => by_path(ty, path),
        other => Ok(Param::Bare(other.clone())),
    }
}

/// Whether the type could be the handle's; `str`, slices and trait objects can't.
fn is_named(ty: &Type) -> bool {
    matches!(ty, Type::Path(path) if !path.path.is_ident("str"))
}

/// A parameter by the last segment of its type. The engine's own types have one argument, so a
/// user's type of the same name without arguments is an input.
fn by_path(ty: &Type, path: &TypePath) -> Result<Param, Error> {
    let Some(last) = path.path.segments.last() else {
        return Ok(Param::Bare(ty.clone()));
    };
    match (last.ident.to_string().as_str(), argument(last)) {
        ("TaskHandle", None) => Ok(Param::Extracted(ty.clone())),
        ("State", Some(_)) => Ok(Param::Extracted(ty.clone())),
        ("Input", Some(input)) => Ok(Param::Input(input.clone())),
        ("Output" | "Outputs", Some(task)) => Ok(Param::Output(ty.clone(), task_path(task)?)),
        ("Option", Some(Type::Path(inner))) => match inner.path.segments.last() {
            Some(last) if last.ident == "Output" && argument(last).is_some() => {
                let task = argument(last).expect("just seen");
                Ok(Param::Output(ty.clone(), task_path(task)?))
            }
            _ => Ok(Param::Bare(ty.clone())),
        },
        ("Context", _) => Err(Error::new_spanned(
            ty,
            "a task takes the context by `&mut`; an input whose type is called `Context` is written `Input<Context>`",
        )),
        _ => Ok(Param::Bare(ty.clone())),
    }
}

/// The type's argument, if it has exactly one and that is a type.
fn argument(segment: &PathSegment) -> Option<&Type> {
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else {
        return None;
    };
    match arguments.args.iter().collect::<Vec<_>>()[..] {
        [GenericArgument::Type(ty)] => Some(ty),
        _ => None,
    }
}

fn task_path(ty: &Type) -> Result<Path, Error> {
    match ty {
        Type::Path(TypePath { qself: None, path }) => Ok(path.clone()),
        other => Err(Error::new_spanned(
            other,
            "expected a task: the name of its function",
        )),
    }
}

fn no_result(found: &dyn ToTokens) -> Error {
    Error::new_spanned(
        found,
        "a task returns a `Result`, such as `Result<(), TaskError>`",
    )
}

fn result_arguments(path: &TypePath) -> Option<(&Type, &Type)> {
    let last = path
        .path
        .segments
        .last()
        .filter(|last| last.ident == "Result")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else {
        return None;
    };
    match arguments.args.iter().collect::<Vec<_>>()[..] {
        [GenericArgument::Type(output), GenericArgument::Type(error)] => Some((output, error)),
        _ => None,
    }
}
