//! Dot products of rows, and sums of squares, which are those of a row with itself.

use pulp::Simd;

/// Sum of the products of two rows.
#[inline(always)]
pub(crate) fn dot<S: Simd>(simd: S, left: &[f32], right: &[f32]) -> f32 {
    /// Vectors of sums, so that additions need not wait for each other.
    const SUMS: usize = 4;
    let ((left, left_end), (right, right_end)) = (S::as_simd_f32s(left), S::as_simd_f32s(right));
    let ((left, left_rest), (right, right_rest)) = (left.as_chunks::<SUMS>(), right.as_chunks::<SUMS>());
    let mut sums = [simd.splat_f32s(0.0); SUMS];
    for (left, right) in left.iter().zip(right) {
        for (sum, (&left, &right)) in sums.iter_mut().zip(left.iter().zip(right)) {
            *sum = simd.mul_add_e_f32s(left, right, *sum);
        }
    }
    for (sum, (&left, &right)) in sums.iter_mut().zip(left_rest.iter().zip(right_rest)) {
        *sum = simd.mul_add_e_f32s(left, right, *sum);
    }
    let [first, second, third, fourth] = sums;
    let sum = simd.reduce_sum_f32s(simd.add_f32s(simd.add_f32s(first, second), simd.add_f32s(third, fourth)));
    left_end.iter().zip(right_end).fold(sum, |sum, (left, right)| sum + left * right)
}

/// Sum of the products of two rows in double precision, so that neither tiny nor huge ones leave the range, in `LANES` partial sums, which
/// the compiler keeps in vectors where it may. The bits of the result depend on `LANES`; with one lane it is the sum in order.
#[inline(always)]
pub(crate) fn dot_f64<const LANES: usize>(left: &[f32], right: &[f32]) -> f64 {
    let mut sums = [0.0; LANES];
    let (left_chunks, right_chunks) = (left.chunks_exact(LANES), right.chunks_exact(LANES));
    let rest = left_chunks.remainder().iter().zip(right_chunks.remainder());
    let rest: f64 = rest.map(|(&left, &right)| f64::from(left) * f64::from(right)).sum();
    for (left, right) in left_chunks.zip(right_chunks) {
        for lane in 0..LANES {
            sums[lane] += f64::from(left[lane]) * f64::from(right[lane]);
        }
    }
    sums.iter().sum::<f64>() + rest
}
