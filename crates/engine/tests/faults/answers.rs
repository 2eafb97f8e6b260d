//! What callers were told, kept by the test itself: whatever was acknowledged must be there in the end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::scene::Order;
use crate::sight::Sight;

/// What was acknowledged so far.
#[derive(Clone, Default)]
pub(crate) struct Answers(Arc<Mutex<Told>>);

#[derive(Default)]
pub(crate) struct Told {
    /// Each instance's execution, as its start answered.
    pub(crate) started: BTreeMap<String, i64>,
    /// How many signals to it were acknowledged.
    pub(crate) signalled: BTreeMap<String, i64>,
    pub(crate) results: BTreeMap<String, u32>,
    /// Calls that ended with an error that leaves open what happened.
    pub(crate) unknown: u32,
    /// Calls that ended with an error that says that nothing happened.
    pub(crate) refused: u32,
}

impl Answers {
    pub(crate) fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().expect("nobody panics while holding it")
    }

    pub(crate) fn started(&self, order: &Order, execution: i64) {
        let before = self.told().started.insert(order.instance(), execution);
        assert!(
            before.is_none_or(|before| before == execution),
            "{order:?}: asked again, another execution"
        );
    }

    pub(crate) fn signalled(&self, order: &Order) {
        let mut told = self.told();
        *told.signalled.entry(order.instance()).or_default() += 1;
    }

    pub(crate) fn result(&self, order: &Order, result: u32) {
        assert_eq!(result, order.result(), "{order:?}");
        self.told().results.insert(order.instance(), result);
    }

    /// That all of it is in the store, and no signal twice.
    pub(crate) async fn check(&self, sight: &Sight) {
        let executions = sight.executions().await;
        let signals = sight.signals().await;
        let told = self.told();
        for (instance, id) in &told.started {
            assert_eq!(executions.get(instance), Some(id), "{instance} is lost");
        }
        let none = |instance: &String| !told.signalled.contains_key(instance);
        let unasked: Vec<_> = signals.keys().filter(|instance| none(instance)).collect();
        assert!(unasked.is_empty(), "{unasked:?} got signals by nobody");
        if told.unknown == 0 {
            for (instance, sent) in &told.signalled {
                let found = signals.get(instance).copied().unwrap_or(0);
                assert_eq!(found, *sent, "signals to {instance}");
            }
        }
    }
}
