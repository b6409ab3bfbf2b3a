//! Asynchronous copies, matrix loads and matrix products.

use crate::snippet::{Setup, fails, lanes, outcome};

/// Copies the input to shared memory, 4 bytes a lane, and reads the neighbour's.
const COPY: &str = "
        mov.u32 %r10, shared_memory;
        shl.b32 %r11, %r0, 2;
        add.s32 %r11, %r10, %r11;
        cp.async.ca.shared.global [%r11], [%rd2], 4, %r20;
        cp.async.commit_group;
        WAIT
        bar.sync 0;
        xor.b32 %r12, %r0, 1;
        shl.b32 %r12, %r12, 2;
        add.s32 %r12, %r10, %r12;
        ld.shared.u32 %r2, [%r12];
        cp.async.wait_all;";

#[test]
fn copies_land_by_the_wait_and_fill_with_zeros() {
    let numbers: Vec<u32> = (500..532).collect();
    for late_copies in [true, false] {
        let copy = |bytes: &str, wait: &str| {
            let body = format!("{bytes} {}", COPY.replace("WAIT", wait));
            outcome(&body, &numbers, Setup { late_copies, ..Setup::default() }).map(|found| found.0[..2].to_vec())
        };
        assert_eq!(copy("mov.b32 %r20, 4;", "cp.async.wait_group 0;").unwrap(), [501, 500]);
        assert_eq!(copy("mov.b32 %r20, 0;", "cp.async.wait_group 0;").unwrap(), [0, 0]);
        let early = copy("mov.b32 %r20, 4;", "cp.async.wait_group 1;");
        if late_copies {
            assert!(early.unwrap_err().contains("was never written"));
        } else {
            assert_eq!(early.unwrap(), [501, 500]);
        }
    }
}

#[test]
fn a_warp_waits_for_its_copies_before_it_ends() {
    let body = format!("mov.b32 %r20, 4; {}", COPY.replace("WAIT", "cp.async.wait_group 0;"));
    let forgotten = body.replace("cp.async.wait_all;", "cp.async.ca.shared.global [%r11], [%rd2], 4;");
    fails(&forgotten, Setup::default(), "ended before its asynchronous copies were waited for");
}

/// Writes 16-bit numbers 32 r + c to rows of 16 bytes, and loads four matrices from them.
const LOAD: &str = "
        mov.u32 %r10, shared_memory;
        shl.b32 %r11, %r0, 4;
        add.s32 %r11, %r10, %r11;
        shl.b32 %r12, %r0, 5;
        add.s32 %r13, %r12, 1;
        shl.b32 %r13, %r13, 16;
        or.b32 %r13, %r13, %r12;
        add.s32 %r14, %r13, 0x20002;
        add.s32 %r15, %r14, 0x20002;
        add.s32 %r16, %r15, 0x20002;
        st.shared.v4.u32 [%r11], {%r13, %r14, %r15, %r16};
        bar.sync 0;";

#[test]
fn matrix_loads_hand_every_lane_its_pair() {
    let load = |transposed: &str, register: u32| {
        lanes(
            &format!(
                "{LOAD} ldmatrix.sync.aligned.m8n8.x4{transposed}.shared.b16 {{%r3, %r4, %r5, %r6}}, [%r11]; mov.b32 %r2, %r{register};"
            ),
            &[],
        )
    };
    // Lane 13 has row 3, columns 2 and 3, of every matrix; matrix 1 begins with row 8.
    assert_eq!(load("", 3)[13], (3 * 32 + 2) | (3 * 32 + 3) << 16);
    assert_eq!(load("", 4)[13], (11 * 32 + 2) | (11 * 32 + 3) << 16);
    assert_eq!(load(".trans", 3)[13], (2 * 32 + 3) | (3 * 32 + 3) << 16);
    assert_eq!(load(".trans", 6)[0], (24 * 32) | (25 * 32) << 16);
}

#[test]
fn a_wrong_address_of_a_matrix_load_is_reported() {
    let load = |address: &str| format!("{LOAD} {address} ldmatrix.sync.aligned.m8n8.x4.shared.b16 {{%r3, %r4, %r5, %r6}}, [%r11];");
    let setup = Setup { shared_bytes: 512, ..Setup::default() };
    outcome(&load(""), &[], setup).unwrap();
    fails(&load("add.s32 %r11, %r11, 16;"), setup, "thread 31: 16 bytes at shared offset 512 are outside the 512 bytes");
    fails(&load("add.s32 %r11, %r11, 8;"), setup, "shared offset 8 is not aligned to 16 bytes");
    let larger = Setup { shared_bytes: 1024, ..Setup::default() };
    fails(&load("add.s32 %r11, %r11, 16;"), larger, "shared offset 512 is read and was never written");
}

/// A with A[r][k] = 1 where k = r, and B[k][n] = 8 k + n, as pairs of halves made from integers.
fn product(format: &str, a: [u32; 4], b: [u32; 2]) -> Vec<f32> {
    let [a0, a1, a2, a3] = a;
    let [b0, b1] = b;
    let convert = format!("cvt.rn.{format}x2.f32");
    // %r40..%r43 hold A: one where row and column agree. Rows are lane / 4 and 8 more, columns lane % 4 * 2 and 8 more.
    let body = format!(
        "
        shr.u32 %r30, %r0, 2;
        and.b32 %r31, %r0, 3;
        shl.b32 %r31, %r31, 1;
        add.s32 %r32, %r31, 1;
        setp.eq.s32 %p1, %r30, %r31;
        setp.eq.s32 %p2, %r30, %r32;
        selp.f32 %f10, 0f3F800000, 0f00000000, %p1;
        selp.f32 %f11, 0f3F800000, 0f00000000, %p2;
        {convert} %r40, %f11, %f10;
        mov.b32 %r41, 0;
        mov.b32 %r42, 0;
        mov.b32 %r43, %r40;
        mad.lo.s32 %r33, %r31, 8, %r30;
        cvt.rn.f32.s32 %f12, %r33;
        add.f32 %f13, %f12, 0f41000000;
        {convert} %r44, %f13, %f12;
        add.f32 %f12, %f12, 0f42800000;
        add.f32 %f13, %f13, 0f42800000;
        {convert} %r45, %f13, %f12;
        mov.f32 %f4, 0f3F000000;
        mov.f32 %f5, 0f3F000000;
        mov.f32 %f6, 0f3F000000;
        mov.f32 %f7, 0f3F000000;
        mma.sync.aligned.m16n8k16.row.col.f32.{format}.{format}.f32
            {{%f4, %f5, %f6, %f7}}, {{%r{a0}, %r{a1}, %r{a2}, %r{a3}}}, {{%r{b0}, %r{b1}}}, {{%f4, %f5, %f6, %f7}};
        mov.b32 %r2, %f6;"
    );
    lanes(&body, &[]).into_iter().map(f32::from_bits).collect()
}

#[test]
fn products_multiply_rows_by_columns_and_add() {
    // %f6 is the element of row lane / 4 + 8 and column lane % 4 * 2, and A is the unit matrix.
    let expected: Vec<f32> = (0..32).map(|lane| (8 * (lane / 4 + 8) + lane % 4 * 2) as f32 + 0.5).collect();
    for format in ["f16", "bf16"] {
        assert_eq!(product(format, [40, 41, 42, 43], [44, 45]), expected, "{format}");
        // Registers of an operand in another order are another matrix.
        let upper: Vec<f32> = expected.iter().map(|number| number - 64.0).collect();
        assert_eq!(product(format, [40, 41, 42, 43], [45, 44]), upper, "{format}, B swapped");
        assert_eq!(product(format, [41, 40, 43, 42], [44, 45]), upper, "{format}, A swapped by rows");
        assert_eq!(product(format, [40, 41, 43, 42], [44, 45]), [0.5; 32], "{format}, A swapped by columns");
    }
}
