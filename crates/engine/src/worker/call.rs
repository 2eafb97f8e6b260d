//! From a claimed task to the future of its function: what the function asks for is read, nothing
//! else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use abide_core::context::{Changes, SOURCE_COST, checkpoint_due};
use abide_core::failure::{Failure, kinds};
use abide_core::graph::Uses;
use abide_core::kernel::{Claimed, Outcome};
use abide_core::payload::Payload;
use abide_core::status::Phase;
use abide_store::{ContextView, EventFilter, StoreError, TaskInputs};
use serde_json::{Map, Value};

use super::Worker;
use super::drive::{Ending, Function};
use super::persist::{Backoff, is_about_the_request};
use crate::attempt::Attempt;
use crate::authoring::{DependencyOutput, Invocation};
use crate::handle::TaskHandle;

/// A function that is about to run, and what its end must be compared with.
pub(super) struct Called {
    pub(super) function: Function,
    pub(super) inherited: Option<Inherited>,
    /// How long the attempt has been active under earlier claims, if its time is limited.
    pub(super) active_us: i64,
}

/// The context that a task began with, kept to decide on a checkpoint when it ends.
pub(super) struct Inherited {
    map: Map<String, Value>,
    base: Map<String, Value>,
    charged_bytes: usize,
}

impl Inherited {
    fn new(context: &ContextView) -> Inherited {
        Inherited {
            map: context.map.clone(),
            base: context.base.clone(),
            charged_bytes: context.charged_bytes,
        }
    }

    /// The checkpoint to record after a task that changed this, if one is due.
    pub(super) fn checkpoint(mut self, changes: Option<&Changes>) -> Option<Payload> {
        let text = |changes: &Changes| serde_json::to_string(changes).expect("keys are strings");
        let own = changes.map_or(0, |changes| text(changes).len()) + SOURCE_COST;
        if let Some(changes) = changes {
            changes.apply(&mut self.map);
        }
        let checkpoint = text(&Changes::between(&self.base, &self.map));
        let due = checkpoint_due(self.charged_bytes + own, checkpoint.len());
        due.then(|| Payload::from_json(checkpoint))
    }
}

/// Reads what the task uses and calls its function.
pub(super) async fn call(
    worker: &Worker,
    claimed: &mut Claimed,
    attempt: &Arc<Attempt>,
) -> Result<Called, Ending> {
    let Some(task) = worker.catalog.task(claimed.workflow, &attempt.task().id) else {
        let difference = format!("no task `{}` is registered", attempt.task().id);
        return Err(Ending::Outcome(Outcome::Nondeterministic { difference }));
    };
    let uses = task.spec().uses;
    let inputs = inputs(worker, claimed, attempt, uses).await?;
    if uses.handle && claimed.task.epoch > 1 {
        let read = || worker.store.steps(attempt.key());
        let records = read_patiently(worker, attempt, read).await?;
        attempt.operations().load(records);
    }
    let active_us = match attempt.task().timeout_us {
        Some(_) if claimed.task.epoch > 1 => {
            read_patiently(worker, attempt, || active_before(worker, attempt)).await?
        }
        _ => 0,
    };
    let inherited = inputs.context.as_ref().map(Inherited::new);
    let invocation = Invocation {
        input: inputs.input.map(Payload::into_json),
        context: inputs.context.map(|context| context.map),
        outputs: outputs(attempt, inputs.outputs),
        state: Arc::clone(&worker.state),
        handle: TaskHandle::new(Arc::clone(attempt)),
    };
    let function = match catch_unwind(AssertUnwindSafe(|| task.call(invocation))) {
        Ok(future) => Function::new(future),
        Err(panic) => return Err(Ending::panicked(&*panic, worker)),
    };
    Ok(Called {
        function,
        inherited,
        active_us,
    })
}

/// How long this attempt was active before it was claimed again: what its history credits.
async fn active_before(worker: &Worker, attempt: &Attempt) -> Result<i64, StoreError> {
    let filter = EventFilter {
        execution: None,
        task: Some(attempt.key()),
    };
    let events = worker.store.events(&filter, 0, u32::MAX).await?;
    let active = events.windows(2).filter_map(|pair| {
        let [before, event] = pair else { return None };
        let was_active = event.from.as_deref() == Some(Phase::Active.as_str());
        let of_attempt = event.attempt == Some(attempt.number);
        (was_active && of_attempt).then(|| event.at.since_us(before.at))
    });
    Ok(active.sum())
}

async fn inputs(
    worker: &Worker,
    claimed: &mut Claimed,
    attempt: &Attempt,
    uses: Uses,
) -> Result<TaskInputs, Ending> {
    // The start that claimed it had the input at hand.
    let at_hand = claimed.input.take();
    let missing = Uses {
        input: uses.input && at_hand.is_none(),
        handle: false,
        ..uses
    };
    let mut inputs = TaskInputs::default();
    if missing != Uses::default() {
        let of = &*claimed;
        let read = || worker.store.inputs(of, &missing);
        inputs = read_patiently(worker, attempt, read).await?;
    }
    if uses.input && at_hand.is_some() {
        inputs.input = at_hand;
    }
    Ok(inputs)
}

fn outputs(
    attempt: &Attempt,
    outputs: Vec<(u32, abide_core::trigger::Ending, Option<Payload>)>,
) -> Vec<DependencyOutput> {
    let named = outputs
        .into_iter()
        .map(|(number, ending, output)| DependencyOutput {
            node: attempt.graph.node_id(number).into(),
            task: attempt.graph.task_of(number).id.as_str().into(),
            ending,
            output: output.map(Payload::into_json),
        });
    named.collect()
}

/// Reads until the store answers. What can't be decoded is this task's trouble and nobody else's.
async fn read_patiently<T, R>(
    worker: &Worker,
    attempt: &Attempt,
    read: impl Fn() -> R,
) -> Result<T, Ending>
where
    R: Future<Output = Result<T, StoreError>>,
{
    let mut backoff = Backoff::default();
    loop {
        let error = match read().await {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        tracing::warn!(task = %attempt.key(), %error, "what a task needs could not be read");
        if is_about_the_request(&error) {
            let failure = Failure::engine(kinds::UNDECODABLE, error.to_string());
            return Err(Ending::failed(failure, worker));
        }
        if matches!(error, StoreError::Closed) || attempt.operations().is_over() {
            return Err(Ending::Lost);
        }
        backoff.pause(&worker.random).await;
    }
}
