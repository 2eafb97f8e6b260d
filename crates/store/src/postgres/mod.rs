//! The PostgreSQL driver: one schema, a few connections that write, others that read.
#![expect(dead_code, reason = "the driver is being joined")]

mod address;
mod columns;
mod connect;
mod error;
mod events;
mod inputs;
mod load;
mod maintenance;
mod name;
mod needs;
mod partitions;
mod pool;
mod queries;
mod rollup;
mod rows;
mod schema;
mod server_stats;
mod statement;
mod tls;
mod write;
mod write_steps;

use std::sync::Arc;
use std::time::Duration;

use abide_core::graph::{Graph, Uses};
use abide_core::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId};
use abide_core::kernel::{Claimed, Held};
use abide_core::payload::Payload;
use abide_core::step::StepRecord;
use abide_core::timer::Timer;
use tokio::sync::oneshot;

use crate::StoreOptions;
use crate::error::StoreError;
use crate::hints::Hints;
use crate::job::{Answer, Job};
use crate::rollup::Rollup;
use crate::stats::Stats;
use crate::verify::{VerifyOptions, VerifyReport};
use crate::views::*;

/// One open schema.
pub(crate) enum Postgres {}
type R<T> = Result<T, StoreError>;
macro_rules! never { ($($(async)? fn $name:ident($($a:ident: $t:ty),*) -> $r:ty;)*) => { $(pub(crate) async fn $name(&self $(, $a: $t)*) -> R<$r> { $(let _ = $a;)* match *self {} })* } }
pub(crate) struct Reader {
    never: std::convert::Infallible,
}
impl Postgres {
    pub(crate) async fn open(
        _url: &str,
        _options: &StoreOptions,
        _hints: Arc<Hints>,
    ) -> R<Arc<Postgres>> {
        Err(StoreError::Invalid(
            "PostgreSQL is not supported yet".into(),
        ))
    }
    pub(crate) fn name(&self) -> String {
        match *self {}
    }
    pub(crate) fn now(&self) -> Timestamp {
        match *self {}
    }
    pub(crate) fn stats(&self) -> Stats {
        match *self {}
    }
    pub(crate) fn watch_others(&self, _all: bool) -> R<()> {
        match *self {}
    }
    pub(crate) fn ask<T>(&self, _make: impl FnOnce(Answer<T>) -> Job) -> R<oneshot::Receiver<T>> {
        match *self {}
    }
    pub(crate) fn heartbeat_blocking(&self, _w: WorkerId, _l: Duration) -> R<bool> {
        match *self {}
    }
    pub(crate) async fn close(&self) {
        match *self {}
    }
    never! {
        fn reader() -> Reader;
        fn verify(o: VerifyOptions) -> VerifyReport;
        fn register_worker(w: NewWorker, l: Duration) -> ();
        fn heartbeat(w: WorkerId, l: Duration) -> bool;
        fn end_worker(w: WorkerId) -> ();
        fn has_workers() -> bool;
        fn dead_workers(own: WorkerId) -> Vec<WorkerId>;
        fn waiting_for_code() -> Vec<Timer>;
        fn left_by(w: WorkerId, n: u32) -> Vec<Held>;
        fn unpublished(id: Option<ExecutionId>) -> Vec<ExecutionId>;
        fn remove_unpublished(id: ExecutionId, n: u32) -> bool;
        fn ensure_version(n: &str, v: &str, k: WorkflowKind, g: Arc<Graph>) -> VersionId;
    }
}
macro_rules! nevers { ($(fn $name:ident($($a:ident: $t:ty),*) -> $r:ty;)*) => { $(pub(crate) async fn $name(&self $(, $a: $t)*) -> R<$r> { $(let _ = $a;)* match self.never {} })* } }
impl Reader {
    nevers! {
        fn execution(id: ExecutionId) -> Option<ExecutionView>;
        fn latest(i: &str) -> Option<ExecutionView>;
        fn generation(i: &str, g: u32) -> Option<ExecutionView>;
        fn executions(f: &ExecutionFilter, b: Option<ExecutionId>, l: u32) -> Vec<ExecutionView>;
        fn tasks(id: ExecutionId, a: u32, l: u32) -> Vec<TaskView>;
        fn summary(id: ExecutionId, now: Timestamp) -> Option<(ExecutionView, Rollup)>;
        fn execution_input(id: ExecutionId) -> Option<Payload>;
        fn last_position() -> i64;
        fn events(f: &EventFilter, a: i64, l: u32) -> Vec<EventView>;
        fn steps(k: TaskKey) -> Vec<StepRecord>;
        fn end(id: ExecutionId) -> Option<EndView>;
        fn inputs(c: &Claimed, u: &Uses) -> TaskInputs;
        fn graph(id: ExecutionId, v: VersionId, own: bool) -> Arc<Graph>;
        fn held_by(w: WorkerId) -> Vec<Held>;
        fn workers() -> Vec<WorkerRow>;
        fn versions() -> Vec<VersionInfo>;
    }
}
