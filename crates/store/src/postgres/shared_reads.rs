//! Small reads that many callers ask for at the same moment: the end of an execution, the input of a task.
//! Callers that ask while a read is under way share the next read, which answers all of them with the same
//! statements. A caller that asks alone is answered at once.

use std::sync::Arc;

use abide_core::ids::{ExecutionId, TaskKey};
use abide_core::payload::Payload;
use tokio::sync::{mpsc, oneshot};

use crate::error::StoreError;
use crate::views::EndView;

use super::Shared;
use super::pool::ask_again;
use super::queries::Found;

/// The most that is read at once.
const MAX_BATCH: usize = 1024;

/// What is read of many things at once.
pub(crate) trait Lookup: Send + 'static {
    type Key: Copy + Send + Sync + 'static;
    type Found: Send + 'static;

    /// Reads them, in their order.
    fn read(
        shared: &Shared,
        keys: &[Self::Key],
    ) -> impl Future<Output = Result<Vec<Found<Self::Found>>, StoreError>> + Send;
}

struct Ask<L: Lookup> {
    key: L::Key,
    answer: oneshot::Sender<Found<L::Found>>,
}

/// Where those ask who need it.
pub(crate) struct SharedReads<L: Lookup>(mpsc::UnboundedSender<Ask<L>>);

impl<L: Lookup> SharedReads<L> {
    /// Reads on the runtime that this is called on, for as long as that lasts.
    pub(crate) fn start(shared: Arc<Shared>) -> SharedReads<L> {
        let (sender, asks) = mpsc::unbounded_channel();
        tokio::spawn(run(shared, asks));
        SharedReads(sender)
    }

    pub(crate) async fn read(&self, key: L::Key) -> Found<L::Found> {
        let (answer, found) = oneshot::channel();
        let asked = self.0.send(Ask { key, answer });
        asked.map_err(|_| StoreError::Closed)?;
        found.await.unwrap_or(Err(StoreError::Closed))
    }
}

async fn run<L: Lookup>(shared: Arc<Shared>, mut asks: mpsc::UnboundedReceiver<Ask<L>>) {
    while let Some(first) = asks.recv().await {
        let mut batch = vec![first];
        while batch.len() < MAX_BATCH
            && let Ok(next) = asks.try_recv()
        {
            batch.push(next);
        }
        batch.retain(|ask| !ask.answer.is_closed());
        let keys: Vec<L::Key> = batch.iter().map(|ask| ask.key).collect();
        shared.counters.add_read();
        // An answer that nobody takes any more is dropped.
        match read_again::<L>(&shared, &keys).await {
            Ok(found) => {
                for (ask, found) in batch.into_iter().zip(found) {
                    ask.answer.send(found).ok();
                }
            }
            // What of them can't be read is for those to know who asked for it.
            Err(error) if batch.len() > 1 && error.may_be_of_one() => {
                for ask in batch {
                    let found = read_again::<L>(&shared, &[ask.key]).await;
                    let found = found.and_then(|found| {
                        let only = found.into_iter().next();
                        only.unwrap_or_else(|| Err(error.clone()))
                    });
                    ask.answer.send(found).ok();
                }
            }
            Err(error) => {
                for ask in batch {
                    ask.answer.send(Err(error.clone())).ok();
                }
            }
        }
    }
}

async fn read_again<L: Lookup>(
    shared: &Shared,
    keys: &[L::Key],
) -> Result<Vec<Found<L::Found>>, StoreError> {
    ask_again(|| shared.address.database(), || L::read(shared, keys)).await
}

/// How executions ended.
pub(crate) struct Ends;

impl Lookup for Ends {
    type Key = ExecutionId;
    type Found = Option<EndView>;

    async fn read(
        shared: &Shared,
        ids: &[ExecutionId],
    ) -> Result<Vec<Found<Option<EndView>>>, StoreError> {
        let session = shared.readers.get().await?;
        shared.reader(&session).ends(ids).await
    }
}

/// The inputs of tasks that need nothing else.
pub(crate) struct Inputs;

impl Lookup for Inputs {
    type Key = TaskKey;
    type Found = Option<Payload>;

    async fn read(
        shared: &Shared,
        tasks: &[TaskKey],
    ) -> Result<Vec<Found<Option<Payload>>>, StoreError> {
        let session = shared.readers.get().await?;
        shared.reader(&session).task_inputs(tasks).await
    }
}
