//! A store with a table of the user's own beside it, and what the tests run in it.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::time::Duration;

use abide::{Engine, EngineBuilder, TaskError, TaskHandle, workflow};
use abide_store::VerifyOptions;

use crate::libraries::{Library, Place};

/// Longer than any test: what happens in time happens because somebody was woken.
const NEVER: Duration = Duration::from_secs(3600);

/// Gives twice its input.
#[workflow]
pub(crate) async fn double(order: i64) -> Result<i64, TaskError> {
    Ok(2 * order)
}

/// Gives the first signal `answer`.
#[workflow]
pub(crate) async fn question(handle: &TaskHandle, _about: i64) -> Result<String, TaskError> {
    handle.signal("answer").await
}

/// A store in a database of its own, with a table `orders`.
pub(crate) struct Home<L: Library> {
    pub(crate) place: Place,
    library: PhantomData<L>,
}

impl<L: Library> Home<L> {
    pub(crate) async fn new() -> Home<L> {
        let place = L::place();
        // It makes the store, in which the table is then.
        let engine = Engine::connect(&place.url).await.expect("a new store");
        engine.store().close().await;
        let home = Home::<L> {
            place,
            library: PhantomData,
        };
        let mut client = home.client().await;
        let mut transaction = client.begin().await;
        let table = format!("CREATE TABLE {} (name TEXT PRIMARY KEY)", home.orders());
        L::execute(&mut transaction, &table).await;
        L::commit(transaction).await;
        home
    }

    pub(crate) fn builder(&self) -> EngineBuilder {
        Engine::builder(&self.place.url)
    }

    /// An engine that runs tasks, and looks for them only when it is woken.
    pub(crate) async fn worker(&self) -> Engine {
        let builder = self.builder().register::<double>().register::<question>();
        builder.lease(NEVER).start().await.expect("starts")
    }

    /// An engine that runs none.
    pub(crate) async fn observer(&self) -> Engine {
        self.builder().connect().await.expect("opens")
    }

    pub(crate) async fn client(&self) -> L {
        L::connect(&self.place.url).await
    }

    /// The user's own table.
    pub(crate) fn orders(&self) -> String {
        format!("{}orders", self.place.prefix)
    }

    /// Writes an order.
    pub(crate) async fn order(&self, transaction: &mut L::Transaction<'_>, name: &str) {
        let insert = format!("INSERT INTO {} VALUES ('{name}')", self.orders());
        L::execute(transaction, &insert).await;
    }

    /// How many rows each table has, the user's own among them.
    pub(crate) async fn rows(&self) -> BTreeMap<String, i64> {
        self.client().await.rows(&self.place).await
    }
}

/// That the store keeps its promises.
pub(crate) async fn verify(engine: &Engine) {
    let report = engine.store().verify(VerifyOptions::default()).await;
    let report = report.expect("verifies");
    assert!(report.is_clean(), "{report:?}");
}
