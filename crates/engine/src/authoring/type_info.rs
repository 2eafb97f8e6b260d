//! A type as a value, by which the types of functions, inputs and shared state are compared.

use std::any::{TypeId, type_name};

/// A type, and its name for messages. Two are equal if their types are.
#[derive(Clone, Copy, Debug)]
pub struct TypeInfo {
    /// Which type.
    pub id: TypeId,
    /// Its full name.
    pub name: &'static str,
}

impl TypeInfo {
    /// The type `T` and its name.
    pub fn of<T: 'static>() -> TypeInfo {
        TypeInfo {
            id: TypeId::of::<T>(),
            name: type_name::<T>(),
        }
    }
}

impl PartialEq for TypeInfo {
    fn eq(&self, other: &TypeInfo) -> bool {
        self.id == other.id
    }
}

impl Eq for TypeInfo {}
