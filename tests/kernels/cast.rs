use crate::device::{Gpu, decoded, encoded, on_every_schedule, width};
use crate::support::normals;
use xbm_fast::device::cuda::cast::{CastParams, name, shape};
use xbm_fast::device::cuda::kernel::Format::{self, Bf16, F16, F32};

const PAIRS: [(Format, Format); 5] = [(F32, F16), (F32, Bf16), (F16, F32), (Bf16, F32), (F32, F32)];
/// A byte pattern that no result below has, around the output.
const UNTOUCHED: u8 = 0xa5;

/// Casts `input[start..]` to the same place of a buffer of `UNTOUCHED`, and returns that buffer's bytes.
fn cast(gpu: &Gpu, input: &[f32], start: (usize, usize), scale: f32, (from, to): (Format, Format)) -> Vec<u8> {
    let len = input.len();
    let before = vec![0.5; start.0];
    let source = gpu.upload(&encoded(&[&before, input].concat(), from));
    let target = gpu.upload(&vec![UNTOUCHED; (start.1 + len + 1) * width(to)]);
    let params = CastParams {
        input: gpu.address(&source) + (start.0 * width(from)) as u64,
        output: gpu.address(&target) + (start.1 * width(to)) as u64,
        len: len as u64,
        scale,
        padding: 0,
    };
    gpu.launch(&gpu.kernel("cast", &name(from, to).unwrap(), 0), shape(len), params);
    gpu.download(&target)
}

#[test]
fn every_length_and_alignment_casts_exactly_its_own_values() {
    on_every_schedule(|gpu| {
        for formats in PAIRS {
            for len in [0, 1, 7, 8, 9, 64, 2048 + 5] {
                for start in [(0, 0), (8, 8), (1, 0), (0, 1), (4, 4), (3, 5)] {
                    let input = decoded(&encoded(&normals("values", len), formats.0), formats.0);
                    let scaled: Vec<f32> = input.iter().map(|value| value * 0.375).collect();
                    let found = cast(gpu, &input, start, 0.375, formats);
                    let (left, rest) = found.split_at(start.1 * width(formats.1));
                    let (middle, right) = rest.split_at(len * width(formats.1));
                    assert_eq!(middle, encoded(&scaled, formats.1), "{formats:?}, {len} values from {start:?} on");
                    assert!(left.iter().chain(right).all(|&byte| byte == UNTOUCHED), "{formats:?}, {len} from {start:?}: outside");
                }
            }
        }
    });
}

/// Values at the edges of the formats: ties of the rounding, the largest, what overflows, subnormal, signed zero, not finite.
#[rustfmt::skip]
const EDGES: [f32; 20] = [
    0.0, -0.0, 1.0, -1.0, 1.0 + 1.0 / 2048.0, 1.0 + 3.0 / 2048.0, 1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, 65_504.0, 65_519.0, 65_520.0, -65_520.0,
    6.0e-8, 3.0e-8, 2.0e-8, 1.0e-40, f32::MAX, f32::MIN_POSITIVE, f32::INFINITY, f32::NEG_INFINITY,
];

#[test]
fn the_edges_of_a_format_round_as_the_host_rounds_them() {
    on_every_schedule(|gpu| {
        for (from, to) in PAIRS {
            let input = decoded(&encoded(&EDGES, from), from);
            let found = cast(gpu, &input, (0, 0), 1.0, (from, to));
            assert_eq!(found[..EDGES.len() * width(to)], encoded(&input, to), "{from:?} to {to:?}");
            let nan = cast(gpu, &[f32::NAN; 9], (0, 0), 1.0, (from, to));
            assert!(decoded(&nan, to)[..9].iter().all(|value| value.is_nan()), "{from:?} to {to:?}");
        }
    });
}

#[test]
fn every_sixteen_bit_number_survives_the_way_through_single_precision() {
    on_every_schedule(|gpu| {
        for format in [F16, Bf16] {
            let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
            let numbers = decoded(&all, format);
            let wide = cast(gpu, &numbers, (0, 0), 1.0, (format, F32));
            let wide = &decoded(&wide, F32)[..numbers.len()];
            let narrow = cast(gpu, wide, (0, 0), 1.0, (F32, format));
            for ((found, expected), number) in narrow.as_chunks::<2>().0.iter().zip(all.as_chunks::<2>().0).zip(&numbers) {
                assert!(number.is_nan() || found == expected, "{number} as {format:?}");
            }
        }
    });
}

#[test]
fn only_casts_from_or_to_single_precision_have_a_kernel() {
    assert_eq!(name(F32, F16).as_deref(), Some("cast_f32_f16"));
    assert_eq!([(F16, Bf16), (Bf16, F16), (F16, F16), (Bf16, Bf16)].map(|(from, to)| name(from, to)), [None, None, None, None]);
}
