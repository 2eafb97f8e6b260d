//! The walk back through a node's ancestors that finds the checkpoints which can replace the
//! changes before them.
//!
//! Ancestors are visited in descending rank, so a node's dependents come before it. A checkpoint at
//! `c` is usable if every earlier ancestor has a path to `c`. Among the ancestors up to `c`, this
//! means that only `c` has no dependent there. So for every earlier ancestor `a`, the next
//! dependent of `a` (the one of lowest rank, among the ancestors and the target) comes no later
//! than `c`. If the next dependent of an earlier ancestor comes after `c`, the checkpoint at `c`
//! does not include that ancestor.

use std::collections::{BTreeMap, VecDeque};

use crate::graph::Graph;

/// Yields the usable checkpoints, latest first.
pub(super) struct Walk<'a> {
    graph: &'a Graph,
    has_checkpoint: &'a dyn Fn(u32) -> bool,
    /// Ancestors that were seen but not visited: by rank, the rank of the next dependent known so
    /// far. Dependents that are visited later have a lower rank, so the latest known one is the
    /// next.
    open: BTreeMap<u32, u32>,
    /// The ranks in `open`'s values, and how often each occurs.
    nexts: BTreeMap<u32, usize>,
    /// Visited ranks, descending.
    visited: Vec<u32>,
    /// Ranks of visited checkpoints that may still prove usable, descending.
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

    /// The nodes visited after a checkpoint (all of them if there is none), in topological order.
    /// When a checkpoint is known to be usable, every node after it has been visited.
    pub(super) fn since(&self, checkpoint: Option<u32>) -> Vec<u32> {
        let from = checkpoint.map(|node| self.graph.rank(node));
        let after = self.visited.iter().rev().filter(|rank| Some(**rank) > from);
        after.map(|rank| self.node(*rank)).collect()
    }

    /// Visits the unvisited ancestor of highest rank.
    fn visit(&mut self) -> Option<()> {
        let (rank, next) = self.open.pop_last()?;
        self.forget_next(next);
        // It has no dependent between itself and `next`, so the checkpoints there do not include
        // it.
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
            // No open ancestor's next dependent comes after the checkpoint, so the checkpoint
            // includes all of them.
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
