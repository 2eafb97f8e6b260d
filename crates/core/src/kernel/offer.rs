//! The free slots that a worker offers with a request.

use std::sync::Arc;

use crate::ids::{VersionId, WorkerId};

/// Free slots of a worker, offered with a request: what the request makes ready may be claimed
/// into them in the same transaction.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The worker.
    pub worker: WorkerId,
    /// How many of its slots are free for this request.
    pub slots: u32,
    /// How many claims in a row came this way; at [`super::MAX_HOPS`] the outbox gets its turn.
    pub hop: u8,
    /// The queues it claims from: a ready row there with a higher priority goes first.
    pub queues: Arc<[VersionId]>,
    /// Whether slots that are left over are filled from the outbox, in its order. The store claims those tasks in
    /// the same transaction; no rule of the kernel looks at this.
    pub fills: bool,
}
