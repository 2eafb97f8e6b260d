//! A worker with its loops. At its start it stores its versions, registers itself and takes over
//! what dead workers left.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use abide_core::ids::IdGenerator;
use abide_store::StoreError;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};
use tokio::task::AbortHandle;

use super::attempts::Parked;
use super::catalog::Catalog;
use super::heartbeat::Heartbeat;
use super::identity::{next_worker_id, this_process};
use super::lookout::Lookout;
use super::own::OwnRuntime;
use super::reachability::Reachability;
use super::{Worker, dispatch, reconcile, recovery, retention, shutdown, timers};
use crate::error::EngineError;
use crate::handle::report_writer::ReportWriter;
use crate::parts::Parts;
use crate::random::Random;

/// A worker and its loops. Dropping it stops them.
pub(crate) struct Running {
    worker: Arc<Worker>,
    /// The loops that don't end by themselves when the worker stops.
    loops: [AbortHandle; 4],
    heartbeat: Heartbeat,
    lookout: Lookout,
    shut_down: tokio::sync::Mutex<bool>,
}

/// Starts a worker.
pub(crate) async fn start(
    parts: &Parts,
    random: Arc<Random>,
    ids: Arc<Mutex<IdGenerator>>,
) -> Result<Running, EngineError> {
    let options = &parts.options;
    let store = &parts.store;
    store.watch_others(false)?;
    let catalog = Catalog::open(store, &parts.registry).await?;
    let id = loop {
        let id = next_worker_id(&ids, &*options.clock);
        match store.register_worker(this_process(id), options.lease).await {
            Ok(()) => break id,
            Err(StoreError::IdTaken) => {}
            Err(error) => return Err(error.into()),
        }
    };
    store.record_queues(id, &catalog.queues()).await?;
    // An error of recovery must not keep the worker from new work.
    let left = recovery::take_over(store, options, id).await;
    let (clock, runtime) = (Arc::clone(&options.clock), Handle::current());
    let worker = Arc::new(Worker {
        report_writer: Arc::new(ReportWriter::new(
            store.clone(),
            Arc::clone(&clock),
            runtime.clone(),
        )),
        store: store.clone(),
        clock,
        runtime,
        options: options.clone(),
        random,
        id: AtomicI64::new(id.0),
        ids,
        slots: Arc::new(Semaphore::new(options.max_concurrent_tasks)),
        apart: Arc::new(Semaphore::new(1)),
        own: OwnRuntime::start()?,
        queues: catalog.queues(),
        catalog,
        state: Arc::clone(&parts.state),
        attempts: Arc::default(),
        parked: Arc::new(Parked::new(options.max_parked_tasks)),
        stopping: AtomicBool::new(false),
        stop: Notify::new(),
        claims: Arc::default(),
        reconcile: Notify::new(),
        has_backlog: AtomicBool::new(false),
        waiting_for_slots: AtomicUsize::new(0),
        death: Notify::new(),
        reachability: Reachability::new(Instant::now()),
        beginning_anew: tokio::sync::Mutex::default(),
    });
    let heartbeat = Heartbeat::start(&worker)?;
    tokio::spawn(dispatch::run(Arc::clone(&worker)));
    tokio::spawn(timers::run(Arc::clone(&worker)));
    let lookout = Lookout::start(&worker)?;
    let [reconcile, recovery, retention] = [
        tokio::spawn(reconcile::run(Arc::clone(&worker))).abort_handle(),
        tokio::spawn(recovery::run(Arc::clone(&worker), left)).abort_handle(),
        tokio::spawn(retention::run(Arc::clone(&worker))).abort_handle(),
    ];
    let writing = [reconcile.clone(), recovery.clone(), retention.clone()];
    let until_lost = tokio::spawn(shutdown::when_lost(Arc::clone(&worker), writing));
    let loops = [reconcile, recovery, retention, until_lost.abort_handle()];
    Ok(Running {
        worker,
        loops,
        heartbeat,
        lookout,
        shut_down: tokio::sync::Mutex::new(false),
    })
}

impl Running {
    pub(crate) fn worker(&self) -> &Arc<Worker> {
        &self.worker
    }

    /// See [`Engine::shutdown`](crate::Engine::shutdown). A second call waits for the first.
    pub(crate) async fn shutdown(&self) {
        let mut shut_down = self.shut_down.lock().await;
        if *shut_down {
            return;
        }
        self.worker.drain().await;
        self.stop_loops();
        self.worker.retire().await;
        *shut_down = true;
    }

    fn stop_loops(&self) {
        self.heartbeat.stop();
        self.lookout.stop();
        self.loops.iter().for_each(AbortHandle::abort);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.worker.abandon_all();
        self.stop_loops();
    }
}
