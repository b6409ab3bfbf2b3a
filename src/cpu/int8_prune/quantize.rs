//! The loops around a kernel.

use super::error_bound::NEVER;
use super::kernel::{Group, Kernel, Strip, pieces};
use super::{AnchorBlock, Anchors, GROUP, RowBlock, Rows, STRIP, WORDS, Words};
use pulp::NullaryFnOnce;

/// Encodes `count` anchors.
pub(super) struct EncodeAnchors<'a, K, F> {
    pub(super) kernel: K,
    pub(super) anchor: F,
    pub(super) count: usize,
    /// `(strips, blocks)`.
    pub(super) codes: &'a mut [AnchorBlock],
    /// `(strips, STRIP)`, like the next two.
    pub(super) corrections: &'a mut [i32],
    pub(super) steps: &'a mut [f32],
    pub(super) slacks: &'a mut [f32],
    /// Room for the codes of one anchor, `(blocks)`.
    pub(super) words: &'a mut [Words],
}

impl<'b, K: Kernel, F: Fn(usize) -> &'b [f32]> NullaryFnOnce for EncodeAnchors<'_, K, F> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        let blocks = self.words.len();
        for index in 0..self.count {
            let encoded = self.kernel.encode((self.anchor)(index), self.words.iter_mut());
            (self.steps[index], self.slacks[index]) = (encoded.step, encoded.slack);
            let strip = &mut self.codes[index / STRIP * blocks..][..blocks];
            for (block, words) in strip.iter_mut().zip(&mut *self.words) {
                self.corrections[index] = self.corrections[index].wrapping_add(to_signed(words, K::SHIFT));
                for (to, &word) in block.iter_mut().zip(&*words) {
                    to[index % STRIP] = word;
                }
            }
        }
    }
}

/// Takes the shift out of codes, and returns what the products of the codes with shifted ones then have too much.
#[inline(always)]
fn to_signed(words: &mut Words, shift: u8) -> i32 {
    let codes: &mut [u8; 4 * WORDS] = bytemuck::cast_mut(words);
    let mut sum = 0;
    for code in codes {
        *code = code.wrapping_sub(shift);
        sum += i32::from(*code as i8);
    }
    i32::from(shift) * sum
}

/// Encodes rows. Groups are filled up with empty ones.
pub(super) struct EncodeRows<'a, K, F> {
    pub(super) kernel: K,
    pub(super) row: F,
    pub(super) count: usize,
    /// `(groups, blocks)`.
    pub(super) codes: &'a mut [RowBlock],
    /// `(groups, GROUP)`, like the next.
    pub(super) steps: &'a mut [f32],
    pub(super) slacks: &'a mut [f32],
}

impl<'b, K: Kernel, F: Fn(usize) -> &'b [f32]> NullaryFnOnce for EncodeRows<'_, K, F> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        let blocks = self.codes.len() / (self.slacks.len() / GROUP).max(1);
        for index in 0..self.slacks.len() {
            let values = if index < self.count { (self.row)(index) } else { &[] };
            let group = self.codes[index / GROUP * blocks..][..blocks].iter_mut();
            let encoded = self.kernel.encode(values, group.map(|block| &mut block[index % GROUP]));
            (self.steps[index], self.slacks[index]) = (encoded.step, encoded.slack);
        }
    }
}

/// See [`super::Sieve::sift`].
pub(super) struct Sift<'a, K, F> {
    pub(super) kernel: K,
    pub(super) anchors: Anchors<'a>,
    pub(super) rows: Rows<'a>,
    pub(super) limits: (&'a [f32], &'a [f32]),
    pub(super) ahead: &'a [f32],
    pub(super) found: F,
}

impl<K: Kernel, F: FnMut(usize, usize, u32)> NullaryFnOnce for Sift<'_, K, F> {
    type Output = ();
    #[inline(always)]
    fn call(mut self) {
        let (strips, groups) = (self.anchors.slacks.len() / STRIP, self.rows.slacks.len() / GROUP);
        let mut ahead = pieces(self.ahead, strips * groups);
        for first in (0..strips * STRIP).step_by(STRIP) {
            let strip = self.strip(first);
            for row in (0..groups * GROUP).step_by(GROUP) {
                let group = self.group(row, ahead.next().unwrap_or_default());
                let Some(bits) = self.kernel.compare(&strip, &group) else { continue };
                // Strips and groups are filled up with what is no anchor and no row.
                let inside = u32::MAX >> (u32::BITS as usize - STRIP.min(self.anchors.count - first));
                for (place, bits) in bits.into_iter().enumerate().take(self.rows.count - row) {
                    if bits & inside != 0 {
                        (self.found)(row + place, first, bits & inside);
                    }
                }
            }
        }
    }
}

impl<'a, K, F> Sift<'a, K, F> {
    #[inline(always)]
    fn strip(&self, first: usize) -> Strip<'a> {
        let anchors = &self.anchors;
        let blocks = anchors.codes.len() / (anchors.slacks.len() / STRIP);
        Strip {
            codes: &anchors.codes[first / STRIP * blocks..][..blocks],
            corrections: part(anchors.corrections, first),
            steps: part(anchors.steps, first),
            slacks: part(anchors.slacks, first),
            limits: part(self.limits.0, first),
        }
    }

    #[inline(always)]
    fn group(&self, first: usize, ahead: &'a [f32]) -> Group<'a> {
        let rows = &self.rows;
        let blocks = rows.codes.len() / (rows.slacks.len() / GROUP);
        let mut limits = [NEVER; GROUP];
        for (to, &limit) in limits.iter_mut().zip(self.limits.1.get(first..).unwrap_or_default()) {
            *to = limit;
        }
        Group {
            codes: &rows.codes[first / GROUP * blocks..][..blocks],
            steps: part(rows.steps, first),
            slacks: part(rows.slacks, first),
            limits,
            ahead,
        }
    }
}

/// `N` numbers of a strip or a group.
#[inline(always)]
fn part<T, const N: usize>(numbers: &[T], first: usize) -> &[T; N] {
    numbers[first..].first_chunk().expect("strips and groups are whole")
}
