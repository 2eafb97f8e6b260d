//! How long an execution may still take, going by earlier ones of its workflow. An estimate: said
//! with "about", and not said at all once it has turned out wrong.

use abide_core::status::ExecutionStatus;
use abide_store::{ExecutionFilter, ExecutionView, Store, StoreError};

use crate::records::ExecutionRecord;

/// Completed executions that are looked at, the latest first.
const PAST_RUNS: u32 = 9;

/// How long executions of a workflow usually run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usual {
    run_us: Option<i64>,
}

impl Usual {
    /// The median of the latest completed executions of this one's workflow.
    pub(crate) async fn of(store: &Store, view: &ExecutionView) -> Result<Usual, StoreError> {
        let filter = ExecutionFilter {
            statuses: vec![ExecutionStatus::Completed],
            workflow: Some(view.workflow.clone()),
            ..ExecutionFilter::default()
        };
        let past = store.executions(&filter, None, PAST_RUNS).await?;
        let runs = past.iter().filter_map(|view| {
            let (started, closed) = (view.execution.started_at?, view.execution.closed_at?);
            Some(closed.since_us(started))
        });
        Ok(Usual::median(runs.collect()))
    }

    fn median(mut runs: Vec<i64>) -> Usual {
        runs.sort_unstable();
        Usual {
            run_us: runs.get(runs.len() / 2).copied(),
        }
    }

    /// What is left of the usual time, for an execution that runs.
    pub(crate) fn left_us(self, execution: &ExecutionRecord) -> Option<i64> {
        if execution.status != ExecutionStatus::Running {
            return None;
        }
        self.left_after(execution.run_us?)
    }

    fn left_after(self, run_us: i64) -> Option<i64> {
        Some(self.run_us? - run_us).filter(|&left| left > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_is_the_median_of_past_runs_until_it_is_over() {
        let usual = Usual::median(vec![900, 10, 30]);
        assert_eq!(usual.left_after(12), Some(18));
        assert_eq!(usual.left_after(30), None);
        assert_eq!(Usual::median(Vec::new()).left_after(1), None);
    }
}
