//! The walk back through a node's ancestors that finds the checkpoints which may stand in for the rest.
//!
//! Ancestors are visited in descending rank, so a node's dependents come before it. A checkpoint at `c`
//! serves if every earlier ancestor has a path to `c`. Seen among the ancestors up to `c` only, that means
//! `c` alone has no dependent there; so for every earlier ancestor `a`, its next dependent (the one of
//! lowest rank, among the ancestors and the target) comes no later than `c`. An earlier ancestor whose next
//! dependent comes after `c` is one that `c` doesn't account for.

use std::collections::{BTreeMap, VecDeque};

use crate::graph::Graph;

/// Yields the checkpoints that serve, latest first.
pub(super) struct Walk<'a> {
    graph: &'a Graph,
    has_checkpoint: &'a dyn Fn(u32) -> bool,
    /// Ancestors seen but not visited: by rank, the rank of the next dependent known so far. All
    /// dependents visited later rank lower, so the latest one known is the next.
    open: BTreeMap<u32, u32>,
    /// The ranks in `open`'s values, with how often they stand there.
    nexts: BTreeMap<u32, usize>,
    /// Visited ranks, descending.
    visited: Vec<u32>,
    /// Ranks of visited checkpoints that may yet prove to serve, descending.
    pending: VecDeque<u32>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        graph: &'a Graph,
        number: u32,
        has_checkpoint: &'a dyn Fn(u32) -> bool,
    ) -> Self {
        let mut walk = Self {
            graph,
            has_checkpoint,
            open: BTreeMap::new(),
            nexts: BTreeMap::new(),
            visited: Vec::new(),
            pending: VecDeque::new(),
        };
        walk.see_dependencies(number);
        walk
    }

    /// The nodes visited after a checkpoint, all of them if there is none, in topological order. Whatever
    /// comes after a checkpoint has been visited by the time it is known to serve.
    pub(super) fn since(&self, checkpoint: Option<u32>) -> Vec<u32> {
        let from = checkpoint.map(|node| self.graph.rank(node));
        let after = self.visited.iter().rev().filter(|rank| Some(**rank) > from);
        after.map(|rank| self.node(*rank)).collect()
    }

    /// Visits the unvisited ancestor of highest rank.
    fn visit(&mut self) -> Option<()> {
        let (rank, next) = self.open.pop_last()?;
        self.forget_next(next);
        // It has no dependent between itself and `next`: the checkpoints there don't account for it.
        while self.pending.back().is_some_and(|pending| *pending < next) {
            self.pending.pop_back();
        }
        let node = self.node(rank);
        self.see_dependencies(node);
        self.visited.push(rank);
        if (self.has_checkpoint)(node) {
            self.pending.push_back(rank);
        }
        Some(())
    }

    fn see_dependencies(&mut self, node: u32) {
        let next = self.graph.rank(node);
        for dependency in self.graph.dependencies(node) {
            let replaced = self.open.insert(self.graph.rank(*dependency), next);
            if let Some(replaced) = replaced {
                self.forget_next(replaced);
            }
            *self.nexts.entry(next).or_default() += 1;
        }
    }

    fn forget_next(&mut self, next: u32) {
        if let Some(count) = self.nexts.get_mut(&next) {
            *count -= 1;
            if *count == 0 {
                self.nexts.remove(&next);
            }
        }
    }

    fn node(&self, rank: u32) -> u32 {
        self.graph.topological()[rank as usize]
    }
}

impl Iterator for Walk<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        loop {
            // No open ancestor's next dependent comes after it: it accounts for them all.
            let last_next = self.nexts.last_key_value().map(|(next, _)| *next);
            if let Some(first) = self.pending.front()
                && last_next.is_none_or(|last| last <= *first)
            {
                return self.pending.pop_front().map(|rank| self.node(rank));
            }
            self.visit()?;
        }
    }
}
