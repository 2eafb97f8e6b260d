//! Guesses which rows a request will need beyond those that it names at first, from graphs in memory. The
//! rows are read in the same round, under the same locks, as if the request had named them. So the end of a
//! task needs one round trip for its reads instead of three. A wrong guess reads a few rows in vain; a missing
//! guess costs a round trip, because the rules then ask for the rows that they lack.

use abide_core::ids::TaskKey;
use abide_core::kernel::{MAX_HOPS, Need, Outcome, Request};

use crate::graphs::GraphCache;

/// The most dependents of a task that are read ahead.
const MOST_DEPENDENTS: usize = 16;

/// Adds the rows that the request will probably need. Each belongs to the request's execution, or to no
/// execution.
pub(crate) fn prefetch(request: &Request, graphs: &GraphCache, needs: &mut Vec<Need>) {
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
