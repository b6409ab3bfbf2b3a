//! Copies of tensors into shared memory.

use crate::hopper::{Setup, always, fails, map, outcome, wait};

/// Copies the box at some coordinates to the second kibibyte of shared memory; every thread reads one number of it.
fn copy(dimensions: usize, coordinates: &str, bytes: u64) -> String {
    format!(
        "
    setp.eq.u32 %p1, %r0, 0;
    @%p1 mbarrier.init.shared::cta.b64 [%r10], 1;
    fence.proxy.async;
    bar.sync 0;
    add.s32 %r11, %r10, 1024;
    @!%p1 bra $read;
    prefetch.tensormap [%rd4];
    mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r10], {bytes};
    cp.async.bulk.tensor.{dimensions}d.shared::cluster.global.mbarrier::complete_tx::bytes [%r11], [%rd4, {{{coordinates}}}], [%r10];
$read:
    {}
    mad.lo.s32 %r12, %r0, 4, %r11;
    ld.shared.u32 %r2, [%r12];",
        wait("%r10", "0")
    )
}

/// What a row's number changes of the numbers of its units.
type Change = fn(u32) -> u32;

fn numbered(count: u64) -> Vec<u32> {
    (1..=count as u32).collect()
}

#[test]
fn swizzles_exchange_units_of_16_bytes() {
    // Rows of 128, 64 and 32 bytes: the numbers of a row's units are changed by bits of the row's number.
    let changes: [(u32, u64, Change); 4] =
        [(3, 32, |row| row % 8), (2, 16, |row| row / 2 % 4), (1, 8, |row| row / 4 % 2), (0, 8, |_| 0)];
    for (swizzle, row, changed) in changes {
        let map = map(&[row, 16], &[row, 16], swizzle);
        let setup = Setup { threads: 16 * row as u32, tensor: numbered(16 * row), map, ..Setup::default() };
        let found = always(&copy(2, "0, 0", 64 * row), &setup);
        for (place, &number) in found.iter().enumerate() {
            let (at, unit) = (place as u32 / row as u32, place as u32 % row as u32 / 4);
            let expected = 1 + at * row as u32 + 4 * (unit ^ changed(at)) + place as u32 % 4;
            assert_eq!(number, expected, "swizzle {swizzle}, place {place}");
        }
    }
}

#[test]
fn what_is_outside_the_tensor_is_zero_and_counts() {
    let setup = Setup { threads: 64, tensor: numbered(8 * 5), map: map(&[8, 5], &[8, 8], 0), ..Setup::default() };
    let expected = |x: i32, y: i32| {
        (0..64)
            .map(|place| {
                let (x, y) = (x + place % 8, y + place / 8);
                if (0..8).contains(&x) && (0..5).contains(&y) { 1 + 8 * y + x } else { 0 }
            })
            .map(|number| number as u32)
            .collect::<Vec<_>>()
    };
    for (x, y) in [(0, 0), (3, 2), (-5, -6), (8, 0), (0, 5), (-8, 1)] {
        assert_eq!(always(&copy(2, &format!("{x}, {y}"), 256), &setup), expected(x, y), "{x}, {y}");
    }
    let counts = outcome(&copy(2, "3, 2", 256), &setup).unwrap().1;
    assert_eq!(counts.bytes_copied, 4 * 5 * 3);
}

#[test]
fn boxes_have_up_to_five_dimensions() {
    let sizes = [8, 3, 4, 3, 2];
    for rank in 1..=5 {
        let mut box_sizes = [4, 2, 2, 2, 2];
        let sizes = &sizes[..rank];
        let map = map(sizes, &box_sizes[..rank], 0);
        box_sizes[rank..].fill(1);
        let count = box_sizes.iter().product::<u64>();
        let setup = Setup { threads: count as u32, tensor: numbered(sizes.iter().product()), map, ..Setup::default() };
        let coordinates = ["2", "1", "1", "1", "0"];
        let found = always(&copy(rank, &coordinates[..rank].join(", "), 4 * count), &setup);
        for (place, &number) in found.iter().enumerate() {
            let (mut rest, mut index, mut stride) = (place as u64, 0, 1);
            for axis in 0..rank {
                index += stride * (rest % box_sizes[axis] + coordinates[axis].parse::<u64>().unwrap());
                stride *= sizes[axis];
                rest /= box_sizes[axis];
            }
            assert_eq!(u64::from(number), 1 + index, "{rank} dimensions, place {place}");
        }
    }
}

#[test]
fn one_copy_reaches_several_blocks_and_the_barrier_of_each() {
    let cluster = "barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;";
    let body = copy(2, "0, 0", 1024)
        .replace("bar.sync 0;", cluster)
        .replace("complete_tx::bytes [", "complete_tx::bytes.multicast::cluster.L2::cache_hint [")
        .replace("[%r10];\n$read", "[%r10], %rs1, %rd7;\n$read")
        .replace("    cp.async", "    setp.eq.u32 %p2, %r1, 0; mov.u16 %rs1, 3; mov.u64 %rd7, 0; @%p2 cp.async");
    let setup =
        Setup { threads: 256, blocks: 2, cluster: 2, tensor: numbered(256), map: map(&[8, 32], &[8, 32], 0), ..Setup::default() };
    let body = format!("{body} {cluster}");
    assert_eq!(always(&body, &setup), [numbered(256), numbered(256)].concat());
    fails(&body.replace("%rs1, 3", "%rs1, 5"), &setup, "a copy to the blocks 0b0101 of a cluster of 2");
    fails(
        &body.replace("%rs1, 3", "%rs1, 1"),
        &setup,
        "warp 0 of block 1 of the cluster waits for the mbarrier at shared offset 0 (lane 31), whose phase 0 lacks 0 arrivals and 1024",
    );
}

#[test]
fn copies_are_waited_for_with_all_of_their_bytes() {
    let setup = Setup { threads: 256, tensor: numbered(256), ..Setup::default() };
    let body = copy(2, "0, 0", 1024);
    assert_eq!(always(&body, &setup)[..4], [1, 2, 3, 4]);
    let early = body.replace(&wait("%r10", "0"), "");
    fails(&early, &setup, "is accessed while an asynchronous copy to it is on its way: nobody has waited for its mbarrier");
    let few = body.replace("[%r10], 1024", "[%r10], 1008");
    fails(&few, &setup, "whose phase 0 lacks 0 arrivals and has got 16 bytes more than were expected");
    let many = body.replace("[%r10], 1024", "[%r10], 1040");
    fails(&many, &setup, "whose phase 0 lacks 0 arrivals and 16 bytes");
    let written = body.replace("    prefetch", "    st.shared.u32 [%r11], 0;\n    prefetch");
    fails(&written, &setup, "was written by an ordinary store of thread 0 at PTX line");
    always(&written.replace("    prefetch", "    fence.proxy.async.shared::cta;\n    prefetch"), &setup);
    let unseen = body.replace("fence.proxy.async;", "");
    fails(&unseen, &setup, "neither fence.mbarrier_init nor fence.proxy.async followed its initialisation");
    // Where nobody waits, the block ends too soon.
    let forgotten = body.replace(&wait("%r10", "0"), "").replace("ld.shared.u32 %r2, [%r12];", "");
    fails(&forgotten, &setup, "block 0 of the cluster ended before what was copied to it had come");
}

#[test]
fn wrong_maps_and_places_are_named() {
    let setup = Setup { threads: 256, tensor: numbered(256), ..Setup::default() };
    let body = copy(2, "0, 0", 1024);
    fails(&body.replace("%r10, 1024;", "%r10, 1040;"), &setup, "which is not aligned to 128 bytes");
    fails(&body.replace("%r10, 1024;", "%r10, 16256;"), &setup, "are outside the 16384 bytes of shared memory");
    fails(&body.replace("prefetch", "add.s64 %rd4, %rd4, 32;\n prefetch"), &setup, "which is not aligned to 64 bytes");
    fails(
        &body.replace("prefetch", "sub.s64 %rd4, %rd4, 64;\n prefetch"),
        &setup,
        "is no tensor map that cuTensorMapEncodeTiled has made",
    );
    fails(&copy(3, "0, 0, 0", 1024), &setup, "a copy of 3 dimensions with the map of a tensor of 2");
    fails(&body, &Setup { map: map(&[32, 9], &[32, 9], 3), ..setup.clone() }, "0 bytes past the end of allocation 2");
    fails(&body, &Setup { map: map(&[32, 8], &[16, 8], 3), ..setup.clone() }, "a swizzle of 128 bytes and rows of 64 is not known");
    let other = body.replace("tensor.2d", "tensor.2d.im2col");
    fails(&other, &setup, "the instruction `cp.async.bulk.tensor.2d.im2col");
}
