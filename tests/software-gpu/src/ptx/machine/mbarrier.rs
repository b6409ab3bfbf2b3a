//! Barriers in shared memory: arrivals and bytes that a phase still waits for.

use super::block::Wait;
use super::cluster::single;
use super::memory::Shared;
use super::surroundings::Surroundings;
use super::warp::{Trouble, Warp};
use crate::ptx::hopper::{Arrive, Hopper, Phase};
use crate::ptx::program::Address;
use crate::ptx::registers::{Mask, lanes_of};

const MOST_ARRIVALS: u32 = (1 << 20) - 1;

/// One barrier.
#[derive(Clone, Copy, Debug)]
pub struct Barrier {
    expected: u32,
    /// Arrivals and bytes that the running phase waits for. Bytes may come before they are expected.
    pub pending: u32,
    pub bytes: i64,
    /// How many phases have ended.
    pub phase: u64,
    initialised_by: u16,
    /// Whether the asynchronous proxy and the other blocks can see that it was initialised.
    visible: bool,
}

impl Barrier {
    fn settle(&mut self) -> bool {
        let ends = self.pending == 0 && self.bytes == 0;
        if ends {
            (self.pending, self.phase) = (self.expected, self.phase + 1);
        }
        ends
    }
}

impl Shared {
    fn barrier(&mut self, address: u64, what: &str) -> Result<&mut Barrier, String> {
        let place = self.place(address, 8)?;
        let words = || format!("{what} of shared offset {place}, where no mbarrier was initialised");
        self.barriers.get_mut(&place).ok_or_else(words)
    }

    fn seen_barrier(&mut self, address: u64, what: &str) -> Result<&mut Barrier, String> {
        let place = self.place(address, 8)?;
        let barrier = self.barrier(address, what)?;
        if barrier.visible {
            return Ok(barrier);
        }
        Err(format!(
            "{what} of the mbarrier at shared offset {place}, and neither fence.mbarrier_init nor fence.proxy.async followed its \
             initialisation"
        ))
    }

    /// Shows the barriers that a thread has initialised.
    pub fn show_barriers(&mut self, thread: u16) {
        for barrier in self.barriers.values_mut().filter(|barrier| barrier.initialised_by == thread) {
            barrier.visible = true;
        }
    }

    /// Notes that an asynchronous copy has written so many bytes; true if that ended a phase.
    pub fn complete_bytes(&mut self, address: u64, bytes: u64) -> Result<bool, String> {
        let barrier = self.seen_barrier(address, "an asynchronous copy's signal")?;
        barrier.bytes -= bytes.cast_signed();
        Ok(barrier.settle())
    }

    /// Fails unless an asynchronous copy may signal this barrier.
    pub fn signals(&mut self, address: u64) -> Result<(), String> {
        self.seen_barrier(address, "an asynchronous copy's use").map(|_| ())
    }
}

pub fn initialise(
    warp: &Warp<'_>,
    around: &mut Surroundings<'_>,
    barrier: &Address,
    count: u32,
    lanes: u32,
) -> Result<(), Trouble> {
    for lane in lanes_of(lanes) {
        let trouble = |words| Trouble { lane: Some(lane), words };
        let count = warp.registers.words[count as usize][lane];
        let (rank, address) = single(warp, around, barrier, lane)?;
        if !(1..=MOST_ARRIVALS).contains(&count) {
            return Err(trouble(format!("an mbarrier for {count} arrivals: expected 1 to {MOST_ARRIVALS}")));
        }
        if rank != around.own.rank {
            return Err(trouble("mbarrier.init in the shared memory of another block".into()));
        }
        let access = around.access(warp.number, lane, 0);
        let shared = &mut around.own.shared;
        let place = shared.place(address, 8).map_err(trouble)?;
        if shared.barriers.contains_key(&place) {
            return Err(trouble(format!(
                "the mbarrier at shared offset {place} is initialised again with no mbarrier.inval between"
            )));
        }
        shared.hold_barrier(place, true);
        let new = Barrier { expected: count, pending: count, bytes: 0, phase: 0, initialised_by: access.thread, visible: false };
        shared.barriers.insert(place, new);
    }
    Ok(())
}

pub fn invalidate(warp: &Warp<'_>, around: &mut Surroundings<'_>, barrier: &Address, lanes: u32) -> Result<(), Trouble> {
    for lane in lanes_of(lanes) {
        let (_, address) = single(warp, around, barrier, lane)?;
        let shared = &mut around.own.shared;
        shared.barrier(address, "mbarrier.inval").map_err(|words| Trouble { lane: Some(lane), words })?;
        let place = shared.place(address, 8).map_err(|words| Trouble { lane: Some(lane), words })?;
        shared.barriers.remove(&place);
        shared.hold_barrier(place, false);
    }
    Ok(())
}

pub fn arrive(warp: &mut Warp<'_>, around: &mut Surroundings<'_>, op: &Arrive, lanes: u32) -> Result<(), Trouble> {
    let &Arrive { ref barrier, state, count, expected, arrives } = op;
    for lane in lanes_of(lanes) {
        let trouble = |words| Trouble { lane: Some(lane), words };
        let value = |register: Option<u32>, missing: u32| register.map_or(missing, |at| warp.registers.words[at as usize][lane]);
        let (count, bytes) = (value(count, 1), value(expected, 0));
        let (rank, address) = single(warp, around, barrier, lane)?;
        let remote = rank != around.own.rank;
        let shared = around.shared_of(rank);
        let what = if arrives { "mbarrier.arrive" } else { "mbarrier.expect_tx" };
        let found = if remote { shared.seen_barrier(address, what) } else { shared.barrier(address, what) };
        let found = found.map_err(trouble)?;
        let phase = found.phase;
        found.bytes += i64::from(bytes);
        if arrives {
            if count == 0 || count > found.pending {
                return Err(Trouble {
                    lane: Some(lane),
                    words: format!(
                        "{count} arrivals at an mbarrier whose phase {phase} waits for {} more of {} (and {} bytes)",
                        found.pending, found.expected, found.bytes
                    ),
                });
            }
            found.pending -= count;
            found.settle();
        }
        around.progress += 1;
        if let Some(state) = state {
            warp.registers.doubles[state as usize][lane] = phase;
        }
    }
    Ok(())
}

/// Writes whether the phase has ended for each lane; what is waited for, where it has not for one of them.
pub fn wait(warp: &mut Warp<'_>, around: &mut Surroundings<'_>, op: &Hopper, lanes: u32) -> Result<Option<Wait>, Trouble> {
    let &Hopper::Wait { ref barrier, done, phase } = op else { return Ok(None) };
    // Whoever waits for such a barrier is ordered by it, which epochs do not know.
    around.own.shared.finds_races = false;
    let (mut ended, mut waits) = (0, None);
    for lane in lanes_of(lanes) {
        let (rank, address) = single(warp, around, barrier, lane)?;
        let trouble = |words| Trouble { lane: Some(lane), words };
        if rank != around.own.rank {
            return Err(trouble("an mbarrier of another block is waited for".into()));
        }
        let found = *around.own.shared.barrier(address, "a wait").map_err(trouble)?;
        let over = match phase {
            Phase::Parity(register) => {
                let parity = warp.registers.words[register as usize][lane];
                if parity > 1 {
                    return Err(trouble(format!("the parity of a phase is 0 or 1, found {parity}")));
                }
                u64::from(parity) != found.phase % 2
            }
            Phase::State(register) => warp.registers.doubles[register as usize][lane] != found.phase,
        };
        if over {
            ended |= 1 << lane;
        } else {
            waits = Some(Wait::Barrier { lane, address });
        }
    }
    Mask::new(lanes).keep_bits(&mut warp.registers.predicates[done as usize], ended);
    Ok(waits)
}
