//! Products of a warpgroup.

use crate::hopper::{Setup, always, fails, outcome};
use software_gpu::Order;

/// Where a number of a matrix of 64 rows and 16 columns of K lies, and the upper half and the sign flags of its descriptor.
struct Layout {
    name: &'static str,
    /// Swizzle, leading and stride offsets.
    descriptor: u64,
    transposed: u32,
    place: fn(u64, u64) -> u64,
}

const fn descriptor(swizzle: u64, leading: u64, stride: u64) -> u64 {
    swizzle << 62 | (stride / 16) << 32 | (leading / 16) << 16
}

/// The unit of 16 bytes within a row of the swizzle, changed by bits of the row.
fn changed(row: u64, width: u64, byte: u64, by: u64) -> u64 {
    row * width + ((byte / 16) ^ by) * 16 + byte % 16
}

/// The canonical layouts of CuTe's `make_gmma_desc`, worked out for 64 rows.
#[rustfmt::skip]
const LAYOUTS: &[Layout] = &[
    Layout { name: "K without a swizzle", descriptor: descriptor(0, 128, 256), transposed: 0,
        place: |row, k| row / 8 * 256 + k / 8 * 128 + row % 8 * 16 + k % 8 * 2 },
    Layout { name: "K, 32 bytes", descriptor: descriptor(3, 0, 256), transposed: 0,
        place: |row, k| changed(row, 32, 2 * k, row / 4 % 2) },
    Layout { name: "K, 64 bytes", descriptor: descriptor(2, 0, 512), transposed: 0,
        place: |row, k| changed(row, 64, 2 * k, row / 2 % 4) },
    Layout { name: "K, 128 bytes", descriptor: descriptor(1, 0, 1024), transposed: 0,
        place: |row, k| changed(row, 128, 2 * k, row % 8) },
    Layout { name: "M without a swizzle", descriptor: descriptor(0, 1024, 128), transposed: 1,
        place: |row, k| k / 8 * 1024 + row / 8 * 128 + k % 8 * 16 + row % 8 * 2 },
    Layout { name: "M, 32 bytes", descriptor: descriptor(3, 512, 256), transposed: 1,
        place: |row, k| row / 16 * 512 + k / 8 * 256 + changed(k % 8, 32, row % 16 * 2, k % 8 / 4) },
    Layout { name: "M, 64 bytes", descriptor: descriptor(2, 1024, 512), transposed: 1,
        place: |row, k| row / 32 * 1024 + k / 8 * 512 + changed(k % 8, 64, row % 32 * 2, k % 8 / 2) },
    Layout { name: "M, 128 bytes", descriptor: descriptor(1, 4096, 1024), transposed: 1,
        place: |row, k| k / 8 * 1024 + changed(k % 8, 128, row * 2, k % 8) },
];

/// Small whole numbers, different along rows and columns.
fn number(row: u64, k: u64) -> i64 {
    (row * 7 + k * 5) as i64 % 23 - 11
}

/// Bits of a whole number below 256 as f16 or bf16.
fn bits(number: i64, format: &str) -> u32 {
    let single = (number as f32).to_bits();
    if format == "bf16" || number == 0 {
        return single >> 16;
    }
    single >> 16 & 0x8000 | (single & 0x7fff_ffff).wrapping_sub(112 << 23) >> 13 & 0x7fff
}

/// Stores a matrix of 64 x 16 numbers at an offset of shared memory; thread t stores row t % 64 and half of its columns.
fn stored(layout: &Layout, offset: u64, format: &str) -> Vec<u32> {
    // As 32-bit words of the shared memory that the layout covers.
    let mut bytes = vec![0_u8; 8192];
    for row in 0..64 {
        for k in 0..16 {
            let place = (layout.place)(row, k) as usize;
            bytes[place..place + 2].copy_from_slice(&(bits(number(row + offset, k), format) as u16).to_le_bytes());
        }
    }
    bytes.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
}

/// Loads both matrices from the tensor, which lies in global memory, and multiplies; %f0 to %f31 are the sums.
fn product(a: &Layout, b: &Layout, format: &str, options: &str, register: usize) -> String {
    let sums: Vec<String> = (0..32).map(|at| format!("%f{at}")).collect();
    let sums = sums.join(", ");
    let zeros: String = (0..32).map(|at| format!("mov.f32 %f{at}, 0f3F800000;")).collect();
    format!(
        "
    ld.param.u64 %rd5, [map+16];
    mad.wide.u32 %rd5, %r0, 4, %rd5;
    mad.lo.s32 %r11, %r0, 4, %r10;
    mov.b32 %r12, 0;
$fill:
    ld.global.u32 %r13, [%rd5];
    st.shared.u32 [%r11], %r13;
    add.s64 %rd5, %rd5, 512;
    add.s32 %r11, %r11, 512;
    add.s32 %r12, %r12, 1;
    setp.lt.u32 %p1, %r12, 32;
    @%p1 bra $fill;
    fence.proxy.async;
    bar.sync 0;
    {zeros}
    shr.u32 %r14, %r10, 4;
    cvt.u64.u32 %rd6, %r14;
    or.b64 %rd7, %rd6, {};
    add.s64 %rd6, %rd6, 512;
    or.b64 %rd8, %rd6, {};
    setp.eq.u32 %p2, %r10, %r10;
    wgmma.fence.sync.aligned;
    wgmma.mma_async.sync.aligned.m64n64k16.f32.{format}.{format} {{{sums}}}, %rd7, %rd8, {options}, {}, {};
    wgmma.commit_group.sync.aligned;
    wgmma.wait_group.sync.aligned 0;
    mov.b32 %r2, %f{register};",
        a.descriptor, b.descriptor, a.transposed, b.transposed
    )
}

fn setup(a: &Layout, b: &Layout, format: &str) -> Setup {
    let tensor = [stored(a, 0, format), stored(b, 3, format)].concat();
    Setup { threads: 128, tensor, ..Setup::default() }
}

/// The sum of a thread in one of its registers: a warp has sixteen rows, a lane two of each eight columns and rows eight apart.
fn expected(register: u64, added: f32, sign: i64) -> Vec<f32> {
    let sum = |thread: u64| {
        let row = thread / 32 * 16 + thread % 32 / 4 + register / 2 % 2 * 8;
        let column = register / 4 * 8 + thread % 4 * 2 + register % 2;
        (0..16).map(|k| number(row, k) * number(column + 3, k)).sum::<i64>()
    };
    (0..128).map(|thread| (sign * sum(thread)) as f32 + added).collect()
}

fn numbers(found: Vec<u32>) -> Vec<f32> {
    found.into_iter().map(f32::from_bits).collect()
}

#[test]
fn every_layout_of_an_operand_is_the_same_matrix() {
    for (at, a) in LAYOUTS.iter().enumerate() {
        let b = &LAYOUTS[(at + 3) % LAYOUTS.len()];
        let register = (5 * at + 2) % 32;
        for format in ["f16", "bf16"] {
            let found = numbers(always(&product(a, b, format, "%p2, 1, 1", register), &setup(a, b, format)));
            assert_eq!(found, expected(register as u64, 1.0, 1), "A: {}, B: {}, {format}", a.name, b.name);
        }
    }
}

#[test]
fn sums_begin_anew_and_operands_change_their_sign() {
    let (a, b) = (&LAYOUTS[3], &LAYOUTS[7]);
    let found = |options: &str| numbers(always(&product(a, b, "f16", options, 7), &setup(a, b, "f16")));
    assert_eq!(found("0, 1, 1"), expected(7, 0.0, 1));
    assert_eq!(found("!%p2, 1, 1"), expected(7, 0.0, 1));
    assert_eq!(found("%p2, -1, 1"), expected(7, 1.0, -1));
    assert_eq!(found("%p2, 1, -1"), expected(7, 1.0, -1));
    assert_eq!(found("%p2, -1, -1"), expected(7, 1.0, 1));
}

#[test]
fn rows_of_a_may_lie_in_registers() {
    // A[r][k] is 1 where k = r % 16: the fragments of a unit matrix, as in `matrices.rs`.
    let (a, b) = (&LAYOUTS[0], &LAYOUTS[1]);
    let body = product(a, b, "f16", "%p2, 1, 1", 6).replace(
        "    wgmma.fence.sync",
        "    and.b32 %r30, %r0, 31;
        shr.u32 %r30, %r30, 2;
        and.b32 %r31, %r0, 3;
        shl.b32 %r31, %r31, 1;
        add.s32 %r32, %r31, 1;
        setp.eq.s32 %p3, %r30, %r31;
        setp.eq.s32 %p4, %r30, %r32;
        selp.b32 %r33, 0x3c00, 0, %p3;
        selp.b32 %r34, 0x3c000000, 0, %p4;
        or.b32 %r40, %r33, %r34;
        mov.b32 %r41, 0;
        mov.b32 %r42, 0;
        mov.b32 %r43, %r40;
    wgmma.fence.sync",
    );
    let body = body.replace("%rd7, %rd8, %p2, 1, 1, 0, 0", "{%r40, %r41, %r42, %r43}, %rd8, %p2, 1, 1, 0");
    let found = numbers(always(&body, &setup(a, b, "f16")));
    let expected = |thread: u64| number(8 + thread % 4 * 2 + 3, thread % 32 / 4 + 8) as f32 + 1.0;
    assert_eq!(found, (0..128).map(expected).collect::<Vec<_>>());
    let changed = body.replace("    wgmma.commit", "    mov.b32 %r41, 5;\n    wgmma.commit");
    fails(&changed, &setup(a, b, "f16"), "the operand of a product of a warpgroup is written before wgmma.wait_group");
}

#[test]
fn missing_fences_and_waits_are_named() {
    let (a, b) = (&LAYOUTS[3], &LAYOUTS[3]);
    let (body, setup) = (product(a, b, "f16", "%p2, 1, 1", 0), setup(a, b, "f16"));
    let without = |words: &str| body.replacen(words, "", 1);
    fails(&without("fence.proxy.async;"), &setup, "with no fence.proxy.async of that thread before an asynchronous access");
    fails(&without("wgmma.fence.sync.aligned;"), &setup, "wgmma.fence is missing");
    fails(&without("wgmma.wait_group.sync.aligned 0;"), &setup, "are touched before wgmma.wait_group has waited for it");
    fails(&body.replace("aligned 0;", "aligned 1;"), &setup, "are touched before wgmma.wait_group has waited for it");
    fails(&without("wgmma.commit_group.sync.aligned;"), &setup, "are touched before wgmma.wait_group has waited for it");
    let unread = without("wgmma.wait_group.sync.aligned 0;").replace("mov.b32 %r2, %f0;", "");
    fails(&unread, &setup, "a warp ended before its products were waited for");
    // A fence of one thread is none for the others.
    fails(&body.replace("    fence.proxy", "setp.eq.u32 %p3, %r0, 0;\n    @%p3 fence.proxy"), &setup, "of thread 1 at PTX line");
}

#[test]
fn products_read_as_late_as_their_wait_allows() {
    // Shared memory that is written again before the wait is what a late product may see.
    let (a, b) = (&LAYOUTS[3], &LAYOUTS[3]);
    let body = product(a, b, "f16", "%p2, 1, 1", 0);
    let over = "    add.s32 %r11, %r11, -8192; bar.sync 0; st.shared.u32 [%r11], 0; fence.proxy.async; bar.sync 0;\n    wgmma.wait";
    let body = body.replace("    wgmma.wait", over);
    let found = |late_copies| numbers(outcome(&body, &Setup { late_copies, ..setup(a, b, "f16") }).unwrap().0);
    assert_eq!(found(false), expected(0, 1.0, 1));
    assert_ne!(found(true), expected(0, 1.0, 1));
}

#[test]
fn wrong_descriptors_are_named() {
    let (a, b) = (&LAYOUTS[3], &LAYOUTS[3]);
    let (body, setup) = (product(a, b, "f16", "%p2, 1, 1", 0), setup(a, b, "f16"));
    let with = |words: &str| body.replace("    setp.eq.u32 %p2", &format!("    {words}\n    setp.eq.u32 %p2"));
    fails(&with("or.b64 %rd7, %rd7, 0x8000;"), &setup, "has bits that belong to no field");
    fails(&with("or.b64 %rd7, %rd7, 0x2000000000000;"), &setup, "has a base offset, which is not known");
    let larger = Setup { shared_bytes: 32768, ..setup.clone() };
    fails(&with("add.s64 %rd7, %rd7, 0x8000000000;"), &larger, "is read and was never written");
    fails(&with("add.s64 %rd8, %rd8, 0x3000;"), &setup, "a matrix of wgmma: 16 bytes at shared offset");
    fails(&with("cvt.u64.u32 %rd7, %r0;"), &setup, "the descriptor of a matrix differs between lanes");
    let one_warp = with("setp.lt.u32 %p5, %r0, 32; @%p5 add.s64 %rd7, %rd7, 2;");
    fails(&one_warp, &setup, "the warps of a warpgroup disagree about their product 0");
    // A wrong offset within what was written is a wrong product.
    let moved = numbers(always(&with("add.s64 %rd7, %rd7, 64;"), &setup));
    assert_ne!(moved, expected(0, 1.0, 1));
    fails(&body, &Setup { threads: 64, ..setup.clone() }, "outside a warpgroup of 128 threads");
    fails(
        &body.replace("f32.f16.f16", "f16.f16.f16"),
        &setup,
        "the instruction `wgmma.mma_async.sync.aligned.m64n64k16.f16.f16.f16",
    );
    fails(&body.replace("m64n64", "m64n72"), &setup, "32 registers for 64 x 72 sums of a warpgroup");
    let one = "    setp.lt.u32 %p5, %r0, 96; @%p5 bra $most; bra $end;\n$most: wgmma.mma";
    let fewer = body.replace("    wgmma.mma", one).replace("    mov.b32 %r2", "$end:\n    mov.b32 %r2");
    fails(&fewer, &Setup { order: Order::Reverse, ..setup }, "waits for the other warps of its warpgroup to issue its product");
}
