//! Barriers in shared memory, clusters and registers that warps hand on.

use crate::hopper::{Setup, always, fails, outcome, wait};
use software_gpu::Order;

/// A barrier for so many arrivals, at the beginning of shared memory.
fn initialised(count: u32) -> String {
    format!(
        "
    setp.eq.u32 %p1, %r0, 0;
    @%p1 mbarrier.init.shared::cta.b64 [%r10], {count};
    fence.mbarrier_init.release.cluster;
    bar.sync 0;"
    )
}

#[test]
fn a_phase_ends_with_its_last_arrival() {
    // The second warp adds ten to what the first has written before it arrives; the phase of the odd parity is over from the start.
    let body = format!(
        "{} setp.gt.u32 %p2, %r0, 31; add.s32 %r11, %r10, 64;
        @%p2 bra $second;
        {}
        setp.eq.u32 %p3, %r0, 5;
        @%p3 st.shared.u32 [%r11], 7;
        mbarrier.arrive.shared::cta.b64 _, [%r10];
        bra $over;
    $second:
        {}
        ld.shared.u32 %r2, [%r11];
        add.s32 %r2, %r2, 10;
    $over:",
        initialised(32),
        wait("%r10", "1"),
        wait("%r10", "0")
    );
    let found = always(&body, &Setup { threads: 64, ..Setup::default() });
    assert_eq!((found[0], found[32], found[63]), (0, 17, 17));
}

#[test]
fn an_arrival_gives_its_phase_and_may_count_for_several() {
    let body = format!(
        "{} @%p1 mbarrier.arrive.shared.b64 %rd5, [%r10], 3;
        @%p1 mbarrier.test_wait.shared.b64 %p2, [%r10], %rd5;
        @%p1 mbarrier.arrive.shared.b64 %rd6, [%r10];
        @%p1 mbarrier.test_wait.shared.b64 %p3, [%r10], %rd5;
        @%p1 selp.u32 %r2, 1, 0, %p2; selp.u32 %r4, 10, 0, %p3; @%p1 add.s32 %r2, %r2, %r4;",
        initialised(4)
    );
    assert_eq!(always(&body, &Setup::default())[0], 10);
}

#[test]
fn misuse_of_a_barrier_is_named() {
    let one = |instruction: &str| format!("{} @%p1 {instruction}", initialised(2));
    let setup = Setup::default();
    fails(
        &one("mbarrier.arrive.shared::cta.b64 _, [%r10], 3;"),
        &setup,
        "3 arrivals at an mbarrier whose phase 0 waits for 2 more of 2",
    );
    fails(&one("mbarrier.arrive.shared::cta.b64 _, [%r10+8];"), &setup, "shared offset 8, where no mbarrier was initialised");
    fails(
        &one("mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r10+16], 0;"),
        &setup,
        "a wait of shared offset 16, where no mbarrier",
    );
    fails(&one("mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r10], 2;"), &setup, "the parity of a phase is 0 or 1, found 2");
    fails(&one("st.shared.u32 [%r10+4], 0;"), &setup, "an ordinary access to the mbarrier at shared offset 4");
    fails(&one("mbarrier.init.shared::cta.b64 [%r10], 1;"), &setup, "is initialised again");
    fails(&one("mbarrier.init.shared::cta.b64 [%r10+8], 0;"), &setup, "an mbarrier for 0 arrivals");
    fails(
        &one("mbarrier.arrive.noComplete.shared::cta.b64 %rd5, [%r10], 1;"),
        &setup,
        "the instruction `mbarrier.arrive.noComplete",
    );
    fails(&one("st.async.weak.shared::cluster.b32 [%r10], 1;"), &setup, "the instruction `st.async");
}

#[test]
fn a_wrong_parity_is_a_deadlock_that_says_what_is_missing() {
    let body = format!("{} @%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r10], 96; {}", initialised(2), wait("%r10", "0"));
    for order in [Order::Fifo, Order::Random] {
        fails(
            &body,
            &Setup { order, ..Setup::default() },
            "deadlock, 32 of 32 threads cannot go on; warp 0 waits for the mbarrier at shared offset 0 (lane 31), whose phase 0 lacks 1 \
         arrivals and 96 bytes",
        );
    }
}

const CLUSTER: &str = "barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;";

#[test]
fn blocks_of_a_cluster_reach_each_others_memory() {
    // Every block writes 100 times its rank plus the thread into the next one's memory.
    let body = format!(
        "mov.u32 %r4, %cluster_ctarank;
        mov.u32 %r5, %cluster_nctarank;
        mov.u32 %r6, %clusterid.x;
        add.s32 %r7, %r4, 1;
        rem.u32 %r7, %r7, %r5;
        mad.lo.s32 %r11, %r0, 4, %r10;
        mapa.shared::cluster.u32 %r12, %r11, %r7;
        mad.lo.s32 %r8, %r4, 100, %r0;
        {CLUSTER}
        st.shared::cluster.u32 [%r12], %r8;
        {CLUSTER}
        ld.shared.u32 %r2, [%r11];
        mad.lo.s32 %r2, %r6, 1000, %r2;"
    );
    let found = always(&body, &Setup { blocks: 6, cluster: 3, ..Setup::default() });
    assert_eq!([0, 32, 65, 96, 128, 191].map(|thread| found[thread]), [200, 0, 101, 1200, 1000, 1131]);
    let setup = Setup { blocks: 2, cluster: 2, ..Setup::default() };
    fails(&body.replace(CLUSTER, ""), &setup, "shared offset 0 is read and was never written");
    let (before, _) = body.rsplit_once(CLUSTER).unwrap();
    let setup = Setup { order: Order::Reverse, ..setup };
    fails(before, &setup, "shared memory of the cluster's block 0 is accessed, and that block has ended");
}

#[test]
fn an_arrival_at_another_blocks_barrier_is_waited_for_there() {
    let body = format!(
        "{} mov.u32 %r4, %cluster_ctarank; {CLUSTER}
        mov.u32 %r5, 0;
        mapa.shared::cluster.u32 %r12, %r10, %r5;
        setp.eq.u32 %p2, %r0, 3;
        @%p2 mbarrier.arrive.shared::cluster.b64 _, [%r12];
        setp.eq.u32 %p3, %r4, 0;
        @!%p3 bra $over;
        {}
        mov.b32 %r2, 1;
    $over: {CLUSTER}",
        initialised(2),
        wait("%r10", "0")
    );
    let setup = Setup { blocks: 2, cluster: 2, ..Setup::default() };
    let found = always(&body, &setup);
    assert_eq!((found[0], found[32]), (1, 0));
    fails(&body.replace("fence.mbarrier_init.release.cluster;", ""), &setup, "neither fence.mbarrier_init nor fence.proxy.async");
}

#[test]
fn misuse_of_a_cluster_is_named() {
    let setup = Setup { blocks: 2, cluster: 2, ..Setup::default() };
    fails("barrier.cluster.wait.aligned;", &setup, "barrier.cluster.wait without barrier.cluster.arrive");
    fails("barrier.cluster.arrive.aligned; barrier.cluster.arrive.aligned;", &setup, "barrier.cluster.arrive again");
    fails("mov.u32 %r4, 2; mapa.shared::cluster.u32 %r5, %r10, %r4;", &setup, "mapa names block 2 of a cluster of 2");
    fails("", &Setup { blocks: 3, ..setup.clone() }, "a grid of [3, 1, 1] blocks does not divide into clusters of [2, 1, 1]");
    let one = "setp.eq.u32 %p1, %r1, 0; @%p1 bra $in; bra $out;\n$in: bar.sync 1, 64;\n$out:";
    fails(one, &setup, "deadlock, 32 of 64 threads cannot go on; warp 0 of block 0 of the cluster waits at a barrier");
    // A block that has ended counts as arrived.
    always(
        "setp.eq.u32 %p1, %r1, 0; @%p1 bra $over; barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;\n$over:",
        &setup,
    );
}

#[test]
fn one_thread_is_elected() {
    let found = always("elect.sync %r4|%p1, 0xffffffff; selp.u32 %r2, 1, 0, %p1; mad.lo.s32 %r2, %r4, 10, %r2;", &Setup::default());
    assert_eq!((found[0], found.iter().sum::<u32>()), (1, 1));
    let parted = "setp.lt.u32 %p2, %r0, 4; @%p2 bra $over; elect.sync %r4|%p1, MEMBERS; selp.u32 %r2, %r4, 0, %p1;\n$over:";
    assert_eq!(always(&parted.replace("MEMBERS", "0xfffffff0"), &Setup::default())[4..6], [4, 0]);
    fails(&parted.replace("MEMBERS", "-1"), &Setup::default(), "the warp diverged: elect.sync names lanes 0xffffffff");
}

#[test]
fn registers_come_from_those_that_other_warps_give_back() {
    // 384 threads start with 168 registers each: two warpgroups can have 240 when the third keeps 24.
    let body = |least: u32, most: u32| {
        format!(
            "setp.lt.u32 %p1, %r0, 128; @%p1 bra $first; setmaxnreg.inc.sync.aligned.u32 {most}; bra $over;
        $first: setmaxnreg.dec.sync.aligned.u32 {least};
        $over:"
        )
    };
    let setup = Setup { threads: 384, ..Setup::default() };
    always(&body(24, 240), &setup);
    fails(&body(40, 240), &setup, "waits for 2304 registers, and");
    fails(&body(176, 240), &setup, "setmaxnreg.dec to 176 registers of a thread that has 168");
    fails(&body(24, 160), &setup, "setmaxnreg.inc to 160 registers of a thread that has 168");
    assert!(outcome(&body(30, 240), &setup).unwrap_err().contains("setmaxnreg takes a multiple of 8"));
}
