//! Handles: numbers that look like pointers to the caller and are looked up, never followed. They are not used twice, so a handle
//! that was destroyed, is of another type or never was one is told apart from every living one.

use super::device::Device;
use super::ring::Ring;
use super::status::{Failure, Outcome, Status};
use crate::loss::ValidWeighting;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

/// What a handle stands for.
#[derive(Clone)]
pub enum Object {
    Engine(Arc<dyn Device>),
    Memory(Arc<Mutex<dyn Ring>>),
    Weighting(Arc<ValidWeighting>),
}

impl Object {
    fn kind(&self) -> &'static str {
        match self {
            Self::Engine(_) => "an engine",
            Self::Memory(_) => "a memory",
            Self::Weighting(_) => "a weighting",
        }
    }
}

/// Something a handle can stand for.
pub trait Kind: Sized {
    /// What messages call it.
    const NAME: &'static str;
    fn from_object(object: Object) -> Option<Self>;
}

macro_rules! kinds {
    ($($variant:ident($type:ty) = $name:literal,)*) => { $(
        impl Kind for $type {
            const NAME: &'static str = $name;
            fn from_object(object: Object) -> Option<Self> {
                if let Object::$variant(it) = object { Some(it) } else { None }
            }
        }
    )* };
}
kinds! {
    Engine(Arc<dyn Device>) = "engine",
    Memory(Arc<Mutex<dyn Ring>>) = "memory",
    Weighting(Arc<ValidWeighting>) = "weighting",
}

#[derive(Default)]
struct Table {
    given: usize,
    living: HashMap<usize, Object>,
}

static TABLE: LazyLock<Mutex<Table>> = LazyLock::new(Mutex::default);

fn table() -> MutexGuard<'static, Table> {
    // No call of another's code happens under this lock, so there is no half-done state to fear.
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A new handle.
pub fn insert(object: Object) -> usize {
    let mut table = table();
    table.given += 1;
    let handle = table.given;
    table.living.insert(handle, object);
    handle
}

/// What a handle stands for. It lives on while the result does, even if the handle is destroyed meanwhile.
pub fn find<K: Kind>(handle: usize) -> Outcome<K> {
    let table = table();
    let object = table.living.get(&handle).cloned();
    let found = match &object {
        Some(object) => format!("a handle of {}", object.kind()),
        None if handle == 0 => "NULL".to_owned(),
        None if handle <= table.given => "one that was destroyed".to_owned(),
        None => "a value that this library never gave out".to_owned(),
    };
    drop(table);
    let words = || Failure::new(Status::Handle, format!("{} handle: expected a living one, found {found}", K::NAME));
    object.and_then(K::from_object).ok_or_else(words)
}

/// Ends a handle. Calls on other threads that already use what it stands for finish first. NULL is left alone, as `free` does.
pub fn remove<K: Kind>(handle: usize) -> Outcome {
    if handle != 0 {
        find::<K>(handle)?;
        // Dropped after the lock is given back: freeing a memory or joining threads takes a while.
        let removed = table().living.remove(&handle);
        drop(removed);
    }
    Ok(())
}
