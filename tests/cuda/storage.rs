//! Buffers: what goes up comes down, in both precisions.

use crate::support::{normals, on_gpu, on_gpu_in};
use xbm_fast::device::cuda::Precision;
use xbm_fast::device::{NumberFormat, Span, SpanMut, Storage};

/// Half a unit in the last place of 16-bit floats, relative.
const FP16_ROUNDING: f32 = 4.9e-4;

#[test]
fn numbers_come_back_as_they_went_up() {
    on_gpu_in(Precision::Fp16, |cuda| {
        let values = normals("storage", 1000);
        let mut full = cuda.zeros(1000, NumberFormat::Full).unwrap();
        cuda.upload(&values[..600], SpanMut::new(&mut full, 100, 600)).unwrap();
        let mut found = vec![1.0; 1000];
        cuda.download(Span::new(&full, 0, 1000), &mut found).unwrap();
        assert!(found[..100].iter().chain(&found[700..]).all(|&value| value == 0.0), "what is not written stays zero");
        assert_eq!(found[100..700], values[..600]);
    });
}

#[test]
fn copies_convert_between_precisions() {
    on_gpu_in(Precision::Fp16, |cuda| {
        let values = normals("conversion", 77);
        let mut full = cuda.zeros(77, NumberFormat::Full).unwrap();
        let mut half = cuda.zeros(80, NumberFormat::Compute).unwrap();
        let mut back = cuda.zeros(77, NumberFormat::Full).unwrap();
        cuda.upload(&values, SpanMut::new(&mut full, 0, 77)).unwrap();
        cuda.copy(Span::new(&full, 0, 77), SpanMut::new(&mut half, 3, 77)).unwrap();
        cuda.copy(Span::new(&half, 3, 77), SpanMut::new(&mut back, 0, 77)).unwrap();
        let (mut narrow, mut wide) = (vec![0.0; 77], vec![0.0; 77]);
        cuda.download(Span::new(&half, 3, 77), &mut narrow).unwrap();
        cuda.download(Span::new(&back, 0, 77), &mut wide).unwrap();
        assert_eq!(narrow, wide, "widening is exact");
        for (found, expected) in wide.iter().zip(&values) {
            assert!((found - expected).abs() <= FP16_ROUNDING * expected.abs(), "{found} for {expected}");
        }
    });
}

#[test]
fn integers_come_back_as_they_went_up() {
    on_gpu(|cuda| {
        let mut integers = cuda.zero_integers(5).unwrap();
        cuda.upload_integers(&[7, -8, 9], SpanMut::new(&mut integers, 1, 3)).unwrap();
        let mut copy = cuda.zero_integers(5).unwrap();
        cuda.copy_integers(Span::new(&integers, 1, 4), SpanMut::new(&mut copy, 0, 4)).unwrap();
        let mut found = [1; 5];
        cuda.download_integers(Span::new(&copy, 0, 5), &mut found).unwrap();
        assert_eq!(found, [7, -8, 9, 0, 0]);
    });
}

#[test]
fn memory_that_is_given_back_is_used_again() {
    on_gpu(|cuda| {
        drop(cuda.zeros(100_000, NumberFormat::Full).unwrap());
        let before = software_gpu::live_allocations();
        for _ in 0..10 {
            drop(cuda.zeros(99_999, NumberFormat::Full).unwrap());
        }
        assert!(software_gpu::live_allocations() <= before, "{:?} before, {:?} after", before, software_gpu::live_allocations());
    });
}
