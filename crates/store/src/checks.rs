//! What the doors refuse before anything is written: names, payloads and words that cannot be
//! stored.

use abide_core::graph::Graph;
use abide_core::kernel::{Act, Signal, Start};
use abide_core::text;

use crate::error::StoreError;
use crate::rows::RecordedGraph;
use crate::views::WorkflowKind;

/// Refuses a payload that is larger than `limit` bytes, or that no store can keep.
pub(crate) fn check_payload(what: &str, json: &str, limit: usize) -> Result<(), StoreError> {
    if json.len() > limit {
        return Err(StoreError::Invalid(format!(
            "{what} has {} bytes, the limit is {limit}: keep large data elsewhere and pass a reference, or raise the payload limit",
            json.len(),
        )));
    }
    if json.starts_with('@') {
        // No JSON does, and the store would take it for one of its references.
        return Err(StoreError::Invalid(format!("{what} is not JSON")));
    }
    text::check_payload(json).map_err(|error| StoreError::Invalid(format!("{what}: {error}")))
}

pub(crate) fn check_start(start: &Start, limit: usize) -> Result<(), StoreError> {
    check_name("instance id", &start.instance)?;
    check_actor(start.actor.as_deref())?;
    if let Some(tags) = &start.tags {
        check_payload("the tags", tags, limit)?;
    }
    if let Some(input) = &start.input {
        check_payload("the input", input.as_str(), limit)?;
    }
    for (number, input) in &start.node_inputs {
        check_payload("the input of a node", input.as_str(), limit).map_err(|error| {
            StoreError::Invalid(format!("node `{}`: {error}", start.graph.node_id(*number)))
        })?;
    }
    Ok(())
}

pub(crate) fn check_signal(signal: &Signal, limit: usize) -> Result<(), StoreError> {
    check_name("signal", &signal.name)?;
    check_actor(signal.actor.as_deref())?;
    check_payload("the signal's payload", signal.payload.as_str(), limit)
}

pub(crate) fn check_act(act: &Act) -> Result<(), StoreError> {
    check_words("the reason", &act.reason)?;
    check_actor(act.actor.as_deref())
}

pub(crate) fn check_name(what: &str, name: &str) -> Result<(), StoreError> {
    text::check_name(what, name).map_err(|error| StoreError::Invalid(error.to_string()))
}

pub(crate) fn check_actor(actor: Option<&str>) -> Result<(), StoreError> {
    actor.map_or(Ok(()), |actor| check_name("actor", actor))
}

/// Free text of a person: any length that a person writes, any character but NUL.
pub(crate) fn check_words(what: &str, words: &str) -> Result<(), StoreError> {
    const MAX_BYTES: usize = 4096;
    if words.len() > MAX_BYTES {
        let bytes = words.len();
        return Err(StoreError::Invalid(format!(
            "{what} has {bytes} bytes, the limit is {MAX_BYTES}"
        )));
    }
    if words.contains('\0') {
        return Err(StoreError::Invalid(format!("{what} holds a NUL character")));
    }
    Ok(())
}

/// That a workflow version that is new in its options has the graph of those that are recorded.
pub(crate) fn check_graph(
    name: &str,
    version: &str,
    kind: WorkflowKind,
    graph: &Graph,
    recorded: Vec<RecordedGraph>,
) -> Result<(), StoreError> {
    let recorded = recorded
        .into_iter()
        .filter_map(|RecordedGraph(graph)| graph);
    let mut differences = recorded.filter_map(|(was, recorded)| {
        if was != kind {
            let (was, kind) = (was.as_str(), kind.as_str());
            return Some(format!("it is a {kind} instead of a {was}"));
        }
        graph.difference_to(&recorded)
    });
    match differences.next() {
        None => Ok(()),
        Some(difference) => Err(StoreError::OtherGraph {
            workflow: name.to_owned(),
            version: version.to_owned(),
            difference,
        }),
    }
}
