//! An estimate of the time that an execution may still take, from earlier executions of its
//! workflow. It is shown with the word "about", and not shown once it has proved wrong.

use abide_core::status::ExecutionStatus;
use abide_store::{ExecutionFilter, ExecutionView, Store, StoreError};

use super::records::ExecutionRecord;

/// How many completed executions are read, the latest first.
const PAST_RUNS: u32 = 9;

/// How long executions of a workflow usually run: see [`Client::usual`](crate::Client::usual).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usual {
    run_us: Option<i64>,
}

impl Usual {
    /// The median of the latest completed executions of this execution's workflow.
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

    /// The rest of the usual time, in microseconds, for a running execution. None once it takes
    /// longer than usual.
    pub fn left_us(self, execution: &ExecutionRecord) -> Option<i64> {
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
