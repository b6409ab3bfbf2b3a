//! One-dimensional transforms of Winograd's F(4, 3) on vectors of channels, for the points 0, ±5/8, ±3/2 and infinity.
//!
//! The points are those that keep the rounding of 32-bit sums small among the exact binary fractions (about five times that of the
//! direct sum, against eleven times for the usual 0, ±1, ±2). Winograd, Arithmetic Complexity of Computations (1980); Lavin and Gray,
//! arXiv 1509.09308: `y = output(filter(g) * input(d))` with elementwise product, and the same along the other dimension.

use pulp::Simd;

/// Side of the output of one tile.
pub(super) const TILE: usize = 4;
/// Side of the input of one tile, and of its transform.
pub(super) const POINTS: usize = TILE + 2;
/// Numbers per channel in a transformed tile.
pub(super) const PLANES: usize = POINTS * POINTS;

const A: f32 = 0.625;
const B: f32 = 1.5;
const A2: f32 = A * A;
const B2: f32 = B * B;
/// `x^5 - SUM x^3 + PRODUCT x` vanishes at the five finite points.
const SUM: f32 = A2 + B2;
const PRODUCT: f32 = A2 * B2;
/// One over the product of the differences between a point and the other finite ones.
const WEIGHT_0: f32 = 1.0 / PRODUCT;
const WEIGHT_A: f32 = 1.0 / (2.0 * A2 * (A2 - B2));
const WEIGHT_B: f32 = 1.0 / (2.0 * B2 * (B2 - A2));

/// A transform of `FROM` vectors into `TO`.
pub(super) trait Transform<S: Simd, const FROM: usize, const TO: usize>: Copy {
    fn apply(self, simd: S, from: [S::f32s; FROM]) -> [S::f32s; TO];

    /// Along both dimensions. Plain loops: a closure would be compiled without the vector instructions.
    #[inline(always)]
    fn apply_both(self, simd: S, from: [[S::f32s; FROM]; FROM]) -> [[S::f32s; TO]; TO] {
        let zero = simd.splat_f32s(0.0);
        let mut columns = [[zero; FROM]; TO];
        for x in 0..FROM {
            let mut column = [zero; FROM];
            for y in 0..FROM {
                column[y] = from[y][x];
            }
            let column = self.apply(simd, column);
            for y in 0..TO {
                columns[y][x] = column[y];
            }
        }
        let mut both = [[zero; TO]; TO];
        for y in 0..TO {
            both[y] = self.apply(simd, columns[y]);
        }
        both
    }
}

/// `a + factor * b`.
#[inline(always)]
fn fma<S: Simd>(simd: S, a: S::f32s, factor: f32, b: S::f32s) -> S::f32s {
    simd.mul_add_e_f32s(simd.splat_f32s(factor), b, a)
}

#[inline(always)]
fn scale<S: Simd>(simd: S, factor: f32, a: S::f32s) -> S::f32s {
    simd.mul_f32s(simd.splat_f32s(factor), a)
}

/// A tile of the input: the values at the points of the polynomial dual to the input.
#[derive(Clone, Copy)]
pub(super) struct InputTransform;

impl<S: Simd> Transform<S, POINTS, POINTS> for InputTransform {
    #[inline(always)]
    fn apply(self, simd: S, d: [S::f32s; POINTS]) -> [S::f32s; POINTS] {
        let even_a = fma(simd, d[4], -B2, d[2]);
        let odd_a = scale(simd, A, fma(simd, d[3], -B2, d[1]));
        let even_b = fma(simd, d[4], -A2, d[2]);
        let odd_b = scale(simd, B, fma(simd, d[3], -A2, d[1]));
        [
            fma(simd, fma(simd, d[4], -SUM, d[2]), PRODUCT, d[0]),
            simd.add_f32s(even_a, odd_a),
            simd.sub_f32s(even_a, odd_a),
            simd.add_f32s(even_b, odd_b),
            simd.sub_f32s(even_b, odd_b),
            fma(simd, fma(simd, d[5], -SUM, d[3]), PRODUCT, d[1]),
        ]
    }
}

/// Sums at the points to a tile of the output.
#[derive(Clone, Copy)]
pub(super) struct OutputTransform;

impl<S: Simd> Transform<S, POINTS, TILE> for OutputTransform {
    #[inline(always)]
    fn apply(self, simd: S, m: [S::f32s; POINTS]) -> [S::f32s; TILE] {
        let (even_a, odd_a) = (simd.add_f32s(m[1], m[2]), simd.sub_f32s(m[1], m[2]));
        let (even_b, odd_b) = (simd.add_f32s(m[3], m[4]), simd.sub_f32s(m[3], m[4]));
        [
            simd.add_f32s(m[0], simd.add_f32s(even_a, even_b)),
            fma(simd, scale(simd, A, odd_a), B, odd_b),
            fma(simd, scale(simd, A2, even_a), B2, even_b),
            fma(simd, fma(simd, m[5], A2 * A, odd_a), B2 * B, odd_b),
        ]
    }
}

/// Transpose of [`OutputTransform`]: gradient of the output to gradient of the sums.
#[derive(Clone, Copy)]
pub(super) struct OutputGradientTransform;

impl<S: Simd> Transform<S, TILE, POINTS> for OutputGradientTransform {
    #[inline(always)]
    fn apply(self, simd: S, y: [S::f32s; TILE]) -> [S::f32s; POINTS] {
        let even_a = fma(simd, y[0], A2, y[2]);
        let odd_a = fma(simd, scale(simd, A, y[1]), A2 * A, y[3]);
        let even_b = fma(simd, y[0], B2, y[2]);
        let odd_b = fma(simd, scale(simd, B, y[1]), B2 * B, y[3]);
        [
            y[0],
            simd.add_f32s(even_a, odd_a),
            simd.sub_f32s(even_a, odd_a),
            simd.add_f32s(even_b, odd_b),
            simd.sub_f32s(even_b, odd_b),
            y[3],
        ]
    }
}

/// A filter to its weighted values at the points.
#[derive(Clone, Copy)]
pub(super) struct FilterTransform;

impl<S: Simd> Transform<S, 3, POINTS> for FilterTransform {
    #[inline(always)]
    fn apply(self, simd: S, g: [S::f32s; 3]) -> [S::f32s; POINTS] {
        let even_a = scale(simd, WEIGHT_A, fma(simd, g[0], A2, g[2]));
        let odd_a = scale(simd, WEIGHT_A * A, g[1]);
        let even_b = scale(simd, WEIGHT_B, fma(simd, g[0], B2, g[2]));
        let odd_b = scale(simd, WEIGHT_B * B, g[1]);
        [
            scale(simd, WEIGHT_0, g[0]),
            simd.add_f32s(even_a, odd_a),
            simd.sub_f32s(even_a, odd_a),
            simd.add_f32s(even_b, odd_b),
            simd.sub_f32s(even_b, odd_b),
            g[2],
        ]
    }
}

/// Transpose of [`FilterTransform`]: gradient at the points to gradient of the filter.
#[derive(Clone, Copy)]
pub(super) struct FilterGradientTransform;

impl<S: Simd> Transform<S, POINTS, 3> for FilterGradientTransform {
    #[inline(always)]
    fn apply(self, simd: S, u: [S::f32s; POINTS]) -> [S::f32s; 3] {
        let (even_a, odd_a) = (simd.add_f32s(u[1], u[2]), simd.sub_f32s(u[1], u[2]));
        let (even_b, odd_b) = (simd.add_f32s(u[3], u[4]), simd.sub_f32s(u[3], u[4]));
        let (even_a, even_b) = (scale(simd, WEIGHT_A, even_a), scale(simd, WEIGHT_B, even_b));
        [
            fma(simd, simd.add_f32s(even_a, even_b), WEIGHT_0, u[0]),
            fma(simd, scale(simd, WEIGHT_A * A, odd_a), WEIGHT_B * B, odd_b),
            fma(simd, fma(simd, u[5], A2, even_a), B2, even_b),
        ]
    }
}
