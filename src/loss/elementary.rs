//! `exp` and `ln` written without branches, so that a loop over an array of similarities becomes vector instructions.
//!
//! Polynomials of the Cephes library (Moshier, 1992), single precision, about 2 units in the last place. No fused
//! multiply-add is used, so every processor yields the same bits.

/// `exp(x)`, with `x` clamped to [-87, 88] where the result is a normal number.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// Adding 1.5 * 2^23 leaves the nearest integer in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let power = rounded - ROUND;
    let r = x - power * LN_2_HIGH - power * LN_2_LOW;
    let mut sum = 1.987_569_1e-4;
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        sum = sum * r + coefficient;
    }
    let scale = f32::from_bits(rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23);
    (sum * r * r + r + 1.0) * scale
}

/// `ln(x)` of a positive normal number; smaller numbers count as the smallest normal one.
#[inline(always)]
pub(super) fn ln(x: f32) -> f32 {
    const MANTISSA: u32 = 0x007F_FFFF;
    const HALF: u32 = 0x3F00_0000;
    let bits = x.max(f32::MIN_POSITIVE).to_bits();
    let mantissa = f32::from_bits(bits & MANTISSA | HALF);
    let exponent = ((bits >> 23) as i32 - 126) as f32;
    let small = mantissa < std::f32::consts::FRAC_1_SQRT_2;
    let r = if small { mantissa + mantissa - 1.0 } else { mantissa - 1.0 };
    let exponent = if small { exponent - 1.0 } else { exponent };
    let mut sum = 7.037_683_6e-2;
    for coefficient in
        [-0.115_146_1, 0.116_769_98, -0.124_201_41, 0.142_493_23, -0.166_680_58, 0.200_007_15, -0.249_999_94, 0.333_333_3]
    {
        sum = sum * r + coefficient;
    }
    let square = r * r;
    r + (sum * r * square - 2.121_944_4e-4 * exponent - 0.5 * square) + 0.693_359_4 * exponent
}

#[cfg(test)]
mod tests {
    use super::{exp, ln};

    /// Two units in the last place, and the rounding of the argument's last bit.
    const TOLERANCE: f64 = 4e-7;

    #[test]
    fn exp_and_ln_agree_with_double_precision() {
        for step in -8700..=8800 {
            let x = step as f32 / 100.0;
            let expected = f64::from(x).exp();
            assert!((f64::from(exp(x)) / expected - 1.0).abs() < TOLERANCE, "exp({x}) = {}", exp(x));
            let expected = f64::from(exp(x)).ln();
            let allowed = TOLERANCE * expected.abs().max(0.1);
            assert!((f64::from(ln(exp(x))) - expected).abs() < allowed, "ln({}) = {}", exp(x), ln(exp(x)));
        }
    }

    #[test]
    fn arguments_beyond_the_range_stay_finite() {
        for x in [-1e30, -88.5, 89.0, 1e30] {
            assert!(exp(x).is_finite() && exp(x) > 0.0, "exp({x}) = {}", exp(x));
        }
        assert!(ln(0.0).is_finite() && ln(1e-40).is_finite());
        assert_eq!((exp(0.0), ln(1.0)), (1.0, 0.0));
    }
}
