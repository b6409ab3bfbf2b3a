//! `cp.async.bulk.tensor`: boxes of tensors on their way into the shared memory of one or several blocks.

use super::cluster::single;
use super::data::addresses;
use super::surroundings::Surroundings;
use super::tensor_map::{TensorMap, swizzled};
use super::warp::{Trouble, Warp};
use crate::Order;
use crate::ptx::hopper::CopyTensor;
use crate::ptx::program::Address;
use crate::ptx::registers::lanes_of;

/// A box on its way.
pub struct TensorFlight {
    map: TensorMap,
    coordinates: [i32; 5],
    /// Ranks of the blocks that receive it, as bits.
    blocks: u32,
    /// Addresses in the shared memory of each.
    to: u64,
    barrier: u64,
    line: u32,
}

pub fn prefetch(warp: &Warp<'_>, around: &mut Surroundings<'_>, map: &Address, lanes: u32) -> Result<(), Trouble> {
    let (found, count) = addresses(warp, map, lanes);
    for &(lane, address) in &found[..count] {
        TensorMap::read(&mut around.global, address).map_err(|words| Trouble { lane: Some(lane), words })?;
    }
    Ok(())
}

pub fn issue(warp: &Warp<'_>, around: &mut Surroundings<'_>, copy: &CopyTensor, lanes: u32, line: u32) -> Result<(), Trouble> {
    for lane in lanes_of(lanes) {
        let flight = prepared(warp, around, copy, lane, line)?;
        let trouble = |words| Trouble { lane: Some(lane), words };
        for rank in lanes_of(flight.blocks) {
            let shared = around.shared_of(rank as u32);
            shared.signals(flight.barrier).map_err(trouble)?;
            let bytes = flight.map.box_bytes() as usize;
            let place = shared.range(flight.to, bytes).map_err(trouble)?;
            shared.expect_copy(place, bytes).map_err(trouble)?;
        }
        around.progress += 1;
        if around.copy_lands_at_once() {
            land(around, &flight).map_err(trouble)?;
        } else {
            around.flights.push(flight);
        }
    }
    Ok(())
}

fn prepared(
    warp: &Warp<'_>,
    around: &mut Surroundings<'_>,
    copy: &CopyTensor,
    lane: usize,
    line: u32,
) -> Result<TensorFlight, Trouble> {
    let trouble = |words| Trouble { lane: Some(lane), words };
    let (rank, to) = single(warp, around, &copy.to, lane)?;
    let (barrier_rank, barrier) = single(warp, around, &copy.barrier, lane)?;
    let (map, _) = addresses(warp, &copy.map, 1 << lane);
    let map = TensorMap::read(&mut around.global, map[0].1).map_err(trouble)?;
    if map.rank != copy.coordinates.len() {
        let (rank, named) = (map.rank, copy.coordinates.len());
        return Err(trouble(format!("a copy of {named} dimensions with the map of a tensor of {rank}")));
    }
    if !to.is_multiple_of(128) {
        return Err(trouble(format!("a tensor is copied to shared address {to:#x}, which is not aligned to 128 bytes")));
    }
    let blocks = match copy.blocks {
        None if rank != barrier_rank => return Err(trouble("a copy to one block that signals the mbarrier of another".into())),
        None => 1 << rank,
        Some(_) if rank != around.own.rank || barrier_rank != rank => {
            return Err(trouble("a copy to several blocks names an address of another block".into()));
        }
        Some(register) => warp.registers.words[register as usize][lane] & 0xffff,
    };
    if blocks == 0 || blocks >> around.blocks_in_cluster() != 0 {
        return Err(trouble(format!("a copy to the blocks {blocks:#06b} of a cluster of {}", around.blocks_in_cluster())));
    }
    if let Some(rank) = lanes_of(blocks).find(|&rank| around.has_ended(rank as u32)) {
        return Err(trouble(format!("a copy to block {rank} of the cluster, which has ended")));
    }
    let mut coordinates = [0; 5];
    for (coordinate, &register) in coordinates.iter_mut().zip(&copy.coordinates) {
        *coordinate = warp.registers.words[register as usize][lane].cast_signed();
    }
    Ok(TensorFlight { map, coordinates, blocks, to, barrier, line })
}

fn land(around: &mut Surroundings<'_>, flight: &TensorFlight) -> Result<(), String> {
    let (bytes, read) = flight.map.box_at(&mut around.global, &flight.coordinates)?;
    around.counts.sectors_read += read.div_ceil(32);
    around.counts.bytes_read += read;
    around.counts.bytes_copied += read;
    for rank in lanes_of(flight.blocks) {
        let shared = around.shared_of(rank as u32);
        for (number, chunk) in bytes.chunks(16).enumerate() {
            let place = shared.range(swizzled(flight.to + 16 * number as u64, flight.map.swizzle), chunk.len())?;
            shared.land(place, chunk);
        }
        shared.complete_bytes(flight.barrier, bytes.len() as u64)?;
    }
    around.progress += 1;
    Ok(())
}

fn must_be_there(around: &Surroundings<'_>, flight: &TensorFlight) -> Result<(), String> {
    match lanes_of(flight.blocks).find(|&rank| around.has_ended(rank as u32)) {
        None => Ok(()),
        Some(rank) => {
            let line = flight.line;
            Err(format!("block {rank} of the cluster ended before what was copied to it had come (PTX line {line})"))
        }
    }
}

/// Fails if something is on its way when all blocks have ended.
pub fn all_landed(around: &Surroundings<'_>) -> Result<(), String> {
    around.flights.iter().try_for_each(|flight| must_be_there(around, flight))
}

/// Lands one box that is on its way; false if there is none.
pub fn land_one(around: &mut Surroundings<'_>) -> Result<bool, String> {
    let count = around.flights.len();
    if count == 0 {
        return Ok(false);
    }
    let at = match around.launch.order {
        Order::Fifo => 0,
        Order::Reverse => count - 1,
        Order::Random | Order::Greedy => around.random.below(count as u64) as usize,
    };
    let flight = around.flights.remove(at);
    must_be_there(around, &flight)?;
    land(around, &flight).map_err(|words| format!("{words} (a copy of PTX line {})", flight.line))?;
    Ok(true)
}
