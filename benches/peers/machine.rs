//! The rate of multiply-adds that this machine reaches in registers: the roof of every matrix product.

use crate::{Settings, Work};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use serde_json::{Value, json};
use xbm_fast::device::Cpu;

const TURNS: usize = 4_000_000;
/// Independent sums: more than the latency of a multiply-add times how many start in a cycle.
const SUMS: usize = 12;

/// Multiply-adds on numbers in registers, on each of `threads`.
pub struct MultiplyAdd {
    cpu: Cpu,
    lanes: usize,
    totals: Vec<f32>,
}

impl MultiplyAdd {
    pub fn open(settings: &Settings) -> xbm_fast::Result<Self> {
        let cpu = Cpu::new(Some(settings.number("threads")))?;
        Ok(Self { totals: vec![0.0; cpu.threads()], cpu, lanes: Arch::new().dispatch(Lanes) })
    }
}

impl Work for MultiplyAdd {
    fn run(&mut self) {
        let totals = self.totals.par_iter_mut();
        self.cpu.run(|| totals.for_each(|total| *total = Arch::new().dispatch(Chains(std::hint::black_box(1.0 - 1e-7)))));
    }

    fn result(&self) -> Vec<f32> {
        self.totals.clone()
    }

    fn facts(&self) -> Value {
        json!({ "operations": 2.0 * (self.totals.len() * TURNS * SUMS * self.lanes) as f64, "lanes": self.lanes })
    }
}

struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;
    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

struct Chains(f32);

impl WithSimd for Chains {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let factor = simd.splat_f32s(self.0);
        let mut sums = [simd.splat_f32s(1.0); SUMS];
        for _ in 0..TURNS {
            for sum in &mut sums {
                *sum = simd.mul_add_e_f32s(*sum, factor, factor);
            }
        }
        sums.into_iter().map(|sum| simd.reduce_sum_f32s(sum)).sum()
    }
}
