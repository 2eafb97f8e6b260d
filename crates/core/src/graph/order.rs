//! The arithmetic of graphs: adjacency in flat arrays, topological order, cycles. Linear, and
//! without recursion, because a chain may be 100,000 nodes deep.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Rows of numbers, one after the other (compressed sparse rows).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Csr {
    ends: Box<[u32]>,
    values: Box<[u32]>,
}

impl Csr {
    /// Groups values by row; within a row they keep the order of `pairs`.
    pub(super) fn group<I: Iterator<Item = (usize, u32)>>(
        rows: usize,
        pairs: impl Fn() -> I,
    ) -> Self {
        let mut next = vec![0_u32; rows + 1];
        for (row, _) in pairs() {
            next[row + 1] += 1;
        }
        for row in 0..rows {
            next[row + 1] += next[row];
        }
        let mut values = vec![0; next[rows] as usize];
        for (row, value) in pairs() {
            values[next[row] as usize] = value;
            next[row] += 1;
        }
        // Each row's cursor is now at the row's end.
        next.truncate(rows);
        Self {
            ends: next.into(),
            values: values.into(),
        }
    }

    pub(super) fn row(&self, row: usize) -> &[u32] {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.values[start as usize..self.ends[row] as usize]
    }

    /// How many values there are in all rows.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// How much memory the rows take.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.ends) + size_of_val(&*self.values)
    }

    fn rows(&self) -> impl Iterator<Item = &[u32]> {
        (0..self.ends.len()).map(|row| self.row(row))
    }
}

/// Dependencies and dependents of `nodes` nodes; each row ascending and without repetitions.
pub(super) fn adjacency(nodes: usize, edges: &[(u32, u32)]) -> (Csr, Csr) {
    // Grouping twice sorts: the second pass visits the first one's rows in ascending order.
    let by_from = Csr::group(nodes, || edges.iter().map(|(from, to)| (index(*from), *to)));
    let dependencies = dedup(Csr::group(nodes, || reversed(&by_from)));
    let dependents = Csr::group(nodes, || reversed(&dependencies));
    (dependencies, dependents)
}

/// Every (row, value) pair as (row of the value, number of the row), with rows ascending.
fn reversed(csr: &Csr) -> impl Iterator<Item = (usize, u32)> {
    csr.rows().enumerate().flat_map(|(row, values)| {
        values
            .iter()
            .map(move |value| (index(*value), number(row + 1)))
    })
}

/// Drops repetitions from sorted rows.
fn dedup(csr: Csr) -> Csr {
    let mut ends = Vec::with_capacity(csr.ends.len());
    let mut values = Vec::with_capacity(csr.len());
    for row in csr.rows() {
        values.extend(row.chunk_by(|a, b| a == b).map(|same| same[0]));
        ends.push(number(values.len()));
    }
    Csr {
        ends: ends.into(),
        values: values.into(),
    }
}

/// Kahn's order. If several nodes could come next, the one that was declared first does. If there
/// is a cycle, returns the nodes of one cycle instead: each is a dependency of the next, the last a
/// dependency of the first, and the first declared node comes first.
pub(super) fn topological(dependencies: &Csr, dependents: &Csr) -> Result<Box<[u32]>, Vec<u32>> {
    let mut open: Vec<u32> = dependencies.rows().map(|row| number(row.len())).collect();
    let roots = (1..=number(open.len())).filter(|node| open[index(*node)] == 0);
    let mut ready: BinaryHeap<Reverse<u32>> = roots.map(Reverse).collect();
    let mut order = Vec::with_capacity(open.len());
    while let Some(Reverse(node)) = ready.pop() {
        order.push(node);
        for dependent in dependents.row(index(node)) {
            let left = &mut open[index(*dependent)];
            *left -= 1;
            if *left == 0 {
                ready.push(Reverse(*dependent));
            }
        }
    }
    match open.iter().position(|left| *left > 0) {
        None => Ok(order.into()),
        Some(start) => Err(cycle(dependencies, &open, number(start + 1))),
    }
}

/// Walks back from a node that never became ready. Each such node has a dependency that never
/// became ready either, so the walk returns to a node that it has visited.
fn cycle(dependencies: &Csr, open: &[u32], start: u32) -> Vec<u32> {
    let mut seen = vec![false; open.len()];
    let mut path = Vec::new();
    let mut node = start;
    while !std::mem::replace(&mut seen[index(node)], true) {
        path.push(node);
        let mut stuck = dependencies.row(index(node)).iter();
        node = *stuck
            .find(|dependency| open[index(**dependency)] > 0)
            .expect("a node that is never ready has a dependency that is never ready");
    }
    let entry = path.iter().position(|on_path| *on_path == node);
    path.drain(..entry.expect("the walk ended on its own path"));
    path.reverse();
    let first_declared = (0..path.len()).min_by_key(|at| path[*at]);
    path.rotate_left(first_declared.unwrap_or(0));
    path
}

/// The position of each node in an order.
pub(super) fn ranks(order: &[u32]) -> Box<[u32]> {
    let mut ranks = vec![0; order.len()];
    for (rank, node) in order.iter().enumerate() {
        ranks[index(*node)] = number(rank);
    }
    ranks.into()
}

/// A node's index in the arrays.
pub(super) fn index(number: u32) -> usize {
    (number as usize)
        .checked_sub(1)
        .expect("nodes are numbered from 1")
}

/// A count or position as the arrays store it. Limits keep all of them far below 2^32.
pub(super) fn number(count: usize) -> u32 {
    u32::try_from(count).expect("a graph's counts fit 32 bits")
}
