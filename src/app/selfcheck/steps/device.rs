//! Steps about what moves and is kept: copies between formats, and the rows of a memory.

use super::inputs::{DIM, labels, unit_rows, values};
use super::{Values, downloaded, full};
use crate::app::selfcheck::compare::{Closeness, Quantity};
use crate::device::NumberFormat;
use crate::device::{IntegerTensor, Tensor};
use crate::error::Result;
use crate::memory::EmbeddingMemory;
use crate::ops::Backend;

/// Up, from 32 bit to the format of activations, back, and down.
pub fn copies<B: Backend>(backend: &B) -> Result<Values> {
    let numbers = values("copies", 77);
    let up = full(backend, &numbers)?;
    let mut narrow = Tensor::with_format(backend, 80, NumberFormat::Compute)?;
    let mut back = Tensor::zeros(backend, 77)?;
    backend.copy(up.all(), narrow.part_mut(3, 77))?;
    backend.copy(narrow.part(3, 77), back.all_mut())?;
    Ok(vec![
        downloaded("copy in the format of activations", Closeness::Exact, backend, &narrow)?,
        downloaded("copy there and back", Closeness::Exact, backend, &back)?,
    ])
}

/// Batches go into a ring until it wraps around in the middle of one; then rows are taken out by number.
pub fn ring<B: Backend>(backend: &B) -> Result<Values> {
    const CAPACITY: usize = 7;
    const BATCH: usize = 3;
    let mut memory = EmbeddingMemory::new(backend, CAPACITY, DIM)?;
    for batch in 0..4 {
        let rows = full(backend, &unit_rows(&format!("batch {batch}"), BATCH, BATCH))?;
        let ids: Vec<i32> = (0..BATCH as i32).map(|row| row + 10 * batch).collect();
        memory.enqueue(backend, rows.all(), &labels(BATCH, BATCH), &ids)?;
    }
    let state = memory.export(backend)?;
    let mut gathered = Tensor::zeros(backend, 3 * DIM)?;
    backend.gather_stored_rows(DIM, memory.rows(), &[6, -1, 2], gathered.all_mut())?;
    let mut slots = IntegerTensor::zeros(backend, BATCH)?;
    backend.copy_integers(memory.last_slots(), slots.all_mut())?;
    Ok(vec![
        Quantity::new("ring's rows", Closeness::Exact, state.rows),
        Quantity::integers("ring's labels", &state.labels),
        Quantity::integers("ring's instance ids", &state.ids),
        Quantity::integers("slots of the last batch", &slots.to_host(backend)?),
        downloaded("rows taken by number", Closeness::Exact, backend, &gathered)?,
    ])
}
