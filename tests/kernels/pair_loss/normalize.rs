//! The normalizers of `kernels/pair_loss/normalize.cu` and `normalizer.cuh` against their host twin, over a dense grid of similarities
//! and over rows of every make-up.

use super::weighting::{compare, weigh_pairs, weighed};
use crate::device::{Gpu, on, on_every_schedule};
use software_gpu::SCHEDULES;
use xbm_fast::kernel_args::pair_loss::PairRows;
use xbm_fast::kernel_args::pair_loss::normalize::{NormalizeParams, NormalizeStep, SideParams, normalize_shape};
use xbm_fast::kernel_args::pair_loss::weighting::CurveParams;
use xbm_fast::loss::{Mining, Named, Normalization, PairWeighting, RowNormalizer, Side, SideNormalizer, SideStatistics, Totals};

/// Two implementations of single-precision exponentials, each of exponents that reach 100.
const TWINS: f64 = 2e-5;
/// Single-precision numbers from the same double-precision formula.
const ROUNDING: f64 = 1e-6;
/// Splits that the statistics of a row are divided into.
const SPLITS: usize = 3;

/// All published losses, and the row scales and minings that none of them uses.
fn weightings() -> Vec<PairWeighting> {
    let named = Named::all().iter().map(Named::weighting);
    let side = |scale: Normalization, mining: Mining| {
        Side::new("exp:k=6,s0=0.25".parse().unwrap(), "above:-0.5".parse().unwrap()).scaled(scale).mined(mining).times(0.75)
    };
    let scales = [
        Normalization::Mean,
        Normalization::MeanRow,
        Normalization::MeanAll,
        Normalization::SoftmaxPlusOne,
        Normalization::Softmax,
        Normalization::SoftmaxAll,
    ];
    let minings = [Mining::Relative(-0.125), Mining::Hardest(2), Mining::All];
    let other = scales.into_iter().zip(minings.into_iter().cycle()).map(|(scale, mining)| PairWeighting {
        positive: side(scale, mining),
        negative: Side { curve: "sigmoid:k=5,s0=0.5".parse().unwrap(), ..side(scale, mining) },
    });
    named.chain(other).collect()
}

/// Similarities of the positives and negatives of rows: none, one, many, extreme.
fn rows() -> Vec<[Vec<f32>; 2]> {
    let many = |count: usize, low: f32, high: f32| -> Vec<f32> {
        (0..count).map(|i| low + (high - low) * ((i * 37 % count) as f32 + 0.5) / count as f32).collect()
    };
    vec![
        [vec![], vec![]],
        [vec![0.5], vec![]],
        [vec![], vec![0.25]],
        [vec![1.0], vec![1.0]],
        [vec![-1.0, 0.75], vec![-1.0, 0.875]],
        [many(5, 0.2, 0.9), many(90, -0.4, 0.6)],
        [many(40, -1.0, 1.0), many(40, -1.0, 1.0)],
    ]
}

fn seen(weighting: &PairWeighting, normalizer: &RowNormalizer, [positives, negatives]: &[Vec<f32>; 2]) -> [SideStatistics; 2] {
    let side = |side: &Side, normalizer: &SideNormalizer, positive: bool, values: &[f32]| {
        let mut statistics = SideStatistics::new(positive);
        values.iter().for_each(|&s| statistics.accumulate(side, normalizer, positive, &[s], 1));
        statistics
    };
    [
        side(&weighting.positive, &normalizer.positive, true, positives),
        side(&weighting.negative, &normalizer.negative, false, negatives),
    ]
}

/// The normalizers of all rows by the host, and by the device, each from its own normalizers of the step before.
struct Both<'a> {
    gpu: &'a Gpu,
    weighting: &'a PairWeighting,
    host: Vec<RowNormalizer>,
    device: Vec<RowNormalizer>,
}

impl Both<'_> {
    /// Last positive and negative kept by mining of the hardest.
    fn last(&self, row: &[Vec<f32>; 2]) -> [f32; 2] {
        let kept = |mining, values: &[f32], sign: f32| {
            let Mining::Hardest(count) = mining else { return 0.0 };
            let mut sizes: Vec<f32> = values.iter().map(|s| sign * s).collect();
            sizes.sort_by(|a, b| b.total_cmp(a));
            sign * sizes.get(count as usize - 1).copied().unwrap_or(f32::NEG_INFINITY)
        };
        [kept(self.weighting.positive.mining, &row[0], -1.0), kept(self.weighting.negative.mining, &row[1], 1.0)]
    }

    fn on_device(
        &self,
        step: NormalizeStep,
        normalizers: &[RowNormalizer],
        statistics: &[[SideStatistics; 2]],
        last: &[f32],
    ) -> Vec<RowNormalizer> {
        let normalizers = self.gpu.upload(bytemuck::cast_slice::<RowNormalizer, f32>(normalizers));
        let statistics = self.gpu.upload(bytemuck::cast_slice::<[SideStatistics; 2], f32>(statistics));
        let last = self.gpu.upload(last);
        let params = NormalizeParams {
            statistics: self.gpu.address(&statistics),
            last: self.gpu.address(&last),
            normalizers: self.gpu.address(&normalizers),
            anchors: self.host.len() as u32,
            splits: SPLITS as u32,
            step: step as u32,
            shared_loss: u32::from(self.weighting.shares_its_loss()),
            positive: SideParams::try_from(&self.weighting.positive).unwrap(),
            negative: SideParams::try_from(&self.weighting.negative).unwrap(),
        };
        self.gpu.launch(&self.gpu.kernel("pair_loss/normalize", "pair_normalize", 0), normalize_shape(self.host.len()), params);
        bytemuck::cast_slice(&self.gpu.download(&normalizers)).to_vec()
    }

    /// One step on both, from statistics that the device gets in splits.
    fn step(&mut self, step: NormalizeStep, rows: &[[Vec<f32>; 2]]) {
        let split = |row: &[Vec<f32>; 2], split: usize| {
            row.clone().map(|values| values.into_iter().skip(split).step_by(SPLITS).collect::<Vec<f32>>())
        };
        let parts: Vec<_> = (0..SPLITS)
            .flat_map(|part| {
                rows.iter().zip(&self.host).map(move |(row, normalizer)| (split(row, part), normalizer)).collect::<Vec<_>>()
            })
            .map(|(row, normalizer)| seen(self.weighting, normalizer, &row))
            .collect();
        let last: Vec<f32> = rows.iter().flat_map(|row| self.last(row)).collect();
        self.device = self.on_device(step, &self.device, &parts, &last);
        let whole: Vec<_> = rows.iter().zip(&self.host).map(|(row, normalizer)| seen(self.weighting, normalizer, row)).collect();
        let kept = [0, 1].map(|kind: usize| whole.iter().map(|row| f64::from(row[kind].count)).sum());
        let totals = Totals { anchors: rows.len() as f64, kept };
        for (index, normalizer) in self.host.iter_mut().enumerate() {
            let [positives, negatives] = whole[index];
            match step {
                NormalizeStep::Open => *normalizer = RowNormalizer::new(self.weighting),
                NormalizeStep::Mine => {
                    normalizer.mine(self.weighting, [positives.hardest, negatives.hardest], [last[2 * index], last[2 * index + 1]]);
                }
                NormalizeStep::Scale => normalizer.scale(self.weighting, whole[index], totals),
                NormalizeStep::Balance => normalizer.balance(self.weighting, positives),
            }
        }
        self.compare(step);
    }

    fn compare(&self, step: NormalizeStep) {
        for (row, (device, host)) in self.device.iter().zip(&self.host).enumerate() {
            let (device, host): ([f32; 13], [f32; 13]) = (bytemuck::cast(*device), bytemuck::cast(*host));
            for (word, (&found, &expected)) in device.iter().zip(&host).enumerate() {
                let near = (f64::from(found) - f64::from(expected)).abs() <= ROUNDING * f64::from(expected.abs()).max(1.0);
                assert!(found == expected || near, "{} {step:?} row {row} word {word}: {found}, {expected}", self.weighting);
            }
        }
    }
}

fn each_weighting(gpu: &Gpu, mut body: impl FnMut(&PairWeighting, &[RowNormalizer])) {
    for weighting in &weightings() {
        let rows = rows();
        let (poison, host) = (RowNormalizer { constant: f32::NAN, ..RowNormalizer::new(weighting) }, RowNormalizer::new(weighting));
        let mut both = Both { gpu, weighting, host: vec![host; rows.len()], device: vec![poison; rows.len()] };
        let passes = weighting.passes();
        for (needed, step) in [
            (true, NormalizeStep::Open),
            (passes.mining, NormalizeStep::Mine),
            (passes.sums, NormalizeStep::Scale),
            (passes.balance, NormalizeStep::Balance),
        ] {
            if needed {
                both.step(step, &rows);
            }
        }
        body(weighting, &both.host);
    }
}

#[test]
fn the_normalizers_of_rows_of_every_make_up_are_those_of_the_host() {
    on_every_schedule(|gpu| each_weighting(gpu, |_, _| {}));
}

#[test]
fn pairs_weigh_by_a_normalizer_as_on_the_host_on_a_dense_grid() {
    let similarities: Vec<f32> = (-250..=250).map(|i| i as f32 / 250.0).collect();
    on(SCHEDULES[0], |gpu| {
        each_weighting(gpu, |weighting, normalizers| {
            for normalizer in normalizers {
                let uploaded = gpu.upload(bytemuck::cast_slice::<_, f32>(&vec![*normalizer; 2 * similarities.len()]));
                let curve = |side| CurveParams::try_from(side).unwrap();
                let rows = PairRows {
                    row_normalizers: gpu.address(&uploaded),
                    positive_tails: u32::from(weighting.positive.reports_tails(true)),
                    negative_tails: u32::from(weighting.negative.reports_tails(false)),
                    ..PairRows::new(curve(&weighting.positive), curve(&weighting.negative))
                };
                let [positives, negatives] = weigh_pairs(gpu, rows, &similarities);
                for (found, side, normalizer, positive) in [
                    (positives, &weighting.positive, normalizer.positive, true),
                    (negatives, &weighting.negative, normalizer.negative, false),
                ] {
                    let weight = |s| f64::from(SideNormalizer::weights(&[normalizer], side, &[s])[0]);
                    let loss = |s| f64::from(SideNormalizer::losses(&[normalizer], side, positive, &[s])[0]);
                    let what = format!("{side}, positive {positive}, by {normalizer:?}");
                    compare(&what, &found, &weighed(&similarities, weight, loss), 1.0, TWINS);
                }
            }
        });
    });
}
