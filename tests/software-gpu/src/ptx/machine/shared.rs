//! Shared memory, with what has been written and who touched it since the last barrier.

use super::mbarrier::Barrier;
use crate::ptx::program::SHARED_START;
use std::collections::HashMap;

/// What is known of four bytes of shared memory.
#[derive(Clone, Copy, Default)]
struct Shadow {
    /// Bytes that hold something.
    written: u8,
    /// Bytes that were written and read since `write_epoch` and `read_epoch` began, and by which warp.
    writes: u8,
    reads: u8,
    writer: u8,
    reader: u8,
    write_epoch: u32,
    read_epoch: u32,
    write_line: u32,
    /// The thread that wrote by an ordinary store, and how many proxy fences it had executed, plus one; 0 where nobody did.
    thread: u16,
    fences: u32,
    held: Held,
}

/// What ordinary accesses may not touch.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Held {
    #[default]
    Nothing,
    Barrier,
    /// An asynchronous copy of a tensor is on its way here.
    Flying,
}

const SEVERAL: u8 = u8::MAX;
/// Stands for whoever accesses atomically: these accesses are no races among themselves.
pub const ATOMIC: u8 = u8::MAX - 1;

/// Who accesses shared memory, and when: barriers of the whole block part the epochs.
#[derive(Clone, Copy)]
pub struct Access {
    pub warp: u8,
    pub thread: u16,
    pub epoch: u32,
    pub line: u32,
}

/// The shared memory of a block.
#[derive(Default)]
pub struct Shared {
    bytes: Vec<u8>,
    shadow: Vec<Shadow>,
    /// Off once a barrier of part of the block has been used: epochs say nothing then.
    pub finds_races: bool,
    needs_written: bool,
    /// By place.
    pub barriers: HashMap<usize, Barrier>,
    /// How many proxy fences every thread has executed.
    fences: Vec<u32>,
}

impl Shared {
    /// Shared memory starts as NaN.
    pub fn new(bytes: usize, needs_written: bool, threads: usize) -> Self {
        let shadow = vec![Shadow::default(); bytes.div_ceil(4)];
        Self {
            bytes: vec![0xff; bytes.next_multiple_of(16)],
            shadow,
            finds_races: true,
            needs_written,
            barriers: HashMap::new(),
            fences: vec![0; threads.next_multiple_of(32)],
        }
    }

    /// The place of these bytes.
    pub fn place(&self, address: u64, bytes: u64) -> Result<usize, String> {
        let length = 4 * self.shadow.len() as u64;
        let start = u64::from(SHARED_START);
        if address < start || address - start + bytes > length {
            let offset = address.cast_signed() - start.cast_signed();
            return Err(format!("{bytes} bytes at shared offset {offset} are outside the {length} bytes of shared memory"));
        }
        if !address.is_multiple_of(bytes) {
            return Err(format!("shared offset {} is not aligned to {bytes} bytes", address - start));
        }
        Ok((address - start) as usize)
    }

    /// The place of bytes that may lie at any address.
    pub fn range(&self, address: u64, bytes: usize) -> Result<usize, String> {
        self.place(address, 1)?;
        self.place(address + bytes as u64 - 1, 1)?;
        Ok((address - u64::from(SHARED_START)) as usize)
    }

    /// Notes an access; returns its place.
    pub fn touch(&mut self, address: u64, bytes: u64, access: Access, write: bool) -> Result<usize, String> {
        let place = self.place(address, bytes)?;
        self.note(place, bytes as usize, access, write)?;
        Ok(place)
    }

    #[inline(always)]
    pub fn get(&self, place: usize, bytes: usize) -> u64 {
        let mut value = [0; 8];
        value[..bytes].copy_from_slice(&self.bytes[place..place + bytes]);
        u64::from_le_bytes(value)
    }

    #[inline(always)]
    pub fn set(&mut self, place: usize, bytes: usize, value: u64) {
        self.bytes[place..place + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
    }

    /// Sixteen bytes for a matrix load.
    pub fn row(&self, place: usize) -> [u8; 16] {
        self.bytes[place..place + 16].try_into().expect("sixteen bytes")
    }

    /// Notes that a barrier begins or ends to be at a place.
    pub fn hold_barrier(&mut self, place: usize, holds: bool) {
        for shadow in &mut self.shadow[place / 4..place / 4 + 2] {
            *shadow = Shadow { held: if holds { Held::Barrier } else { Held::Nothing }, ..Shadow::default() };
        }
    }

    /// Orders what a thread has written before asynchronous accesses.
    pub fn proxy_fence(&mut self, thread: u16) {
        self.fences[usize::from(thread)] += 1;
        self.show_barriers(thread);
    }

    /// Notes that an asynchronous copy to these bytes has begun.
    pub fn expect_copy(&mut self, place: usize, bytes: usize) -> Result<(), String> {
        for word in place / 4..(place + bytes).div_ceil(4) {
            self.may_be_asynchronous(word)?;
            self.shadow[word].held = Held::Flying;
        }
        Ok(())
    }

    /// Writes as an asynchronous copy.
    pub fn land(&mut self, place: usize, bytes: &[u8]) {
        self.bytes[place..place + bytes.len()].copy_from_slice(bytes);
        for shadow in &mut self.shadow[place / 4..(place + bytes.len()).div_ceil(4)] {
            *shadow = Shadow { written: 0xf, ..Shadow::default() };
        }
    }

    /// Sixteen bytes as a product of a warpgroup reads them.
    pub fn asynchronous_row(&self, place: usize) -> Result<[u8; 16], String> {
        for word in place / 4..place / 4 + 4 {
            self.may_be_asynchronous(word)?;
            if self.needs_written && self.shadow[word].written != 0xf {
                return Err(format!("shared offset {} is read and was never written", 4 * word));
            }
        }
        Ok(self.row(place))
    }

    fn may_be_asynchronous(&self, word: usize) -> Result<(), String> {
        let shadow = &self.shadow[word];
        match shadow.held {
            Held::Nothing => {}
            Held::Barrier => return Err(format!("an asynchronous access to the mbarrier at shared offset {}", 4 * word)),
            Held::Flying => return Err(on_its_way(word)),
        }
        if shadow.fences != 0 && self.fences.get(usize::from(shadow.thread)) == Some(&(shadow.fences - 1)) {
            let (thread, line) = (shadow.thread, shadow.write_line);
            return Err(format!(
                "shared offset {} was written by an ordinary store of thread {thread} at PTX line {line}, with no fence.proxy.async \
                 of that thread before an asynchronous access",
                4 * word
            ));
        }
        Ok(())
    }

    fn note(&mut self, place: usize, bytes: usize, access: Access, write: bool) -> Result<(), String> {
        for word in place / 4..=(place + bytes - 1) / 4 {
            let touched = if bytes >= 4 { 0xf } else { ((1 << bytes) - 1) << (place % 4) };
            let shadow = &mut self.shadow[word];
            match shadow.held {
                Held::Nothing => {}
                Held::Barrier => return Err(format!("an ordinary access to the mbarrier at shared offset {}", 4 * word)),
                Held::Flying => return Err(on_its_way(word)),
            }
            if !write && self.needs_written && shadow.written & touched != touched {
                return Err(format!("shared offset {} is read and was never written", 4 * word));
            }
            if self.finds_races {
                let by_others = shadow.write_epoch == access.epoch && shadow.writes & touched != 0 && shadow.writer != access.warp;
                if by_others {
                    let (writer, line) = (shadow.writer, shadow.write_line);
                    let what = if write { "written" } else { "read" };
                    return Err(format!(
                        "race: shared offset {} is {what}, and warp {writer} wrote it at PTX line {line} with no barrier between",
                        4 * word
                    ));
                }
                if write && shadow.read_epoch == access.epoch && shadow.reads & touched != 0 && shadow.reader != access.warp {
                    return Err(format!(
                        "race: shared offset {} is written, and another warp read it with no barrier between",
                        4 * word
                    ));
                }
            }
            if write {
                shadow.written |= touched;
                if shadow.write_epoch != access.epoch || shadow.writer != access.warp {
                    (shadow.write_epoch, shadow.writer, shadow.writes) = (access.epoch, access.warp, 0);
                }
                shadow.writes |= touched;
                shadow.write_line = access.line;
                shadow.thread = access.thread;
                shadow.fences = self.fences.get(usize::from(access.thread)).map_or(0, |fences| fences + 1);
            } else {
                if shadow.read_epoch != access.epoch {
                    (shadow.read_epoch, shadow.reader, shadow.reads) = (access.epoch, access.warp, 0);
                } else if shadow.reader != access.warp {
                    shadow.reader = SEVERAL;
                }
                shadow.reads |= touched;
            }
        }
        Ok(())
    }
}

fn on_its_way(word: usize) -> String {
    format!(
        "shared offset {} is accessed while an asynchronous copy to it is on its way: nobody has waited for its mbarrier",
        4 * word
    )
}
