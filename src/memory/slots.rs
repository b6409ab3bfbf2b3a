//! Which image or class has which slot, and since when: the memory's bookkeeping on the host.

use crate::error::{Error, Result};
use std::collections::HashMap;

/// The slots in use. Time is counted in enqueued batches, which is to say in steps.
#[derive(Debug)]
pub struct SlotTable {
    clock: u32,
    owners: Vec<i32>,
    written: Vec<u32>,
    /// Half as wide as a `usize`, for a large memory has a million of them.
    slot_of: HashMap<i32, u32>,
}

impl SlotTable {
    /// No slot in use, room for `capacity`.
    ///
    /// # Errors
    /// [`Error::HostOutOfMemory`] if there is no memory for it.
    pub fn new(capacity: usize) -> Result<Self> {
        let mut slots = Self { clock: 0, owners: Vec::new(), written: Vec::new(), slot_of: HashMap::new() };
        let reserved = slots.owners.try_reserve_exact(capacity).and_then(|()| slots.written.try_reserve_exact(capacity));
        let reserved = reserved.and_then(|()| slots.slot_of.try_reserve(capacity));
        reserved.map_err(|_| Error::host_out_of_memory::<(i32, u32, i32, u32)>(capacity))?;
        Ok(slots)
    }

    /// Slots in use.
    pub fn count(&self) -> usize {
        self.owners.len()
    }

    /// Batches enqueued so far.
    pub fn clock(&self) -> u32 {
        self.clock
    }

    /// Another batch is enqueued.
    pub fn tick(&mut self) {
        self.clock += 1;
    }

    /// When each slot in use was written.
    pub fn written(&self) -> &[u32] {
        &self.written
    }

    /// Batches enqueued since a slot was written.
    pub fn age(&self, slot: usize) -> u32 {
        self.clock - self.written[slot]
    }

    /// The slot that an owner was written to last, if it is still the owner's.
    pub fn slot_of(&self, owner: i32) -> Option<usize> {
        self.slot_of.get(&owner).map(|&slot| slot as usize)
    }

    /// A slot, one in use or the next free one, is written for `owner`.
    pub fn record(&mut self, slot: usize, owner: i32) {
        self.record_at(slot, owner, self.clock);
    }

    fn record_at(&mut self, slot: usize, owner: i32, time: u32) {
        if slot == self.count() {
            self.owners.push(owner);
            self.written.push(time);
        } else {
            let former = std::mem::replace(&mut self.owners[slot], owner);
            if self.slot_of(former) == Some(slot) {
                self.slot_of.remove(&former);
            }
            self.written[slot] = time;
        }
        self.slot_of.insert(owner, slot as u32);
    }

    /// Forgets every slot.
    pub fn clear(&mut self) {
        self.owners.clear();
        self.written.clear();
        self.slot_of.clear();
    }

    /// Takes over slots with their owners and times; of slots with one owner the last written is the owner's, of those written at once
    /// the one that comes later from `head` on.
    pub fn restore(&mut self, clock: u32, owners: &[i32], written: &[u32], head: usize) {
        self.clear();
        self.clock = clock;
        self.owners.extend_from_slice(owners);
        self.written.extend_from_slice(written);
        let count = owners.len();
        for slot in (0..count).map(|place| (head + place) % count) {
            self.slot_of.insert(owners[slot], slot as u32);
        }
    }
}
