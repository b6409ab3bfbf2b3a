//! Shuffles, votes and what is counted of shared and global memory.

use crate::snippet::{Setup, lanes, outcome};
use software_gpu::ptx::Counts;
use software_gpu::ptx::report::table;
use std::collections::BTreeMap;

#[test]
fn shuffles_read_other_lanes_within_their_bounds() {
    let shuffle = |kind: &str, by: u32, bounds: u32| {
        lanes(
            &format!("shfl.sync.{kind}.b32 %r3|%p1, %r0, {by}, {bounds}, -1; selp.u32 %r4, 0, 1000, %p1; add.s32 %r2, %r3, %r4;"),
            &[],
        )
    };
    assert_eq!(shuffle("bfly", 5, 31)[..4], [5, 4, 7, 6]);
    assert_eq!(shuffle("idx", 9, 31), [9; 32]);
    // Outside of the bounds a lane keeps its own value, and its predicate is false.
    assert_eq!(shuffle("up", 1, 0)[..3], [1000, 0, 1]);
    assert_eq!(shuffle("down", 1, 31)[30..], [31, 1031]);
    // Segments of eight lanes.
    assert_eq!(shuffle("down", 1, 0x1807 | 31)[6..9], [7, 1007, 9]);
    assert_eq!(shuffle("idx", 2, 0x181f)[7..10], [2, 10, 10]);
}

#[test]
fn votes_see_all_lanes() {
    let vote = |kind: &str| {
        lanes(&format!("setp.gt.u32 %p1, %r1, 4; vote.sync.{kind}.pred %p2, %p1, -1; selp.u32 %r2, 1, 0, %p2;"), &[0, 5, 9])[0]
    };
    assert_eq!((vote("any"), vote("all"), vote("uni")), (1, 0, 0));
    assert_eq!(lanes("setp.gt.u32 %p1, %r1, 4; vote.sync.ballot.b32 %r2, !%p1, -1;", &[0, 5, 9])[31], !6);
}

/// Wavefronts of one load of shared memory, where lane l reads at `stride` times l.
fn wavefronts(stride: u32, load: &str) -> (u64, u64) {
    let body = format!(
        "
        mov.u32 %r10, shared_memory;
        shl.b32 %r11, %r0, 2;
        add.s32 %r11, %r10, %r11;
        mov.b32 %r12, 0;
    $fill:
        st.shared.u32 [%r11], %r12;
        add.s32 %r11, %r11, 128;
        add.s32 %r12, %r12, 1;
        setp.lt.u32 %p1, %r12, 32;
        @%p1 bra $fill;
        bar.sync 0;
        mad.lo.s32 %r13, %r0, {stride}, %r10;
        {load}"
    );
    let counts = outcome(&body, &[], Setup::default()).unwrap().1;
    (counts.wavefronts - 32, counts.least_wavefronts - 32)
}

#[test]
fn bank_conflicts_are_counted_by_phases() {
    let word = "ld.shared.u32 %r2, [%r13];";
    assert_eq!(wavefronts(0, word), (1, 1));
    assert_eq!(wavefronts(4, word), (1, 1));
    assert_eq!(wavefronts(8, word), (2, 1));
    assert_eq!(wavefronts(128, word), (32, 1));
    assert_eq!(wavefronts(8, "ld.shared.v2.u32 {%r2, %r3}, [%r13];"), (2, 2));
    assert_eq!(wavefronts(16, "ld.shared.v4.u32 {%r2, %r3, %r4, %r5}, [%r13];"), (4, 4));
    assert_eq!(wavefronts(32, "ld.shared.v4.u32 {%r2, %r3, %r4, %r5}, [%r13];"), (8, 4));
}

#[test]
fn sectors_of_global_memory_are_counted_once_an_instruction() {
    let counts = outcome("", &[], Setup::default()).unwrap().1;
    assert_eq!((counts.sectors_read, counts.bytes_read, counts.sectors_written, counts.bytes_written), (4, 128, 4, 128));
    let strided = outcome("sub.s64 %rd4, %rd2, %rd3; ld.global.u32 %r2, [%rd4];", &[], Setup::default()).unwrap().1;
    assert_eq!(strided.sectors_read - counts.sectors_read, 1);
}

#[test]
fn the_table_of_counts_has_a_field_for_every_name() {
    let done = BTreeMap::from([("kernel".to_owned(), (2, Counts { wavefronts: 7, ..Counts::default() }))]);
    let table = table(&done);
    let fields: Vec<usize> = table.lines().map(|line| line.split('\t').count()).collect();
    assert_eq!(fields[0], fields[1], "{table}");
    assert!(table.contains("\t7\t0\t0\t0\n"), "{table}");
}
