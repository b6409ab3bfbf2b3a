//! A kernel around a few instructions.

use software_gpu::Order;
use software_gpu::ptx::{Counts, Launch, Library, Region, run};

/// Registers that a snippet finds: %r0 is the thread, %r1 its number of the input, %rd1 and %rd2 the addresses of its numbers of
/// the output and the input. What it leaves in %r2 is its output.
const BEFORE: &str = "
.version 9.0
.target sm_80
.address_size 64
.extern .shared .align 1024 .b8 shared_memory[];
DECLARED
.visible .entry snippet(.param .u64 output, .param .u64 input)
.maxntid 256, 1, 1
{
    .reg .pred %p<16>;
    .reg .b16 %rs<8>;
    .reg .b32 %r<64>;
    .reg .f32 %f<32>;
    .reg .b64 %rd<16>;
    .reg .f64 %fd<8>;
    mov.u32 %r0, %tid.x;
    ld.param.u64 %rd1, [output];
    ld.param.u64 %rd2, [input];
    mul.wide.u32 %rd3, %r0, 4;
    add.s64 %rd1, %rd1, %rd3;
    add.s64 %rd2, %rd2, %rd3;
    ld.global.u32 %r1, [%rd2];
    mov.b32 %r2, 0;
";
const AFTER: &str = "
    st.global.u32 [%rd1], %r2;
    ret;
}
";

/// How a snippet is run.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    pub threads: u32,
    pub shared_bytes: u32,
    pub order: Order,
    pub late_copies: bool,
    /// Functions beside the kernel.
    pub declared: &'a str,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self { threads: 32, shared_bytes: 4096, order: Order::Fifo, late_copies: true, declared: "" }
    }
}

/// Numbers of a warp, where a sector of device memory begins.
#[derive(Clone)]
#[repr(C, align(128))]
struct Line([u32; 32]);

/// The line of the PTX that a snippet's first line becomes, when nothing else is declared.
pub const FIRST_LINE: usize = 25;

/// Runs a snippet on inputs, one a thread; missing ones are 0.
pub fn outcome(body: &str, input: &[u32], setup: Setup<'_>) -> Result<(Vec<u32>, Counts), String> {
    let text = format!("{}{body}{AFTER}", BEFORE.replace("DECLARED", setup.declared));
    let library = Library::parse(&text)?;
    let lines = setup.threads.div_ceil(32) as usize;
    let (mut numbers, mut output) = (vec![Line([0; 32]); lines], vec![Line([0; 32]); lines]);
    for (at, &number) in input.iter().enumerate() {
        numbers[at / 32].0[at % 32] = number;
    }
    let region = |lines: &mut Vec<Line>, number| Region {
        start: lines.as_mut_ptr().expose_provenance() as u64,
        bytes: 4 * u64::from(setup.threads),
        number,
        writable: true,
    };
    let regions = [region(&mut output, 1), region(&mut numbers, 2)];
    let params: Vec<u8> = regions.iter().flat_map(|region| region.start.to_le_bytes()).collect();
    let launch = Launch {
        grid: [1; 3],
        block: [setup.threads, 1, 1],
        cluster: [1; 3],
        shared_bytes: setup.shared_bytes,
        order: setup.order,
        seed: 1,
        late_copies: setup.late_copies,
        needs_written: true,
    };
    let counts = run(library.kernel("snippet").expect("the kernel"), &launch, &params, regions.to_vec())?;
    let output = output.iter().flat_map(|line| line.0).take(setup.threads as usize).collect();
    Ok((output, counts))
}

/// What a snippet makes of inputs.
#[track_caller]
pub fn lanes(body: &str, input: &[u32]) -> Vec<u32> {
    outcome(body, input, Setup::default()).unwrap_or_else(|words| panic!("{words}\n{body}")).0
}

/// What a snippet makes of one input.
#[track_caller]
pub fn single(body: &str, input: u32) -> u32 {
    lanes(body, &[input; 32])[7]
}

/// Fails unless the snippet fails with these words.
#[track_caller]
pub fn fails(body: &str, setup: Setup<'_>, words: &str) {
    match outcome(body, &[], setup) {
        Ok(_) => panic!("expected `{words}`, but nothing was found\n{body}"),
        Err(found) => assert!(found.contains(words), "expected `{words}`, found `{found}`\n{body}"),
    }
}
