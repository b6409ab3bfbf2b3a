//! 16-bit numbers.

/// The value of a half.
#[inline(always)]
pub fn from_half(bits: u32) -> f32 {
    // The exponent and mantissa, moved into place, are too small by 2^112; not so for infinities and NaN.
    let magnitude = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits(0x7780_0000);
    let special = if bits & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(magnitude.to_bits() | special | (bits & 0x8000) << 16)
}

/// The nearest half, ties to even; NaN becomes the one hardware gives.
#[inline(always)]
pub fn to_half(value: f32) -> u32 {
    let bits = value.to_bits();
    let (sign, magnitude) = (bits >> 16 & 0x8000, bits & 0x7fff_ffff);
    if magnitude > 0x7f80_0000 {
        return 0x7fff;
    }
    let rounded = if magnitude < 0x3880_0000 {
        // Below the normal numbers: adding a half rounds to whole multiples of 2^-24.
        (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5_f32.to_bits())
    } else {
        magnitude.wrapping_sub(0x3800_0000).wrapping_add(0xfff + (magnitude >> 13 & 1)) >> 13
    };
    sign | rounded.min(0x7c00)
}

/// The value of a bfloat16.
#[inline(always)]
pub fn from_bfloat(bits: u32) -> f32 {
    f32::from_bits(bits << 16)
}

/// The nearest bfloat16, ties to even; NaN becomes the one hardware gives.
#[inline(always)]
pub fn to_bfloat(value: f32) -> u32 {
    let bits = value.to_bits();
    if value.is_nan() { 0x7fff } else { bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16 }
}

#[cfg(test)]
mod tests {
    use super::{from_bfloat, from_half, to_bfloat, to_half};

    #[test]
    fn every_16_bit_number_survives_the_way_there_and_back() {
        for bits in 0..=0xffff_u32 {
            if !from_half(bits).is_nan() {
                assert_eq!(to_half(from_half(bits)), bits);
            }
            if !from_bfloat(bits).is_nan() {
                assert_eq!(to_bfloat(from_bfloat(bits)), bits);
            }
        }
    }

    #[test]
    fn known_halves_and_ties() {
        assert_eq!(from_half(0x3c01), 1.0 + 1.0 / 1024.0);
        assert_eq!(from_half(0x0001), 2_f32.powi(-24));
        assert_eq!(from_half(0x7bff), 65504.0);
        assert_eq!(from_half(0xfc00), f32::NEG_INFINITY);
        assert!(from_half(0x7e00).is_nan());
        assert_eq!(to_half(1.0 + 1.0 / 2048.0), 0x3c00);
        assert_eq!(to_half(1.0 + 3.0 / 2048.0), 0x3c02);
        assert_eq!(to_half(65520.0), 0x7c00);
        assert_eq!(to_half(65519.0), 0x7bff);
        assert_eq!(to_half(2_f32.powi(-25)), 0);
        assert_eq!(to_half(1.5 * 2_f32.powi(-24)), 2);
        assert_eq!(to_bfloat(1.0 + 1.0 / 256.0), 0x3f80);
        assert_eq!(to_bfloat(1.0 + 3.0 / 256.0), 0x3f82);
        assert_eq!(to_bfloat(f32::MAX), 0x7f80);
    }
}
