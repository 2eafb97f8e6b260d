//! Random operations: everything that can be asked of a store, and what else happens to it.

use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Clone, Debug)]
pub(crate) enum End {
    Completed { big: bool, changes: u8 },
    Failed { kind: u8, supersede: bool },
    Released,
    Cancelled,
    Nondeterministic,
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Start {
        shape: u8,
        instance: u8,
        exists: u8,
        own_graph: bool,
        start_in: u8,
        deadline_in: u8,
        slots: u8,
    },
    Claim(u8),
    Finish {
        task: u8,
        end: End,
        slots: u8,
    },
    Late {
        task: u8,
        end: End,
    },
    Defer(u8),
    Resume(u8, bool),
    Await {
        task: u8,
        waits: Vec<(bool, u8)>,
        evict: bool,
    },
    Watch {
        task: u8,
        waits: Vec<(bool, u8)>,
    },
    Evict(u8),
    Record(u8, u8, bool),
    Progress(u8),
    Signal(u8, u8),
    /// Which, and how much time running tasks get.
    Cancel(u8, u8),
    /// Which, and its new priority.
    SetPriority(u8, i8),
    Advance(u8),
    Fire(u8),
    /// The worker's process dies, and others take back what it held at once.
    Crash(u8),
    /// It dies, and nobody notices yet.
    Die,
    /// What the dead held is taken back.
    TakeBack(u8),
    /// Other code comes for the tasks that wait for it.
    Deploy,
    Recover(u8, u8),
    Batch(Vec<Op>),
}

pub(crate) fn ends() -> impl Strategy<Value = End> {
    prop_oneof![
        8 => (any::<bool>(), 0..4_u8).prop_map(|(big, changes)| End::Completed { big, changes }),
        4 => (0..4_u8, any::<bool>()).prop_map(|(kind, supersede)| End::Failed { kind, supersede }),
        1 => Just(End::Released),
        1 => Just(End::Cancelled),
        1 => Just(End::Nondeterministic),
    ]
}

pub(crate) fn request_ops() -> impl Strategy<Value = Op> {
    let task = || any::<u8>();
    prop_oneof![
        4 => (any::<u8>(), 0..4_u8, 0..9_u8, any::<bool>(), 0..15_u8, 0..12_u8, 0..5_u8).prop_map(
            |(shape, instance, exists, own_graph, start_in, deadline_in, slots)| Op::Start {
                shape, instance, exists, own_graph, start_in, deadline_in, slots
            }
        ),
        8 => (task(), ends(), 0..5_u8).prop_map(|(task, end, slots)| Op::Finish { task, end, slots }),
        1 => (task(), ends()).prop_map(|(task, end)| Op::Late { task, end }),
        4 => task().prop_map(Op::Defer),
        6 => (task(), any::<bool>()).prop_map(|(task, always)| Op::Resume(task, always)),
        5 => (task(), vec((any::<bool>(), 0..4_u8), 0..4), any::<bool>())
            .prop_map(|(task, waits, evict)| Op::Await { task, waits, evict }),
        3 => (task(), vec((any::<bool>(), 0..4_u8), 0..4))
            .prop_map(|(task, waits)| Op::Watch { task, waits }),
        2 => task().prop_map(Op::Evict),
        2 => (task(), 0..3_u8, any::<bool>()).prop_map(|(task, count, failed)| Op::Record(task, count, failed)),
        1 => task().prop_map(Op::Progress),
        4 => (0..4_u8, 0..2_u8).prop_map(|(instance, name)| Op::Signal(instance, name)),
        2 => (task(), 0..3_u8).prop_map(|(task, cap)| Op::Recover(task, cap)),
        2 => (any::<u8>(), 0..4_u8).prop_map(|(execution, grace)| Op::Cancel(execution, grace)),
        2 => (any::<u8>(), -2..4_i8).prop_map(|(execution, priority)| Op::SetPriority(execution, priority)),
    ]
}

pub(crate) fn asks() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => request_ops(),
        2 => (1..5_u8).prop_map(Op::Claim),
        2 => (1..5_u8).prop_map(Op::Fire),
    ]
}

pub(crate) fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => request_ops(),
        8 => (1..5_u8).prop_map(Op::Claim),
        3 => (0..5_u8).prop_map(Op::Advance),
        3 => (1..5_u8).prop_map(Op::Fire),
        1 => (0..3_u8).prop_map(Op::Crash),
        1 => Just(Op::Die),
        1 => (0..3_u8).prop_map(Op::TakeBack),
        1 => Just(Op::Deploy),
        4 => vec(asks(), 2..7).prop_map(Op::Batch),
    ]
}
