//! Integer arithmetic.

use super::{Entry, entry};

const LOW: u32 = 0xffff;

fn signed(value: u32) -> i32 {
    value.cast_signed()
}

fn long(value: u64) -> i64 {
    value.cast_signed()
}

fn short(value: u32) -> i32 {
    i32::from((value & LOW) as u16 as i16)
}

pub fn find(opcode: &str) -> Option<Entry> {
    match opcode {
        "add.s32" | "add.u32" => entry!(Integer, w_ww, u32::wrapping_add),
        "sub.s32" | "sub.u32" => entry!(Integer, w_ww, u32::wrapping_sub),
        "add.s64" | "add.u64" => entry!(Integer, x_xx, u64::wrapping_add),
        "sub.s64" | "sub.u64" => entry!(Integer, x_xx, u64::wrapping_sub),
        "add.s16" | "add.u16" => entry!(Integer, w_ww, |a, b| a.wrapping_add(b) & LOW),
        "sub.s16" | "sub.u16" => entry!(Integer, w_ww, |a, b| a.wrapping_sub(b) & LOW),
        "mul.lo.s32" | "mul.lo.u32" => entry!(Integer, w_ww, u32::wrapping_mul),
        "mul.lo.s64" | "mul.lo.u64" => entry!(Integer, x_xx, u64::wrapping_mul),
        "mul.lo.s16" | "mul.lo.u16" => entry!(Integer, w_ww, |a, b| a.wrapping_mul(b) & LOW),
        "mul.hi.u32" => entry!(Integer, w_ww, |a, b| ((u64::from(a) * u64::from(b)) >> 32) as u32),
        "mul.hi.s32" => entry!(Integer, w_ww, |a, b| ((i64::from(signed(a)) * i64::from(signed(b))) >> 32) as u32),
        "mul.hi.u64" => entry!(Integer, x_xx, |a, b| ((u128::from(a) * u128::from(b)) >> 64) as u64),
        "mul.hi.s64" => entry!(Integer, x_xx, |a, b| ((i128::from(long(a)) * i128::from(long(b))) >> 64) as u64),
        "mul.wide.u32" => entry!(Integer, x_ww, |a, b| u64::from(a) * u64::from(b)),
        "mul.wide.s32" => entry!(Integer, x_ww, |a, b| (i64::from(signed(a)) * i64::from(signed(b))).cast_unsigned()),
        "mul.wide.u16" => entry!(Integer, w_ww, |a, b| (a & LOW) * (b & LOW)),
        "mul.wide.s16" => entry!(Integer, w_ww, |a, b| (short(a) * short(b)).cast_unsigned()),
        "mad.lo.s32" | "mad.lo.u32" => entry!(Integer, w_www, |a, b, c| a.wrapping_mul(b).wrapping_add(c)),
        "mad.lo.s64" | "mad.lo.u64" => entry!(Integer, x_xxx, |a, b, c| a.wrapping_mul(b).wrapping_add(c)),
        "mad.lo.s16" | "mad.lo.u16" => entry!(Integer, w_www, |a, b, c| a.wrapping_mul(b).wrapping_add(c) & LOW),
        "mad.wide.u32" => entry!(Integer, x_wwx, |a, b, c| (u64::from(a) * u64::from(b)).wrapping_add(c)),
        "mad.wide.s32" => {
            entry!(Integer, x_wwx, |a, b, c| (i64::from(signed(a)) * i64::from(signed(b))).cast_unsigned().wrapping_add(c))
        }
        "min.u32" => entry!(Integer, w_ww, u32::min),
        "max.u32" => entry!(Integer, w_ww, u32::max),
        "min.s32" => entry!(Integer, w_ww, |a, b| signed(a).min(signed(b)).cast_unsigned()),
        "max.s32" => entry!(Integer, w_ww, |a, b| signed(a).max(signed(b)).cast_unsigned()),
        "min.u64" => entry!(Integer, x_xx, u64::min),
        "max.u64" => entry!(Integer, x_xx, u64::max),
        "min.s64" => entry!(Integer, x_xx, |a, b| long(a).min(long(b)).cast_unsigned()),
        "max.s64" => entry!(Integer, x_xx, |a, b| long(a).max(long(b)).cast_unsigned()),
        "neg.s32" => entry!(Integer, w_w, u32::wrapping_neg),
        "neg.s64" => entry!(Integer, x_x, u64::wrapping_neg),
        "abs.s32" => entry!(Integer, w_w, |a| signed(a).wrapping_abs().cast_unsigned()),
        "abs.s64" => entry!(Integer, x_x, |a| long(a).wrapping_abs().cast_unsigned()),
        _ => divided(opcode),
    }
}

// A division by zero gives what hardware is seen to give: all ones, and the dividend as remainder.
fn divided(opcode: &str) -> Option<Entry> {
    match opcode {
        "div.u32" => entry!(Integer, w_ww, |a, b| a.checked_div(b).unwrap_or(u32::MAX)),
        "rem.u32" => entry!(Integer, w_ww, |a, b| a.checked_rem(b).unwrap_or(a)),
        "div.u64" => entry!(Integer, x_xx, |a, b| a.checked_div(b).unwrap_or(u64::MAX)),
        "rem.u64" => entry!(Integer, x_xx, |a, b| a.checked_rem(b).unwrap_or(a)),
        "div.s32" => {
            entry!(Integer, w_ww, |a, b| if b == 0 { u32::MAX } else { signed(a).wrapping_div(signed(b)).cast_unsigned() })
        }
        "rem.s32" => entry!(Integer, w_ww, |a, b| if b == 0 { a } else { signed(a).wrapping_rem(signed(b)).cast_unsigned() }),
        "div.s64" => entry!(Integer, x_xx, |a, b| if b == 0 { u64::MAX } else { long(a).wrapping_div(long(b)).cast_unsigned() }),
        "rem.s64" => entry!(Integer, x_xx, |a, b| if b == 0 { a } else { long(a).wrapping_rem(long(b)).cast_unsigned() }),
        "div.u16" => entry!(Integer, w_ww, |a, b| (a & LOW).checked_div(b & LOW).unwrap_or(LOW)),
        "rem.u16" => entry!(Integer, w_ww, |a, b| (a & LOW).checked_rem(b & LOW).unwrap_or(a & LOW)),
        _ => None,
    }
}
