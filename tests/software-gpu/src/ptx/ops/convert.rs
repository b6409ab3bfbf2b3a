//! Conversions between formats.

use super::formats::{from_bfloat, from_half, to_bfloat, to_half};
use super::{Entry, entry};

fn f(bits: u32) -> f32 {
    f32::from_bits(bits)
}

fn d(bits: u64) -> f64 {
    f64::from_bits(bits)
}

fn short(value: u32) -> i32 {
    i32::from(value as u16 as i16)
}

fn saturated(value: f32) -> f32 {
    // NaN and -0 become +0.
    if value > 0.0 { value.min(1.0) } else { 0.0 }
}

pub fn find(opcode: &str) -> Option<Entry> {
    let entry = integers(opcode).or_else(|| to_float(opcode)).or_else(|| from_float(opcode));
    entry.or_else(|| halves(opcode)).or_else(|| whole(opcode))
}

fn integers(opcode: &str) -> Option<Entry> {
    match opcode {
        "cvt.u64.u32" => entry!(Convert, x_w, u64::from),
        "cvt.s64.s32" | "cvt.u64.s32" => entry!(Convert, x_w, |a| i64::from(a.cast_signed()).cast_unsigned()),
        "cvt.s64.u32" => entry!(Convert, x_w, u64::from),
        "cvt.u32.u64" | "cvt.s32.s64" | "cvt.u32.s64" | "cvt.s32.u64" => entry!(Convert, w_x, |a| a as u32),
        "cvt.u16.u64" | "cvt.s16.s64" => entry!(Convert, w_x, |a| a as u32 & 0xffff),
        "cvt.u32.u16" | "cvt.s32.u16" | "cvt.u16.u32" | "cvt.s16.s32" | "cvt.u16.s32" | "cvt.s16.u32" => {
            entry!(Convert, w_w, |a| a & 0xffff)
        }
        "cvt.s32.s16" | "cvt.u32.s16" => entry!(Convert, w_w, |a| short(a).cast_unsigned()),
        "cvt.u64.u16" | "cvt.s64.u16" => entry!(Convert, x_w, |a| u64::from(a & 0xffff)),
        "cvt.s64.s16" | "cvt.u64.s16" => entry!(Convert, x_w, |a| i64::from(short(a)).cast_unsigned()),
        "cvt.u32.u8" | "cvt.u16.u8" | "cvt.s16.u8" | "cvt.s32.u8" => entry!(Convert, w_w, |a| a & 0xff),
        "cvt.s32.s8" | "cvt.u32.s8" => entry!(Convert, w_w, |a| i32::from(a as u8 as i8).cast_unsigned()),
        "cvt.s16.s8" | "cvt.u16.s8" => entry!(Convert, w_w, |a| i32::from(a as u8 as i8).cast_unsigned() & 0xffff),
        "cvt.u64.u8" => entry!(Convert, x_w, |a| u64::from(a & 0xff)),
        _ => None,
    }
}

fn to_float(opcode: &str) -> Option<Entry> {
    match opcode {
        "cvt.rn.f32.u16" => entry!(Convert, w_w, |a| ((a & 0xffff) as f32).to_bits()),
        "cvt.rn.f32.s16" => entry!(Convert, w_w, |a| (short(a) as f32).to_bits()),
        "cvt.rn.f32.u8" => entry!(Convert, w_w, |a| ((a & 0xff) as f32).to_bits()),
        "cvt.rn.f32.s32" => entry!(Convert, w_w, |a| (a.cast_signed() as f32).to_bits()),
        "cvt.rn.f32.u32" => entry!(Convert, w_w, |a| (a as f32).to_bits()),
        "cvt.rn.f32.u64" => entry!(Convert, w_x, |a| (a as f32).to_bits()),
        "cvt.rn.f32.s64" => entry!(Convert, w_x, |a| (a.cast_signed() as f32).to_bits()),
        "cvt.rn.f32.f64" => entry!(Convert, w_x, |a| (d(a) as f32).to_bits()),
        "cvt.f64.f32" => entry!(Convert, x_w, |a| f64::from(f(a)).to_bits()),
        "cvt.rn.f64.u32" => entry!(Convert, x_w, |a| f64::from(a).to_bits()),
        "cvt.rn.f64.s32" => entry!(Convert, x_w, |a| f64::from(a.cast_signed()).to_bits()),
        "cvt.rn.f64.u64" => entry!(Convert, x_x, |a| (a as f64).to_bits()),
        "cvt.rn.f64.s64" => entry!(Convert, x_x, |a| (a.cast_signed() as f64).to_bits()),
        _ => None,
    }
}

// Rust's casts round towards zero and stop at the ends of the range; NaN becomes 0, as in hardware for 32 bits.
fn from_float(opcode: &str) -> Option<Entry> {
    match opcode {
        "cvt.rzi.s32.f32" => entry!(Convert, w_w, |a| (f(a) as i32).cast_unsigned()),
        "cvt.rzi.u32.f32" => entry!(Convert, w_w, |a| f(a) as u32),
        "cvt.rni.s32.f32" => entry!(Convert, w_w, |a| (f(a).round_ties_even() as i32).cast_unsigned()),
        "cvt.rni.u32.f32" => entry!(Convert, w_w, |a| f(a).round_ties_even() as u32),
        "cvt.rmi.s32.f32" => entry!(Convert, w_w, |a| (f(a).floor() as i32).cast_unsigned()),
        "cvt.rpi.s32.f32" => entry!(Convert, w_w, |a| (f(a).ceil() as i32).cast_unsigned()),
        "cvt.rmi.u32.f32" => entry!(Convert, w_w, |a| f(a).floor() as u32),
        "cvt.rpi.u32.f32" => entry!(Convert, w_w, |a| f(a).ceil() as u32),
        "cvt.rzi.s64.f32" => entry!(Convert, x_w, |a| (f(a) as i64).cast_unsigned()),
        "cvt.rzi.u64.f32" => entry!(Convert, x_w, |a| f(a) as u64),
        "cvt.rzi.s32.f64" => entry!(Convert, w_x, |a| (d(a) as i32).cast_unsigned()),
        "cvt.rzi.u32.f64" => entry!(Convert, w_x, |a| d(a) as u32),
        "cvt.rni.s32.f64" => entry!(Convert, w_x, |a| (d(a).round_ties_even() as i32).cast_unsigned()),
        "cvt.rmi.s32.f64" => entry!(Convert, w_x, |a| (d(a).floor() as i32).cast_unsigned()),
        "cvt.rzi.s64.f64" => entry!(Convert, x_x, |a| (d(a) as i64).cast_unsigned()),
        "cvt.rzi.u64.f64" => entry!(Convert, x_x, |a| d(a) as u64),
        _ => None,
    }
}

fn halves(opcode: &str) -> Option<Entry> {
    match opcode {
        "cvt.f32.f16" => entry!(Convert, w_w, |a| from_half(a).to_bits()),
        "cvt.f32.bf16" => entry!(Convert, w_w, |a| from_bfloat(a).to_bits()),
        "cvt.rn.f16.f32" => entry!(Convert, w_w, |a| to_half(f(a))),
        "cvt.rn.bf16.f32" => entry!(Convert, w_w, |a| to_bfloat(f(a))),
        // The first source becomes the upper half.
        "cvt.rn.f16x2.f32" => entry!(Convert, w_ww, |a, b| to_half(f(a)) << 16 | to_half(f(b))),
        "cvt.rn.bf16x2.f32" => entry!(Convert, w_ww, |a, b| to_bfloat(f(a)) << 16 | to_bfloat(f(b))),
        _ => None,
    }
}

/// Numbers to whole or bounded numbers of the same format.
fn whole(opcode: &str) -> Option<Entry> {
    match opcode {
        "cvt.sat.f32.f32" => entry!(Convert, w_w, |a| saturated(f(a)).to_bits()),
        "cvt.rmi.f32.f32" => entry!(Convert, w_w, |a| f(a).floor().to_bits()),
        "cvt.rpi.f32.f32" => entry!(Convert, w_w, |a| f(a).ceil().to_bits()),
        "cvt.rni.f32.f32" => entry!(Convert, w_w, |a| f(a).round_ties_even().to_bits()),
        "cvt.rzi.f32.f32" => entry!(Convert, w_w, |a| f(a).trunc().to_bits()),
        "cvt.rmi.f64.f64" => entry!(Convert, x_x, |a| d(a).floor().to_bits()),
        "cvt.rpi.f64.f64" => entry!(Convert, x_x, |a| d(a).ceil().to_bits()),
        "cvt.rni.f64.f64" => entry!(Convert, x_x, |a| d(a).round_ties_even().to_bits()),
        "cvt.rzi.f64.f64" => entry!(Convert, x_x, |a| d(a).trunc().to_bits()),
        _ => None,
    }
}
