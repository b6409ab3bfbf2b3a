//! The software GPU finds the faults it is there to find: each is committed on purpose, and must be reported in words.

use cudarc::driver::sys::CUgraphInstantiate_flags;
use cudarc::driver::sys::CUstreamCaptureMode::{
    CU_STREAM_CAPTURE_MODE_GLOBAL, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL as THREAD_LOCAL,
};
use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtr};
use software_gpu::{Build, Device, Order, SCHEDULES, Schedule};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use xbm_fast::device::cuda::kernel::{Image, Kernel, LaunchShape, Module};

const THREADS: usize = 64;
/// Shared memory of the probes, which load 2 KiB of matrices.
const SHARED: u32 = 2048;
const NO_FLAGS: CUgraphInstantiate_flags = CUgraphInstantiate_flags(0);

/// The faults of `tests/software-gpu/probes/probes.cu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    MissingBarrier,
    WaitOffByOne,
    NoWait,
    PlainStoreForAtomic,
    DivergentBarrier,
    DivergentShuffle,
    MisalignedLoad,
    OutsideShared,
    BankConflict,
    WarpWithoutBarrier,
    WriteAfterRead,
    StrayWrite,
    NeverWritten,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct ProbeParams {
    output: u64,
    input: u64,
    count: u32,
    stray: u32,
    fault: u32,
    padding: u32,
}

/// A device of its own for each test: a fault stays with the context until it is released.
struct Gpu {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    _alone: MutexGuard<'static, ()>,
}

impl Gpu {
    /// `None` when there is no software GPU: these tests make no sense on a real one.
    fn new() -> Option<Self> {
        static ALONE: Mutex<()> = Mutex::new(());
        if !software_gpu::available() || *software_gpu::device() == Device::Real {
            return None;
        }
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        software_gpu::set_schedule(SCHEDULES[0]);
        software_gpu::take_reports();
        let context = CudaContext::new(0).unwrap();
        // SAFETY: every test uses one stream, or says otherwise.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().unwrap();
        Some(Self { context, stream, _alone: alone })
    }

    fn kernel(&self, name: &str, build: Build) -> Kernel<ProbeParams> {
        let image = match build {
            Build::Plain => Image(b"the kernels of this build\0".to_vec()),
            Build::Race => race_build().clone(),
        };
        Module::load(&self.context, image).unwrap().kernel(name, SHARED).unwrap()
    }

    /// Runs a probe and returns its output and what was reported.
    fn probe(&self, name: &str, fault: Fault, build: Build) -> (Vec<f32>, String) {
        let input: Vec<f32> = (0..2 * THREADS).map(|i| i as f32).collect();
        let input = self.stream.clone_htod(&input).unwrap();
        let output: CudaSlice<f32> = self.stream.alloc_zeros(2 * THREADS).unwrap();
        let kernel = self.kernel(name, build);
        let threads = if name.contains("warp") || name.contains("load") { 32 } else { THREADS as u32 };
        let shape = LaunchShape::new((2, 1), threads, SHARED);
        let shape = if name == "probe_count" { shape } else { LaunchShape { grid: (1, 1), ..shape } };
        let params = self.params(&input, &output, fault, 0);
        // SAFETY: what the probe does wrong is what the test is about, and the software GPU contains it.
        unsafe { kernel.launch(&self.stream, shape, params) }.unwrap();
        let found = self.stream.clone_dtoh(&output).unwrap_or_default();
        let _ = self.stream.synchronize();
        (found, software_gpu::take_reports().join("; "))
    }

    fn params(&self, input: &CudaSlice<f32>, output: &CudaSlice<f32>, fault: Fault, stray: u32) -> ProbeParams {
        let (input, output) = (input.device_ptr(&self.stream).0, output.device_ptr(&self.stream).0);
        ProbeParams { output, input, count: THREADS as u32, stray, fault: fault as u32, padding: 0 }
    }
}

/// The probes with a hook at every access, compiled once.
fn race_build() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/software-gpu/probes/probes.cu");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        Image(software_gpu::compile(&source, Build::Race, folder).unwrap())
    })
}

/// Fails unless the fault is reported with these words, and the same kernel without it is clean.
#[track_caller]
fn expect_report(name: &str, fault: Fault, build: Build, words: &str) {
    if let Some(gpu) = Gpu::new() {
        let (_, clean) = gpu.probe(name, Fault::None, build);
        assert_eq!(clean, "", "{name} without a fault");
        let (_, reports) = gpu.probe(name, fault, build);
        assert!(reports.contains(words), "{fault:?} must be reported as `{words}`, found `{reports}`");
    }
}

#[test]
fn a_missing_barrier_before_or_after_a_read_is_a_race_with_its_line() {
    for fault in [Fault::MissingBarrier, Fault::WriteAfterRead] {
        expect_report("probe_exchange", fault, Build::Race, "race: ");
        expect_report("probe_exchange", fault, Build::Race, "probes.cu:");
    }
}

#[test]
fn a_warp_that_relies_on_lockstep_is_a_race() {
    expect_report("probe_warp_exchange", Fault::WarpWithoutBarrier, Build::Race, "after an unordered");
}

#[test]
fn reading_what_an_asynchronous_copy_may_still_write_is_a_race() {
    for fault in [Fault::WaitOffByOne, Fault::NoWait] {
        expect_report("probe_copy", fault, Build::Race, "race: access to memory that an asynchronous copy may still write");
    }
}

#[test]
fn a_plain_store_where_blocks_meet_is_a_race() {
    expect_report("probe_count", Fault::PlainStoreForAtomic, Build::Race, "race:");
}

#[test]
fn a_barrier_that_some_threads_skip_is_a_deadlock_that_says_who_waits_where() {
    let words = "deadlock, 32 of 64 threads cannot go on; thread 0 waits at the block's barrier";
    expect_report("probe_divergence", Fault::DivergentBarrier, Build::Plain, words);
}

#[test]
fn lanes_that_disagree_about_a_collective_are_reported() {
    expect_report("probe_divergence", Fault::DivergentShuffle, Build::Plain, "the warp diverged");
}

#[test]
fn shared_addresses_are_checked_for_bounds_and_alignment() {
    expect_report("probe_load", Fault::MisalignedLoad, Build::Plain, "is not aligned to 16 bytes");
    expect_report("probe_load", Fault::OutsideShared, Build::Plain, "outside the 2048 bytes of shared memory");
}

#[test]
fn rows_of_a_matrix_load_in_one_bank_are_counted() {
    let Some(gpu) = Gpu::new() else { return };
    let conflicts = |fault| {
        let before = software_gpu::statistics().bank_conflicts;
        gpu.probe("probe_load", fault, Build::Plain);
        software_gpu::statistics().bank_conflicts - before
    };
    assert_eq!((conflicts(Fault::None), conflicts(Fault::BankConflict)), (0, 4 * 7));
}

/// Under at least one schedule the faulty kernel's result is wrong, without any instrumentation.
#[track_caller]
fn expect_wrong_result(name: &str, fault: Fault) {
    let Some(gpu) = Gpu::new() else { return };
    let mut wrong = Vec::new();
    for schedule in SCHEDULES {
        software_gpu::set_schedule(schedule);
        let (right, _) = gpu.probe(name, Fault::None, Build::Plain);
        let (found, _) = gpu.probe(name, fault, Build::Plain);
        if found.iter().zip(&right).any(|(a, b)| a.to_bits() != b.to_bits()) {
            wrong.push(schedule.order);
        }
    }
    assert!(!wrong.is_empty(), "{fault:?} shows under no schedule");
}

#[test]
fn missing_synchronisation_gives_wrong_results_under_some_schedule() {
    expect_wrong_result("probe_exchange", Fault::MissingBarrier);
    expect_wrong_result("probe_copy", Fault::WaitOffByOne);
    expect_wrong_result("probe_copy", Fault::NoWait);
}

#[test]
fn one_seed_gives_one_order() {
    let Some(gpu) = Gpu::new() else { return };
    let run = |seed| {
        software_gpu::set_schedule(Schedule { order: Order::Random, seed, late_copies: true });
        gpu.probe("probe_exchange", Fault::MissingBarrier, Build::Plain).0.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
    };
    assert_eq!(run(7), run(7));
    assert!((1..20).any(|seed| run(seed) != run(7)));
}

#[test]
fn a_stray_write_is_named_with_its_allocation_near_and_far() {
    for (stray, words) in [(0, "out-of-bounds write, seen after probe_scale"), (100_000, "illegal address: ")] {
        let Some(gpu) = Gpu::new() else { return };
        let input = gpu.stream.clone_htod(&[1f32; THREADS]).unwrap();
        let output = gpu.stream.alloc_zeros::<f32>(THREADS - 1).unwrap();
        let kernel = gpu.kernel("probe_scale", Build::Plain);
        let params = ProbeParams { count: THREADS as u32 - 1, ..gpu.params(&input, &output, Fault::StrayWrite, stray / 8) };
        // SAFETY: the stray write is what the test is about, and the software GPU contains it.
        unsafe { kernel.launch(&gpu.stream, LaunchShape::linear(1, THREADS as u32), params) }.unwrap();
        assert!(gpu.stream.synchronize().is_err(), "the fault stays with the context");
        let reports = software_gpu::take_reports().join("; ");
        assert!(reports.contains(words) && reports.contains("past the end of allocation"), "{reports}");
    }
}

#[test]
fn use_after_free_is_an_error_in_a_copy_and_in_a_kernel() {
    let Some(gpu) = Gpu::new() else { return };
    let input = gpu.stream.clone_htod(&[1f32; THREADS]).unwrap();
    let output = gpu.stream.alloc_zeros::<f32>(THREADS).unwrap();
    let params = gpu.params(&input, &output, Fault::None, 0);
    drop(input);
    let kernel = gpu.kernel("probe_scale", Build::Plain);
    // SAFETY: the dangling address is what the test is about, and the software GPU contains it.
    unsafe { kernel.launch(&gpu.stream, LaunchShape::linear(1, THREADS as u32), params) }.unwrap();
    assert!(gpu.stream.synchronize().is_err());
    let reports = software_gpu::take_reports().join("; ");
    assert!(reports.contains("of freed allocation"), "{reports}");
}

#[test]
fn memory_that_nobody_wrote_is_not_a_number() {
    let Some(gpu) = Gpu::new() else { return };
    // SAFETY: every bit pattern is a number or not one.
    let fresh = unsafe { gpu.stream.alloc::<f32>(THREADS) }.unwrap();
    assert!(gpu.stream.clone_dtoh(&fresh).unwrap().iter().all(|value| value.is_nan()), "device memory");
    let (found, _) = gpu.probe("probe_exchange", Fault::NeverWritten, Build::Plain);
    assert!(found[..THREADS].iter().all(|value| value.is_nan()), "shared memory: {found:?}");
}

#[test]
fn memory_freed_twice_is_reported() {
    let Some(gpu) = Gpu::new() else { return };
    let address = gpu.stream.alloc_zeros::<f32>(100).unwrap().leak();
    // SAFETY: the second call is what the test is about, and the software GPU refuses it.
    let freed = [(); 2].map(|()| unsafe { cudarc::driver::result::memory_free(address) }.is_ok());
    assert_eq!(freed, [true, false]);
    let reports = software_gpu::take_reports().join("; ");
    assert!(reports.contains("double free of"), "{reports}");
}

#[test]
fn launches_over_the_limits_are_refused_with_words() {
    let Some(gpu) = Gpu::new() else { return };
    let buffer = gpu.stream.alloc_zeros::<f32>(THREADS).unwrap();
    let params = gpu.params(&buffer, &buffer, Fault::None, 0);
    let kernel = gpu.kernel("probe_scale", Build::Plain);
    let refused = |shape: LaunchShape, words: &str| {
        // SAFETY: refused before anything runs.
        assert!(unsafe { kernel.launch(&gpu.stream, shape, params) }.is_err());
        let reports = software_gpu::take_reports().join("; ");
        assert!(reports.contains(words), "{reports}");
    };
    refused(LaunchShape::linear(1, 128), "128 threads, but its launch bound is 64");
    refused(LaunchShape::linear(1, 2048), "outside the device's limits");
    refused(LaunchShape::linear(1, 64).with_shared(60_000), "only 49152 are allowed before opting in");
    software_gpu::set_capability(86);
    let too_much = Module::load(&gpu.context, Image(b"the kernels of this build\0".to_vec())).unwrap();
    assert!(too_much.kernel::<ProbeParams>("probe_scale", 120 << 10).is_err());
    software_gpu::set_capability(80);
    assert!(software_gpu::take_reports().join("; ").contains("but the device has 101376"));
}

#[test]
fn a_kernel_that_does_not_exist_is_refused_by_name() {
    let Some(gpu) = Gpu::new() else { return };
    let module = Module::load(&gpu.context, Image(b"the kernels of this build\0".to_vec())).unwrap();
    assert!(module.kernel::<u64>("no_such_kernel", 0).is_err());
    assert!(software_gpu::take_reports().join("; ").contains("no kernel is named no_such_kernel"));
}

#[test]
fn a_leak_is_named_when_the_context_ends() {
    let Some(gpu) = Gpu::new() else { return };
    let kept = gpu.stream.alloc_zeros::<f32>(100).unwrap();
    assert_eq!(software_gpu::live_allocations(), Some(1));
    kept.leak();
    // The lock stays: the next test clears the reports as soon as it has it.
    let Gpu { context, stream, _alone } = gpu;
    drop((context, stream));
    let reports = software_gpu::take_reports().join("; ");
    assert!(reports.contains("leak: 400 bytes"), "{reports}");
}

#[test]
fn a_captured_launch_runs_when_its_graph_does_and_sees_new_data() {
    let Some(gpu) = Gpu::new() else { return };
    let mut input = gpu.stream.clone_htod(&[1f32; THREADS]).unwrap();
    let output = gpu.stream.alloc_zeros::<f32>(THREADS).unwrap();
    let params = gpu.params(&input, &output, Fault::None, 0);
    let kernel = gpu.kernel("probe_scale", Build::Plain);
    gpu.stream.begin_capture(THREAD_LOCAL).unwrap();
    // SAFETY: both buffers live until the graph is dropped.
    unsafe { kernel.launch(&gpu.stream, LaunchShape::linear(1, THREADS as u32), params) }.unwrap();
    let graph = gpu.stream.end_capture(NO_FLAGS).unwrap().unwrap();
    assert_eq!(gpu.stream.clone_dtoh(&output).unwrap(), [0.0; THREADS], "capturing executes nothing");
    for value in [1f32, 5.0] {
        gpu.stream.memcpy_htod(&[value; THREADS], &mut input).unwrap();
        graph.launch().unwrap();
        assert_eq!(gpu.stream.clone_dtoh(&output).unwrap(), [2.0 * value; THREADS]);
    }
}

#[test]
fn what_no_capture_may_contain_spoils_it() {
    let Some(gpu) = Gpu::new() else { return };
    let device = gpu.stream.alloc_zeros::<f32>(THREADS).unwrap();
    let address = {
        use cudarc::driver::DevicePtr;
        device.device_ptr(&gpu.stream).0
    };
    let (stream, mut host) = (gpu.stream.cu_stream(), [0f32; THREADS]);
    let calls: [(&str, &mut dyn FnMut() -> bool); 5] = [
        ("cuStreamSynchronize is not allowed", &mut || gpu.stream.synchronize().is_ok()),
        ("cuCtxSynchronize is not allowed", &mut || gpu.context.synchronize().is_ok()),
        // SAFETY: the call is refused; were it not, the block would be leaked.
        ("cuMemAlloc_v2 is not allowed", &mut || unsafe { cudarc::driver::result::malloc_sync(256) }.is_ok()),
        // SAFETY: both sides have room and live until the stream is waited for.
        ("a copy of pageable host memory is not allowed", &mut || unsafe {
            cudarc::driver::result::memcpy_htod_async(address, &[1f32; THREADS], stream).is_ok()
        }),
        // SAFETY: as above.
        ("a copy of pageable host memory is not allowed", &mut || unsafe {
            cudarc::driver::result::memcpy_dtoh_async(&mut host, address, stream).is_ok()
        }),
    ];
    for (words, call) in calls {
        gpu.stream.begin_capture(THREAD_LOCAL).unwrap();
        assert!(!call(), "{words}");
        assert!(gpu.stream.end_capture(NO_FLAGS).is_err(), "{words}");
        let reports = software_gpu::take_reports().join("; ");
        assert!(reports.contains(words), "{words}: {reports}");
    }
}

#[test]
fn another_threads_calls_spoil_no_capture_of_a_threads_own() {
    let Some(gpu) = Gpu::new() else { return };
    let allocates = || {
        gpu.context.bind_to_thread().unwrap();
        // SAFETY: the block is freed once, and used by nobody.
        unsafe { cudarc::driver::result::malloc_sync(256).and_then(|block| cudarc::driver::result::free_sync(block)) }.is_ok()
    };
    for (mode, allowed) in [(THREAD_LOCAL, true), (CU_STREAM_CAPTURE_MODE_GLOBAL, false)] {
        gpu.stream.begin_capture(mode).unwrap();
        assert_eq!(std::thread::scope(|scope| scope.spawn(allocates).join().unwrap()), allowed);
        assert_eq!(gpu.stream.end_capture(NO_FLAGS).is_ok(), allowed);
    }
    assert!(software_gpu::take_reports().join("; ").contains("cuMemAlloc_v2 is not allowed"));
}

#[test]
fn work_waits_in_its_stream_so_a_forgotten_event_shows() {
    let Some(gpu) = Gpu::new() else { return };
    let input = gpu.stream.clone_htod(&[3f32; THREADS]).unwrap();
    gpu.stream.synchronize().unwrap();
    let output = gpu.stream.alloc_zeros::<f32>(THREADS).unwrap();
    gpu.stream.synchronize().unwrap();
    let params = gpu.params(&input, &output, Fault::None, 0);
    let kernel = gpu.kernel("probe_scale", Build::Plain);
    // SAFETY: both buffers outlive the launch.
    unsafe { kernel.launch(&gpu.stream, LaunchShape::linear(1, THREADS as u32), params) }.unwrap();
    let other = gpu.context.new_stream().unwrap();
    assert_eq!(other.clone_dtoh(&output).unwrap(), [0.0; THREADS], "the other stream did not wait");
    other.join(&gpu.stream).unwrap();
    assert_eq!(other.clone_dtoh(&output).unwrap(), [6.0; THREADS]);
}
