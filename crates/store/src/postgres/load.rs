//! Fills a working set: everything that a round of requests needs, as one statement for each kind of
//! need, planned first so that a committer can send it together with other statements.
//!
//! A need for an execution, or for the latest execution of an instance, locks the row, and the lock
//! stands for everything in the execution. Locks are taken by the first statement of a plan, in the
//! order of ids; whoever plans asks for them before, or together with, what depends on them.

use std::sync::{Arc, LazyLock};

use abide_core::execution::Execution;
use abide_core::ids::{ExecutionId, Timestamp};
use abide_core::kernel::{Latest, Need, Subject, Working};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::error::StoreError;
use crate::graphs::GraphCache;
use crate::rows::{Columns, EXECUTION, FromColumns};
use crate::words;

use super::low_water::LowWater;
use super::needs;
use super::rows::{Cells, Content, Read, by_place};
use super::statement::{Param, Row, Statement};

/// Needs whose rows cannot be read: the trouble of the requests that have them, and of no others.
pub(crate) type Failed = Vec<(Need, StoreError)>;

/// Where answers are filled in.
pub(super) struct Filling<'w> {
    pub(super) working: &'w mut Working,
    pub(super) graphs: &'w GraphCache,
    failed: Failed,
    /// Another transaction began a next generation of an instance while this one waited for the last.
    outrun: bool,
}

type Fill<'n> = Box<dyn FnOnce(&mut Filling<'_>, Vec<Vec<Row>>) + Send + 'n>;

/// Statements that read needs, and what becomes of their answers.
#[derive(Default)]
pub(crate) struct Plan<'n> {
    statements: Vec<Statement<'n>>,
    /// How many statements each reads the answers of.
    fills: Vec<(usize, Fill<'n>)>,
}

/// Needs of one kind, with what identifies each.
pub(super) type Wanted<'n, K> = Vec<(&'n Need, K)>;

impl<'n> Plan<'n> {
    /// Plans to read the needs that the working set lacks. A worker is alive if its lease lasts at
    /// `alive_at`, by the database's clock.
    pub(crate) fn new(
        working: &Working,
        graphs: &GraphCache,
        low_water: &LowWater,
        alive_at: Timestamp,
        needs: impl IntoIterator<Item = &'n Need>,
    ) -> Plan<'n> {
        let mut seen = FxHashSet::default();
        let lacking: Vec<&Need> = needs
            .into_iter()
            .filter(|need| working.lacks(need) && seen.insert(*need))
            .collect();
        let mut plan = Plan::default();
        plan.lock(&lacking);
        needs::plan(&mut plan, working, graphs, low_water, alive_at, &lacking);
        plan
    }

    /// Takes the statements out: they are to be run in this order, in one transaction.
    pub(crate) fn statements(&mut self) -> Vec<Statement<'n>> {
        std::mem::take(&mut self.statements)
    }

    /// Fills in what the statements answered, which is as much as there were of them.
    ///
    /// # Errors
    ///
    /// [`StoreError::Raced`]: the transaction is to be rolled back and run again.
    pub(crate) fn fill(
        self,
        answers: Vec<Vec<Row>>,
        working: &mut Working,
        graphs: &GraphCache,
    ) -> Result<Failed, StoreError> {
        let mut filling = Filling {
            working,
            graphs,
            failed: Failed::new(),
            outrun: false,
        };
        let mut answers = answers.into_iter();
        for (statements, fill) in self.fills {
            fill(&mut filling, answers.by_ref().take(statements).collect());
        }
        if filling.outrun {
            let what = "a next generation of an instance".to_owned();
            return Err(StoreError::Raced { what });
        }
        Ok(filling.failed)
    }

    pub(super) fn add(
        &mut self,
        statements: Vec<Statement<'n>>,
        fill: impl FnOnce(&mut Filling<'_>, Vec<Vec<Row>>) + Send + 'n,
    ) {
        self.fills.push((statements.len(), Box::new(fill)));
        self.statements.extend(statements);
    }

    /// Plans a statement over all needs of one kind. Each of its rows begins with the place of the
    /// need it is for, from 1. `load` gets a need's rows, in the statement's order.
    pub(super) fn read<K: Send + 'n, T: 'n>(
        &mut self,
        wanted: Wanted<'n, K>,
        statement: Statement<'n>,
        read: fn(&mut Cells) -> Read<T>,
        load: fn(&mut Filling<'_>, K, Vec<T>) -> Read<()>,
    ) {
        if wanted.is_empty() {
            return;
        }
        self.add(vec![statement], move |filling, mut answers| {
            let rows = answers.pop().unwrap_or_default();
            let of_needs = by_place(wanted.len(), rows, read);
            for ((need, key), rows) in wanted.into_iter().zip(of_needs) {
                let loaded = rows.and_then(|rows| load(filling, key, rows));
                if let Err(error) = loaded {
                    filling.fail(need, error);
                }
            }
        });
    }

    fn lock(&mut self, needs: &[&'n Need]) {
        let (mut ids, mut instances) = (Wanted::new(), Wanted::new());
        for need in needs {
            match need {
                Need::Execution(id) => ids.push((*need, *id)),
                Need::Instance(instance) => instances.push((*need, instance)),
                _ => {}
            }
        }
        if ids.is_empty() && instances.is_empty() {
            return;
        }
        let by_id = Param::Ints(ids.iter().map(|(_, id)| Some(id.0)).collect());
        let by_instance = instances
            .iter()
            .map(|(_, instance)| Some((&***instance).into()));
        let by_instance = Param::Texts(by_instance.collect());
        let latest = Statement::new(&LATEST, vec![by_instance.clone()]);
        let lock = Statement::new(&LOCK, vec![by_id, by_instance]);
        self.add(vec![lock, latest], move |filling, answers| {
            fill_locked(filling, &ids, &instances, answers);
        });
    }
}

impl Filling<'_> {
    pub(super) fn fail(&mut self, need: &Need, error: Content) {
        let error = error.of(words::need(need));
        self.failed.push((need.clone(), error));
    }
}

/// Locks executions by id, and the latest of each instance. Relies on executions_instance. That a
/// transaction that waits for a row sees it as the other left it is what READ COMMITTED gives.
static LOCK: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {EXECUTION} FROM ~executions WHERE {} ORDER BY id FOR NO KEY UPDATE",
        *WANTED
    )
});

/// Those with an id of the first parameter, and the latest of each instance of the second.
static WANTED: LazyLock<String> = LazyLock::new(|| {
    format!(
        "id = ANY (ARRAY(SELECT unnest($1::bigint[]) UNION \
         SELECT l.id FROM unnest($2::text[]) AS u (instance) CROSS JOIN LATERAL ({LATEST_OF}) l))"
    )
});

/// Looks again once the locks are held: a generation that was begun meanwhile is not locked.
static LATEST: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT u.at, l.id, l.generation, l.input_hash FROM unnest($1::text[]) WITH ORDINALITY AS u (instance, at) \
         CROSS JOIN LATERAL ({LATEST_OF}) l"
    )
});

const LATEST_OF: &str = "SELECT e.id, e.generation, e.input_hash FROM ~executions e \
     WHERE e.instance = u.instance AND e.generation IS NOT NULL ORDER BY e.generation DESC LIMIT 1";

fn fill_locked(
    filling: &mut Filling<'_>,
    ids: &Wanted<'_, ExecutionId>,
    instances: &Wanted<'_, &Arc<str>>,
    answers: Vec<Vec<Row>>,
) {
    let mut answers = answers.into_iter();
    let mut locked: FxHashMap<ExecutionId, Read<Execution>> = FxHashMap::default();
    for row in answers.next().unwrap_or_default() {
        let id = Cells::new(row[..1].to_vec()).int().map(ExecutionId);
        let id = id.expect("an id is a number");
        locked.insert(id, Execution::from_columns(&mut Cells::new(row)));
    }
    let latest = by_place(
        instances.len(),
        answers.next().unwrap_or_default(),
        Latest::from_columns,
    );
    for ((need, instance), latest) in instances.iter().zip(latest) {
        let latest = match latest {
            Ok(mut latest) => latest.pop(),
            Err(error) => {
                filling.fail(need, error);
                continue;
            }
        };
        match latest.as_ref().map(|latest| locked.get(&latest.id)) {
            None | Some(Some(Ok(_))) => {}
            Some(Some(Err(error))) => {
                let error = error.clone();
                filling.fail(need, error);
                continue;
            }
            // Locked by an earlier round, unless it is new.
            Some(None) => {
                let id = latest.as_ref().map(|latest| latest.id);
                filling.outrun |= !id.is_some_and(|id| filling.working.has(&Need::Execution(id)));
            }
        }
        filling.working.load_instance((*instance).clone(), latest);
    }
    for (need, id) in ids {
        match locked.get(id) {
            Some(Err(error)) => filling.fail(need, error.clone()),
            Some(Ok(_)) => {}
            None => filling.working.load_execution(*id, None),
        }
    }
    for (id, execution) in locked {
        if let Ok(execution) = execution {
            filling.working.load_execution(id, Some(execution));
        }
    }
}

/// The executions that these are about, with the name of the instance if it is asked for by that.
pub(crate) fn located<'n>(subjects: impl IntoIterator<Item = &'n Subject>) -> Statement<'n> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "SELECT id, NULL::text FROM ~executions WHERE id = ANY ($1::bigint[]) UNION ALL \
             SELECT l.id, u.instance FROM unnest($2::text[]) AS u (instance) CROSS JOIN LATERAL ({LATEST_OF}) l"
        )
    });
    Statement::new(&SQL, by_id_and_instance(subjects))
}

/// Locks those of these executions that nobody else has locked, and answers their ids, as rows. It
/// never waits, so its order does not matter.
pub(crate) fn lock_free<'n>(subjects: impl IntoIterator<Item = &'n Subject>) -> Statement<'n> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "SELECT id FROM ~executions WHERE {} FOR NO KEY UPDATE SKIP LOCKED",
            *WANTED
        )
    });
    Statement::new(&SQL, by_id_and_instance(subjects))
}

/// The ids and the instances of these subjects, each as a parameter.
fn by_id_and_instance<'n>(subjects: impl IntoIterator<Item = &'n Subject>) -> Vec<Param<'n>> {
    let (mut ids, mut instances) = (Vec::new(), Vec::new());
    for subject in subjects {
        match subject {
            Subject::Execution(id) => ids.push(Some(id.0)),
            Subject::Instance(instance) => instances.push(Some((&**instance).into())),
        }
    }
    vec![Param::Ints(ids), Param::Texts(instances)]
}
