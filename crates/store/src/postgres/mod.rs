//! The PostgreSQL driver: one schema of one database. A few committers write, other connections
//! read, one listens. All of it lives on a thread of its own, so that leases are renewed and
//! answers arrive however busy the program's runtime is.
//!
//! Deliberately absent: rules. What is locked, read and written as sets is decided by core.

mod address;
mod arrays;
#[cfg(feature = "sqlite")]
mod catalog;
mod claimed_inputs;
mod clock;
mod committer;
mod connect;
mod error;
mod events;
#[cfg(feature = "sqlite")]
mod export;
mod fate;
mod health;
mod inputs;
mod leases;
mod listener;
mod load;
mod locked_executions;
mod low_water;
mod maintenance;
mod name;
mod needs;
mod news;
mod orphan_search;
mod partitions;
mod pick;
mod pool;
mod pooler;
mod prefetch;
mod queries;
mod queue;
mod reading;
mod retention;
mod rollup;
mod rows;
mod schema;
mod shared_reads;
mod sounding;
mod statement;
mod tenant;
mod tls;
mod token;
mod upkeep;
mod version;
mod within;
#[cfg(feature = "sqlx")]
mod within_sqlx;
mod write;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use abide_core::ids::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

use crate::StoreOptions;
use crate::error::StoreError;
use crate::graphs::GraphCache;
use crate::hints::Hints;
use crate::job::{Answer, Job};
use crate::migrations::Migrations;
use crate::stats::{Counters, Stats};

use address::Address;
use clock::DatabaseClock;
use committer::{Committer, MOST_APART};
use connect::Session;
use leases::Leases;
use locked_executions::LockedExecutions;
use low_water::LowWater;
use news::News;
use orphan_search::OrphanSearches;
use partitions::ensure_partitions;
use pool::Readers;
use queue::Queue;
use shared_reads::SharedReads;
use statement::{Execute, Statement};

pub(crate) use schema::MIGRATIONS;
pub use tenant::{Tenant, TenantCreated, TenantRole, create_tenant, drop_tenant, list_tenants};

/// One open schema.
pub(crate) struct Postgres {
    shared: Arc<Shared>,
    /// Ends the driver's thread, once this is done.
    thread: Mutex<Option<oneshot::Sender<Last>>>,
    committers: Mutex<Committers>,
    listens: AtomicBool,
    orphan_searches: Mutex<OrphanSearches>,
    leases: Mutex<Leases>,
    ends: SharedReads<shared_reads::Ends>,
    inputs: SharedReads<shared_reads::Inputs>,
}

type Committers = Vec<JoinHandle<()>>;

/// What is still to be done when a store is dropped: committers that end, and news that are told.
type Last = (Committers, Arc<Shared>);

/// The most connections that read.
const MOST_READERS: usize = 8;

/// The most connections that write.
const MOST_COMMITTERS: usize = 64;

/// Nothing is ever done in less time than this, so that nobody is refused before that.
const SHORTEST_PATIENCE: Duration = Duration::from_millis(250);

/// The bounds of the poll: it is neither a loop without a pause nor later than any time.
const SHORTEST_POLL: Duration = Duration::from_millis(10);
const LONGEST_POLL: Duration = Duration::from_secs(100 * 365 * 86_400);

/// How long a flush waits for an execution that somebody else has locked, before it goes on without
/// those who need it.
const FLUSH_LOCK_TIMEOUT: Duration = Duration::from_millis(500);

/// How long it may take to make partitions.
const MAKING_ROOM: Duration = Duration::from_secs(60);

/// How long the last news may take: others find by themselves what nobody told them.
const LAST_NEWS: Duration = Duration::from_secs(2);

/// How long a store that is dropped may take to finish what was asked of it.
const LAST_ORDERS: Duration = Duration::from_secs(5);

/// What the parts of the driver share.
pub(crate) struct Shared {
    address: Arc<Address>,
    /// The versions of the schema that are known here.
    migrations: &'static Migrations,
    /// The store's random id.
    id: String,
    /// The random name of the channel of its notifications.
    channel: String,
    /// The first execution id whose history has no partition yet.
    events_end: AtomicI64,
    runtime: Handle,
    queue: Arc<Queue>,
    readers: Readers,
    /// A session for renewing leases, however many queries are under way.
    keeper: Readers,
    graphs: GraphCache,
    hints: Arc<Hints>,
    counters: Arc<Counters>,
    clock: DatabaseClock,
    news: News,
    locked_executions: LockedExecutions,
    /// Places for requests that wait for what somebody keeps locked.
    apart: Semaphore,
    low_water: Arc<LowWater>,
    /// Held by whoever makes partitions ahead of time.
    looking_ahead: tokio::sync::Mutex<()>,
    /// Tells this process's notifications from those of others.
    token: String,
    /// How long a request may wait for a server that is away, or for a locked execution.
    patience: Duration,
    /// Where the store is, to compare with where users' transactions are.
    place: Mutex<Option<within::Place>>,
    /// The poll behind the notifications.
    poll: Duration,
}

impl Postgres {
    /// Connects, brings the schema to the newest version and starts the committers.
    pub(crate) async fn open(
        url: &str,
        options: &StoreOptions,
        hints: Arc<Hints>,
        migrations: &'static Migrations,
    ) -> Result<Arc<Postgres>, StoreError> {
        let address = Address::parse(url)?;
        let (runtime, thread) = start_thread()?;
        let opened = runtime.spawn(Postgres::open_there(
            address,
            options.clone(),
            hints,
            runtime.clone(),
            thread,
            migrations,
        ));
        let opened = opened.await;
        opened.unwrap_or_else(|error| Err(StoreError::Internal(error.to_string())))
    }

    async fn open_there(
        address: Address,
        options: StoreOptions,
        hints: Arc<Hints>,
        runtime: Handle,
        thread: oneshot::Sender<Last>,
        migrations: &'static Migrations,
    ) -> Result<Arc<Postgres>, StoreError> {
        let address = Arc::new(address);
        let counters = Arc::<Counters>::default();
        let mut session = connect(&address).await?.counted(&counters);
        let asked = Instant::now();
        let clock = DatabaseClock::new(options.now.clone(), Timestamp(0));
        clock.set(upkeep::database_now(&session).await?, asked);
        let (schema, database) = (&address.schema, address.database());
        let opened = schema::migrate(
            session.client(),
            schema,
            &database,
            options.create,
            clock.now(),
            migrations,
        )
        .await?;
        let sessions = |limit, settings| {
            let (address, runtime) = (address.clone(), runtime.clone());
            Readers::new(address, runtime, limit, settings, counters.clone())
        };
        let readers = sessions(MOST_READERS, connect::by_index);
        let keeper = sessions(1, connect::by_index_at_once);
        let shared = Arc::new(Shared {
            token: token::token(),
            queue: Queue::new(address.database()),
            patience: options.busy_timeout.max(SHORTEST_PATIENCE),
            place: Mutex::default(),
            poll: options.poll.clamp(SHORTEST_POLL, LONGEST_POLL),
            address,
            migrations,
            id: opened.id,
            channel: opened.channel,
            events_end: AtomicI64::new(opened.events_end.0),
            runtime,
            readers,
            keeper,
            graphs: GraphCache::default(),
            hints,
            counters,
            clock,
            news: News::default(),
            locked_executions: LockedExecutions::default(),
            apart: Semaphore::new(MOST_APART),
            low_water: Arc::default(),
            looking_ahead: tokio::sync::Mutex::default(),
        });
        tokio::spawn(sounding::keep_sounding(
            shared.low_water.clone(),
            Arc::downgrade(&shared),
        ));
        let mut committers = Vec::new();
        for _ in 0..options.committers.clamp(1, MOST_COMMITTERS) {
            let session = shared.connect().await?;
            let committer = Committer::new(shared.clone(), session);
            committers.push(tokio::spawn(committer.run()));
        }
        Ok(Arc::new(Postgres {
            ends: SharedReads::start(shared.clone()),
            inputs: SharedReads::start(shared.clone()),
            shared,
            thread: Mutex::new(Some(thread)),
            committers: Mutex::new(committers),
            listens: AtomicBool::new(false),
            orphan_searches: Mutex::default(),
            leases: Mutex::default(),
        }))
    }

    /// As its user named it, without the password.
    pub(crate) fn name(&self) -> String {
        let Address { schema, .. } = &*self.shared.address;
        format!(
            "{} (schema {})",
            self.shared.address.database(),
            schema.as_str()
        )
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    pub(crate) fn stats(&self) -> Stats {
        self.shared.counters.read()
    }

    /// Gives the committers a job; the answer comes after the commit.
    pub(crate) fn ask<T>(
        &self,
        make: impl FnOnce(Answer<T>) -> Job,
    ) -> Result<oneshot::Receiver<T>, StoreError> {
        let (answer, receiver) = oneshot::channel();
        self.shared.queue.push(make(answer))?;
        Ok(receiver)
    }

    /// Gives the committers a job and waits until it is done.
    pub(crate) async fn answer<T>(
        &self,
        make: impl FnOnce(Answer<T>) -> Job,
    ) -> Result<T, StoreError> {
        self.ask(make)?.await.map_err(|_| StoreError::Closed)
    }

    /// Listens for what other processes tell, from now on.
    pub(crate) fn watch_others(&self, _all: bool) -> Result<(), StoreError> {
        if !self.listens.swap(true, Ordering::AcqRel) {
            self.shared
                .runtime
                .spawn(listener::run(self.shared.clone()));
        }
        Ok(())
    }

    /// Finishes what was asked, and disconnects.
    pub(crate) async fn close(&self) {
        self.shared.queue.close();
        for committer in self.take_committers() {
            if let Err(error) = committer.await {
                tracing::error!(%error, "a committer ended badly");
            }
        }
        let shared = self.shared.clone();
        let told = self
            .shared
            .runtime
            .spawn(async move { shared.tell_the_rest().await });
        // An error means that the thread has ended already.
        told.await.ok();
        drop(self.take_thread());
    }

    fn take_committers(&self) -> Committers {
        let mut committers = self.committers.lock();
        std::mem::take(committers.as_mut().unwrap_or_else(|error| error.get_mut()))
    }

    fn take_thread(&self) -> Option<oneshot::Sender<Last>> {
        let thread = self.thread.lock();
        thread.unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.shared.queue.close();
        let committers = self.take_committers();
        if let Some(thread) = self.take_thread() {
            // An error means that the thread has ended already.
            thread.send((committers, self.shared.clone())).ok();
        }
    }
}

impl Shared {
    /// The connection was lost.
    fn away(&self) -> StoreError {
        StoreError::Unavailable {
            database: self.address.database(),
            detail: "the connection was lost".to_owned(),
        }
    }

    /// A new connection for a committer.
    async fn connect(&self) -> Result<Session, StoreError> {
        let session = connect(&self.address).await?;
        // 0 means without end, which other executions must not wait for.
        let timeout = match self.address.lock_timeout {
            Duration::ZERO => FLUSH_LOCK_TIMEOUT,
            timeout => timeout.min(FLUSH_LOCK_TIMEOUT),
        };
        let set = Statement {
            sql: format!("SET lock_timeout = {}", timeout.as_millis()).into(),
            params: Vec::new(),
        };
        session.run(vec![set, connect::by_key()]).await?;
        Ok(session.counted(&self.counters))
    }

    /// Makes partitions for the history of what is started around that time and for a while after.
    async fn make_room(&self, session: &mut Session, at: Timestamp) -> Result<(), StoreError> {
        let (schema, database) = (&self.address.schema, self.address.database());
        let making = ensure_partitions(session.client(), schema, &database, at, self.migrations);
        let Ok(end) = tokio::time::timeout(MAKING_ROOM, making).await else {
            session.give_up();
            return Err(connect::silent(&database, MAKING_ROOM));
        };
        let end = end.inspect_err(|error| self.lose_if_for_good(error))?;
        self.events_end.fetch_max(end.0, Ordering::Relaxed);
        Ok(())
    }

    /// Tells what was committed and not told so far: there may be no listener that does.
    async fn tell_the_rest(&self) {
        let Some(news) = self.news.take() else { return };
        let told = async {
            let session = self.readers.get().await?;
            news.send(&session, self).await
        };
        match tokio::time::timeout(LAST_NEWS, told).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the last news were not told"),
            Err(_) => tracing::debug!("the last news were not told in time"),
        }
    }

    /// Somebody else may have changed anything: everybody looks.
    async fn look_around(&self) {
        self.low_water.doubt();
        self.hints.timer_set(Timestamp(0));
        self.hints.work.notify_one();
        self.hints.changed.notify_waiters();
        self.look_for_ends().await;
    }

    /// OrphanSearches whether executions have ended, or are gone, that somebody here waits for.
    async fn look_for_ends(&self) {
        let watched = self.hints.watched();
        if watched.is_empty() {
            return;
        }
        let ended = || async {
            let session = self.readers.get().await?;
            reading::gone_among(&*session, &watched).await
        };
        match pool::ask_again(|| self.address.database(), ended).await {
            Ok(ended) => ended.into_iter().for_each(|id| self.hints.ended(id)),
            Err(error) => tracing::warn!(%error, "can't look which executions have ended"),
        }
    }
}

/// A connection that lives on the runtime this is called on.
async fn connect(address: &Address) -> Result<Session, StoreError> {
    let (session, link) = Session::connect(address).await?;
    tokio::spawn(link.run());
    Ok(session)
}

/// The driver's thread, which runs until the sender is used or dropped.
fn start_thread() -> Result<(Handle, oneshot::Sender<Last>), StoreError> {
    let fail = |error: std::io::Error| {
        StoreError::Internal(format!("no thread for the database: {error}"))
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(fail)?;
    let handle = runtime.handle().clone();
    let (thread, until) = oneshot::channel::<Last>();
    let run = move || {
        runtime.block_on(async {
            let Ok((committers, shared)) = until.await else {
                return;
            };
            let last = async {
                for committer in committers {
                    committer.await.ok();
                }
                shared.tell_the_rest().await;
            };
            if tokio::time::timeout(LAST_ORDERS, last).await.is_err() {
                tracing::warn!("the store was dropped before everything asked was written");
            }
        });
        runtime.shutdown_background();
    };
    let named = std::thread::Builder::new().name("abide-postgres".into());
    named.spawn(run).map_err(fail)?;
    Ok((handle, thread))
}
