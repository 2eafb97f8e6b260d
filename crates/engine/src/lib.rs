//! Durable execution: you write workflows as ordinary async functions, Abide records their progress
//! in a database, and after any crash each continues after its last recorded step.
//!
//! # The model
//!
//! - A **workflow** is a named, versioned graph of **tasks**. A workflow that is one async function
//!   is a graph with one task. Attributes declare both, and so do builders.
//! - Starting a workflow for an **instance**, a stable id of yours such as `order-42`, makes an
//!   **execution**. Starting the same instance with the same input again finds that execution.
//! - An execution lives in a **store**: a SQLite file, or a schema of PostgreSQL. Its row is its
//!   state; every change of it is an **event** in its history.
//! - An [`Engine`] opens a store. An engine that was [built](Engine::builder) with workflows also
//!   has a **worker**: it claims tasks that are ready, as many as it has **slots**, and runs them.
//!   Any number of processes may do so over one store. If one dies, the others take its tasks back.
//! - A task that takes a [`TaskHandle`] may wait for days without holding a slot: it sleeps, waits
//!   for a **signal**, and records **steps**, whose results are replayed instead of run again.
//!
//! ```
//! use abide::{Engine, TaskError, TaskHandle, workflow};
//!
//! #[workflow]
//! async fn greeting(handle: &TaskHandle, name: String) -> Result<String, TaskError> {
//!     // Recorded: after a crash it is not run again.
//!     let word = async || Ok::<_, TaskError>("Hello".to_owned());
//!     let word: String = handle.step("word", word).await?;
//!     Ok(format!("{word}, {name}!"))
//! }
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let home = tempfile::tempdir()?;
//! # let url = format!("sqlite:{}", home.path().join("app.db").display());
//! let engine = Engine::builder(url).register::<greeting>().start().await?;
//! let run = engine.start::<greeting>("greet-eva", &"Eva".to_owned()).await?;
//! assert_eq!(run.await?, "Hello, Eva!");
//! engine.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//!
//! `Ok` means durable. The body of a task or step runs at least once. Its result is recorded at most
//! once and never changes. [`EngineError::kind`] says whether anything was written, and whether to
//! ask again.
//!
//! # Features
//!
//! - `macros` (default): the attributes `#[task]` and `#[workflow]`.
//! - `sqlite` (default): stores in SQLite files. SQLite itself is compiled in.
//! - `postgres`: stores in PostgreSQL.
//! - `sqlx`: starts and signals inside transactions of sqlx; includes `postgres`.
//!
//! An address whose database is not compiled in is refused with the name of the missing feature.

mod attempt;
pub mod authoring;
mod builder;
pub mod client;
mod clock;
mod engine;
mod error;
mod handle;
mod options;
mod panics;
mod parts;
mod random;
mod registry;
mod run;
mod slot;
mod start;
mod versions;
mod worker;

/// What the attributes expand to. Not part of the API.
#[doc(hidden)]
pub mod __private {
    pub use crate::authoring::private::*;
}

pub use abide_core::graph::{MAX_EDGES, MAX_NODES};
pub use abide_core::ids::{ExecutionId, TaskKey, Timestamp};
pub use abide_core::kernel::{Acted, IfExists, Refusal, Signalled, Standing};
pub use abide_core::status::{ExecutionStatus, Phase, SubStatus, TaskStatus};
pub use abide_core::trigger::{ContextOp, Ending, Trigger};
#[cfg(feature = "macros")]
#[doc = include_str!("authoring/task.md")]
pub use abide_macros::task;
#[cfg(feature = "macros")]
#[doc = include_str!("authoring/workflow.md")]
pub use abide_macros::workflow;
/// Not part of the API: tests of this workspace look into the store below.
#[doc(hidden)]
pub use abide_store::Store;
#[doc(inline)]
#[doc = include_str!("../../../docs/transactions.md")]
pub use abide_store::Transaction;
pub use abide_store::{
    BlockedOn, EventView, ExecutionFilter, ExecutionSubStatus, ExecutionView, Rollup, StoreError,
    TaskView,
};
pub use authoring::{
    AuthoringError, Backoff, Context, GraphOf, Input, IntoTaskError, NodesOnly, Ok, Output,
    Outputs, PartOf, Result, State, Task, TaskBuilder, TaskError, Workflow, WorkflowBuilder,
    trigger,
};
pub use builder::EngineBuilder;
pub use client::{Client, Cursor, ExecutionRecord, HistoryFilter, Page, TaskFilter};
pub use clock::{Clock, SystemClock, VirtualClock};
pub use engine::Engine;
pub use error::{EngineError, ErrorKind};
pub use handle::{
    CancellationToken, Condition, Deadline, Deferred, Immediate, Polled, ProgressError, TaskHandle,
    Verdict,
};
pub use registry::RegistrationError;
pub use run::{Run, RunError};
pub use start::StartRequest;

/// What administrators do with whole stores, without an engine: checking them, and keeping one for each
/// tenant in a PostgreSQL database.
pub mod admin {
    pub use abide_store::system_now;
    #[cfg(feature = "sqlite")]
    pub use abide_store::{Finding, Integrity, VerifyOptions, VerifyReport, verify_file};
    #[cfg(feature = "postgres")]
    pub use abide_store::{
        Tenant, TenantCreated, TenantRole, create_tenant, drop_tenant, list_tenants,
    };

    /// Whether an address is of a store in PostgreSQL.
    pub fn is_postgres(url: &str) -> bool {
        abide_store::Store::is_postgres(url)
    }
}

/// The guides, whose Rust is compiled and run with the crate's own examples, so that it stays true.
/// Authoring and transactions are where the reference shows them.
#[cfg(doctest)]
mod guides {
    #[doc = include_str!("../../../README.md")]
    mod readme {}

    #[doc = include_str!("../../../docs/configuration.md")]
    mod configuration {}

    #[doc = include_str!("../../../docs/recipes.md")]
    mod recipes {}

    #[doc = include_str!("../../../docs/tutorial.md")]
    mod tutorial {}
}
