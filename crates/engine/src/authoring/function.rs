//! The async functions and closures that are [`Handler`]s: up to eight owned parameters, and before
//! them `&mut Context<_>`, `&TaskHandle`, or both in this order.

use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;

use super::box_future::BoxFuture;
use super::call::Call;
use super::context::Context;
use super::extract::Extract;
use super::handler::Handler;
use super::needs::Needs;
use super::produced::{Produced, produced};
use super::standard_error::IntoTaskError;
use super::task_error::TaskError;
use crate::handle::TaskHandle;

/// `Fn(borrowed.., owned..) -> Future`, with the arguments as tuples. A future that borrows from
/// its arguments has a different type for each lifetime, which
/// `for<'a> AsyncFunction<(&'a ..,), _>` can express.
pub trait AsyncFunction<Borrowed, Owned> {
    /// The future. It may borrow from the borrowed arguments.
    type Future: Future<Output = Self::Return> + Send;
    /// The future's result.
    type Return;

    /// Calls the function.
    fn call_with(&self, borrowed: Borrowed, owned: Owned) -> Self::Future;
}

/// Several parameters at once.
pub trait ExtractAll: Sized + Send + 'static {
    /// See [`Extract::needs`].
    fn needs(needs: &mut Needs);

    /// See [`Extract::extract`].
    fn extract(call: &mut Call) -> Result<Self, TaskError>;
}

/// Marks a handler without borrowed parameters, in its `Args`.
pub struct Plain;
/// Marks a handler with `&mut Context<T>`, in its `Args`.
pub struct ByContext<T>(PhantomData<fn() -> T>);
/// Marks a handler with `&TaskHandle`, in its `Args`.
pub struct ByHandle;
/// Marks a handler with `&mut Context<T>, &TaskHandle`, in its `Args`.
pub struct ByBoth<T>(PhantomData<fn() -> T>);

impl<F, A, R, E> Handler<(Plain, A, Result<R, E>)> for F
where
    F: AsyncFunction<(), A, Return = Result<R, E>> + Send + Sync + 'static,
    A: ExtractAll,
    R: Serialize + Send + 'static,
    E: IntoTaskError + 'static,
{
    type Output = R;

    fn needs() -> Needs {
        needs_of::<A>()
    }

    fn run(self: Arc<Self>, mut call: Call) -> BoxFuture<'static, Result<Produced, TaskError>> {
        Box::pin(async move {
            let owned = A::extract(&mut call)?;
            let output = called(&*self, (), owned).await?;
            produced(None, &output)
        })
    }
}

impl<F, T, A, R, E> Handler<(ByContext<T>, A, Result<R, E>)> for F
where
    F: for<'a> AsyncFunction<(&'a mut Context<T>,), A, Return = Result<R, E>>
        + Send
        + Sync
        + 'static,
    T: 'static,
    A: ExtractAll,
    R: Serialize + Send + 'static,
    E: IntoTaskError + 'static,
{
    type Output = R;

    fn needs() -> Needs {
        let mut needs = needs_of::<A>();
        needs.context();
        needs
    }

    fn run(self: Arc<Self>, mut call: Call) -> BoxFuture<'static, Result<Produced, TaskError>> {
        Box::pin(async move {
            let owned = A::extract(&mut call)?;
            let mut context = call.context();
            let output = called(&*self, (&mut context,), owned).await?;
            produced(Some(context.into_changes()), &output)
        })
    }
}

impl<F, A, R, E> Handler<(ByHandle, A, Result<R, E>)> for F
where
    F: for<'a> AsyncFunction<(&'a TaskHandle,), A, Return = Result<R, E>> + Send + Sync + 'static,
    A: ExtractAll,
    R: Serialize + Send + 'static,
    E: IntoTaskError + 'static,
{
    type Output = R;

    fn needs() -> Needs {
        let mut needs = needs_of::<A>();
        needs.handle();
        needs
    }

    fn run(self: Arc<Self>, mut call: Call) -> BoxFuture<'static, Result<Produced, TaskError>> {
        Box::pin(async move {
            let owned = A::extract(&mut call)?;
            let handle = call.handle();
            let output = called(&*self, (&handle,), owned).await?;
            produced(None, &output)
        })
    }
}

impl<F, T, A, R, E> Handler<(ByBoth<T>, A, Result<R, E>)> for F
where
    F: for<'a> AsyncFunction<(&'a mut Context<T>, &'a TaskHandle), A, Return = Result<R, E>>
        + Send
        + Sync
        + 'static,
    T: 'static,
    A: ExtractAll,
    R: Serialize + Send + 'static,
    E: IntoTaskError + 'static,
{
    type Output = R;

    fn needs() -> Needs {
        let mut needs = needs_of::<A>();
        needs.context();
        needs.handle();
        needs
    }

    fn run(self: Arc<Self>, mut call: Call) -> BoxFuture<'static, Result<Produced, TaskError>> {
        Box::pin(async move {
            let owned = A::extract(&mut call)?;
            let (mut context, handle) = (call.context(), call.handle());
            let output = called(&*self, (&mut context, &handle), owned).await?;
            produced(Some(context.into_changes()), &output)
        })
    }
}

async fn called<F, B, A, R, E>(function: &F, borrowed: B, owned: A) -> Result<R, TaskError>
where
    F: AsyncFunction<B, A, Return = Result<R, E>>,
    E: IntoTaskError,
{
    let output = function.call_with(borrowed, owned).await;
    output.map_err(IntoTaskError::into_task_error)
}

fn needs_of<A: ExtractAll>() -> Needs {
    let mut needs = Needs::default();
    A::needs(&mut needs);
    needs
}

macro_rules! parameters {
    ($($owned:ident)*) => {
        impl<$($owned: Extract),*> ExtractAll for ($($owned,)*) {
            fn needs(_needs: &mut Needs) {
                $($owned::needs(_needs);)*
            }

            fn extract(_call: &mut Call) -> Result<Self, TaskError> {
                Ok(($($owned::extract(_call)?,)*))
            }
        }

        parameters!(@function [] $($owned)*);
        parameters!(@function [B1] $($owned)*);
        parameters!(@function [B1 B2] $($owned)*);
    };
    (@function [$($borrowed:ident)*] $($owned:ident)*) => {
        impl<F, Fut, $($borrowed,)* $($owned,)*> AsyncFunction<($($borrowed,)*), ($($owned,)*)> for F
        where
            F: Fn($($borrowed,)* $($owned),*) -> Fut,
            Fut: Future + Send,
        {
            type Future = Fut;
            type Return = Fut::Output;

            #[allow(non_snake_case, reason = "type parameters also name the arguments, if there are any")]
            fn call_with(&self, ($($borrowed,)*): ($($borrowed,)*), ($($owned,)*): ($($owned,)*)) -> Fut {
                self($($borrowed,)* $($owned),*)
            }
        }
    };
}

parameters!();
parameters!(P1);
parameters!(P1 P2);
parameters!(P1 P2 P3);
parameters!(P1 P2 P3 P4);
parameters!(P1 P2 P3 P4 P5);
parameters!(P1 P2 P3 P4 P5 P6);
parameters!(P1 P2 P3 P4 P5 P6 P7);
parameters!(P1 P2 P3 P4 P5 P6 P7 P8);
