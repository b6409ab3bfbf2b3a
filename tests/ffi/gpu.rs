//! A caller that has its memory and its stream on the GPU, like a tensor library. On the software GPU work waits until something
//! synchronises with its stream, so an order that nobody asked for shows.

use super::calls::{Handles, Results, batch, loss_through_c, ok};
use super::misuse::refused;
use super::support::{assert_close, unit_rows};
use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtr};
use std::ptr::{null, null_mut, with_exposed_provenance, with_exposed_provenance_mut, without_provenance};
use std::sync::Arc;
use xbm_fast::ffi::*;

/// Sums of a few hundred products in another order.
const TOLERANCE: f64 = 2e-6;
/// Rows rounded to 16 bit.
const TOLERANCE_F16: f64 = 2e-3;
const SETTINGS: XbmLossSettings = XbmLossSettings { scale: 0.5, own: XBM_OWN_LAST_ENQUEUE, accumulate: 0 };
const DIM: usize = 64;

/// The caller's side of the device.
struct Caller {
    stream: Arc<CudaStream>,
}

/// A batch and the results of a loss in the caller's device memory.
struct OnDevice {
    embeddings: CudaSlice<f32>,
    labels: CudaSlice<i32>,
    gradient: CudaSlice<f32>,
    row_losses: CudaSlice<f32>,
    kept: CudaSlice<i32>,
}

impl Caller {
    fn new() -> Option<Self> {
        software_gpu::available().then(|| {
            let context = CudaContext::new(0).unwrap();
            // SAFETY: one stream.
            unsafe { context.disable_event_tracking() };
            Self { stream: context.new_stream().unwrap() }
        })
    }

    fn stream(&self) -> *const std::ffi::c_void {
        self.stream.cu_stream().cast()
    }

    fn address<T>(&self, numbers: &CudaSlice<T>) -> *const T {
        with_exposed_provenance(numbers.device_ptr(&self.stream).0 as usize)
    }

    fn address_mut<T>(&self, numbers: &CudaSlice<T>) -> *mut T {
        with_exposed_provenance_mut(numbers.device_ptr(&self.stream).0 as usize)
    }

    fn upload(&self, embeddings: &[f32], labels: &[i32]) -> OnDevice {
        OnDevice {
            embeddings: self.stream.clone_htod(embeddings).unwrap(),
            labels: self.stream.clone_htod(labels).unwrap(),
            gradient: self.stream.clone_htod(&vec![2f32; embeddings.len()]).unwrap(),
            row_losses: self.stream.alloc_zeros(labels.len()).unwrap(),
            kept: self.stream.alloc_zeros(2 * labels.len()).unwrap(),
        }
    }

    fn batch(&self, on_device: &OnDevice) -> XbmBatch {
        XbmBatch {
            embeddings: self.address(&on_device.embeddings).cast(),
            labels: self.address(&on_device.labels),
            ids: null(),
            rows: on_device.labels.len(),
            dim: on_device.embeddings.len() / on_device.labels.len(),
            location: XBM_DEVICE,
            dtype: XBM_F32,
        }
    }

    /// The loss of what is on the device, whose results are read back through the caller's stream alone. The sum of the losses is not
    /// asked for: the engine would wait for it.
    fn loss(&self, handles: &Handles, on_device: &OnDevice, settings: XbmLossSettings) -> Results {
        let outputs = XbmLossOutputs {
            gradient: self.address_mut(&on_device.gradient),
            row_losses: self.address_mut(&on_device.row_losses),
            kept: self.address_mut(&on_device.kept),
            loss: null_mut(),
        };
        // SAFETY: a batch on the device and outputs of its lengths.
        ok(unsafe { xbm_pair_loss(handles.memory, handles.weighting, &self.batch(on_device), &settings, &outputs) });
        let row_losses = self.stream.clone_dtoh(&on_device.row_losses).unwrap();
        Results {
            gradient: self.stream.clone_dtoh(&on_device.gradient).unwrap(),
            kept: self.stream.clone_dtoh(&on_device.kept).unwrap(),
            loss: f64::from(settings.scale) * row_losses.iter().copied().map(f64::from).sum::<f64>(),
            row_losses,
        }
    }
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

fn set_stream(handles: &Handles, stream: *const std::ffi::c_void) -> Status {
    // SAFETY: a stream that outlives the handles, or a value that the driver does not know.
    unsafe { xbm_engine_set_stream(handles.engine, stream) }
}

fn enqueue(handles: &Handles, batch: &XbmBatch) -> Status {
    // SAFETY: a batch as the header asks for.
    unsafe { xbm_memory_enqueue(handles.memory, batch) }
}

#[test]
fn a_gpus_losses_are_the_cpus_from_the_host_and_from_the_callers_own_memory() {
    let Some(caller) = Caller::new() else { return };
    for (dtype, tolerance) in [(XBM_F32, TOLERANCE), (XBM_DTYPE_DEFAULT, TOLERANCE_F16)] {
        let expected_of = Handles::new(20, DIM);
        let [from_host, from_device] = [(); 2].map(|()| Handles::on(c"cuda", dtype, 20, DIM));
        ok(set_stream(&from_device, caller.stream()));
        // Of other lengths, the second of which wraps around the end of the memory.
        for (step, rows) in [12usize, 12, 7].into_iter().enumerate() {
            let embeddings = unit_rows(&format!("gpu {step}"), rows, DIM);
            let labels: Vec<i32> = (0..rows as i32).map(|row| row % 4 - 1).collect();
            let (on_host, on_device) = (batch(&embeddings, &labels, None), caller.upload(&embeddings, &labels));
            for (handles, batch) in [(&expected_of, &on_host), (&from_host, &on_host), (&from_device, &caller.batch(&on_device))] {
                ok(enqueue(handles, batch));
            }
            let settings = XbmLossSettings { accumulate: (step == 2).into(), ..SETTINGS };
            let expected = loss_through_c(&expected_of, &on_host, settings, 2.0);
            let found = loss_through_c(&from_host, &on_host, settings, 2.0);
            assert_close("gradient", &found.gradient, &wide(&expected.gradient), tolerance);
            assert_close("row losses", &found.row_losses, &wide(&expected.row_losses), tolerance);
            if dtype == XBM_F32 {
                assert_eq!(found.kept, expected.kept);
            }
            assert!((found.loss - expected.loss).abs() < tolerance * expected.loss.abs());
            assert_eq!(caller.loss(&from_device, &on_device, settings), found, "to the bit, wherever the batch is");
        }
    }
    assert_eq!(software_gpu::take_reports(), Vec::<String>::new());
}

#[test]
fn without_a_stream_everything_has_happened_when_a_call_returns() {
    let Some(caller) = Caller::new() else { return };
    let (embeddings, labels) = (unit_rows("no stream", 6, DIM), [1, 1, 2, 2, 3, 3]);
    let (handles, on_device) = (Handles::on(c"cuda", XBM_F32, 8, DIM), caller.upload(&embeddings, &labels));
    caller.stream.synchronize().unwrap();
    ok(enqueue(&handles, &caller.batch(&on_device)));
    let found = caller.loss(&handles, &on_device, SETTINGS);
    assert_eq!(found, loss_through_c(&handles, &batch(&embeddings, &labels, None), SETTINGS, 0.0));
    assert!(found.loss > 0.0);
}

#[test]
fn a_memory_goes_from_the_gpu_to_the_cpu_and_scores_are_the_same() {
    let Some(caller) = Caller::new() else { return };
    let (embeddings, labels) = (unit_rows("to the cpu", 9, DIM), [1, 1, 2, 2, 3, 3, 1, 2, 3]);
    let (gpu, host) = (Handles::on(c"cuda", XBM_F32, 8, DIM), Handles::new(8, DIM));
    let on_device = caller.upload(&embeddings, &labels);
    ok(set_stream(&gpu, caller.stream()));
    ok(enqueue(&gpu, &caller.batch(&on_device)));
    let mut len = 0;
    // SAFETY: bytes of the length that was asked for, and a place for it.
    unsafe {
        ok(xbm_memory_to_bytes(gpu.memory, null_mut(), 0, &mut len));
        let mut bytes = vec![0; len];
        ok(xbm_memory_to_bytes(gpu.memory, bytes.as_mut_ptr(), len, &mut len));
        ok(xbm_memory_from_bytes(host.memory, bytes.as_ptr(), len));
    }
    let (anchors, settings) = (batch(&embeddings, &labels, None), XbmLossSettings { own: XBM_OWN_NONE, ..SETTINGS });
    let expected = loss_through_c(&gpu, &anchors, settings, 0.0);
    assert_close("gradient", &loss_through_c(&host, &anchors, settings, 0.0).gradient, &wide(&expected.gradient), TOLERANCE);

    let score = |handles: &Handles, queries: &XbmBatch| {
        let evaluation = XbmEvaluation { queries, gallery: null(), own_rows: null(), ks: [1, 4].as_ptr(), k_count: 2 };
        let mut recall = [0.0; 2];
        let recall_at = recall.as_mut_ptr();
        let mut scores = XbmScores {
            recall: recall_at,
            map_at_r: 0.0,
            r_precision: 0.0,
            mean_reciprocal_rank: 0.0,
            queries: 0,
            excluded_queries: 0,
        };
        // SAFETY: structures as the header asks for.
        ok(unsafe { xbm_evaluate(handles.engine, &evaluation, &mut scores) });
        (recall, scores.map_at_r, scores.queries)
    };
    assert_eq!(score(&gpu, &caller.batch(&on_device)), score(&host, &anchors));
}

#[test]
fn addresses_numbers_and_streams_that_cannot_be_are_refused() {
    let Some(caller) = Caller::new() else { return };
    let handles = Handles::on(c"cuda", XBM_DTYPE_DEFAULT, 8, DIM);
    ok(set_stream(&handles, caller.stream()));
    let (mut embeddings, labels) = (unit_rows("refused", 3, DIM), [1, 2, 3]);
    let good = caller.upload(&embeddings, &labels);
    let of_the_host = XbmBatch { location: XBM_DEVICE, ..batch(&embeddings, &labels, None) };
    refused(enqueue(&handles, &of_the_host), Status::Config, "embeddings of batch: expected device memory, as its location says");
    let good = caller.batch(&good);
    let odd = XbmBatch { labels: good.labels.wrapping_byte_add(2), ..good };
    refused(enqueue(&handles, &odd), Status::Argument, "labels of batch: expected a device address that is a multiple of 4");
    refused(enqueue(&handles, &XbmBatch { embeddings: null(), ..good }), Status::Argument, "found NULL");

    embeddings[DIM + 3] = f32::NAN;
    refused(enqueue(&handles, &caller.batch(&caller.upload(&embeddings, &labels))), Status::NotFinite, "first in row 1");
    embeddings[DIM + 3] = 30.0;
    let too_long = caller.upload(&embeddings, &labels);
    refused(enqueue(&handles, &caller.batch(&too_long)), Status::Shape, "embeddings, row 1: expected a vector of length 1");

    refused(
        set_stream(&handles, without_provenance(4096)),
        Status::Config,
        "stream: expected one of the primary context of device 0",
    );
    let mut info = XbmMemoryInfo { capacity: 0, dim: 0, count: 9, head: 9 };
    // SAFETY: a place for the structure.
    ok(unsafe { xbm_memory_get_info(handles.memory, &mut info) });
    assert_eq!((info.count, info.head), (0, 0), "what was refused left nothing behind");
    ok(enqueue(&handles, &good));
    assert_eq!(software_gpu::take_reports(), Vec::<String>::new());
}
