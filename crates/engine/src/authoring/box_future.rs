//! The form in which futures of unknown types are kept: users' functions, and waits on a clock.

use std::pin::Pin;

/// A future that can move between threads, on the heap.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
