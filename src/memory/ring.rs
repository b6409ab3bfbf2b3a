//! Where rows lie in a ring, and which of them are young.
//!
//! A ring that is gated by age keeps every row twice, at its slot and at its slot plus the capacity: any run of slots, one that wraps
//! included, is then one contiguous span, and a loss against it is one pass.

use super::slots::SlotTable;

/// Number of rows that are at most `oldest` batches old: a binary search, as rows age from the head backwards.
pub fn young_rows(slots: &SlotTable, head: usize, capacity: usize, oldest: u32) -> usize {
    let (mut young, mut old) = (0, slots.count());
    while young < old {
        let middle = (young + old) / 2;
        let slot = (head + capacity - 1 - middle) % capacity;
        if slots.age(slot) <= oldest { young = middle + 1 } else { old = middle }
    }
    young
}

/// First row of the span that holds the `rows` youngest rows of a ring held twice.
pub fn start_of_youngest(rows: usize, head: usize, capacity: usize) -> usize {
    if rows > head { head + capacity - rows } else { head - rows }
}
