//! Arithmetic of 32- and 64-bit numbers. Approximations are the rounded exact value.

use super::rounding::{Direction, add, multiply, multiply_add};
use super::{Entry, entry};
use crate::ptx::program::{Class, Operands, WARP};
use crate::ptx::registers::{Mask, Registers};

const NAN: u32 = 0x7fff_ffff;

fn f(bits: u32) -> f32 {
    f32::from_bits(bits)
}

fn d(bits: u64) -> f64 {
    f64::from_bits(bits)
}

/// Subnormal numbers as zero.
fn flushed(value: f32) -> f32 {
    if value.is_subnormal() { 0.0_f32.copysign(value) } else { value }
}

fn smaller(a: f32, b: f32) -> u32 {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => NAN,
        (true, false) => b.to_bits(),
        (false, true) => a.to_bits(),
        _ if a == b => a.to_bits() | b.to_bits(),
        _ => if a < b { a } else { b }.to_bits(),
    }
}

fn larger(a: f32, b: f32) -> u32 {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => NAN,
        (true, false) => b.to_bits(),
        (false, true) => a.to_bits(),
        _ if a == b => a.to_bits() & b.to_bits(),
        _ => if a > b { a } else { b }.to_bits(),
    }
}

fn larger_double(a: f64, b: f64) -> u64 {
    if a == b { a.to_bits() & b.to_bits() } else { a.max(b).to_bits() }
}

fn smaller_double(a: f64, b: f64) -> u64 {
    if a == b { a.to_bits() | b.to_bits() } else { a.min(b).to_bits() }
}

pub fn find(opcode: &str) -> Option<Entry> {
    match opcode {
        "add.f32" | "add.rn.f32" => entry!(Float, w_ww, |a, b| (f(a) + f(b)).to_bits()),
        "sub.f32" | "sub.rn.f32" => entry!(Float, w_ww, |a, b| (f(a) - f(b)).to_bits()),
        "mul.f32" | "mul.rn.f32" => entry!(Float, w_ww, |a, b| (f(a) * f(b)).to_bits()),
        "div.rn.f32" => entry!(Float, w_ww, |a, b| (f(a) / f(b)).to_bits()),
        "rcp.rn.f32" => entry!(Float, w_w, |a| f(a).recip().to_bits()),
        "sqrt.rn.f32" | "sqrt.approx.f32" => entry!(Float, w_w, |a| f(a).sqrt().to_bits()),
        "min.f32" => entry!(Float, w_ww, |a, b| smaller(f(a), f(b))),
        "max.f32" => entry!(Float, w_ww, |a, b| larger(f(a), f(b))),
        "neg.f32" => entry!(Float, w_w, |a| a ^ 1 << 31),
        "abs.f32" => entry!(Float, w_w, |a| a & !(1 << 31)),
        "fma.rn.f32" => Some(Entry { run: fused, shape: "w_www", class: Class::Float }),
        "fma.rm.f32" => entry!(Float, w_www, |a, b, c| multiply_add(f(a), f(b), f(c), Direction::Down).to_bits()),
        "fma.rp.f32" => entry!(Float, w_www, |a, b, c| multiply_add(f(a), f(b), f(c), Direction::Up).to_bits()),
        "fma.rz.f32" => entry!(Float, w_www, |a, b, c| multiply_add(f(a), f(b), f(c), Direction::Zero).to_bits()),
        "add.rz.f32" => entry!(Float, w_ww, |a, b| add(f(a), f(b), Direction::Zero).to_bits()),
        "add.rm.f32" => entry!(Float, w_ww, |a, b| add(f(a), f(b), Direction::Down).to_bits()),
        "add.rp.f32" => entry!(Float, w_ww, |a, b| add(f(a), f(b), Direction::Up).to_bits()),
        "mul.rz.f32" => entry!(Float, w_ww, |a, b| multiply(f(a), f(b), Direction::Zero).to_bits()),
        "ex2.approx.f32" => entry!(Float, w_w, |a| f(a).exp2().to_bits()),
        "ex2.approx.ftz.f32" => entry!(Float, w_w, |a| flushed(flushed(f(a)).exp2()).to_bits()),
        "lg2.approx.f32" => entry!(Float, w_w, |a| f(a).log2().to_bits()),
        "lg2.approx.ftz.f32" => entry!(Float, w_w, |a| flushed(f(a)).log2().to_bits()),
        "rcp.approx.f32" => entry!(Float, w_w, |a| f(a).recip().to_bits()),
        "rcp.approx.ftz.f32" => entry!(Float, w_w, |a| flushed(flushed(f(a)).recip()).to_bits()),
        "rsqrt.approx.f32" => entry!(Float, w_w, |a| (1.0 / f64::from(f(a)).sqrt()).to_f32().to_bits()),
        "rsqrt.approx.ftz.f32" => entry!(Float, w_w, |a| (1.0 / f64::from(flushed(f(a))).sqrt()).to_f32().to_bits()),
        _ => double(opcode),
    }
}

trait ToSingle {
    fn to_f32(self) -> f32;
}

impl ToSingle for f64 {
    fn to_f32(self) -> f32 {
        self as f32
    }
}

fn double(opcode: &str) -> Option<Entry> {
    match opcode {
        "add.f64" | "add.rn.f64" => entry!(Double, x_xx, |a, b| (d(a) + d(b)).to_bits()),
        "sub.f64" | "sub.rn.f64" => entry!(Double, x_xx, |a, b| (d(a) - d(b)).to_bits()),
        "mul.f64" | "mul.rn.f64" => entry!(Double, x_xx, |a, b| (d(a) * d(b)).to_bits()),
        "div.rn.f64" => entry!(Double, x_xx, |a, b| (d(a) / d(b)).to_bits()),
        "rcp.rn.f64" => entry!(Double, x_x, |a| d(a).recip().to_bits()),
        // Only the upper half of the result is defined.
        "rcp.approx.ftz.f64" => entry!(Double, x_x, |a| d(a).recip().to_bits() >> 32 << 32),
        "sqrt.rn.f64" => entry!(Double, x_x, |a| d(a).sqrt().to_bits()),
        "fma.rn.f64" => entry!(Double, x_xxx, |a, b, c| d(a).mul_add(d(b), d(c)).to_bits()),
        "min.f64" => entry!(Double, x_xx, |a, b| smaller_double(d(a), d(b))),
        "max.f64" => entry!(Double, x_xx, |a, b| larger_double(d(a), d(b))),
        "neg.f64" => entry!(Double, x_x, |a| a ^ 1 << 63),
        "abs.f64" => entry!(Double, x_x, |a| a & !(1 << 63)),
        _ => None,
    }
}

fn fused(registers: &mut Registers, operands: &Operands, mask: &Mask) {
    let source = |index: u32| registers.words[index as usize].map(f32::from_bits);
    let (a, b, mut c) = (source(operands.a), source(operands.b), source(operands.c));
    fuse(&a, &b, &mut c);
    mask.keep_words(&mut registers.words[operands.d as usize], &c.map(f32::to_bits));
}

#[cfg(target_arch = "x86_64")]
fn fuse(a: &[f32; WARP], b: &[f32; WARP], c: &mut [f32; WARP]) {
    #[target_feature(enable = "avx,fma")]
    fn vectorised(a: &[f32; WARP], b: &[f32; WARP], c: &mut [f32; WARP]) {
        plain(a, b, c);
    }
    if std::arch::is_x86_feature_detected!("fma") && std::arch::is_x86_feature_detected!("avx") {
        // SAFETY: the processor has these instructions.
        unsafe { vectorised(a, b, c) }
    } else {
        plain(a, b, c);
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn fuse(a: &[f32; WARP], b: &[f32; WARP], c: &mut [f32; WARP]) {
    plain(a, b, c);
}

#[inline(always)]
fn plain(a: &[f32; WARP], b: &[f32; WARP], c: &mut [f32; WARP]) {
    for lane in 0..WARP {
        c[lane] = a[lane].mul_add(b[lane], c[lane]);
    }
}
