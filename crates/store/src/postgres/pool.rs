//! Sessions for those who read: a few, made when they are needed. Connections live on the driver's
//! runtime whoever asks for them, since a program may ask from a runtime that ends sooner.

use std::sync::Arc;
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{Manager, Metrics, Object, Pool, PoolError, RecycleError, RecycleResult};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::address::Address;
use super::connect::{Session, silent};
use super::statement::{Execute as _, Statement};
use crate::error::StoreError;
use crate::stats::Counters;

/// How long a query waits for a session while all are in use.
const WAIT: Duration = Duration::from_secs(10);

/// Pauses between two attempts to reach a server that is away.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(10);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Sessions for reading.
pub(crate) struct Readers {
    pool: Pool<Connecting>,
    database: String,
}

/// A session that goes back to where it came from.
pub(crate) type Reader = Object<Connecting>;

pub(crate) struct Connecting {
    address: Arc<Address>,
    runtime: Handle,
    counters: Arc<Counters>,
    settings: fn() -> Statement<'static>,
}

impl Readers {
    /// At most `limit` sessions with these settings, whose connections run on `runtime`.
    pub(crate) fn new(
        address: Arc<Address>,
        runtime: Handle,
        limit: usize,
        settings: fn() -> Statement<'static>,
        counters: Arc<Counters>,
    ) -> Readers {
        let database = address.database();
        let connecting = Connecting {
            address,
            runtime,
            counters,
            settings,
        };
        let pool = Pool::builder(connecting)
            .max_size(limit)
            .wait_timeout(Some(WAIT))
            .runtime(Runtime::Tokio1)
            .build()
            .expect("a runtime is given, which timeouts need");
        Readers { pool, database }
    }

    pub(crate) async fn get(&self) -> Result<Reader, StoreError> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => error,
            PoolError::Closed => StoreError::Closed,
            _ => StoreError::Unavailable {
                database: self.database.clone(),
                detail: "every session for reading is in use".to_owned(),
            },
        })
    }
}

/// How long an answer to a short question is waited for at first, before the question is asked again on
/// another connection. Each time it is twice as long, since the server may only be slow.
const FIRST_SILENCE: Duration = Duration::from_secs(2);
const LONGEST_SILENCE: Duration = Duration::from_secs(30);

/// Asks a short question that changes nothing, again and each time on another session while no answer
/// comes: one process of the server may stand still while its connection lives.
pub(crate) async fn ask_again<T, F>(
    database: impl Fn() -> String,
    mut ask: impl FnMut() -> F,
) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut silence = FIRST_SILENCE;
    loop {
        let error = match tokio::time::timeout(silence, ask()).await {
            Ok(answer) => return answer,
            Err(_) => silent(&database(), silence),
        };
        if silence > LONGEST_SILENCE {
            return Err(error);
        }
        tracing::warn!(%error, "asking again on another connection");
        silence *= 2;
    }
}

/// How long a query is asked again while the server is away. A query changes nothing, so it may be.
pub(crate) struct Patience {
    /// None without an end.
    until: Option<Instant>,
    was_asked_again: bool,
    pause: Duration,
}

impl Patience {
    pub(crate) fn of(whole: Duration) -> Patience {
        Patience {
            until: Instant::now().checked_add(whole),
            was_asked_again: false,
            pause: FIRST_PAUSE,
        }
    }

    /// After a pause, whether a query that failed like this may be asked again. Once it always may: the
    /// time may have gone by while a process of the server did not answer.
    pub(crate) async fn allows(&mut self, error: &StoreError) -> bool {
        let is_away = matches!(
            error,
            StoreError::Unavailable { .. } | StoreError::Unexpected { .. } | StoreError::Io { .. }
        );
        let next = Instant::now() + self.pause;
        let is_late = self.until.is_some_and(|until| next > until);
        if !is_away || is_late && self.was_asked_again {
            return false;
        }
        self.was_asked_again = true;
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        true
    }
}

impl Manager for Connecting {
    type Type = Session;
    type Error = StoreError;

    async fn create(&self) -> Result<Session, StoreError> {
        let (address, counters) = (self.address.clone(), self.counters.clone());
        let settings = (self.settings)();
        let connecting = self.runtime.spawn(async move {
            let (session, link) = Session::connect(&address).await?;
            tokio::spawn(link.run());
            session.run(vec![settings]).await?;
            Ok(session.counted(&counters))
        });
        // The task ends early only with its runtime.
        connecting.await.unwrap_or(Err(StoreError::Closed))
    }

    async fn recycle(&self, session: &mut Session, _: &Metrics) -> RecycleResult<StoreError> {
        // Whoever was cut off in the middle of a transaction left it open.
        if session.is_clean() {
            Ok(())
        } else {
            Err(RecycleError::message(
                "it was left in the middle of something",
            ))
        }
    }
}
