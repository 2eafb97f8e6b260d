//! The engine: a client that, in most programs, has a worker which runs its store's tasks.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex};

use abide_core::ids::IdGenerator;

use crate::builder::EngineBuilder;
use crate::client::Client;
use crate::error::EngineError;
use crate::parts::Parts;
use crate::worker;

/// Runs durable workflows. Cheap to clone; clones are the same engine.
///
/// An engine is a [`Client`] with a worker. It has all of the client's methods, and every function
/// that takes a `&Client` also takes an `&Engine`.
///
/// When the last clone and the last [`Client`] and [`Run`](crate::Run) of it are dropped, the
/// worker stops as well as it can without waiting: running tasks are dropped and go back to the
/// queue. Call [`shutdown`](Engine::shutdown) to let them finish.
#[derive(Clone)]
pub struct Engine {
    client: Client,
}

impl Engine {
    /// Configures an engine over a store: `sqlite:` and the path of a file, or a `postgres://`
    /// address, which needs the feature `postgres`. A file or schema that does not exist is
    /// created.
    pub fn builder(url: impl Into<String>) -> EngineBuilder {
        EngineBuilder::new(url.into())
    }

    /// Opens a store to start, watch and cancel executions that another process runs.
    pub async fn connect(url: impl Into<String>) -> Result<Engine, EngineError> {
        Engine::builder(url).connect().await
    }

    pub(crate) async fn with_worker(parts: Parts) -> Result<Engine, EngineError> {
        parts.registry.check(&parts.state)?;
        let random = Arc::new(parts.options.random());
        let ids = Arc::new(Mutex::new(IdGenerator::new(random.bits())));
        let running = worker::start(&parts, random, Arc::clone(&ids)).await?;
        let client = Client::new(parts, ids, Some(running));
        Ok(Engine { client })
    }

    pub(crate) fn without_worker(parts: Parts) -> Result<Engine, EngineError> {
        let client = Client::without_worker(parts);
        client.watch()?;
        Ok(Engine { client })
    }

    /// The client of this engine, for code that needs no worker.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Stops the worker. It claims no more tasks, lets running tasks finish until the
    /// [deadline](EngineBuilder::shutdown_deadline), and gives the rest back to the queue without
    /// charging an attempt. Waiting tasks are given back, or left in the store, at once. Starting
    /// and watching executions still works, and another process may run them.
    ///
    /// Does nothing if the engine has no worker, or if the worker has stopped.
    pub async fn shutdown(&self) {
        if let Some(running) = self.client.running() {
            running.shutdown().await;
        }
    }
}

impl Deref for Engine {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("store", self.client.store())
            .field("runs_tasks", &self.client.running().is_some())
            .finish_non_exhaustive()
    }
}
