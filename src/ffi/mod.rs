//! The C interface: `include/xbm_fast.h` is its text for C, and a test keeps the two equal.
//!
//! Every function returns a [`Status`] (or what can not fail); [`xbm_last_error`] has the words for this thread's last failure. No panic
//! and no bad handle, pointer to NULL, length or number gets past it; what it cannot see is a pointer to memory that is not there.
//! Handles are looked up, never followed (`handles.rs`). Functions may be called from any thread; calls on one memory wait for each
//! other. The caller's memory is read and written during a call only: a batch is copied to where its memory lives (`rows * dim` values
//! beside the `count * dim` that a loss reads), so it may be unaligned, and inputs may be outputs.
#![allow(clippy::missing_safety_doc, reason = "the header states what each pointer must be, once for all callers")]

mod access;
mod caller;
mod device;
mod handles;
mod retrieval;
mod ring;
mod rows;
mod status;
mod types;

pub use retrieval::*;
pub use status::Status;
pub use types::*;

use crate::files::{input, write_atomically};
use crate::loss::ValidWeighting;
use caller::{copy_out, numbers, read, text, write};
use device::Device;
use handles::{Object, find, insert, remove};
use ring::{Loss, Occupancy, Ring};
use status::{Failure, Outcome, call};
use std::ffi::{c_char, c_void};
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

/// The ABI version of this library, to be compared with the header's.
#[unsafe(no_mangle)]
pub extern "C" fn xbm_abi_version() -> u32 {
    XBM_ABI_VERSION
}

/// The version of this library, such as `0.1.0`.
#[unsafe(no_mangle)]
pub extern "C" fn xbm_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// Words for this thread's last failure.
#[unsafe(no_mangle)]
pub extern "C" fn xbm_last_error() -> *const c_char {
    status::last_error()
}

/// Opens a device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xbm_engine_create(
    device: *const c_char,
    stream: *const c_void,
    threads: usize,
    engine: *mut *mut XbmEngine,
) -> Status {
    call("xbm_engine_create", || {
        // SAFETY: the header asks for a text, and for room for a handle.
        unsafe { give("engine", engine, || Ok(Object::Engine(device::open(text("device", device)?, stream, threads)?))) }
    })
}

/// Sets the caller's stream.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xbm_engine_set_stream(engine: *const XbmEngine, stream: *const c_void) -> Status {
    call("xbm_engine_set_stream", || {
        // SAFETY: the header asks for a stream, or NULL.
        Ok(unsafe { find::<Arc<dyn Device>>(engine as usize)?.set_stream(stream) }?)
    })
}

/// Closes a device; its memories live on.
#[unsafe(no_mangle)]
pub extern "C" fn xbm_engine_destroy(engine: *mut XbmEngine) -> Status {
    call("xbm_engine_destroy", || remove::<Arc<dyn Device>>(engine as usize))
}

/// Reads pair weights: the name of a loss, or TOML.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xbm_weighting_create(name_or_toml: *const c_char, weighting: *mut *mut XbmWeighting) -> Status {
    call("xbm_weighting_create", || {
        let make = || {
            // SAFETY: the header asks for a text.
            let words = unsafe { text("name_or_toml", name_or_toml) }?;
            Ok(Object::Weighting(Arc::new(pair_weighting(words)?)))
        };
        // SAFETY: the header asks for room for a handle.
        unsafe { give("weighting", weighting, make) }
    })
}

/// Ends a weighting.
#[unsafe(no_mangle)]
pub extern "C" fn xbm_weighting_destroy(weighting: *mut XbmWeighting) -> Status {
    call("xbm_weighting_destroy", || remove::<Arc<ValidWeighting>>(weighting as usize))
}

/// An empty memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xbm_memory_create(
    engine: *const XbmEngine,
    capacity: usize,
    dim: usize,
    dtype: i32,
    memory: *mut *mut XbmMemory,
) -> Status {
    call("xbm_memory_create", || {
        let make = || {
            let engine = find::<Arc<dyn Device>>(engine as usize)?;
            Ok(Object::Memory(engine.memory(capacity, dim, types::dtype(dtype)?)?))
        };
        // SAFETY: the header asks for room for a handle.
        unsafe { give("memory", memory, make) }
    })
}

/// Ends a memory.
#[unsafe(no_mangle)]
pub extern "C" fn xbm_memory_destroy(memory: *mut XbmMemory) -> Status {
    call("xbm_memory_destroy", || remove::<Arc<Mutex<dyn Ring>>>(memory as usize))
}

/// Where a memory stands.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xbm_memory_get_info(memory: *const XbmMemory, info: *mut XbmMemoryInfo) -> Status {
    with_memory("xbm_memory_get_info", memory, |ring| {
        let Occupancy { capacity, dim, count, head } = ring.occupancy();
        // SAFETY: the header asks for room for the structure.
        unsafe { write("info", info, XbmMemoryInfo { capacity, dim, count, head }) }
    })
}

/// Forgets every row.
#[unsafe(no_mangle)]
pub extern "C" fn xbm_memory_clear(memory: *mut XbmMemory) -> Status {
    with_memory("xbm_memory_clear", memory, |ring| {
        ring.clear();
        Ok(())
    })
}

/// Writes a batch into the ring.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xbm_memory_enqueue(memory: *mut XbmMemory, batch: *const XbmBatch) -> Status {
    on_the_device("xbm_memory_enqueue", memory, |ring| {
        // SAFETY: the header asks for a batch.
        let rows = unsafe { read("batch", batch)?.rows(&types::BATCH) }?;
        Ok(ring.enqueue(&rows)?)
    })
}

/// Loss and gradient of anchors against the memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xbm_pair_loss(
    memory: *mut XbmMemory,
    weighting: *const XbmWeighting,
    anchors: *const XbmBatch,
    settings: *const XbmLossSettings,
    outputs: *const XbmLossOutputs,
) -> Status {
    on_the_device("xbm_pair_loss", memory, |ring| {
        let weighting = find::<Arc<ValidWeighting>>(weighting as usize)?;
        // SAFETY: the header asks for the three structures.
        let (anchors, settings, outputs) =
            unsafe { (read("anchors", anchors)?, read("settings", settings)?, read("outputs", outputs)?) };
        let self_pairs = settings.self_pairs(&anchors)?;
        let loss = Loss { weighting: &weighting, scale: settings.finite_scale()?, self_pairs };
        {
            // SAFETY: the header asks for a batch. No reference to it is left when the outputs, which may be in the same place, are written.
            let rows = unsafe { anchors.rows(&types::ANCHORS) }?;
            // SAFETY: the header asks for a gradient of this size.
            let added_to = unsafe { settings.added_to(&anchors, outputs.gradient) }?;
            ring.pair_loss(&loss, &rows, added_to)?;
        }
        // SAFETY: the header asks for outputs of these sizes, or NULL.
        unsafe { outputs.take(ring, &anchors, settings.scale) }
    })
}

/// Writes a memory to a file, atomically.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xbm_memory_save(memory: *const XbmMemory, path: *const c_char) -> Status {
    with_memory("xbm_memory_save", memory, |ring| {
        // SAFETY: the header asks for a text.
        let path = unsafe { text("path", path) }?;
        let bytes = ring.to_bytes()?;
        Ok(write_atomically(path, |file| file.write_all(&bytes))?)
    })
}

/// Fills a memory from a file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xbm_memory_load(memory: *mut XbmMemory, path: *const c_char) -> Status {
    with_memory("xbm_memory_load", memory, |ring| {
        // SAFETY: the header asks for a text.
        let path = Path::new(unsafe { text("path", path) }?);
        let bytes = input::read(path)?;
        Ok(ring.restore(&bytes, path)?)
    })
}

/// The content of such a file, and its length.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xbm_memory_to_bytes(memory: *const XbmMemory, bytes: *mut u8, room: usize, len: *mut usize) -> Status {
    with_memory("xbm_memory_to_bytes", memory, |ring| {
        let content = ring.to_bytes()?;
        // SAFETY: the header asks for room for a number.
        unsafe { write("len", len, content.len()) }?;
        if bytes.is_null() {
            return Ok(());
        }
        if room < content.len() {
            return Err(Failure::new(Status::Shape, format!("room: expected at least {} bytes, found {room}", content.len())));
        }
        // SAFETY: the header asks for `room` bytes.
        unsafe { copy_out("bytes", &content, bytes) }
    })
}

/// Fills a memory from the content of such a file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xbm_memory_from_bytes(memory: *mut XbmMemory, bytes: *const u8, len: usize) -> Status {
    with_memory("xbm_memory_from_bytes", memory, |ring| {
        // SAFETY: the header asks for `len` bytes.
        let content = unsafe { numbers("bytes", bytes, len) }?;
        Ok(ring.restore(&content, Path::new("bytes"))?)
    })
}

/// Makes an object, if there is a place for its handle.
///
/// # Safety
/// `place` is NULL or has room for a handle.
unsafe fn give<H>(what: &str, place: *mut *mut H, make: impl FnOnce() -> Outcome<Object>) -> Outcome {
    // SAFETY: the caller's promise.
    unsafe { write(what, place, std::ptr::null_mut()) }?;
    let handle = insert(make()?);
    // SAFETY: the caller's promise.
    unsafe { write(what, place, std::ptr::without_provenance_mut(handle)) }
}

/// Runs a call on a memory in order with what the caller does on its stream.
fn on_the_device(name: &str, memory: *const XbmMemory, body: impl FnOnce(&mut dyn Ring) -> Outcome) -> Status {
    with_memory(name, memory, |ring| {
        ring.wait_for_caller()?;
        let outcome = body(ring);
        // Whatever became of it, the caller's stream must not overtake it.
        let led = ring.make_caller_wait();
        outcome.and_then(|()| Ok(led?))
    })
}

/// Runs a call on a memory while no other uses it.
fn with_memory(name: &str, memory: *const XbmMemory, body: impl FnOnce(&mut dyn Ring) -> Outcome) -> Status {
    call(name, || {
        let memory = find::<Arc<Mutex<dyn Ring>>>(memory as usize)?;
        let broken = |_| Failure::new(Status::Internal, "memory: an earlier call on it broke off half done; destroy it");
        let mut ring: MutexGuard<'_, dyn Ring> = memory.lock().map_err(broken)?;
        body(&mut *ring)
    })
}
