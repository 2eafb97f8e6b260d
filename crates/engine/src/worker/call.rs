//! From a claimed task to the future of its function. Only what the function takes is read from the
//! store.

use std::sync::Arc;

use abide_core::context::{Changes, SOURCE_COST, checkpoint_due};
use abide_core::failure::{Failure, kinds};
use abide_core::graph::Uses;
use abide_core::kernel::{Claimed, Outcome};
use abide_core::payload::Payload;
use abide_store::{ContextView, StoreError, TaskInputs};
use serde_json::{Map, Value};

use super::Worker;
use super::exit::Exit;
use super::function::Function;
use super::persist::{Backoff, is_about_the_request};
use crate::attempt::Attempt;
use crate::authoring::{DependencyOutput, Invocation};
use crate::handle::TaskHandle;
use crate::handle::place::Place;
use crate::panics::caught;

/// A function that is about to run, and what is needed at its end.
pub(super) struct Called {
    pub(super) function: Function,
    pub(super) inherited: Option<Inherited>,
    /// How long the attempt has been active under earlier claims.
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

    /// The checkpoint to record with the task's changes, if one is due.
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
) -> Result<Called, Exit> {
    let Some(task) = worker.catalog.task(claimed.workflow, &attempt.task().id) else {
        let difference = format!("no task `{}` is registered", attempt.task().id);
        return Err(Exit::Outcome(Outcome::Nondeterministic { difference }));
    };
    let uses = task.spec().uses;
    let inputs = inputs(worker, claimed, attempt, uses).await?;
    if uses.handle && claimed.task.epoch > 1 {
        let read = || worker.store.steps(attempt.key());
        let records = read_patiently(worker, attempt, read).await?;
        attempt.operations().load(records);
    }
    let inherited = inputs.context.as_ref().map(Inherited::new);
    let invocation = Invocation {
        input: inputs.input.map(Payload::into_json),
        context: inputs.context.map(|context| context.map),
        outputs: outputs(attempt, inputs.outputs),
        state: Arc::clone(&worker.state),
        handle: TaskHandle::new(Arc::clone(attempt)),
    };
    let place = Place::function(attempt);
    let function = match caught(|| place.run(|| task.call(invocation))) {
        Ok(future) => Function::new(future, place),
        Err(panic) => return Err(Exit::failed(panic, worker)),
    };
    Ok(Called {
        function,
        inherited,
        active_us: claimed.task.attempt_active_us,
    })
}

async fn inputs(
    worker: &Worker,
    claimed: &mut Claimed,
    attempt: &Attempt,
    uses: Uses,
) -> Result<TaskInputs, Exit> {
    // A start that claims its own task passes the input on.
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

/// Reads until the store answers. A value that can't be decoded fails this task only.
async fn read_patiently<T, R>(
    worker: &Worker,
    attempt: &Attempt,
    read: impl Fn() -> R,
) -> Result<T, Exit>
where
    R: Future<Output = Result<T, StoreError>>,
{
    let mut backoff = Backoff::default();
    loop {
        let error = match read().await {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        tracing::warn!(%error, "the inputs of a task could not be read");
        if is_about_the_request(&error) {
            let failure = Failure::engine(kinds::UNDECODABLE, error.to_string());
            return Err(Exit::failed(failure, worker));
        }
        if matches!(error, StoreError::Closed) || attempt.operations().is_over() {
            return Err(Exit::Lost);
        }
        backoff.pause(&worker.random).await;
    }
}
