//! Where the live rows of the outbox, of inboxes and of the timers begin. Their tables are queues: rows come at
//! one end of an index and go at the other, and as long as any transaction anywhere can see them,
//! dead ones pile up where a scan begins (a hundred milliseconds for each scan after a minute of a
//! foreign transaction's sleep). So scans begin at a mark, a moment before the oldest row that was
//! seen last.
//!
//! Marks are a guess: a row may come to lie below one, because the transaction that wrote it took
//! long or was undone. Whoever adds rows in this process lowers them; and a second after something
//! was picked, what lies below is looked at, off the path of those who wait.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use abide_core::ids::{Timestamp, VersionId, WorkerId};
use abide_core::kernel::{Change, Effects, OutboxRow};
use abide_core::timer::Timer;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use crate::error::StoreError;
use crate::rows::Columns;

use super::queries::{all, int};
use super::rows::Cells;
use super::statement::{Execute, Param, Statement};

/// A mark stays behind the time by so much, for transactions that are about to commit, and for
/// clocks that differ.
const MARGIN_US: i64 = 250_000;

/// Ranks of a queue, or queues and ranks of an inbox, that have marks. What is beyond is scanned whole.
const MOST_MARKS: usize = 64;

/// Whoever a row of the outbox is for that is for no worker in particular.
const ANYONE: i64 = 0;

/// Below every rank and time, and above.
const LOWEST: i64 = i32::MIN as i64;
const HIGHEST: i64 = i32::MAX as i64;

/// The marks of this process.
#[derive(Default)]
pub(crate) struct LowWater {
    marks: Mutex<Marks>,
    /// Something was picked.
    pub(super) picked: Notify,
}

struct Marks {
    /// For each queue: where the rows of a rank begin.
    queues: FxHashMap<VersionId, BTreeMap<i64, Timestamp>>,
    /// For each worker of this process: where the notices to it of a queue and rank begin.
    inboxes: FxHashMap<WorkerId, BTreeMap<(VersionId, i64), Timestamp>>,
    /// Where timers begin.
    timers: Timestamp,
}

impl Default for Marks {
    fn default() -> Marks {
        Marks {
            queues: FxHashMap::default(),
            inboxes: FxHashMap::default(),
            timers: Timestamp(i64::MIN),
        }
    }
}

/// Stretches of the outbox's key, in its order: a queue, ranks from `lowest` to `highest`, and of the
/// lowest rank only what is ready since `since` or later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stretches {
    queues: Vec<Option<i64>>,
    lowest: Vec<Option<i64>>,
    since: Vec<Option<i64>>,
    highest: Vec<Option<i64>>,
}

impl Stretches {
    /// Everything in these queues.
    #[cfg(test)]
    fn whole(queues: &[VersionId]) -> Stretches {
        let mut stretches = Stretches::default();
        for &queue in queues {
            stretches.push(queue, LOWEST, i64::MIN, HIGHEST);
        }
        stretches
    }

    fn push(&mut self, queue: VersionId, lowest: i64, since: i64, highest: i64) {
        if lowest <= highest {
            self.queues.push(Some(queue.0));
            self.lowest.push(Some(lowest));
            self.since.push(Some(since));
            self.highest.push(Some(highest));
        }
    }

    /// As arrays, in the order of a statement's first four parameters.
    pub(crate) fn params(self) -> Vec<Param<'static>> {
        let columns = [self.queues, self.lowest, self.since, self.highest];
        columns.into_iter().map(Param::Ints).collect()
    }
}

fn rank(row: &OutboxRow) -> i64 {
    -i64::from(row.priority)
}

impl LowWater {
    fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where to look for rows of these queues: from the mark for ranks that have one, and everywhere
    /// between those ranks.
    pub(crate) fn stretches(&self, queues: &[VersionId]) -> Stretches {
        let marks = self.marks();
        let mut stretches = Stretches::default();
        for &queue in queues {
            let mut lowest = LOWEST;
            for (&rank, &mark) in marks.queues.get(&queue).into_iter().flatten() {
                stretches.push(queue, lowest, i64::MIN, rank - 1);
                stretches.push(queue, rank, mark.0, rank);
                lowest = rank + 1;
            }
            stretches.push(queue, lowest, i64::MIN, HIGHEST);
        }
        stretches
    }

    /// Where to look for notices to a worker: from the mark for queues and ranks that have one, and
    /// everywhere between them. As arrays, in the order of a statement's first five parameters. A
    /// stretch is a queue, the rank and time where it begins and the rank where it ends; or what lies
    /// between two queues, the first and the fifth.
    pub(crate) fn inbox(&self, worker: WorkerId) -> Vec<Param<'static>> {
        let marks = self.marks();
        let mut stretches: Vec<[Option<i64>; 5]> = Vec::new();
        let between = |first, next| [Some(first), None, None, None, Some(next)];
        let within = |queue, (lowest, since), highest| {
            let is_any = lowest <= highest;
            is_any.then_some([Some(queue), Some(lowest), Some(since), Some(highest), None])
        };
        let (mut queue, mut lowest) = (i64::MIN, HIGHEST + 1);
        for (&(VersionId(next), rank), &Timestamp(mark)) in
            marks.inboxes.get(&worker).into_iter().flatten()
        {
            if queue != next {
                stretches.extend(within(queue, (lowest, i64::MIN), HIGHEST));
                stretches.push(between(queue, next));
                (queue, lowest) = (next, LOWEST);
            }
            stretches.extend(within(queue, (lowest, i64::MIN), rank - 1));
            stretches.extend(within(queue, (rank, mark), rank));
            lowest = rank + 1;
        }
        stretches.extend(within(queue, (lowest, i64::MIN), HIGHEST));
        stretches.push(between(queue, i64::MAX));
        let column = |at: usize| stretches.iter().map(|stretch| stretch[at]).collect();
        (0..5).map(|at| Param::Ints(column(at))).collect()
    }

    /// Notices to a worker were picked, in the order of the outbox's key, at most so many.
    pub(crate) fn inbox_picked(
        &self,
        worker: WorkerId,
        rows: &[OutboxRow],
        limit: u32,
        now: Timestamp,
    ) {
        // Nothing passes its mark by much before it is picked, so none at all needs no new marks.
        if rows.is_empty() {
            return;
        }
        let mut marks = self.marks();
        let of_worker = marks.inboxes.entry(worker).or_default();
        let keys = rows
            .iter()
            .map(|row| ((row.queue, rank(row)), row.ready_at));
        advance(of_worker, keys, rows.len() < limit as usize, now);
        drop(marks);
        self.picked.notify_one();
    }

    /// Rows were picked, in the order of the outbox's key for each queue, at most so many of each.
    pub(crate) fn picked(&self, rows: &[OutboxRow], limit: u32, now: Timestamp) {
        // None at all may mean that the worker is no longer one.
        if rows.is_empty() {
            return;
        }
        let mut marks = self.marks();
        for rows in rows.chunk_by(|a, b| a.queue == b.queue) {
            let ranks = marks.queues.entry(rows[0].queue).or_default();
            let keys = rows.iter().map(|row| (rank(row), row.ready_at));
            advance(ranks, keys, rows.len() < limit as usize, now);
        }
        drop(marks);
        self.picked.notify_one();
    }

    /// Where to look for timers.
    pub(crate) fn timers(&self) -> Timestamp {
        self.marks().timers
    }

    /// Timers that are due were picked, the first of them, if there were any, due then.
    pub(crate) fn timers_picked(&self, first: Option<Timestamp>, now: Timestamp) {
        let settled = now.plus_us(-MARGIN_US);
        let mut marks = self.marks();
        let mark = first.map_or(settled, |first| first.min(settled));
        marks.timers = marks.timers.max(mark);
        drop(marks);
        self.picked.notify_one();
    }

    /// Rows are about to be added.
    pub(crate) fn added(&self, effects: &Effects) {
        if effects.outbox.is_empty() && effects.timers.is_empty() {
            return;
        }
        let mut marks = self.marks();
        for change in &effects.outbox {
            if let Change::Add(row) = change {
                marks.lower(row.worker, row.queue, rank(row), row.ready_at);
            }
        }
        for change in &effects.timers {
            if let Change::Add(Timer { due_at, .. }) = change {
                marks.timers = marks.timers.min(*due_at);
            }
        }
    }

    /// News may have been lost: what lies below the marks is to be looked at.
    pub(crate) fn doubt(&self) {
        self.picked.notify_one();
    }

    /// Rows were added that may be as old as that, of any queue.
    pub(crate) fn came(&self, since: Timestamp) {
        let mut marks = self.marks();
        let marks = &mut *marks;
        let ranks = marks.queues.values_mut().flat_map(BTreeMap::values_mut);
        let notices = marks.inboxes.values_mut().flat_map(BTreeMap::values_mut);
        ranks
            .chain(notices)
            .for_each(|mark| *mark = (*mark).min(since));
        marks.timers = marks.timers.min(since);
    }

    /// Looks at what lies below the marks, and lowers those that are above something. Answers
    /// whether there was something in the outbox, and the first timer.
    pub(super) async fn sound(
        &self,
        execute: &(impl Execute + Sync),
    ) -> Result<(bool, Option<Timestamp>), StoreError> {
        let mut columns: [Vec<Option<i64>>; 4] = Default::default();
        let timers = {
            let marks = self.marks();
            for mark in marks.all() {
                for (column, value) in columns.iter_mut().zip(mark) {
                    column.push(Some(value));
                }
            }
            marks.timers
        };
        let outbox = Statement::new(
            "SELECT u.worker, u.queue, u.rank, t.ready_at FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) \
             AS u (worker, queue, rank, mark) CROSS JOIN LATERAL (SELECT ready_at FROM ~task_outbox WHERE worker = u.worker \
             AND queue = u.queue AND rank = u.rank AND ready_at < u.mark ORDER BY ready_at LIMIT 1) t",
            columns.into_iter().map(Param::Ints).collect(),
        );
        let read =
            |cells: &mut Cells| Ok(([cells.int()?, cells.int()?, cells.int()?], cells.time()?));
        let below: Vec<([i64; 3], Timestamp)> =
            all(execute, outbox, "a row of the outbox", read).await?;
        let first = Statement::new(
            "SELECT due_at FROM ~timers WHERE due_at < $1::bigint ORDER BY due_at LIMIT 1",
            vec![int(timers.0)],
        );
        let first = all(execute, first, "a timer", |cells| cells.time())
            .await?
            .pop();
        let mut marks = self.marks();
        for &([worker, queue, rank], ready_at) in &below {
            let worker = (worker != ANYONE).then_some(WorkerId(worker));
            marks.lower(worker, VersionId(queue), rank, ready_at);
        }
        if let Some(first) = first {
            marks.timers = marks.timers.min(first);
        }
        Ok((!below.is_empty(), first))
    }
}

impl Marks {
    /// Every mark but that of the timers: worker, queue, rank, time.
    fn all(&self) -> impl Iterator<Item = [i64; 4]> {
        let queues = self.queues.iter().flat_map(|(queue, ranks)| {
            let mark = |(rank, mark): (&i64, &Timestamp)| [ANYONE, queue.0, *rank, mark.0];
            ranks.iter().map(mark)
        });
        let inboxes = self.inboxes.iter().flat_map(|(worker, notices)| {
            notices
                .iter()
                .map(|((queue, rank), mark)| [worker.0, queue.0, *rank, mark.0])
        });
        queues.chain(inboxes)
    }

    fn lower(
        &mut self,
        worker: Option<WorkerId>,
        queue: VersionId,
        rank: i64,
        ready_at: Timestamp,
    ) {
        let mark = match worker {
            None => self
                .queues
                .get_mut(&queue)
                .and_then(|ranks| ranks.get_mut(&rank)),
            Some(worker) => {
                let notices = self.inboxes.get_mut(&worker);
                notices.and_then(|notices| notices.get_mut(&(queue, rank)))
            }
        };
        if let Some(mark) = mark {
            *mark = (*mark).min(ready_at);
        }
    }
}

/// Moves marks to the first of the rows that were picked, in the order of their keys: all there are,
/// or else as many as were asked for.
fn advance<K: Copy + Ord>(
    marks: &mut BTreeMap<K, Timestamp>,
    rows: impl Iterator<Item = (K, Timestamp)>,
    is_all: bool,
    now: Timestamp,
) {
    let settled = now.plus_us(-MARGIN_US);
    let mut firsts: BTreeMap<K, Timestamp> = BTreeMap::new();
    for (key, ready_at) in rows {
        firsts.entry(key).or_insert(ready_at);
    }
    let last = firsts.last_key_value().map(|(key, _)| *key);
    for (key, mark) in marks.iter_mut() {
        if is_all || Some(*key) <= last {
            let first = firsts.remove(key).unwrap_or(settled);
            *mark = (*mark).max(first.min(settled));
        }
    }
    for (key, first) in firsts {
        if marks.len() < MOST_MARKS {
            marks.insert(key, first.min(settled));
        }
    }
}

#[cfg(test)]
mod tests {
    use abide_core::ids::{ExecutionId, TaskKey};

    use super::*;

    const QUEUE: VersionId = VersionId(1);
    const SECOND: i64 = 1_000_000;

    fn row(priority: i16, ready_at: i64) -> OutboxRow {
        OutboxRow {
            worker: None,
            queue: QUEUE,
            priority,
            ready_at: Timestamp(ready_at),
            key: TaskKey::new(ExecutionId(1), 1),
        }
    }

    fn check(low_water: &LowWater, expected: &[(i64, i64, i64)]) {
        let stretches = low_water.stretches(&[QUEUE]);
        let found: Vec<_> = (0..stretches.queues.len())
            .map(|at| {
                let of = |column: &Vec<Option<i64>>| column[at].expect("a number");
                (
                    of(&stretches.lowest),
                    of(&stretches.since),
                    of(&stretches.highest),
                )
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_queue_is_scanned_from_the_marks_of_its_ranks_and_between_them() {
        let low_water = LowWater::default();
        check(&low_water, &[(LOWEST, i64::MIN, HIGHEST)]);
        assert_eq!(low_water.stretches(&[QUEUE]), Stretches::whole(&[QUEUE]));
        low_water.picked(&[row(5, 7), row(0, 3)], 10, Timestamp(SECOND));
        let expected = [
            (LOWEST, i64::MIN, -6),
            (-5, 7, -5),
            (-4, i64::MIN, -1),
            (0, 3, 0),
            (1, i64::MIN, HIGHEST),
        ];
        check(&low_water, &expected);
    }

    #[test]
    fn marks_follow_the_first_row_and_stay_behind_the_time() {
        let low_water = LowWater::default();
        let between = |since| {
            [
                (LOWEST, i64::MIN, -1),
                (0, since, 0),
                (1, i64::MIN, HIGHEST),
            ]
        };
        low_water.picked(&[row(0, 3), row(0, 4)], 2, Timestamp(SECOND));
        check(&low_water, &between(3));
        low_water.picked(&[row(0, 2 * SECOND)], 2, Timestamp(2 * SECOND));
        check(&low_water, &between(2 * SECOND - MARGIN_US));
        // Nothing found says nothing: the worker may be dead.
        low_water.picked(&[], 2, Timestamp(9 * SECOND));
        check(&low_water, &between(2 * SECOND - MARGIN_US));
        let mut effects = Effects::default();
        effects.outbox.push(Change::Add(row(0, 5)));
        low_water.added(&effects);
        check(&low_water, &between(5));
    }

    #[test]
    fn what_a_long_transaction_brought_lies_above_the_marks() {
        let low_water = LowWater::default();
        low_water.picked(&[row(0, SECOND)], 2, Timestamp(9 * SECOND));
        low_water.timers_picked(None, Timestamp(9 * SECOND));
        low_water.came(Timestamp(SECOND / 2));
        let expected = [
            (LOWEST, i64::MIN, -1),
            (0, SECOND / 2, 0),
            (1, i64::MIN, HIGHEST),
        ];
        check(&low_water, &expected);
        assert_eq!(low_water.timers(), Timestamp(SECOND / 2));
    }

    #[test]
    fn ranks_behind_a_full_pick_keep_their_marks() {
        let low_water = LowWater::default();
        low_water.picked(&[row(1, 3), row(0, 4)], 9, Timestamp(SECOND));
        low_water.picked(&[row(1, 5), row(1, 6)], 2, Timestamp(SECOND));
        let expected = [
            (LOWEST, i64::MIN, -2),
            (-1, 5, -1),
            (0, 4, 0),
            (1, i64::MIN, HIGHEST),
        ];
        check(&low_water, &expected);
    }
}
