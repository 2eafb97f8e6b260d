//! Names of executions: which execution a text means, and how an execution is written so that the
//! written name means the same execution.

use abide_core::ids::ExecutionId;
use abide_core::text::nearest;
use abide_store::{ExecutionFilter, ExecutionView, Store, StoreError};
use thiserror::Error;

/// How many instances are compared when suggesting the one that was meant.
const CANDIDATES: u32 = 1000;

/// Why a name means no execution.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum NameError {
    /// The name means nothing.
    #[error("no execution or instance `{name}` in {store}")]
    Unknown {
        /// The name.
        name: String,
        /// The store's name.
        store: String,
        /// What was probably meant.
        hint: NameHint,
    },
    /// The name is an instance, and also names a generation of another instance. A guess could act
    /// on the wrong execution.
    #[error(
        "`{name}` has two meanings: generation {generation} of instance `{instance}` is {of_generation}, and the latest generation of instance `{name}` is {latest}: say one of these ids"
    )]
    Ambiguous {
        /// The name.
        name: String,
        /// One meaning: this instance,
        instance: String,
        /// its generation,
        generation: u32,
        /// and the execution of that generation.
        of_generation: ExecutionId,
        /// The other meaning: the latest execution of an instance of that name.
        latest: ExecutionId,
    },
}

/// What was probably meant by a name that means nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameHint {
    /// The instance exists, and has generations from 1 to this one.
    Generations {
        /// The instance.
        instance: String,
        /// The latest generation.
        latest: u32,
    },
    /// The text names a task of this execution.
    TaskOf(ExecutionId),
    /// An instance with a similar id.
    Similar(String),
    /// No similar name was found.
    Nothing,
}

/// The full name of a generation of an instance. Its meaning does not change when later generations
/// start.
pub(super) fn full(instance: &str, generation: u32) -> String {
    format!("{instance}/{generation}")
}

/// The bare instance if it cannot mean anything else: the instance has one generation, and its id
/// looks neither like an execution's id nor like `INSTANCE/GENERATION`. Otherwise the full name.
pub(super) fn short(instance: &str, generation: u32, latest: u32) -> String {
    let is_plain = instance.parse::<ExecutionId>().is_err() && split(instance).is_none();
    match (generation, latest) {
        (1, 1) if is_plain => instance.to_owned(),
        _ => full(instance, generation),
    }
}

/// The two parts of `INSTANCE/GENERATION`.
fn split(text: &str) -> Option<(&str, u32)> {
    let (instance, generation) = text.rsplit_once('/')?;
    Some((instance, generation.parse().ok()?))
}

/// The execution that `text` names: an id, a generation of an instance, or an instance, which means
/// its latest generation.
pub(super) async fn resolve(
    store: &Store,
    text: &str,
) -> Result<Result<ExecutionView, NameError>, StoreError> {
    if let Ok(id) = text.parse::<ExecutionId>()
        && let Some(view) = store.execution(id).await?
    {
        return Ok(Ok(view));
    }
    let whole = store.latest(text).await?;
    let generation = match split(text) {
        Some((instance, generation)) => store.generation(instance, generation).await?,
        None => None,
    };
    Ok(match (whole, generation) {
        (Some(whole), Some(generation)) => Err(ambiguous(text, &whole, &generation)),
        (Some(view), None) | (None, Some(view)) => Ok(view),
        (None, None) => Err(NameError::Unknown {
            name: text.to_owned(),
            store: store.name(),
            hint: hint(store, text).await?,
        }),
    })
}

fn ambiguous(text: &str, whole: &ExecutionView, generation: &ExecutionView) -> NameError {
    let (instance, number) = split(text).unwrap_or((text, 0));
    NameError::Ambiguous {
        name: text.to_owned(),
        instance: instance.to_owned(),
        generation: number,
        of_generation: generation.execution.id,
        latest: whole.execution.id,
    }
}

async fn hint(store: &Store, text: &str) -> Result<NameHint, StoreError> {
    if let Some(related) = related(store, text).await? {
        return Ok(related);
    }
    let any = ExecutionFilter::default();
    let views = store.executions(&any, None, CANDIDATES).await?;
    let instances = views.iter().map(|view| &*view.execution.instance);
    Ok(match nearest(text, instances) {
        Some(near) => NameHint::Similar(near.to_owned()),
        None => NameHint::Nothing,
    })
}

/// The generations of the instance if only the generation is wrong, or the execution if a task of
/// it was named.
async fn related(store: &Store, text: &str) -> Result<Option<NameHint>, StoreError> {
    let Some((instance, _)) = text.rsplit_once('/') else {
        return Ok(None);
    };
    if let Ok(id) = instance.parse::<ExecutionId>()
        && store.execution(id).await?.is_some()
    {
        return Ok(Some(NameHint::TaskOf(id)));
    }
    let latest = store.latest(instance).await?;
    Ok(latest.map(|view| NameHint::Generations {
        instance: instance.to_owned(),
        latest: view.latest_generation,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_instance_is_printed_only_where_it_means_one_execution() {
        let check = |instance, generation, latest, expected: &str| {
            assert_eq!(short(instance, generation, latest), expected);
        };
        check("report", 1, 1, "report");
        check("report", 1, 8, "report/1");
        check("report", 8, 8, "report/8");
        check("/tmp/notes", 1, 1, "/tmp/notes");
        check("order/7", 1, 1, "order/7/1");
        check("03t3n0dr00m00", 1, 1, "03t3n0dr00m00/1");
    }
}
