//! The checks that need every task of a module: ids differ, dependencies are known, there are no
//! cycles. Tasks under `#[cfg]` may not exist, so registration compares their ids.

use proc_macro2::Span;
use syn::{Error, LitStr};

/// A task among the others.
pub(crate) struct Node {
    pub(crate) id: LitStr,
    /// Whether it exists only under some configuration.
    pub(crate) is_conditional: bool,
    /// The nodes it waits for, and where the source names each.
    pub(crate) waits_for: Vec<(usize, Span)>,
    /// The errors for dependencies that are no task of the module.
    pub(crate) unknown: Vec<Error>,
}

/// Every mistake of the graph.
pub(crate) fn check(nodes: &[Node]) -> Vec<Error> {
    let mut mistakes: Vec<Error> = nodes
        .iter()
        .flat_map(|node| node.unknown.iter().cloned())
        .collect();
    mistakes.extend(duplicates(nodes));
    mistakes.extend(selves(nodes));
    mistakes.extend(cycle(nodes));
    mistakes
}

fn duplicates(nodes: &[Node]) -> impl Iterator<Item = Error> {
    nodes.iter().enumerate().filter_map(|(at, node)| {
        let same = |before: &&Node| before.id.value() == node.id.value();
        let before = nodes[..at].iter().find(same)?;
        let message = format!(
            "the id `{}` is that of another task of this workflow",
            node.id.value()
        );
        (!node.is_conditional && !before.is_conditional)
            .then(|| Error::new(node.id.span(), message))
    })
}

fn selves(nodes: &[Node]) -> impl Iterator<Item = Error> {
    nodes.iter().enumerate().flat_map(|(at, node)| {
        let selves = node.waits_for.iter().filter(move |(other, _)| *other == at);
        selves.map(|(_, span)| Error::new(*span, "a task can't depend on itself"))
    })
}

/// The first cycle of several tasks, reported where its first task names the next.
fn cycle(nodes: &[Node]) -> Option<Error> {
    let (start, path) =
        (0..nodes.len()).find_map(|start| Some((start, way_back(nodes, start)?)))?;
    let next = path.first().copied().unwrap_or(start);
    let (_, span) = nodes[start]
        .waits_for
        .iter()
        .find(|(other, _)| *other == next)?;
    let ids: Vec<String> = std::iter::once(start)
        .chain(path)
        .map(|at| format!("`{}`", nodes[at].id.value()))
        .collect();
    Some(Error::new(
        *span,
        format!("tasks wait for each other: {}", ids.join(" waits for ")),
    ))
}

/// A shortest path from a node over its dependencies back to the node, which ends the path. A node
/// that waits for itself is no path.
fn way_back(nodes: &[Node], start: usize) -> Option<Vec<usize>> {
    let mut from: Vec<Option<usize>> = vec![None; nodes.len()];
    let mut queue = std::collections::VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        for (next, _) in nodes[at].waits_for.iter().filter(|(next, _)| *next != at) {
            if *next == start {
                let steps =
                    std::iter::successors(Some(at), |at| from[*at]).take_while(|at| *at != start);
                let mut path: Vec<usize> = steps.collect();
                path.reverse();
                path.push(start);
                return Some(path);
            }
            if from[*next].is_none() {
                from[*next] = Some(at);
                queue.push_back(*next);
            }
        }
    }
    None
}
