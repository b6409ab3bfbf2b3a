//! A kernel of clusters around a few instructions, with a tensor map among its parameters.

use software_gpu::Order;
use software_gpu::ptx::{Counts, Launch, Library, Region, TensorMap, run};

/// Registers that a snippet finds: %r0 is the thread, %r1 the block, %r10 the address of shared memory, %rd1 that of its number of
/// the output, %rd4 that of the tensor map. What it leaves in %r2 is its output.
const BEFORE: &str = "
.version 9.0
.target sm_90a
.address_size 64
.extern .shared .align 1024 .b8 shared_memory[];
.visible .entry snippet(.param .u64 output, .param .align 64 .b8 map[128])
{
    .reg .pred %p<16>;
    .reg .b16 %rs<8>;
    .reg .b32 %r<64>;
    .reg .f32 %f<128>;
    .reg .b64 %rd<16>;
    mov.u32 %r0, %tid.x;
    mov.u32 %r1, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mad.lo.s32 %r3, %r3, %r1, %r0;
    ld.param.u64 %rd1, [output];
    mul.wide.u32 %rd3, %r3, 4;
    add.s64 %rd1, %rd1, %rd3;
    mov.u64 %rd4, map;
    mov.u32 %r10, shared_memory;
    mov.b32 %r2, 0;
";
const AFTER: &str = "
    st.global.u32 [%rd1], %r2;
    ret;
}
";

#[derive(Clone)]
pub struct Setup {
    pub threads: u32,
    pub blocks: u32,
    pub cluster: u32,
    pub shared_bytes: u32,
    pub order: Order,
    pub late_copies: bool,
    /// The tensor: its numbers in one row after another, and the map, but for the address.
    pub tensor: Vec<u32>,
    pub map: TensorMap,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            threads: 32,
            blocks: 1,
            cluster: 1,
            shared_bytes: 16384,
            order: Order::Fifo,
            late_copies: true,
            tensor: Vec::new(),
            map: map(&[32, 8], &[32, 8], 3),
        }
    }
}

/// The map of a tensor of 32-bit numbers that lie without gaps.
pub fn map(sizes: &[u64], box_sizes: &[u64], swizzle: u32) -> TensorMap {
    let mut found =
        TensorMap { address: 0, rank: sizes.len(), element_bytes: 4, swizzle, sizes: [1; 5], strides: [4; 5], box_sizes: [1; 5] };
    found.sizes[..sizes.len()].copy_from_slice(sizes);
    found.box_sizes[..sizes.len()].copy_from_slice(box_sizes);
    for axis in 1..sizes.len() {
        found.strides[axis] = 4 * sizes[..axis].iter().product::<u64>();
    }
    found
}

#[derive(Clone)]
#[repr(C, align(128))]
struct Line([u32; 32]);

fn lines(numbers: &[u32]) -> Vec<Line> {
    let mut lines = vec![Line([0; 32]); numbers.len().div_ceil(32).max(1)];
    for (at, &number) in numbers.iter().enumerate() {
        lines[at / 32].0[at % 32] = number;
    }
    lines
}

/// Runs a snippet; one number a thread.
pub fn outcome(body: &str, setup: &Setup) -> Result<(Vec<u32>, Counts), String> {
    let library = Library::parse(&format!("{BEFORE}{body}{AFTER}"))?;
    let threads = (setup.threads * setup.blocks) as usize;
    let (mut tensor, mut output) = (lines(&setup.tensor), lines(&vec![0; threads]));
    let region = |lines: &mut Vec<Line>, numbers: usize, number| Region {
        start: lines.as_mut_ptr().expose_provenance() as u64,
        bytes: 4 * numbers as u64,
        number,
        writable: true,
    };
    let regions = vec![region(&mut output, threads, 1), region(&mut tensor, setup.tensor.len(), 2)];
    let map = TensorMap { address: regions[1].start, ..setup.map };
    let mut params = vec![0; 192];
    params[..8].copy_from_slice(&regions[0].start.to_le_bytes());
    params[64..].copy_from_slice(&map.encoded());
    let launch = Launch {
        grid: [setup.blocks, 1, 1],
        block: [setup.threads, 1, 1],
        cluster: [setup.cluster, 1, 1],
        shared_bytes: setup.shared_bytes,
        order: setup.order,
        seed: 1,
        late_copies: setup.late_copies,
        needs_written: true,
    };
    let counts = run(library.kernel("snippet").expect("the kernel"), &launch, &params, regions)?;
    Ok((output.iter().flat_map(|line| line.0).take(threads).collect(), counts))
}

/// What a snippet makes, in every order and with copies that come late and at once.
#[track_caller]
pub fn always(body: &str, setup: &Setup) -> Vec<u32> {
    let mut found: Option<Vec<u32>> = None;
    for order in [Order::Fifo, Order::Reverse, Order::Random, Order::Greedy] {
        for late_copies in [true, false] {
            let new = outcome(body, &Setup { order, late_copies, ..setup.clone() });
            let new = new.unwrap_or_else(|words| panic!("{order:?}, {late_copies}: {words}\n{body}")).0;
            if let Some(old) = &found {
                assert_eq!(*old, new, "{order:?}, {late_copies}");
            }
            found = Some(new);
        }
    }
    found.expect("an outcome")
}

/// Fails unless the snippet fails with these words.
#[track_caller]
pub fn fails(body: &str, setup: &Setup, words: &str) {
    match outcome(body, setup) {
        Ok(_) => panic!("expected `{words}`, but nothing was found\n{body}"),
        Err(found) => assert!(found.contains(words), "expected `{words}`, found `{found}`\n{body}"),
    }
}

/// Waits until the phase of a parity of the mbarrier in a register has ended.
pub fn wait(barrier: &str, parity: &str) -> String {
    format!(
        "
    {{
        .reg .pred done;
    again:
        mbarrier.try_wait.parity.shared::cta.b64 done, [{barrier}], {parity}, 10000000;
        @done bra over;
        bra again;
    over:
    }}"
    )
}
