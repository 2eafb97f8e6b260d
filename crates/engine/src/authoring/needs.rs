//! What a task needs before it can be called: graphs get their edges from it, the runtime reads only
//! what is used, and missing state is found at start-up.

use abide_core::graph::Uses;

use super::type_info::TypeInfo;

/// What a task's parameters need, derived from their types.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    pub(crate) uses: Uses,
    pub(crate) state: Vec<TypeInfo>,
    pub(crate) reads: Vec<Read>,
    pub(crate) input: Option<TypeInfo>,
}

/// A dependency whose output a parameter reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) task: String,
    pub(crate) arity: Arity,
}

/// How many nodes of a task a parameter reads from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arity {
    One,
    AtMostOne,
    Any,
}

impl Arity {
    pub(crate) fn allows(self, nodes: usize) -> bool {
        match self {
            Arity::One => nodes == 1,
            Arity::AtMostOne => nodes <= 1,
            Arity::Any => true,
        }
    }
}

impl Needs {
    /// Needs nothing yet. Unlike `default`, this can be called without a trait in scope.
    pub fn none() -> Needs {
        Needs::default()
    }

    /// Adds the context.
    pub fn context(&mut self) {
        self.uses.context = true;
    }

    /// Adds the handle.
    pub fn handle(&mut self) {
        self.uses.handle = true;
    }

    /// Adds the outputs of a task's nodes, which makes the task a dependency.
    pub(super) fn read(&mut self, task: &str, arity: Arity) {
        self.uses.outputs = true;
        self.reads.push(Read {
            task: task.to_owned(),
            arity,
        });
    }
}
