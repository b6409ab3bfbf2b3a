//! Which rank holds which slot of a memory.
//!
//! Slots are dealt to the ranks in blocks, in turn. In a ring a block is what one rank embeds of a batch, so that each rank stores rows of
//! its own and storing them costs no traffic; in a memory of one row for each image or class a block is one slot. What is known of the
//! slots (owners, times, the head) is known to all ranks, and only the rows are shared out: each rank holds its slots in their order,
//! next to each other.

use super::Filling;
use crate::error::{Error, Result};
use crate::group::{ALONE, Group};

/// The slots of one rank.
#[derive(Clone, Debug)]
pub(super) struct Shard {
    group: Group,
    block: usize,
}

impl Shard {
    /// All slots, whoever else there is.
    pub fn whole() -> Self {
        Self { group: ALONE.clone(), block: 1 }
    }

    /// The slots of this rank, of a memory that all ranks fill by batches of `batch` rows together.
    pub fn new(group: &Group, filling: Filling, batch: usize) -> Self {
        let block = if matches!(filling, Filling::Ring { .. }) { (batch / group.size()).max(1) } else { 1 };
        Self { group: group.clone(), block }
    }

    /// The ranks among which the slots are dealt.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// The rank that holds `slot`, and where among its own.
    pub fn place(&self, slot: usize) -> (usize, usize) {
        let (turn, ranks) = (slot / self.block, self.group.size());
        (turn % ranks, turn / ranks * self.block + slot % self.block)
    }

    /// Where this rank holds `slot`, if it does.
    pub fn local(&self, slot: usize) -> Option<usize> {
        let (rank, place) = self.place(slot);
        (rank == self.group.rank()).then_some(place)
    }

    /// How many of the first `slots` this rank holds.
    pub fn count(&self, slots: usize) -> usize {
        let round = self.block * self.group.size();
        slots / round * self.block + (slots % round).saturating_sub(self.group.rank() * self.block).min(self.block)
    }

    /// Rows of a batch of all ranks, where there are several and it matters.
    pub fn batch(&self) -> Option<usize> {
        (!self.group.is_alone()).then_some(self.block * self.group.size())
    }

    /// Fails unless a batch of `rows` that begins at `slot` of a ring gives every rank the slots of the rows that it embeds.
    pub fn check_batch(&self, slot: usize, rows: usize) -> Result<()> {
        let round = self.block * self.group.size();
        if self.group.is_alone() || (slot.is_multiple_of(round) && rows == round) {
            return Ok(());
        }
        Err(Error::config(format!(
            "{rows} rows from slot {slot} on: on several ranks a memory takes whole batches of {round} rows, from the first on; a run \
             that began with another --batch-size goes on in one process"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::{Message, Wire};
    use std::time::Duration;

    /// A rank that never talks.
    #[derive(Debug)]
    struct Mute(usize, usize);

    impl Wire for Mute {
        fn rank(&self) -> usize {
            self.0
        }
        fn size(&self) -> usize {
            self.1
        }
        fn exchange(&self, _: &'static str, _: &[Message<&[u8]>], _: Vec<Message<&mut [u8]>>, _: Duration) -> Result<()> {
            unreachable!("it is not asked to")
        }
        fn abort(&self) {}
    }

    #[test]
    fn every_slot_has_one_rank_and_ranks_hold_theirs_side_by_side() {
        for (ranks, batch, filling) in [
            (1, 4, Filling::Ring { max_drift: None }),
            (2, 6, Filling::Ring { max_drift: None }),
            (3, 6, Filling::Ring { max_drift: Some(0.5) }),
            (4, 8, Filling::Instance { average: 0.5 }),
        ] {
            let shards: Vec<Shard> =
                (0..ranks).map(|rank| Shard::new(&Group::new(Box::new(Mute(rank, ranks))), filling, batch)).collect();
            for slots in 0..40 {
                let mut held = vec![0; ranks];
                for slot in 0..slots {
                    let (rank, place) = shards[0].place(slot);
                    assert_eq!(place, held[rank], "slot {slot} of {ranks} ranks");
                    held[rank] += 1;
                    for (other, shard) in shards.iter().enumerate() {
                        assert_eq!(shard.local(slot), (other == rank).then_some(place));
                    }
                }
                assert_eq!(shards.iter().map(|shard| shard.count(slots)).collect::<Vec<_>>(), held, "{slots} slots");
            }
        }
    }
}
