//! Loads, stores and atomic operations of a warp.

use super::memory::Access;
use super::surroundings::Surroundings;
use super::warp::{Trouble, Warp};
use crate::ptx::program::{Address, Atomic, File, LOCAL_WINDOW, Moved, Op, SHARED_WINDOW, Space, WARP};
use crate::ptx::registers::{Mask, lanes_of};

/// Lanes that take part, and the address of each.
type Addresses = ([(usize, u64); WARP], usize);

/// The addresses of an access. A generic address says its space in its uppermost bits.
pub fn addresses(warp: &Warp<'_>, address: &Address, lanes: u32) -> Addresses {
    let (mut found, mut count) = ([(0, 0); WARP], 0);
    for lane in lanes_of(lanes) {
        let base = match address.base {
            None => 0,
            Some((File::Double, register)) => warp.registers.doubles[register as usize][lane],
            Some((_, register)) => u64::from(warp.registers.words[register as usize][lane]),
        };
        found[count] = (lane, base.wrapping_add_signed(address.offset));
        count += 1;
    }
    (found, count)
}

fn space_of(space: Space, address: u64) -> Space {
    match space {
        Space::Generic if address >= LOCAL_WINDOW => Space::Frame,
        Space::Generic if address >= SHARED_WINDOW && address & 0xff00_0000 != 0 => Space::Cluster,
        Space::Generic if address >= SHARED_WINDOW => Space::Shared,
        Space::Generic => Space::Global,
        named => named,
    }
}

fn in_lane(lane: usize) -> impl Fn(String) -> Trouble {
    move |words| Trouble { lane: Some(lane), words }
}

fn extended(value: u64, moved: &Moved) -> u64 {
    match (moved.extended, moved.bytes) {
        (None, _) => value,
        (Some(_), 1) => i64::from(value as u8 as i8).cast_unsigned(),
        (Some(_), 2) => i64::from(value as u16 as i16).cast_unsigned(),
        (Some(_), _) => i64::from(value as u32 as i32).cast_unsigned(),
    }
}

fn put(warp: &mut Warp<'_>, moved: &Moved, element: usize, lane: usize, value: u64) {
    let (register, value) = (moved.registers[element] as usize, extended(value, moved));
    match moved.file {
        File::Double => warp.registers.doubles[register][lane] = value,
        _ => warp.registers.words[register][lane] = value as u32,
    }
}

fn take(warp: &Warp<'_>, moved: &Moved, element: usize, lane: usize) -> u64 {
    let register = moved.registers[element] as usize;
    match moved.file {
        File::Double => warp.registers.doubles[register][lane],
        _ => u64::from(warp.registers.words[register][lane]),
    }
}

pub fn load_param(
    warp: &mut Warp<'_>,
    around: &mut Surroundings<'_>,
    offset: u32,
    moved: &Moved,
    lanes: u32,
) -> Result<(), Trouble> {
    let bytes = u64::from(moved.bytes);
    let start = around.params + u64::from(offset);
    around.global.check(start, bytes * u64::from(moved.count), false).map_err(Trouble::from)?;
    let mask = Mask::new(lanes);
    for element in 0..usize::from(moved.count) {
        let value = extended(around.global.read_checked(start + element as u64 * bytes, bytes), moved);
        let register = moved.registers[element] as usize;
        match moved.file {
            File::Double => mask.keep_doubles(&mut warp.registers.doubles[register], &[value; WARP]),
            _ => mask.keep_words(&mut warp.registers.words[register], &[value as u32; WARP]),
        }
    }
    Ok(())
}

pub fn load(
    warp: &mut Warp<'_>,
    around: &mut Surroundings<'_>,
    address: &Address,
    moved: &Moved,
    lanes: u32,
    line: u32,
) -> Result<(), Trouble> {
    let (found, count) = addresses(warp, address, lanes);
    let (bytes, elements) = (u64::from(moved.bytes), usize::from(moved.count));
    let total = bytes * elements as u64;
    let space = space_of(address.space, found[0].1);
    for &(lane, address) in &found[..count] {
        match space_of(space, address) {
            Space::Global | Space::Generic => {
                around.global.check(address, total, false).map_err(in_lane(lane))?;
                for element in 0..elements {
                    let value = around.global.read_checked(address + element as u64 * bytes, bytes);
                    put(warp, moved, element, lane, value);
                }
            }
            Space::Shared => {
                let access = around.access(warp.number, lane, line);
                let place = around.own.shared.touch(address & !SHARED_WINDOW, total, access, false).map_err(in_lane(lane))?;
                for element in 0..elements {
                    let value = around.own.shared.get(place + element * bytes as usize, bytes as usize);
                    put(warp, moved, element, lane, value);
                }
            }
            Space::Cluster => {
                let (rank, access) = (around.resolve(address).map_err(in_lane(lane))?, around.access(warp.number, lane, line));
                let (shared, place) = around.remote(rank, total, access, false).map_err(in_lane(lane))?;
                for element in 0..elements {
                    put(warp, moved, element, lane, shared.get(place + element * bytes as usize, bytes as usize));
                }
            }
            Space::Frame => {
                let place = warp.frame_place(around, lane, address, total)?;
                for element in 0..elements {
                    let start = place + element * bytes as usize;
                    let mut value = [0; 8];
                    value[..bytes as usize].copy_from_slice(&warp.frame[start..start + bytes as usize]);
                    put(warp, moved, element, lane, u64::from_le_bytes(value));
                }
            }
        }
    }
    around.count(space, &found[..count], total, false);
    Ok(())
}

pub fn store(
    warp: &mut Warp<'_>,
    around: &mut Surroundings<'_>,
    address: &Address,
    moved: &Moved,
    lanes: u32,
    line: u32,
) -> Result<(), Trouble> {
    let (found, count) = addresses(warp, address, lanes);
    let (bytes, elements) = (u64::from(moved.bytes), usize::from(moved.count));
    let total = bytes * elements as u64;
    let space = space_of(address.space, found[0].1);
    for &(lane, address) in &found[..count] {
        match space_of(space, address) {
            Space::Global | Space::Generic => {
                around.global.check(address, total, true).map_err(in_lane(lane))?;
                for element in 0..elements {
                    around.global.write_checked(address + element as u64 * bytes, bytes, take(warp, moved, element, lane));
                }
            }
            Space::Shared => {
                let access = around.access(warp.number, lane, line);
                let place = around.own.shared.touch(address & !SHARED_WINDOW, total, access, true).map_err(in_lane(lane))?;
                for element in 0..elements {
                    around.own.shared.set(place + element * bytes as usize, bytes as usize, take(warp, moved, element, lane));
                }
            }
            Space::Cluster => {
                let (rank, access) = (around.resolve(address).map_err(in_lane(lane))?, around.access(warp.number, lane, line));
                let (shared, place) = around.remote(rank, total, access, true).map_err(in_lane(lane))?;
                for element in 0..elements {
                    shared.set(place + element * bytes as usize, bytes as usize, take(warp, moved, element, lane));
                }
            }
            Space::Frame => {
                let place = warp.frame_place(around, lane, address, total)?;
                for element in 0..elements {
                    let start = place + element * bytes as usize;
                    let value = take(warp, moved, element, lane).to_le_bytes();
                    warp.frame[start..start + bytes as usize].copy_from_slice(&value[..bytes as usize]);
                }
            }
        }
    }
    around.count(space, &found[..count], total, true);
    Ok(())
}

/// One lane after another, in the order of their numbers.
pub fn atomic(warp: &mut Warp<'_>, around: &mut Surroundings<'_>, op: &Op, lanes: u32, line: u32) -> Result<(), Trouble> {
    let &Op::Atomic { what, ref address, file, bytes, d, a, b } = op else { return Ok(()) };
    let (found, count) = addresses(warp, address, lanes);
    let size = u64::from(bytes);
    let value_of = |warp: &Warp<'_>, register: u32, lane: usize| match file {
        File::Double => warp.registers.doubles[register as usize][lane],
        _ => u64::from(warp.registers.words[register as usize][lane]),
    };
    let space = space_of(address.space, found[0].1);
    for &(lane, address) in &found[..count] {
        let (a, b) = (value_of(warp, a, lane), value_of(warp, b, lane));
        let old = match space_of(space, address) {
            Space::Shared => {
                // Atomics order nothing but each other: they are no races among themselves.
                let access = Access { warp: super::memory::ATOMIC, ..around.access(warp.number, lane, line) };
                let place = around.own.shared.touch(address & !SHARED_WINDOW, size, access, true).map_err(in_lane(lane))?;
                let old = around.own.shared.get(place, bytes.into());
                around.own.shared.set(place, bytes.into(), combined(what, old, a, b, bytes));
                old
            }
            Space::Frame => return Err(in_lane(lane)("an atomic operation on local memory".into())),
            Space::Cluster => {
                return Err(in_lane(lane)("an atomic operation on the shared memory of another block is not known".into()));
            }
            _ => {
                around.global.check(address, size, true).map_err(in_lane(lane))?;
                let old = around.global.read_checked(address, size);
                around.global.write_checked(address, size, combined(what, old, a, b, bytes));
                old
            }
        };
        if let Some(d) = d {
            match file {
                File::Double => warp.registers.doubles[d as usize][lane] = old,
                _ => warp.registers.words[d as usize][lane] = old as u32,
            }
        }
    }
    if space != Space::Shared {
        around.count(space, &found[..count], size, true);
    }
    Ok(())
}

fn combined(what: Atomic, old: u64, a: u64, b: u64, bytes: u8) -> u64 {
    let signed = |value: u64| if bytes == 4 { i64::from(value as u32 as i32) } else { value.cast_signed() };
    match what {
        Atomic::Add => old.wrapping_add(a),
        Atomic::AddFloat => u64::from((f32::from_bits(old as u32) + f32::from_bits(a as u32)).to_bits()),
        Atomic::Min { signed: true } => {
            if signed(a) < signed(old) {
                a
            } else {
                old
            }
        }
        Atomic::Max { signed: true } => {
            if signed(a) > signed(old) {
                a
            } else {
                old
            }
        }
        Atomic::Min { .. } => old.min(a),
        Atomic::Max { .. } => old.max(a),
        Atomic::And => old & a,
        Atomic::Or => old | a,
        Atomic::Xor => old ^ a,
        Atomic::Exchange => a,
        Atomic::CompareAndSwap => {
            if old == a {
                b
            } else {
                old
            }
        }
    }
}
