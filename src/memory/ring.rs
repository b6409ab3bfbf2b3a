//! Where rows lie in a ring, and which of them are young.
//!
//! A ring that is gated by age keeps every row twice, at its slot and at its slot plus the capacity: any run of slots, one that wraps
//! included, is then one contiguous span, and a loss against it is one pass.

use super::ledger::Ledger;

/// A part of a batch and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First row of the batch.
    pub from: usize,
    /// First row of the buffer.
    pub to: usize,
    /// Number of rows.
    pub len: usize,
}

/// The segments of a batch in a ring of `capacity` rows held `copies` times: of a batch larger than the ring its last rows stay.
pub fn segments(batch: usize, head: usize, capacity: usize, copies: usize) -> impl Iterator<Item = Segment> {
    let kept = batch.min(capacity);
    let start = (head + batch - kept) % capacity;
    let until_end = kept.min(capacity - start);
    let parts = [(batch - kept, start, until_end), (batch - kept + until_end, 0, kept - until_end)];
    let copied = move |(from, slot, len)| (0..copies).map(move |copy| Segment { from, to: copy * capacity + slot, len });
    parts.into_iter().flat_map(copied).filter(|segment| segment.len > 0)
}

/// Number of rows that are at most `oldest` batches old: a binary search, as rows age from the head backwards.
pub fn young_rows(ledger: &Ledger, head: usize, capacity: usize, oldest: u32) -> usize {
    let (mut young, mut old) = (0, ledger.count());
    while young < old {
        let middle = (young + old) / 2;
        let slot = (head + capacity - 1 - middle) % capacity;
        if ledger.age(slot) <= oldest { young = middle + 1 } else { old = middle }
    }
    young
}

/// First row of the span that holds the `rows` youngest rows of a ring held twice.
pub fn start_of_youngest(rows: usize, head: usize, capacity: usize) -> usize {
    if rows > head { head + capacity - rows } else { head - rows }
}
