//! Numbers at the edge: no length, no steps, too many rows, another order of bytes.

use crate::support::{buffer, config, cpu, on_gpu_in, values};
use xbm_fast::app::index::Index;
use xbm_fast::device::cuda::Precision;
use xbm_fast::device::{NumberFormat, Span, SpanMut};
use xbm_fast::memory::EmbeddingMemory;
use xbm_fast::ops::l2_normalize::{L2Normalize, RowGeometry};
use xbm_fast::train::TrainSettings;
use xbm_fast::train::schedule::Schedule;
use xbm_fast::train::schedule::ScheduleKind;

/// Unit rows and the gradient of the rows before, for a gradient of ones.
fn normalized<B: L2Normalize>(backend: &B, rows: &[f32], dim: usize, format: NumberFormat) -> [Vec<f32>; 2] {
    let (len, count) = (rows.len(), rows.len() / dim);
    let geometry = RowGeometry { rows: count, dim };
    let mut input = backend.zeros(len, format).unwrap();
    backend.upload(rows, SpanMut::new(&mut input, 0, len)).unwrap();
    let mut norms = buffer(backend, &vec![f32::NAN; count]);
    let [mut unit, mut gradient] = [len, len].map(|len| backend.zeros(len, format).unwrap());
    let (output, lengths) = (SpanMut::new(&mut unit, 0, len), SpanMut::new(&mut norms, 0, count));
    backend.l2_normalize_forward(&geometry, Span::new(&input, 0, len), output, lengths).unwrap();
    let ones = buffer(backend, &vec![1.0; len]);
    let (output, lengths) = (Span::new(&unit, 0, len), Span::new(&norms, 0, count));
    let result = SpanMut::new(&mut gradient, 0, len);
    backend.l2_normalize_backward(&geometry, output, lengths, Span::new(&ones, 0, len), result).unwrap();
    [values(backend, &unit, len), values(backend, &gradient, len)]
}

// github.com/pytorch/pytorch/issues/184575: the gradient of a zero row was 1e12.
// github.com/keras-team/keras/pull/23093: it was NaN.
// github.com/pytorch/pytorch/pull/192017: in 16 bit the row itself was NaN, for 1e-12 is 0 there.
// github.com/lightly-ai/lightly/issues/1259: so were the losses above it.
#[test]
fn a_zero_row_stays_zero_and_has_no_gradient() {
    let rows = [0.0, 0.0, 3.0, 4.0];
    let check = |[unit, gradient]: [Vec<f32>; 2]| {
        assert_eq!((&unit[..2], &gradient[..2]), (&[0.0; 2][..], &[0.0; 2][..]));
        assert!((unit[2] - 0.6).abs() < 1e-3 && gradient.iter().all(|value| value.is_finite()), "{unit:?} {gradient:?}");
    };
    check(normalized(&cpu(1), &rows, 2, NumberFormat::Full));
    for precision in [Precision::Fp32, Precision::Fp16] {
        on_gpu_in(precision, |cuda| check(normalized(cuda, &rows, 2, NumberFormat::Compute)));
    }
}

// github.com/pytorch/pytorch/issues/43211: the norm of a small row in 16 bit had a gradient of NaN.
// github.com/MinishLab/model2vec/pull/368: squares of small and of large rows leave the range of 16 bit.
#[test]
fn rows_whose_squares_leave_the_range_of_16_bit_become_unit_rows() {
    // Squares of 1e-9 and of 1e9.
    let rows = [3e-5, 4e-5, 3e4, 4e4];
    let check = |[unit, gradient]: [Vec<f32>; 2]| {
        for (found, expected) in unit.iter().zip([0.6, 0.8, 0.6, 0.8]) {
            assert!((found - expected).abs() < 1e-2, "{unit:?}");
        }
        assert!(gradient.iter().all(|value| value.is_finite()), "{gradient:?}");
    };
    check(normalized(&cpu(1), &rows, 2, NumberFormat::Full));
    for precision in [Precision::Fp32, Precision::Fp16] {
        on_gpu_in(precision, |cuda| check(normalized(cuda, &rows, 2, NumberFormat::Compute)));
    }
}

// github.com/deepspeedai/DeepSpeed/issues/771: a warm-up of 0 or 1 steps divided by zero.
// github.com/PrimeIntellect-ai/prime-rl/issues/968: so did one as long as the run.
// github.com/InternLM/xtuner/pull/1285: the same, with a cosine.
#[test]
fn a_learning_rate_is_a_number_however_long_its_warm_up() {
    use ScheduleKind::{Constant, Cosine, Plateau, Step};
    for schedule in [Constant, Step, Cosine, Plateau] {
        for (steps, warmup) in [(10, 0), (10, 1), (10, 10), (10, 25), (1, 1), (0, 0)] {
            let config = config!(TrainSettings::default(); schedule, steps, warmup, schedule_steps: 0, lr: 0.5);
            let rates: Vec<f32> = (0..30).map(|step| Schedule::new(&config).learning_rate(step)).collect();
            let sound = rates.iter().all(|rate| rate.is_finite() && (0.0..=0.5).contains(rate));
            assert!(sound, "{schedule:?} of {steps} steps, {warmup} to warm up: {rates:?}");
            assert!(warmup == 0 || rates[0] > 0.0, "{schedule:?}: nothing is learned in the first of {warmup} steps");
        }
    }
}

// github.com/facebookresearch/faiss/issues/976: numbers of rows of 64 bit were counted in 32.
// github.com/facebookresearch/faiss/pull/2623: sizes beyond 2^31 sometimes worked and sometimes not.
#[test]
fn more_rows_than_can_be_numbered_are_refused_not_wrapped() {
    for (rows, dim) in [(1 << 31, 1), (1 << 32, 128), (usize::MAX / 2, 3)] {
        let message = EmbeddingMemory::new(&cpu(1), rows, dim).unwrap_err().to_string();
        assert!(message.contains(&rows.to_string()) && message.contains("2147483647"), "{message}");
    }
}

/// A .npy file of two unit rows of three numbers, under this description.
fn npy(order: &str, description: &str) -> Vec<u8> {
    let header = format!("{{'descr': '{description}', 'fortran_order': {order}, 'shape': (2, 3), }}\n");
    let numbers: Vec<u8> = [1.0f32, 0.0, 0.0, 0.0, 1.0, 0.0].into_iter().flat_map(f32::to_le_bytes).collect();
    [&b"\x93NUMPY\x01\x00"[..], &(header.len() as u16).to_le_bytes(), header.as_bytes(), &numbers].concat()
}

// github.com/rogersce/cnpy/issues/7: the order of columns was misread, and rows came out mixed.
// github.com/PECOS-packages/PECOS/issues/463: numbers of the other byte order were taken as they lay.
#[test]
fn a_matrix_in_another_order_is_refused_not_misread() {
    let folder = tempfile::tempdir().unwrap();
    let message = |order: &str, description: &str| {
        let path = folder.path().join("rows.npy");
        std::fs::write(&path, npy(order, description)).unwrap();
        Index::read(&path).unwrap_err().to_string()
    };
    for (order, description) in [("True", "<f4"), ("False", ">f4"), ("False", "<f8"), ("False", "<i4")] {
        assert!(message(order, description).contains(".npy file"), "{order} {description}");
    }
    // The rows themselves are read; what is missing is the list beside them.
    assert!(message("False", "<f4").contains("rows.csv"));
}
