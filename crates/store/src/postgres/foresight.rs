//! What requests will turn out to need beyond what they ask for at first, as far as graphs in memory
//! tell. It is read in the same round, after the same locks, as if it had been asked for; so the end
//! of a task takes one round trip to read where it would take three. A guess that was wrong read a
//! few rows in vain, and one that was not made costs a round trip: the rules ask for what they lack.

use abide_core::ids::TaskKey;
use abide_core::kernel::{MAX_HOPS, Need, Outcome, Request};

use crate::graphs::GraphCache;

/// The most dependents of a task that are read ahead.
const MOST_DEPENDENTS: usize = 16;

/// Adds what the request will probably need. All of it belongs to the execution that it is about, or
/// to none.
pub(crate) fn foresee(request: &Request, graphs: &GraphCache, needs: &mut Vec<Need>) {
    let Request::Finish(finish) = request else {
        return;
    };
    if !matches!(finish.outcome, Outcome::Completed { .. }) {
        return;
    }
    let TaskKey { execution, number } = finish.held.key;
    let Some(graph) = graphs.of(execution).filter(|graph| number <= graph.len()) else {
        return;
    };
    let dependents = graph.dependents(number);
    if dependents.is_empty() || dependents.len() > MOST_DEPENDENTS {
        return;
    }
    let tasks = dependents
        .iter()
        .map(|&number| TaskKey::new(execution, number));
    needs.extend(tasks.map(Need::Task));
    if let Some(offer) = &finish.offer
        && offer.slots > 0
        && offer.hop < MAX_HOPS
    {
        needs.push(Need::ReadyHead(offer.queues.clone()));
        needs.push(Need::Worker(offer.worker));
    }
}
