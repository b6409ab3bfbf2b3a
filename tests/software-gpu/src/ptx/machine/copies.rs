//! Asynchronous copies, which land as late as the program allows, or at once; and the frames of calls.

use super::data::addresses;
use super::surroundings::Surroundings;
use super::warp::{Trouble, Warp};
use crate::ptx::program::{Op, Passed};
use crate::ptx::registers::lanes_of;
use std::collections::VecDeque;

/// One lane's copy on its way.
#[derive(Clone, Copy)]
struct Flight {
    lane: usize,
    to: u64,
    from: u64,
    bytes: u32,
    valid: u32,
    line: u32,
}

/// What a warp has copied and not yet waited for.
#[derive(Default)]
pub struct Copies {
    uncommitted: Vec<Flight>,
    groups: VecDeque<Vec<Flight>>,
}

impl Copies {
    pub fn must_be_waited_for(&self) -> Result<(), Trouble> {
        let left = self.uncommitted.len() + self.groups.iter().map(Vec::len).sum::<usize>();
        if left == 0 {
            return Ok(());
        }
        Err(Trouble { lane: None, words: "a warp ended before its asynchronous copies were waited for".into() })
    }
}

pub fn issue(warp: &mut Warp<'_>, around: &mut Surroundings<'_>, op: &Op, lanes: u32, line: u32) -> Result<(), Trouble> {
    let &Op::CopyAsync { ref to, ref from, bytes, valid } = op else { return Ok(()) };
    let ((to, count), (from, _)) = (addresses(warp, to, lanes), addresses(warp, from, lanes));
    let bytes = u32::from(bytes);
    let (mut read, mut readers) = ([(0, 0); 32], 0);
    for (&(lane, to), &(_, from)) in to[..count].iter().zip(&from[..count]) {
        let valid = valid.map_or(bytes, |register| warp.registers.words[register as usize][lane]);
        let trouble = |words| Trouble { lane: Some(lane), words };
        if valid > bytes {
            return Err(trouble(format!("cp.async of {bytes} bytes is told to read {valid}")));
        }
        around.own.shared.place(to, u64::from(bytes)).map_err(trouble)?;
        if !from.is_multiple_of(u64::from(bytes)) {
            return Err(trouble(format!("the source of an asynchronous copy is not aligned to its {bytes} bytes")));
        }
        if valid > 0 {
            for at in (0..valid).step_by(4) {
                around.global.check(from + u64::from(at), u64::from((valid - at).min(4)), false).map_err(trouble)?;
            }
            read[readers] = (lane, from);
            readers += 1;
        }
        let flight = Flight { lane, to, from, bytes, valid, line };
        if around.copy_lands_at_once() {
            land(warp.number, around, &flight)?;
            warp.copies.uncommitted.push(Flight { bytes: 0, ..flight });
        } else {
            warp.copies.uncommitted.push(flight);
        }
    }
    around.count_copy(&read[..readers], u64::from(bytes));
    Ok(())
}

fn land(warp: usize, around: &mut Surroundings<'_>, flight: &Flight) -> Result<(), Trouble> {
    if flight.bytes == 0 {
        return Ok(());
    }
    let access = around.access(warp, flight.lane, flight.line);
    let place = around.own.shared.touch(flight.to, u64::from(flight.bytes), access, true);
    let place = place.map_err(|words| Trouble { lane: Some(flight.lane), words })?;
    for at in 0..flight.bytes {
        let value = if at < flight.valid { around.global.read_checked(flight.from + u64::from(at), 1) } else { 0 };
        around.own.shared.set(place + at as usize, 1, value);
    }
    Ok(())
}

/// Groups belong to threads; the machine keeps one list for a warp, whose lanes must therefore stay together.
fn all_lanes(warp: &Warp<'_>, lanes: u32) -> Result<(), Trouble> {
    if lanes == warp.alive {
        return Ok(());
    }
    let words = format!("a group of asynchronous copies without all lanes of the warp: {lanes:#010x} are here");
    Err(Trouble { lane: Some((warp.alive & !lanes).trailing_zeros() as usize), words })
}

pub fn commit(warp: &mut Warp<'_>, lanes: u32) -> Result<(), Trouble> {
    all_lanes(warp, lanes)?;
    let group = std::mem::take(&mut warp.copies.uncommitted);
    warp.copies.groups.push_back(group);
    Ok(())
}

pub fn wait(warp: &mut Warp<'_>, around: &mut Surroundings<'_>, left: u32, lanes: u32) -> Result<(), Trouble> {
    all_lanes(warp, lanes)?;
    while warp.copies.groups.len() > left as usize {
        let group = warp.copies.groups.pop_front().expect("a group");
        for flight in &group {
            land(warp.number, around, flight)?;
        }
    }
    Ok(())
}

/// Copies a parameter or a result between frames, for the lanes of a call.
pub fn pass(frame: &mut [u8], lane_bytes: usize, passed: &Passed, lanes: u32) {
    for lane in lanes_of(lanes) {
        let start = lane * lane_bytes;
        let from = start + passed.from as usize;
        frame.copy_within(from..from + passed.bytes as usize, start + passed.to as usize);
    }
}
