//! What single instructions compute.

use crate::snippet::{lanes, single};

/// Every line: instructions that turn %r1 into %r2, the input, the result.
#[rustfmt::skip]
const WORDS: &[(&str, u32, u32)] = &[
    ("add.s32 %r2, %r1, -3;", 1, 0xffff_fffe),
    ("sub.s32 %r2, 0, %r1;", 1, 0xffff_ffff),
    ("mul.lo.s32 %r2, %r1, 0x10001;", 0xffff_ffff, 0xfffe_ffff),
    ("mul.hi.u32 %r2, %r1, %r1;", 0xffff_ffff, 0xffff_fffe),
    ("mul.hi.s32 %r2, %r1, 2;", 0x8000_0000, 0xffff_ffff),
    ("mad.lo.s32 %r2, %r1, 7, -1;", 3, 20),
    ("mul.wide.s32 %rd4, %r1, -1; shr.u64 %rd4, %rd4, 32; cvt.u32.u64 %r2, %rd4;", 1, 0xffff_ffff),
    ("mul.wide.u32 %rd4, %r1, 0x10000; shr.u64 %rd4, %rd4, 32; cvt.u32.u64 %r2, %rd4;", 0x1234_0000, 0x1234),
    ("mul.wide.s32 %rd4, %r1, 3; mad.lo.s64 %rd4, %rd4, -2, 5; cvt.u32.u64 %r2, %rd4;", 2, 0xffff_fff9),
    ("div.u32 %r2, %r1, 7;", 100, 14),
    ("div.s32 %r2, %r1, 7;", (-100_i32) as u32, (-14_i32) as u32),
    ("rem.u32 %r2, %r1, 7;", 100, 2),
    ("rem.s32 %r2, %r1, 7;", (-100_i32) as u32, (-2_i32) as u32),
    ("min.s32 %r2, %r1, 5;", 0xffff_ffff, 0xffff_ffff),
    ("min.u32 %r2, %r1, 5;", 0xffff_ffff, 5),
    ("max.s32 %r2, %r1, 5;", 0xffff_ffff, 5),
    ("abs.s32 %r2, %r1;", 0xffff_fff0, 16),
    ("shl.b32 %r2, %r1, 40;", 1, 0),
    ("shr.u32 %r2, %r1, 4;", 0x8000_0000, 0x0800_0000),
    ("shr.s32 %r2, %r1, 4;", 0x8000_0000, 0xf800_0000),
    ("shr.s32 %r2, %r1, 99;", 0x8000_0000, 0xffff_ffff),
    ("popc.b32 %r2, %r1;", 0xf0f0_0001, 9),
    ("clz.b32 %r2, %r1;", 0x0000_8000, 16),
    ("brev.b32 %r2, %r1;", 1, 0x8000_0000),
    ("bfe.u32 %r2, %r1, 4, 8;", 0x1234_5678, 0x67),
    ("bfe.s32 %r2, %r1, 8, 4;", 0x0000_0800, 0xffff_fff8),
    ("bfi.b32 %r2, %r1, -1, 8, 4;", 0, 0xffff_f0ff),
    ("bfi.b64 %rd5, %rd5, %rd5, 0, 0; mov.u64 %rd4, 5; bfi.b64 %rd4, %rd4, 7, 32, 32; shr.u64 %rd4, %rd4, 32; cvt.u32.u64 %r2, %rd4;", 0, 5),
    ("prmt.b32 %r2, %r1, 0xaabbccdd, 0x7160;", 0x1122_3344, 0xaa33_bb44),
    ("prmt.b32 %r2, %r1, 0, 0x4448;", 0x0000_0080, 0x0000_00ff),
    ("mov.b32 %r3, 0x00ff00ff; lop3.b32 %r2, %r1, %r3, 0x0f0f0f0f, 0x96;", 0xffff_0000, 0xf00f_0ff0),
    ("shf.l.wrap.b32 %r2, %r1, 0x12345678, 8;", 0xabcd_ef01, 0x3456_78ab),
    ("shf.r.wrap.b32 %r2, %r1, 0x12345678, 8;", 0xabcd_ef01, 0x78ab_cdef),
    ("selp.b32 %r2, 1, 2, %p1;", 0, 1),
    ("setp.lt.s32 %p2, %r1, 0; selp.b32 %r2, 1, 2, %p2;", 0xffff_ffff, 1),
    ("setp.lt.u32 %p2, %r1, 0; selp.b32 %r2, 1, 2, %p2;", 0xffff_ffff, 2),
    ("setp.eq.s32 %p2, %r1, 4; not.pred %p3, %p2; and.pred %p4, %p3, %p2; or.pred %p5, %p4, %p2; xor.pred %p6, %p5, %p4; selp.u32 %r2, 1, 0, %p6;", 4, 1),
    ("cvt.u16.u32 %rs1, %r1; add.s16 %rs1, %rs1, 1; cvt.u32.u16 %r2, %rs1;", 0xffff, 0),
    ("cvt.u16.u32 %rs1, %r1; mul.wide.u16 %r2, %rs1, 4;", 0xffff, 0x3_fffc),
    ("cvt.u16.u32 %rs1, %r1; setp.gt.s16 %p2, %rs1, -2; selp.u32 %r2, 1, 0, %p2;", 0xffff, 1),
    ("cvt.s64.s32 %rd4, %r1; shr.s64 %rd4, %rd4, 40; cvt.u32.u64 %r2, %rd4;", 0x8000_0000, 0xffff_ffff),
    ("mov.b32 {%rs1, %rs2}, %r1; mov.b32 %r2, {%rs2, %rs1};", 0x1234_5678, 0x5678_1234),
    ("mov.b64 %rd4, {%r1, 7}; mov.b64 {%r3, %r2}, %rd4;", 9, 7),
    ("@%p1 mov.b32 %r2, 5; @!%p1 mov.b32 %r2, 6;", 0, 5),
];

#[test]
fn integers_and_bits() {
    for &(instructions, input, expected) in WORDS {
        let body = format!("setp.eq.s32 %p1, %r1, %r1; mov.u64 %rd5, 0; {instructions}");
        assert_eq!(single(&body, input), expected, "{instructions} of {input:#x}");
    }
}

/// Instructions that turn %f1 into %f2.
#[rustfmt::skip]
const NUMBERS: &[(&str, f32, f32)] = &[
    ("add.f32 %f2, %f1, 0f3F800000;", 2.5, 3.5),
    ("sub.f32 %f2, %f1, 0f3F800000;", 2.5, 1.5),
    ("mul.f32 %f2, %f1, %f1;", 3.0, 9.0),
    ("fma.rn.f32 %f2, %f1, %f1, 0fBF800000;", 1.0 + f32::EPSILON, 2.0 * f32::EPSILON + f32::EPSILON * f32::EPSILON),
    ("fma.rm.f32 %f2, %f1, 0f3F800000, 0f00000001;", -1.0, -1.0),
    ("add.rz.f32 %f2, %f1, 0f33000000;", 1.0, 1.0),
    ("add.rz.f32 %f2, %f1, 0fB2800000;", 1.0, 1.0 - f32::EPSILON / 2.0),
    ("add.rm.f32 %f2, %f1, 0f32800000;", 1.0, 1.0),
    ("add.rp.f32 %f2, %f1, 0f32800000;", 1.0, 1.0 + f32::EPSILON),
    ("add.rz.f32 %f2, %f1, 0fB2800000;", -1.0, -1.0),
    // What double precision cannot hold either: 1e-30 is 0f0DA24260.
    ("add.rp.f32 %f2, %f1, 0f0DA24260;", 1.0, 1.0 + f32::EPSILON),
    ("add.rm.f32 %f2, %f1, 0f8DA24260;", 1.0, 1.0 - f32::EPSILON / 2.0),
    ("fma.rm.f32 %f2, %f1, 0f3F000000, 0f3F800000;", 3.0, 2.5),
    ("div.rn.f32 %f2, %f1, 0f40400000;", 1.0, 1.0 / 3.0),
    ("rcp.rn.f32 %f2, %f1;", 3.0, 1.0 / 3.0),
    ("sqrt.rn.f32 %f2, %f1;", 2.0, std::f32::consts::SQRT_2),
    ("rsqrt.approx.f32 %f2, %f1;", 4.0, 0.5),
    ("ex2.approx.ftz.f32 %f2, %f1;", -3.0, 0.125),
    ("ex2.approx.ftz.f32 %f2, %f1;", -140.0, 0.0),
    ("rcp.approx.ftz.f32 %f2, %f1;", 1e-40, f32::INFINITY),
    ("min.f32 %f2, %f1, 0f3F800000;", f32::NAN, 1.0),
    ("max.f32 %f2, %f1, 0f3F800000;", f32::NAN, 1.0),
    ("max.f32 %f2, %f1, 0f00000000;", -0.0, 0.0),
    ("min.f32 %f2, %f1, 0f00000000;", -0.0, -0.0),
    ("neg.f32 %f2, %f1;", 0.0, -0.0),
    ("abs.f32 %f2, %f1;", -2.0, 2.0),
    ("cvt.sat.f32.f32 %f2, %f1;", 1.5, 1.0),
    ("cvt.sat.f32.f32 %f2, %f1;", f32::NAN, 0.0),
    ("cvt.rni.f32.f32 %f2, %f1;", 2.5, 2.0),
    ("cvt.rmi.f32.f32 %f2, %f1;", -2.5, -3.0),
    ("cvt.rpi.f32.f32 %f2, %f1;", 2.25, 3.0),
    ("cvt.rzi.f32.f32 %f2, %f1;", -2.75, -2.0),
    ("cvt.rzi.s32.f32 %r3, %f1; cvt.rn.f32.s32 %f2, %r3;", -2.75, -2.0),
    ("cvt.rzi.s32.f32 %r3, %f1; cvt.rn.f32.s32 %f2, %r3;", 1e20, 2_147_483_648.0),
    ("cvt.f64.f32 %fd1, %f1; mul.f64 %fd1, %fd1, 0d3FE0000000000000; cvt.rn.f32.f64 %f2, %fd1;", 3.0, 1.5),
    ("cvt.f64.f32 %fd1, %f1; sqrt.rn.f64 %fd2, %fd1; fma.rn.f64 %fd3, %fd2, %fd2, %fd1; cvt.rn.f32.f64 %f2, %fd3;", 16.0, 32.0),
    ("cvt.rn.f16.f32 %rs1, %f1; cvt.f32.f16 %f2, %rs1;", 1.0 + 3.0 / 2048.0, 1.0 + 2.0 / 1024.0),
    ("cvt.rn.bf16.f32 %rs1, %f1; cvt.u32.u16 %r3, %rs1; shl.b32 %r3, %r3, 16; mov.b32 %f2, %r3;", 1.0 + 1.0 / 256.0, 1.0),
    // The first source becomes the upper half.
    ("cvt.rn.f16x2.f32 %r3, %f1, 0f3F800000; shr.u32 %r3, %r3, 16; cvt.u16.u32 %rs1, %r3; cvt.f32.f16 %f2, %rs1;", 4.0, 4.0),
    ("setp.lt.f32 %p2, %f1, 0f3F800000; selp.f32 %f2, 0f3F800000, 0f40000000, %p2;", f32::NAN, 2.0),
    ("setp.ltu.f32 %p2, %f1, 0f3F800000; selp.f32 %f2, 0f3F800000, 0f40000000, %p2;", f32::NAN, 1.0),
    ("setp.geu.f32 %p2, %f1, 0f3F800000; selp.f32 %f2, 0f3F800000, 0f40000000, %p2;", 0.5, 2.0),
    ("setp.ne.f32 %p2, %f1, 0f3F800000; selp.f32 %f2, 0f3F800000, 0f40000000, %p2;", f32::NAN, 2.0),
    ("setp.neu.f32 %p2, %f1, 0f3F800000; selp.f32 %f2, 0f3F800000, 0f40000000, %p2;", f32::NAN, 1.0),
    ("setp.nan.f32 %p2, %f1, 0f3F800000; selp.f32 %f2, 0f3F800000, 0f40000000, %p2;", f32::NAN, 1.0),
    ("setp.num.f32 %p2, %f1, 0f3F800000; selp.f32 %f2, 0f3F800000, 0f40000000, %p2;", 0.0, 1.0),
];

#[test]
fn numbers_of_32_and_64_bits() {
    for &(instructions, input, expected) in NUMBERS {
        let body = format!("mov.b32 %f1, %r1; {instructions} mov.b32 %r2, %f2;");
        let found = f32::from_bits(single(&body, input.to_bits()));
        assert_eq!(found.to_bits(), expected.to_bits(), "{instructions} of {input}: {found}, expected {expected}");
    }
}

#[test]
fn special_registers_count_lanes_and_threads() {
    let found = lanes("mov.u32 %r3, %laneid; mov.u32 %r4, %ntid.x; mad.lo.u32 %r2, %r3, 100, %r4;", &[]);
    assert_eq!(found[..3], [32, 132, 232]);
    assert_eq!(lanes("mov.u32 %r2, %lanemask_lt;", &[])[3], 0b111);
    assert_eq!(lanes("mov.u32 %r2, %lanemask_gt;", &[])[29], 0xc000_0000);
    assert_eq!(lanes("mov.u32 %r2, %lanemask_le;", &[])[31], u32::MAX);
}

#[test]
fn loads_extend_and_vectors_keep_their_order() {
    assert_eq!(single("ld.global.s8 %r2, [%rd2+3];", 0xfe00_0000), 0xffff_fffe);
    assert_eq!(single("ld.global.u8 %r2, [%rd2+3];", 0xfe00_0000), 0xfe);
    assert_eq!(single("ld.global.u16 %rs1, [%rd2+2]; cvt.s32.s16 %r2, %rs1;", 0x8001_0000), 0xffff_8001);
    let first = "sub.s64 %rd2, %rd2, %rd3; ld.global.v4.u32 {%r3, %r4, %r5, %r6}, [%rd2+16]; mov.b32 %r2, %r5;";
    let numbers: Vec<u32> = (0..32).collect();
    assert_eq!(lanes(first, &numbers), [6; 32]);
}

#[test]
fn atomics_return_what_was_there_and_add_once_for_each_lane() {
    let body = "
        sub.s64 %rd4, %rd2, %rd3;
        atom.global.add.u32 %r2, [%rd4], 2;";
    let found = lanes(body, &[100]);
    assert_eq!(found, (0..32).map(|lane| 100 + 2 * lane).collect::<Vec<_>>());
    let most = "sub.s64 %rd4, %rd2, %rd3; atom.global.max.s32 %r3, [%rd4], %r0; ld.global.u32 %r2, [%rd4];";
    assert_eq!(lanes(most, &[(-5_i32) as u32]), [31; 32]);
    let swapped = "sub.s64 %rd4, %rd2, %rd3; atom.global.cas.b32 %r2, [%rd4], 7, %r0;";
    assert_eq!(lanes(swapped, &[7])[..3], [7, 0, 0]);
}

#[test]
fn every_16_bit_number_survives_the_way_through_single_precision() {
    let there_and_back = "
        cvt.u16.u32 %rs1, %r1;
        cvt.f32.f16 %f1, %rs1;
        cvt.rn.f16.f32 %rs2, %f1;
        cvt.u32.u16 %r2, %rs2;";
    for first in (0..=0xffff_u32).step_by(32) {
        let numbers: Vec<u32> = (first..first + 32).collect();
        let expected: Vec<u32> = numbers.iter().map(|&bits| if bits & 0x7fff > 0x7c00 { 0x7fff } else { bits }).collect();
        assert_eq!(lanes(there_and_back, &numbers), expected);
    }
}

#[test]
fn halves_round_to_even_at_the_ends_of_their_range_too() {
    let half = |number: f32| single("mov.b32 %f1, %r1; cvt.rn.f16.f32 %rs1, %f1; cvt.u32.u16 %r2, %rs1;", number.to_bits());
    let bfloat = |number: f32| single("mov.b32 %f1, %r1; cvt.rn.bf16.f32 %rs1, %f1; cvt.u32.u16 %r2, %rs1;", number.to_bits());
    assert_eq!([1.0 + 1.0 / 2048.0, 1.0 + 3.0 / 2048.0].map(half), [0x3c00, 0x3c02]);
    assert_eq!([65519.0, 65520.0, f32::NEG_INFINITY, f32::NAN].map(half), [0x7bff, 0x7c00, 0xfc00, 0x7fff]);
    assert_eq!([2_f32.powi(-24), 2_f32.powi(-25), 1.5 * 2_f32.powi(-24)].map(half), [1, 0, 2]);
    assert_eq!([1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, f32::MAX, f32::NAN].map(bfloat), [0x3f80, 0x3f82, 0x7f80, 0x7fff]);
    let value = |bits: u32| f32::from_bits(single("cvt.u16.u32 %rs1, %r1; cvt.f32.f16 %f1, %rs1; mov.b32 %r2, %f1;", bits));
    assert_eq!([0x3c01, 0x0001, 0x7bff, 0xfc00].map(value), [1.0 + 1.0 / 1024.0, 2_f32.powi(-24), 65504.0, f32::NEG_INFINITY]);
}
