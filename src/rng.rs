//! Random numbers as a pure function of a key, so that nothing random needs to be stored in a checkpoint.
//!
//! A stream is opened for a purpose, a step and an item (`Rng::new(seed).at("crop").at(step).at(item)`); the same path always
//! yields the same numbers, on any thread, in any order. The generator is SplitMix64 (Steele, Lea, Flood 2014), chosen because
//! its ten lines are easily repeated in Python for golden values and in CUDA.

/// A SplitMix64 stream.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

const GOLDEN_GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// What a stream can be keyed by: a number, or the name of a purpose.
pub trait Key {
    /// The key as 64 bits.
    fn bits(&self) -> u64;
}

macro_rules! integer_keys { ($($t:ty)*) => { $(impl Key for $t { fn bits(&self) -> u64 { *self as u64 } })* } }
integer_keys!(u8 u32 u64 usize i32);

impl Key for &str {
    fn bits(&self) -> u64 {
        self.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3))
    }
}

impl Rng {
    /// How often [`Rng::normal`] draws [`Rng::bits`].
    pub const DRAWS_OF_A_NORMAL: u64 = 2;

    /// The root stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The sub-stream for `key`: independent of this stream's later draws.
    #[must_use]
    pub fn at(&self, key: impl Key) -> Self {
        Self { state: mix(self.state.wrapping_add(GOLDEN_GAMMA)) ^ mix(key.bits().wrapping_add(GOLDEN_GAMMA)).rotate_left(17) }
    }

    /// This stream after `draws` more of [`Rng::bits`].
    #[must_use]
    pub fn after(&self, draws: u64) -> Self {
        Self { state: self.state.wrapping_add(GOLDEN_GAMMA.wrapping_mul(draws)) }
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN_GAMMA);
        mix(self.state)
    }

    /// Uniform in `[0, 1)`, with 24 bits.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u32 << 24) as f32
    }

    /// Uniform in `[low, high)`.
    pub fn uniform(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Uniform in `0..n` (multiply-shift; the bias of at most `n / 2^64` is ignored). `n` must not be 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }

    /// Standard normal, by Box and Muller's transform.
    pub fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - f64::from(self.unit())).ln()).sqrt();
        let angle = std::f64::consts::TAU * f64::from(self.unit());
        (radius * angle.cos()) as f32
    }

    /// Fisher-Yates shuffle.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_splitmix64_as_published() {
        let mut rng = Rng::new(1234567);
        let expected = [6457827717110365317, 3203168211198807973, 9817491932198370423];
        assert_eq!(expected, [rng.bits(), rng.bits(), rng.bits()]);
    }

    #[test]
    fn a_stream_continues_anywhere() {
        let (mut one, other) = (Rng::new(3), Rng::new(3));
        let normals: Vec<f32> = (0..5).map(|_| one.normal()).collect();
        for (index, expected) in normals.into_iter().enumerate() {
            assert_eq!(other.after(index as u64 * Rng::DRAWS_OF_A_NORMAL).normal().to_bits(), expected.to_bits());
        }
    }

    #[test]
    fn sub_streams_differ_by_key_and_do_not_depend_on_draws() {
        let mut parent = Rng::new(7);
        let before = parent.at("crop").at(3usize).bits();
        parent.bits();
        assert_eq!(before, Rng::new(7).at("crop").at(3usize).bits());
        assert_ne!(before, Rng::new(7).at("flip").at(3usize).bits());
        assert_ne!(before, Rng::new(7).at("crop").at(4usize).bits());
    }

    #[test]
    fn a_shuffle_is_a_permutation_and_normals_have_unit_variance() {
        let mut items: Vec<usize> = (0..1000).collect();
        Rng::new(5).shuffle(&mut items);
        assert_ne!(items[..10], (0..10).collect::<Vec<_>>()[..]);
        items.sort_unstable();
        assert_eq!(items, (0..1000).collect::<Vec<_>>());
        let mut rng = Rng::new(9);
        let variance = (0..20_000).map(|_| rng.normal().powi(2)).sum::<f32>() / 20_000.0;
        assert!((variance - 1.0).abs() < 0.05, "{variance}");
    }
}
