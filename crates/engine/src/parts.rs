//! What an engine or a client is made of: an open store, and what the program gave it to work with.

use std::sync::Arc;

use abide_store::{Store, StoreOptions};

use crate::authoring::StateMap;
use crate::clock::{Clock, StoreClock};
use crate::error::EngineError;
use crate::options::Options;
use crate::registry::Registry;

/// See the module's documentation.
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) registry: Arc<Registry>,
    pub(crate) state: Arc<StateMap>,
    pub(crate) options: Options,
}

impl Parts {
    /// Opens the store at `url` without workflows and state. A store that does not exist is made if
    /// `create` says so. Without a given clock, the clock is the store's.
    pub(crate) async fn open(
        url: &str,
        mut options: Options,
        clock: Option<Arc<dyn Clock>>,
        create: bool,
    ) -> Result<Parts, EngineError> {
        options.check()?;
        let given = clock.clone();
        let default = StoreOptions::default();
        let store = StoreOptions {
            now: given.map(|clock| -> abide_store::Clock { Arc::new(move || clock.now()) }),
            busy_timeout: options.busy_timeout,
            file_mode: options.file_mode.unwrap_or(default.file_mode),
            poll: options.poll_interval,
            payload_limit_bytes: options.payload_limit_bytes,
            create,
            ..default
        };
        let store = Store::open(url, store).await?;
        options.clock = match clock {
            Some(given) => given,
            None => Arc::new(StoreClock::new(store.clone())),
        };
        Ok(Parts {
            store,
            registry: Arc::new(Registry::new()),
            state: Arc::new(StateMap::new()),
            options,
        })
    }
}
