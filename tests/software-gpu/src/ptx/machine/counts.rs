//! What a launch has done.

use crate::ptx::program::{Class, WARP};

/// Counts of one launch, or of several.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Instructions of a warp, by class.
    pub instructions: [u64; Class::COUNT],
    /// Rounds in which shared memory serves loads, stores and matrix loads, and how many there would be without bank conflicts.
    pub wavefronts: u64,
    pub least_wavefronts: u64,
    /// Sectors of 32 bytes that loads, stores and copies touch.
    pub sectors_read: u64,
    pub sectors_written: u64,
    pub bytes_read: u64,
    pub bytes_written: u64,
    /// Of these, by asynchronous copies.
    pub bytes_copied: u64,
    /// Rows of matrix loads that waited for a bank.
    pub matrix_conflicts: u64,
}

impl Counts {
    pub fn add(&mut self, other: &Counts) {
        for (mine, theirs) in self.instructions.iter_mut().zip(other.instructions) {
            *mine += theirs;
        }
        self.wavefronts += other.wavefronts;
        self.least_wavefronts += other.least_wavefronts;
        self.sectors_read += other.sectors_read;
        self.sectors_written += other.sectors_written;
        self.bytes_read += other.bytes_read;
        self.bytes_written += other.bytes_written;
        self.bytes_copied += other.bytes_copied;
        self.matrix_conflicts += other.matrix_conflicts;
    }

    pub fn of(&self, class: Class) -> u64 {
        self.instructions[class as usize]
    }

    pub fn total(&self) -> u64 {
        self.instructions.iter().sum()
    }

    /// Counts an access of shared memory: addresses of the lanes that take part, all of `bytes`.
    pub fn shared_access(&mut self, addresses: &[(usize, u32)], bytes: u32) {
        // 8-byte accesses are served by half warps, 16-byte ones by quarters.
        let lanes = match bytes {
            16 => WARP / 4,
            8 => WARP / 2,
            _ => WARP,
        };
        for phase in addresses.chunk_by(|a, b| a.0 / lanes == b.0 / lanes) {
            self.wavefronts += wavefronts(phase.iter().map(|&(_, address)| address), bytes);
            self.least_wavefronts += 1;
        }
    }

    /// Counts eight rows of 16 bytes.
    pub fn matrix_rows(&mut self, addresses: &[u32]) {
        let rounds = wavefronts(addresses.iter().copied(), 16);
        self.wavefronts += rounds;
        self.least_wavefronts += 1;
        self.matrix_conflicts += rounds - 1;
    }
}

/// Rounds for accesses that are served together: the most words that one of the 32 banks has to give. `addresses` ascend or not.
pub fn wavefronts(addresses: impl Iterator<Item = u32>, bytes: u32) -> u64 {
    const NONE: u8 = u8::MAX;
    // Words seen, each with the one before it in its bank.
    let (mut words, mut before, mut count) = ([0_u32; 4 * WARP], [NONE; 4 * WARP], 0);
    let (mut newest, mut in_bank) = ([NONE; WARP], [0_u8; WARP]);
    let mut most = 1;
    for address in addresses {
        for word in address / 4..=(address + bytes - 1) / 4 {
            let bank = word as usize % WARP;
            let mut at = newest[bank];
            while at != NONE && words[at as usize] != word {
                at = before[at as usize];
            }
            if at == NONE {
                (words[count], before[count]) = (word, newest[bank]);
                newest[bank] = count as u8;
                count += 1;
                in_bank[bank] += 1;
                most = most.max(in_bank[bank]);
            }
        }
    }
    u64::from(most)
}

/// Different sectors of 32 bytes among these accesses.
pub fn sectors(addresses: &[(usize, u64)], bytes: u64) -> u64 {
    let mut seen = [0_u64; 2 * WARP];
    let mut count = 0;
    for &(_, address) in addresses {
        for sector in address / 32..=(address + bytes - 1) / 32 {
            if !seen[..count].iter().rev().any(|&other| other == sector) {
                seen[count] = sector;
                count += 1;
            }
        }
    }
    count as u64
}
