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
