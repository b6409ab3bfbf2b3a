//! Rows by number, on every backend against plain copies.

use crate::support::{buffer, cpu, integer_values, integers, on_gpu, on_gpu_in, values};
use proptest::prelude::*;
use xbm_fast::device::cuda::Precision;
use xbm_fast::device::{NumberFormat, RowPrecision, Span, SpanMut, Storage};
use xbm_fast::ops::rows::Rows;

/// Gathered rows, and memory rows and integers that rows were scattered into.
fn moved<B: Rows>(
    backend: &B,
    precision: RowPrecision,
    (dim, count): (usize, usize),
    indices: &[i32],
) -> (Vec<f32>, Vec<f32>, Vec<i32>) {
    // Small whole numbers: exact in every format.
    let matrix: Vec<f32> = (0..count * dim).map(|value| (value % 100) as f32).collect();
    let rows: Vec<f32> = (0..indices.len() * dim).map(|value| -((value % 90) as f32) - 1.0).collect();
    let mut held = backend.zero_rows(count * dim, precision).unwrap();
    backend.upload_rows(&matrix, SpanMut::new(&mut held, 0, count * dim)).unwrap();
    let (mut gathered, mut again) =
        (buffer(backend, &vec![9.0; indices.len() * dim]), buffer(backend, &vec![9.0; indices.len() * dim]));
    let to = SpanMut::new(&mut gathered, 0, indices.len() * dim);
    backend.gather_stored_rows(dim, Span::new(&held, 0, count * dim), indices, to).unwrap();
    let mut same = backend.zeros(count * dim, NumberFormat::Compute).unwrap();
    backend.upload(&matrix, SpanMut::new(&mut same, 0, count * dim)).unwrap();
    let to = SpanMut::new(&mut again, 0, indices.len() * dim);
    backend.gather_rows(dim, Span::new(&same, 0, count * dim), indices, to).unwrap();
    let gathered = values(backend, &gathered, indices.len() * dim);
    assert_eq!(gathered, values(backend, &again, indices.len() * dim));
    let from = buffer(backend, &rows);
    backend.scatter_rows(dim, Span::new(&from, 0, rows.len()), indices, SpanMut::new(&mut held, 0, count * dim)).unwrap();
    let mut numbers = integers(backend, &vec![-5; count]);
    let labels: Vec<i32> = (0..indices.len() as i32).collect();
    backend.scatter_integers(&labels, indices, SpanMut::new(&mut numbers, 0, count)).unwrap();
    let mut matrix = matrix;
    backend.download_rows(Span::new(&held, 0, count * dim), &mut matrix).unwrap();
    (gathered, matrix, integer_values(backend, &numbers, count))
}

fn expected(dim: usize, count: usize, indices: &[i32]) -> (Vec<f32>, Vec<f32>, Vec<i32>) {
    let mut held: Vec<f32> = (0..count * dim).map(|value| (value % 100) as f32).collect();
    let (mut gathered, mut numbers) = (vec![0.0; indices.len() * dim], vec![-5; count]);
    for (row, &index) in indices.iter().enumerate().filter(|(_, index)| **index >= 0) {
        let index = index as usize;
        for column in 0..dim {
            gathered[row * dim + column] = ((index * dim + column) % 100) as f32;
            held[index * dim + column] = -(((row * dim + column) % 90) as f32) - 1.0;
        }
        numbers[index] = row as i32;
    }
    (gathered, held, numbers)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn rows_are_moved_where_their_numbers_say(dim in 1usize..70, count in 1usize..40, seed in any::<u64>()) {
        let mut order: Vec<i32> = (-3..count as i32).collect();
        xbm_fast::rng::Rng::new(seed).shuffle(&mut order);
        let indices: Vec<i32> = order.into_iter().map(|index| index.max(-1)).take(30).collect();
        for precision in [RowPrecision::Compute, RowPrecision::F16] {
            prop_assert_eq!(moved(&cpu(1), precision, (dim, count), &indices), expected(dim, count, &indices));
        }
    }
}

#[test]
fn a_gpu_moves_the_same_rows_in_every_format() {
    let indices = [4, -1, 0, 10, 2];
    for (dim, count) in [(1, 11), (64, 11), (77, 12)] {
        on_gpu(|cuda| assert_eq!(moved(cuda, RowPrecision::Compute, (dim, count), &indices), expected(dim, count, &indices)));
        on_gpu_in(Precision::Fp16, |cuda| {
            assert_eq!(moved(cuda, RowPrecision::Compute, (dim, count), &indices), expected(dim, count, &indices))
        });
        on_gpu_in(Precision::Bf16, |cuda| {
            assert_eq!(moved(cuda, RowPrecision::Compute, (dim, count), &indices), expected(dim, count, &indices))
        });
    }
}

#[test]
fn a_gpu_has_memory_rows_of_16_bit_only_beside_activations_of_16_bit() {
    on_gpu_in(Precision::Fp16, |cuda| assert_eq!(moved(cuda, RowPrecision::F16, (3, 11), &[4, 0]), expected(3, 11, &[4, 0])));
    on_gpu(|cuda| {
        let refused = cuda.zero_rows(4, RowPrecision::F16).unwrap_err().to_string();
        assert!(refused.contains("--precision fp16") && refused.contains("--memory-precision"), "{refused}");
    });
}

#[test]
fn numbers_past_the_end_and_wrong_lengths_are_refused() {
    let cpu = cpu(1);
    let (matrix, mut output) = (vec![0.0; 6], vec![0.0; 4]);
    let mut gather = |dim, indices: &[i32]| cpu.gather_rows(dim, Span::all(&matrix), indices, SpanMut::all(&mut output));
    assert!(gather(2, &[0, 2]).is_ok());
    assert!(gather(2, &[0, 3]).unwrap_err().to_string().contains("number of a row: expected less than 3, found 3"));
    assert!(gather(2, &[0]).unwrap_err().to_string().contains("rows moved by number"));
    assert!(gather(0, &[]).unwrap_err().to_string().contains("row length"));
}
