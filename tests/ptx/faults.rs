//! What the machine must find, each committed on purpose.

use crate::flow::EXCHANGE;
use crate::snippet::{FIRST_LINE, Setup, fails, outcome};
use software_gpu::Order;

#[test]
fn an_unknown_instruction_is_named_with_its_line_before_anything_runs() {
    fails(
        "\n    tex.1d.v4.f32.f32 {%f1, %f2, %f3, %f4}, [%rd1, {%f1}];",
        Setup::default(),
        &format!("line {FIRST_LINE}: the instruction `tex.1d.v4.f32.f32"),
    );
    fails(
        "\n\n    add.cc.u32 %r2, %r1, %r1;",
        Setup::default(),
        &format!("line {}: the instruction `add.cc.u32 %r2 , %r1 , %r1`", FIRST_LINE + 1),
    );
    fails("mov.b32 %r2, %clock;", Setup::default(), "`%clock` is not known");
    fails("mov.b32 %r2, %r99;", Setup::default(), "`%r99` is not known");
    fails("bra $nowhere;", Setup::default(), "no label `$nowhere`");
    fails("add.s64 %rd4, %r1, %rd4;", Setup::default(), "`%r1` has another width than the instruction");
    fails("add.s32 %r2, %r1;", Setup::default(), "`add.s32` takes 3 operands, found 2");
    fails(".weird 3;", Setup::default(), "the directive `.weird` is not known");
}

#[test]
fn global_accesses_stay_within_allocations_and_are_aligned() {
    fails(
        "ld.global.u32 %r2, [%rd2+4];",
        Setup::default(),
        "snippet, block 0 thread 31: illegal address: 4 bytes at 0 bytes past the end of allocation 2 (128 bytes) (PTX line",
    );
    fails("st.global.u32 [%rd1+-4], %r2;", Setup::default(), "thread 0: illegal address");
    fails("ld.global.u32 %r2, [%rd2+2];", Setup::default(), "thread 0: a misaligned access: 4 bytes at");
    fails("ld.global.v2.u32 {%r2, %r3}, [%rd2];", Setup::default(), "thread 1: a misaligned access: 8 bytes");
    fails("mov.u64 %rd4, output; st.param.b32 [%rd4], %r2;", Setup::default(), "a write to the parameters of the kernel");
    fails("mov.u64 %rd4, 0; ld.global.u32 %r2, [%rd4];", Setup::default(), "below every allocation");
}

#[test]
fn shared_accesses_stay_inside_and_read_what_was_written() {
    fails(
        "mov.u32 %r10, shared_memory; ld.shared.u32 %r2, [%r10+4096];",
        Setup::default(),
        "4 bytes at shared offset 4096 are outside the 4096 bytes",
    );
    fails("mov.b32 %r10, 0; ld.shared.u32 %r2, [%r10];", Setup::default(), "shared offset -1024");
    fails(
        "mov.u32 %r10, shared_memory; ld.shared.u32 %r2, [%r10];",
        Setup::default(),
        "shared offset 0 is read and was never written",
    );
}

#[test]
fn a_removed_barrier_is_a_race() {
    let setup = Setup { threads: 64, ..Setup::default() };
    outcome(EXCHANGE, &[], setup).unwrap();
    let racing = EXCHANGE.replace("bar.sync 0;", "");
    let found = |order| outcome(&racing, &[], Setup { order, ..setup }).unwrap_err();
    // The reader comes too early, or finds what another warp wrote with no barrier between.
    assert!(found(Order::Fifo).contains("was never written"));
    assert!(found(Order::Reverse).contains("was never written"));
    let filled = racing.replace(
        "st.shared.u32 [%r11], %r0;",
        "st.shared.u32 [%r11], 0; xor.b32 %r13, %r11, 128; bar.sync 0; st.shared.u32 [%r11], %r0;",
    );
    assert!(outcome(&filled, &[], setup).unwrap_err().contains("race: shared offset"));
    let read = "ld.shared.u32 %r2, [%r12];";
    let after = |guard: &str| EXCHANGE.replace(read, &format!("{read} setp.gt.u32 %p5, %r0, 31; {guard} st.shared.u32 [%r11], 1;"));
    assert!(outcome(&after("@!%p5"), &[], setup).unwrap_err().contains("is read, and warp 0 wrote it at PTX line"));
    assert!(outcome(&after("@%p5"), &[], setup).unwrap_err().contains("another warp read it with no barrier between"));
}

#[test]
fn lanes_that_are_missing_at_a_collective_are_named() {
    let parted = |instruction: &str| {
        format!(
            "
        setp.eq.u32 %p1, %r0, 5;
        @%p1 bra $over;
        {instruction}
    $over:
        mov.b32 %r2, 0;"
        )
    };
    let lane_5 = "thread 5: the warp diverged";
    fails(&parted("shfl.sync.bfly.b32 %r3, %r0, 1, 31, -1;"), Setup::default(), lane_5);
    fails(&parted("vote.sync.ballot.b32 %r3, %p1, -1;"), Setup::default(), lane_5);
    fails(&parted("bar.warp.sync -1;"), Setup::default(), lane_5);
    fails(&parted("bar.sync 0;"), Setup::default(), "thread 5: a barrier without all lanes");
    let load = "mov.u32 %r10, shared_memory; ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r3}, [%r10];";
    fails(&parted(load), Setup::default(), "thread 5: the warp diverged: ldmatrix needs all lanes");
    let product =
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f1,%f2,%f3,%f4}, {%r1,%r1,%r1,%r1}, {%r1,%r1}, {%f1,%f2,%f3,%f4};";
    fails(&parted(product), Setup::default(), "thread 5: the warp diverged: mma needs all lanes");
    outcome(&parted("shfl.sync.bfly.b32 %r3, %r0, 0, 31, 0xffffffdf;"), &[], Setup::default()).unwrap();
}

#[test]
fn a_warp_without_the_barrier_is_a_deadlock() {
    let body = "
        setp.gt.u32 %p1, %r0, 31;
        @%p1 bra $over;
        bar.sync 0;
    $over:
        mov.b32 %r2, 0;";
    fails(body, Setup { threads: 64, ..Setup::default() }, "deadlock, 32 of 64 threads cannot go on; warp 0 waits at a barrier");
}

#[test]
fn a_source_line_is_told_where_there_is_one() {
    let body = "
    .loc 1 40 5, function_name $L__info_string0, inlined_at 1 48 84
        trap;";
    fails(body, Setup { declared: ".file 1 \"/somewhere/kernel.cu\"", ..Setup::default() }, "trap (PTX line 26, kernel.cu:40)");
}
