//! Which execution an argument means.

use abide_core::ids::ExecutionId;
use abide_core::text::nearest;
use abide_store::{ExecutionFilter, ExecutionView, Store};

use crate::output::text::escape;
use crate::problem::Problem;

/// How an execution is named on the command line, for help texts.
pub(crate) const HELP: &str =
    "The execution: its id, its instance (the latest generation), or INSTANCE/GENERATION";

/// Instances that are looked through for one that was meant.
const CANDIDATES: u32 = 1000;

/// The execution that `text` names: an id, an instance, or a generation of one.
///
/// An instance may be called like an id, or end in `/2`; what exists under the whole name comes
/// first.
pub(crate) async fn resolve(store: &Store, text: &str) -> Result<ExecutionView, Problem> {
    if let Ok(id) = text.parse::<ExecutionId>()
        && let Some(view) = store.execution(id).await?
    {
        return Ok(view);
    }
    if let Some(view) = store.latest(text).await? {
        return Ok(view);
    }
    if let Some((instance, generation)) = text.rsplit_once('/')
        && let Ok(generation) = generation.parse()
        && let Some(view) = store.generation(instance, generation).await?
    {
        return Ok(view);
    }
    Err(unknown(store, text).await?)
}

async fn unknown(store: &Store, text: &str) -> Result<Problem, Problem> {
    let views = store
        .executions(&ExecutionFilter::default(), None, CANDIDATES)
        .await?;
    let instances = views.iter().map(|view| &*view.execution.instance);
    let hint = match nearest(text, instances) {
        Some(near) => format!("did you mean `{}`?", escape(near)),
        None => "`abide list` shows what there is".to_owned(),
    };
    Ok(Problem::NotFound(format!(
        "no execution or instance `{}` in {}: {hint}",
        escape(text),
        store.name()
    )))
}
