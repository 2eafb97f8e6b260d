//! Requests about executions that somebody else keeps locked, such as a user's open transaction: they wait apart,
//! each on a connection of its own, and the others go on.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use abide_core::ids::ExecutionId;
use abide_core::kernel::Subject;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::error::StoreError;
use crate::flush::Fill;

use super::super::Shared;
use super::super::connect::Session;
use super::super::load;
use super::super::queue::{Batch, Queued, UnderWay};
use super::super::statement::{Execute, Row, Statement, Value};
use super::{Committer, Locks};

/// Longer than another flush keeps its locks, as a rule.
const FLUSH_TIME: Duration = Duration::from_millis(30);

impl Committer {
    /// Waits for what somebody keeps locked on behalf of requests about one execution. Boxed, since
    /// it is begun by a committer and is one.
    fn wait_apart(shared: Arc<Shared>, batch: Batch) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            // An error would mean that it was closed, which nobody does.
            let place = shared.apart.acquire().await;
            let mut committer = Committer {
                is_apart: true,
                ..Committer::without_session(shared.clone())
            };
            committer.work_off(batch).await;
            drop(place);
        })
    }

    /// What those jobs are about that wait for an execution which somebody keeps locked, such as a
    /// user's open transaction.
    pub(super) async fn stuck_among(
        &mut self,
        jobs: &[Queued],
    ) -> Result<FxHashSet<Subject>, StoreError> {
        let locked = self.locked_now().await?;
        if let [alone] = jobs {
            // It is what waits, also for an instance that is being started elsewhere, of which nothing
            // is seen yet. Jobs about nothing leave locked executions out of what they pick next, and so do
            // those that would claim besides.
            let claims_besides = Fill::of(jobs.iter().map(Queued::job)).is_some();
            let is_stuck = |subject: &Subject| {
                !claims_besides || locked.is_empty() || locked.contains(subject)
            };
            return Ok(alone.subject().into_iter().filter(is_stuck).collect());
        }
        let subjects = jobs.iter().filter_map(Queued::subject);
        Ok(subjects
            .filter(|subject| locked.contains(subject))
            .collect())
    }

    /// Jobs about these wait apart, each subject's in their order, and the others go on.
    pub(super) fn set_aside(
        &self,
        locked: &FxHashSet<Subject>,
        waiting: &mut [Vec<Queued>],
        under_way: &mut UnderWay,
    ) {
        let mut aside: FxHashMap<Subject, Vec<Queued>> = FxHashMap::default();
        for jobs in waiting.iter_mut().rev() {
            for queued in std::mem::take(jobs) {
                match queued.subject().filter(|subject| locked.contains(subject)) {
                    Some(subject) => aside.entry(subject).or_default().push(queued),
                    None => jobs.push(queued),
                }
            }
        }
        for (subject, jobs) in aside {
            let under_way = under_way.split_off(&subject);
            let batch = Batch { jobs, under_way };
            tokio::spawn(Committer::wait_apart(self.shared.clone(), batch));
        }
    }

    /// What the last flush needed and cannot be locked now either. For a moment claims leave it alone.
    async fn locked_now(&mut self) -> Result<FxHashSet<Subject>, StoreError> {
        let session = self.take_session().await?;
        let Locks(wanted) = std::mem::take(&mut self.contended);
        let mut locked = locked_of(&session, &wanted).await?;
        if !locked.is_empty() {
            // Another flush holds its locks for a moment only.
            tokio::time::sleep(FLUSH_TIME).await;
            locked = locked_of(&session, locked.keys()).await?;
        }
        self.session = Some(session);
        self.shared.locked_executions.add(locked.values());
        Ok(locked.into_keys().collect())
    }
}

/// Those of these that somebody keeps locked, and the executions that they are about.
async fn locked_of(
    session: &Session,
    wanted: impl IntoIterator<Item = &Subject> + Clone,
) -> Result<FxHashMap<Subject, ExecutionId>, StoreError> {
    let ask = vec![
        Statement::new("BEGIN", Vec::new()),
        load::located(wanted.clone()),
        load::lock_free(wanted),
        Statement::new("ROLLBACK", Vec::new()),
    ];
    let mut answers = session.run(ask).await?.into_iter().skip(1);
    let located = answers.next().unwrap_or_default();
    let id = |row: &Row| match row.first() {
        Some(Value::Int(id)) => Some(ExecutionId(*id)),
        _ => None,
    };
    let free: FxHashSet<ExecutionId> = answers.next().iter().flatten().filter_map(id).collect();
    let locked = located.iter().filter_map(|row| {
        let id = id(row).filter(|id| !free.contains(id))?;
        let subject = match row.last() {
            Some(Value::Text(instance)) => Subject::Instance(instance.as_str().into()),
            _ => Subject::Execution(id),
        };
        Some((subject, id))
    });
    Ok(locked.collect())
}
