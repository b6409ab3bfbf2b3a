//! Moves, logic, shifts, bit fields and permutations.

use super::{Entry, entry};
use crate::ptx::program::{LOCAL_WINDOW, SHARED_WINDOW};

const LOW: u32 = 0xffff;

pub fn find(opcode: &str) -> Option<Entry> {
    match opcode {
        "mov.b32" | "mov.u32" | "mov.s32" | "mov.f32" => entry!(Move, w_w, |a| a),
        "mov.b16" | "mov.u16" | "mov.s16" => entry!(Move, w_w, |a| a & LOW),
        "mov.b64" | "mov.u64" | "mov.s64" | "mov.f64" => entry!(Move, x_x, |a| a),
        "mov.pred" => entry!(Move, p_pp, |a, _| a),
        "and.b32" => entry!(Integer, w_ww, |a, b| a & b),
        "or.b32" => entry!(Integer, w_ww, |a, b| a | b),
        "xor.b32" => entry!(Integer, w_ww, |a, b| a ^ b),
        "not.b32" => entry!(Integer, w_w, |a| !a),
        "and.b64" => entry!(Integer, x_xx, |a, b| a & b),
        "or.b64" => entry!(Integer, x_xx, |a, b| a | b),
        "xor.b64" => entry!(Integer, x_xx, |a, b| a ^ b),
        "not.b64" => entry!(Integer, x_x, |a| !a),
        "and.b16" => entry!(Integer, w_ww, |a, b| a & b & LOW),
        "or.b16" => entry!(Integer, w_ww, |a, b| (a | b) & LOW),
        "xor.b16" => entry!(Integer, w_ww, |a, b| (a ^ b) & LOW),
        "not.b16" => entry!(Integer, w_w, |a| !a & LOW),
        "and.pred" => entry!(Integer, p_pp, |a, b| a & b),
        "or.pred" => entry!(Integer, p_pp, |a, b| a | b),
        "xor.pred" => entry!(Integer, p_pp, |a, b| a ^ b),
        "not.pred" => entry!(Integer, p_pp, |a, _| !a),
        "shl.b32" => entry!(Integer, w_ww, |a, b| if b > 31 { 0 } else { a << b }),
        "shr.u32" | "shr.b32" => entry!(Integer, w_ww, |a, b| if b > 31 { 0 } else { a >> b }),
        "shr.s32" => entry!(Integer, w_ww, |a, b| (a.cast_signed() >> b.min(31)).cast_unsigned()),
        "shl.b64" => entry!(Integer, x_xw, |a, b| if b > 63 { 0 } else { a << b }),
        "shr.u64" | "shr.b64" => entry!(Integer, x_xw, |a, b| if b > 63 { 0 } else { a >> b }),
        "shr.s64" => entry!(Integer, x_xw, |a, b| (a.cast_signed() >> b.min(63)).cast_unsigned()),
        "shl.b16" => entry!(Integer, w_ww, |a, b| if b > 15 { 0 } else { a << b & LOW }),
        "shr.u16" | "shr.b16" => entry!(Integer, w_ww, |a, b| if b > 15 { 0 } else { (a & LOW) >> b }),
        "shr.s16" => entry!(Integer, w_ww, |a, b| (i32::from(a as u16 as i16) >> b.min(15)).cast_unsigned() & LOW),
        "selp.b32" | "selp.u32" | "selp.s32" | "selp.f32" => entry!(Integer, w_wwp, |a| a),
        "selp.b16" | "selp.u16" | "selp.s16" => entry!(Integer, w_wwp, |a| a & LOW),
        "selp.b64" | "selp.u64" | "selp.s64" | "selp.f64" => entry!(Integer, x_xxp, |a| a),
        "cvta.to.global.u64" | "cvta.global.u64" | "cvta.param.u64" | "cvta.const.u64" | "cvta.to.const.u64" => {
            entry!(Move, x_x, |a| a)
        }
        "cvta.shared.u64" => entry!(Move, x_x, |a| a | SHARED_WINDOW),
        "cvta.to.shared.u64" => entry!(Move, x_x, |a| a ^ SHARED_WINDOW),
        "cvta.local.u64" => entry!(Move, x_x, |a| a | LOCAL_WINDOW),
        "cvta.to.local.u64" => entry!(Move, x_x, |a| a ^ LOCAL_WINDOW),
        _ => fields(opcode),
    }
}

fn fields(opcode: &str) -> Option<Entry> {
    match opcode {
        "popc.b32" => entry!(Integer, w_w, u32::count_ones),
        "clz.b32" => entry!(Integer, w_w, u32::leading_zeros),
        "brev.b32" => entry!(Integer, w_w, u32::reverse_bits),
        "bfind.u32" => entry!(Integer, w_w, |a| a.checked_ilog2().unwrap_or(u32::MAX)),
        "popc.b64" => entry!(Integer, w_x, u64::count_ones),
        "clz.b64" => entry!(Integer, w_x, u64::leading_zeros),
        "bfe.u32" => entry!(Integer, w_www, |a, start, count| extracted(u64::from(a), start, count) as u32),
        "bfe.s32" => entry!(Integer, w_www, extracted_signed),
        "bfi.b32" => entry!(Integer, w_wwww, |a, b, start, count| inserted(u64::from(a), u64::from(b), start, count, 32) as u32),
        "bfi.b64" => entry!(Integer, x_xxww, |a, b, start, count| inserted(a, b, start, count, 64)),
        "prmt.b32" => entry!(Integer, w_www, permuted),
        "shf.l.wrap.b32" => entry!(Integer, w_www, |low, high, by| (funnel(low, high) << (by & 31) >> 32) as u32),
        "shf.l.clamp.b32" => entry!(Integer, w_www, |low, high, by| (funnel(low, high) << by.min(32) >> 32) as u32),
        "shf.r.wrap.b32" => entry!(Integer, w_www, |low, high, by| (funnel(low, high) >> (by & 31)) as u32),
        "shf.r.clamp.b32" => entry!(Integer, w_www, |low, high, by| (funnel(low, high) >> by.min(32)) as u32),
        // The table is the last operand: one bit for every combination of the bits of the others.
        "lop3.b32" => entry!(Integer, w_wwww, looked_up),
        _ => None,
    }
}

fn funnel(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

fn low_bits(count: u32) -> u64 {
    if count > 63 { u64::MAX } else { (1 << count) - 1 }
}

fn extracted(a: u64, start: u32, count: u32) -> u64 {
    let (start, count) = (start & 0xff, count & 0xff);
    if start > 63 { 0 } else { a >> start & low_bits(count) }
}

fn extracted_signed(a: u32, start: u32, count: u32) -> u32 {
    let (start, count) = (start & 0xff, count & 0xff);
    if count == 0 {
        return 0;
    }
    let sign = a >> (start + count - 1).min(31) & 1;
    let field = extracted(u64::from(a), start, count.min(32)) as u32;
    let valid = count.min(32_u32.saturating_sub(start));
    if sign == 1 { field | !(low_bits(valid) as u32) } else { field }
}

fn inserted(a: u64, into: u64, start: u32, count: u32, width: u32) -> u64 {
    let (start, count) = (start & 0xff, count & 0xff);
    if start >= width {
        return into;
    }
    let field = low_bits(count) << start;
    into & !field | a << start & field
}

fn permuted(a: u32, b: u32, selector: u32) -> u32 {
    let bytes = u64::from(b) << 32 | u64::from(a);
    (0..4).fold(0, |result, place| {
        let choice = selector >> (4 * place);
        let byte = (bytes >> (8 * (choice & 7))) as u8;
        let byte = if choice & 8 == 0 { byte } else { (byte.cast_signed() >> 7).cast_unsigned() };
        result | u32::from(byte) << (8 * place)
    })
}

fn looked_up(a: u32, b: u32, c: u32, table: u32) -> u32 {
    (0..8).filter(|row| table >> row & 1 == 1).fold(0, |result, row| {
        let chosen = |value: u32, bit: u32| if row >> bit & 1 == 1 { value } else { !value };
        result | chosen(a, 2) & chosen(b, 1) & chosen(c, 0)
    })
}
