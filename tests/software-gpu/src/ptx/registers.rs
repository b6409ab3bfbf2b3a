//! The registers of a warp, and how an operation is applied to its lanes.

use super::program::{Operands, RegisterCounts, WARP};

/// Every register holds a value for each lane.
pub struct Registers {
    pub predicates: Vec<u32>,
    pub words: Vec<[u32; WARP]>,
    pub doubles: Vec<[u64; WARP]>,
}

impl Registers {
    /// Registers start as NaN in every format and as -1.
    pub fn new(counts: RegisterCounts) -> Self {
        Self {
            predicates: vec![u32::MAX; counts.predicates as usize],
            words: vec![[u32::MAX; WARP]; counts.words as usize],
            doubles: vec![[u64::MAX; WARP]; counts.doubles as usize],
        }
    }
}

/// The lanes that take part.
pub struct Mask {
    pub bits: u32,
    words: [u32; WARP],
    doubles: [u64; WARP],
}

impl Mask {
    pub fn new(bits: u32) -> Self {
        let on = |lane: usize| bits >> lane & 1 == 1;
        Self {
            bits,
            words: std::array::from_fn(|lane| if on(lane) { u32::MAX } else { 0 }),
            doubles: std::array::from_fn(|lane| if on(lane) { u64::MAX } else { 0 }),
        }
    }

    pub fn is_full(&self) -> bool {
        self.bits == u32::MAX
    }

    /// The lanes by number.
    pub fn lanes(&self) -> impl Iterator<Item = usize> + use<> {
        lanes_of(self.bits)
    }

    #[inline(always)]
    pub fn keep_words(&self, to: &mut [u32; WARP], new: &[u32; WARP]) {
        if self.is_full() {
            *to = *new;
            return;
        }
        for lane in 0..WARP {
            to[lane] = to[lane] & !self.words[lane] | new[lane] & self.words[lane];
        }
    }

    #[inline(always)]
    pub fn keep_doubles(&self, to: &mut [u64; WARP], new: &[u64; WARP]) {
        if self.is_full() {
            *to = *new;
            return;
        }
        for lane in 0..WARP {
            to[lane] = to[lane] & !self.doubles[lane] | new[lane] & self.doubles[lane];
        }
    }

    #[inline(always)]
    pub fn keep_bits(&self, to: &mut u32, new: u32) {
        *to = *to & !self.bits | new & self.bits;
    }
}

/// The numbers of the bits that are set.
pub fn lanes_of(mut bits: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lane = bits.trailing_zeros();
        bits &= bits.wrapping_sub(1);
        (lane < 32).then_some(lane as usize)
    })
}

macro_rules! mapped {
    ($name:ident, $to:ident, $keep:ident, $result:ty, $(($operand:ident, $from:ident, $source:ty)),+) => {
        #[inline(always)]
        pub fn $name(registers: &mut Registers, operands: &Operands, mask: &Mask, compute: impl Fn($($source),+) -> $result) {
            $(let $operand = &registers.$from[operands.$operand as usize];)+
            let new: [$result; WARP] = std::array::from_fn(|lane| compute($($operand[lane]),+));
            mask.$keep(&mut registers.$to[operands.d as usize], &new);
        }
    };
}

// Named after the files of the result and of the sources: w up to 32 bits, x 64 bits.
mapped!(w_w, words, keep_words, u32, (a, words, u32));
mapped!(w_ww, words, keep_words, u32, (a, words, u32), (b, words, u32));
mapped!(w_www, words, keep_words, u32, (a, words, u32), (b, words, u32), (c, words, u32));
mapped!(w_x, words, keep_words, u32, (a, doubles, u64));
mapped!(x_w, doubles, keep_doubles, u64, (a, words, u32));
mapped!(x_ww, doubles, keep_doubles, u64, (a, words, u32), (b, words, u32));
mapped!(x_wwx, doubles, keep_doubles, u64, (a, words, u32), (b, words, u32), (c, doubles, u64));
mapped!(x_x, doubles, keep_doubles, u64, (a, doubles, u64));
mapped!(x_xx, doubles, keep_doubles, u64, (a, doubles, u64), (b, doubles, u64));
mapped!(x_xw, doubles, keep_doubles, u64, (a, doubles, u64), (b, words, u32));
mapped!(x_xxx, doubles, keep_doubles, u64, (a, doubles, u64), (b, doubles, u64), (c, doubles, u64));
mapped!(x_xxww, doubles, keep_doubles, u64, (a, doubles, u64), (b, doubles, u64), (c, words, u32), (e, words, u32));
mapped!(w_wwww, words, keep_words, u32, (a, words, u32), (b, words, u32), (c, words, u32), (e, words, u32));

macro_rules! compared {
    ($name:ident, $from:ident, $source:ty) => {
        #[inline(always)]
        pub fn $name(registers: &mut Registers, operands: &Operands, mask: &Mask, holds: impl Fn($source, $source) -> bool) {
            let a = &registers.$from[operands.a as usize];
            let b = &registers.$from[operands.b as usize];
            let mut bits = 0;
            for lane in 0..WARP {
                bits |= u32::from(holds(a[lane], b[lane])) << lane;
            }
            mask.keep_bits(&mut registers.predicates[operands.d as usize], bits);
        }
    };
}

compared!(p_ww, words, u32);
compared!(p_xx, doubles, u64);

/// Combines predicates of all lanes at once.
#[inline(always)]
pub fn p_pp(registers: &mut Registers, operands: &Operands, mask: &Mask, combine: impl Fn(u32, u32) -> u32) {
    let new = combine(registers.predicates[operands.a as usize], registers.predicates[operands.b as usize]);
    mask.keep_bits(&mut registers.predicates[operands.d as usize], new);
}

/// Chooses by a predicate.
#[inline(always)]
pub fn w_wwp(registers: &mut Registers, operands: &Operands, mask: &Mask, finish: impl Fn(u32) -> u32) {
    let (a, b) = (&registers.words[operands.a as usize], &registers.words[operands.b as usize]);
    let predicate = registers.predicates[operands.c as usize];
    let new = std::array::from_fn(|lane| finish(if predicate >> lane & 1 == 1 { a[lane] } else { b[lane] }));
    mask.keep_words(&mut registers.words[operands.d as usize], &new);
}

/// The same of 64 bits.
#[inline(always)]
pub fn x_xxp(registers: &mut Registers, operands: &Operands, mask: &Mask, finish: impl Fn(u64) -> u64) {
    let (a, b) = (&registers.doubles[operands.a as usize], &registers.doubles[operands.b as usize]);
    let predicate = registers.predicates[operands.c as usize];
    let new = std::array::from_fn(|lane| finish(if predicate >> lane & 1 == 1 { a[lane] } else { b[lane] }));
    mask.keep_doubles(&mut registers.doubles[operands.d as usize], &new);
}
