//! Branches, loops, calls and barriers.

use crate::snippet::{Setup, lanes, outcome};
use software_gpu::Order;

#[test]
fn lanes_part_at_a_branch_and_meet_behind_it() {
    let body = "
        setp.lt.u32 %p1, %r0, 10;
        @%p1 bra $small;
        add.s32 %r2, %r2, 100;
        setp.gt.u32 %p2, %r0, 20;
        @%p2 bra $large;
        add.s32 %r2, %r2, 1000;
        bra.uni $met;
    $large:
        add.s32 %r2, %r2, 2000;
        bra.uni $met;
    $small:
        add.s32 %r2, %r2, 1;
    $met:
        vote.sync.ballot.b32 %r3, %p1, -1;
        add.s32 %r2, %r2, %r3;";
    let found = lanes(body, &[]);
    assert_eq!((found[3], found[15], found[25]), (0x3ff + 1, 0x3ff + 1100, 0x3ff + 2100));
}

#[test]
fn a_loop_runs_as_often_as_each_lane_says() {
    let body = "
        mov.b32 %r3, 0;
    $next:
        setp.ge.u32 %p1, %r3, %r0;
        @%p1 bra $done;
        add.s32 %r2, %r2, %r3;
        add.s32 %r3, %r3, 1;
        bra.uni $next;
    $done:
        shfl.sync.idx.b32 %r4, %r2, 31, 31, -1;
        add.s32 %r2, %r2, %r4;";
    let found = lanes(body, &[]);
    assert_eq!((found[0], found[1], found[5], found[31]), (465, 465, 475, 930));
}

#[test]
fn threads_that_return_early_leave_the_others_alone() {
    let body = "
        setp.gt.u32 %p1, %r0, 3;
        @%p1 ret;
        mov.b32 %r2, 9;";
    let found = lanes(body, &[]);
    assert_eq!(found[..6], [9, 9, 9, 9, 0, 0]);
}

const TWICE: &str = "
.func (.param .b32 result) twice(.param .b32 twice_0)
{
    .reg .pred %p<2>;
    .reg .b32 %r<4>;
    ld.param.u32 %r1, [twice_0];
    setp.gt.u32 %p1, %r1, 20;
    @%p1 bra $big;
    add.s32 %r2, %r1, %r1;
    st.param.b32 [result+0], %r2;
    ret;
$big:
    st.param.b32 [result+0], 1;
    ret;
}";

#[test]
fn functions_take_and_return_values_of_the_lanes_that_call() {
    let body = "
        mov.b32 %r2, 77;
        setp.lt.u32 %p1, %r0, 4;
        @%p1 bra $not;
        {
        .reg .b32 temp_param_reg;
        .param .b32 param0;
        st.param.b32 [param0+0], %r0;
        .param .b32 retval0;
        call.uni (retval0), twice, (param0);
        ld.param.b32 %r2, [retval0+0];
        }
    $not:
        add.s32 %r2, %r2, 0;";
    let found = outcome(body, &[], Setup { declared: TWICE, ..Setup::default() }).unwrap().0;
    assert_eq!((found[3], found[4], found[20], found[21]), (77, 8, 40, 1));
}

/// Every thread writes a number to shared memory and reads that of the thread across.
pub const EXCHANGE: &str = "
        mov.u32 %r10, shared_memory;
        shl.b32 %r11, %r0, 2;
        add.s32 %r11, %r10, %r11;
        st.shared.u32 [%r11], %r0;
        bar.sync 0;
        mov.u32 %r12, %ntid.x;
        sub.s32 %r12, %r12, %r0;
        add.s32 %r12, %r12, -1;
        shl.b32 %r12, %r12, 2;
        add.s32 %r12, %r10, %r12;
        ld.shared.u32 %r2, [%r12];";

#[test]
fn a_barrier_shows_every_warp_what_the_others_wrote() {
    for order in [Order::Fifo, Order::Reverse, Order::Random, Order::Greedy] {
        let (found, counts) = outcome(EXCHANGE, &[], Setup { threads: 128, order, ..Setup::default() }).unwrap();
        assert_eq!(found, (0..128).rev().collect::<Vec<_>>(), "{order:?}");
        assert_eq!((counts.wavefronts, counts.least_wavefronts), (8, 8));
    }
}

#[test]
fn a_barrier_combines_the_predicates_of_all_threads() {
    let body = "
        setp.eq.u32 %p1, %r0, 77;
        bar.red.or.pred %p2, 0, %p1;
        selp.u32 %r2, 1, 0, %p2;
        bar.red.and.pred %p3, 0, !%p1;
        selp.u32 %r3, 2, 0, %p3;
        bar.red.popc.u32 %r4, 0, !%p1;
        add.s32 %r2, %r2, %r3;
        mad.lo.s32 %r2, %r4, 10, %r2;";
    let found = |threads| outcome(body, &[], Setup { threads, ..Setup::default() }).unwrap().0[5];
    assert_eq!((found(64), found(96)), (642, 951));
}

#[test]
fn memory_is_reached_by_generic_addresses_too() {
    let body = "
        mov.u64 %rd4, shared_memory;
        cvta.shared.u64 %rd5, %rd4;
        add.s64 %rd5, %rd5, %rd3;
        st.u32 [%rd5], %r0;
        cvta.to.shared.u64 %rd6, %rd5;
        ld.shared.u32 %r3, [%rd6];
        ld.u32 %r4, [%rd2];
        add.s32 %r2, %r3, %r4;";
    assert_eq!(lanes(body, &[1000, 2000])[..3], [1000, 2001, 2]);
}

#[test]
fn local_memory_belongs_to_a_lane() {
    let body = "
        .local .align 8 .b8 depot[16];
        mov.u64 %rd4, depot;
        cvta.local.u64 %rd5, %rd4;
        st.local.u32 [%rd4+4], %r0;
        st.u32 [%rd5+8], %r0;
        ld.u32 %r3, [%rd5+4];
        ld.local.u32 %r4, [%rd4+8];
        add.s32 %r2, %r3, %r4;";
    assert_eq!(lanes(body, &[])[..4], [0, 2, 4, 6]);
}
