//! Times of one launch by the device's own clock, beside the floor.
//!
//! Criterion sees launches one after another, with whatever the caches keep. A line after each benchmark adds the floor, the quantiles
//! and the time with cold caches; where `XBM_DEVICE_RESULTS` names a file, the same is appended to it as one JSON object.

use crate::gpu::Gpu;
use bytemuck::Pod;
use criterion::Criterion;
use cudarc::driver::sys::CUevent_flags::CU_EVENT_DEFAULT;
use std::cell::RefCell;
use std::io::Write as _;
use std::time::Duration;
use xbm_fast::device::cuda::kernel::{Kernel, LaunchShape};

/// Launches between two events: their clock ticks in half microseconds.
const LAUNCHES: u64 = 16;
/// Launches with cold caches.
const COLD_LAUNCHES: usize = 21;
/// Bytes written before each of those: more than any second-level cache.
const FLUSHED: usize = 256 << 20;
/// Ceilings of an H200 as others have measured them, used where none are given.
const TFLOPS: f64 = 790.0;
const TERABYTES: f64 = 4.3;

/// What a benchmark cannot take less than.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    /// Read and written, in bytes.
    pub bytes: f64,
    /// 16-bit matrix products.
    pub flops: f64,
}

impl Floor {
    /// A floor of memory traffic only.
    pub fn bytes(bytes: usize) -> Self {
        Self { bytes: bytes as f64, flops: 0.0 }
    }

    fn microseconds(self) -> f64 {
        let ceiling = |name: &str, otherwise: f64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise);
        let (flops, bytes) = (ceiling("XBM_PEAK_TFLOPS", TFLOPS) * 1e12, ceiling("XBM_PEAK_TBS", TERABYTES) * 1e12);
        (self.flops / flops).max(self.bytes / bytes) * 1e6
    }
}

impl Gpu {
    /// One benchmark of a kernel.
    pub fn measure<Params: Pod>(
        &self,
        criterion: &mut Criterion,
        name: &str,
        floor: Floor,
        (kernel, shape, params): (&Kernel<Params>, LaunchShape, Params),
    ) {
        let samples = RefCell::new(Vec::new());
        criterion.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let rounds = iterations.div_ceil(LAUNCHES);
                let total = self.microseconds(|| {
                    (0..rounds * LAUNCHES).for_each(|_| self.launch(kernel, shape, params));
                });
                let each = total / (rounds * LAUNCHES) as f64;
                samples.borrow_mut().push(each);
                Duration::from_secs_f64(each * 1e-6 * iterations as f64)
            });
        });
        let samples = samples.into_inner();
        // A filter on the command line may have left this one out.
        if !samples.is_empty() {
            self.report(name, floor.microseconds(), samples, self.cold(|| self.launch(kernel, shape, params)));
        }
    }

    /// Time of the work that `call` puts on the stream.
    fn microseconds(&self, call: impl FnOnce()) -> f64 {
        let event = || self.stream.record_event(Some(CU_EVENT_DEFAULT)).expect("an event");
        let start = event();
        call();
        let end = event();
        self.stream.synchronize().unwrap_or_else(|error| panic!("{error:?}: {:?}", software_gpu::take_reports()));
        f64::from(start.elapsed_ms(&end).expect("both events have passed")) * 1e3
    }

    /// Median time of a launch that finds nothing in the caches.
    fn cold(&self, launch: impl Fn()) -> f64 {
        let mut other = self.zeros::<u8>(if self.software { 1 } else { FLUSHED });
        let mut times: Vec<f64> = (0..if self.software { 1 } else { COLD_LAUNCHES })
            .map(|_| {
                self.stream.memset_zeros(&mut other).expect("a memset");
                self.microseconds(&launch)
            })
            .collect();
        quantile(&mut times, 0.5)
    }

    fn report(&self, name: &str, floor: f64, mut samples: Vec<f64>, cold: f64) {
        let [low, median, high] = [0.1, 0.5, 0.9].map(|share| quantile(&mut samples, share));
        let times = format!(
            "floor {floor:.2} us, median {median:.2} us ({low:.2} to {high:.2}), cold {cold:.2} us, cold to floor {:.2}",
            cold / floor
        );
        println!("{name}: {}", if self.software { "agrees with its reference; in software, times mean nothing" } else { &times });
        let Some(path) = std::env::var_os("XBM_DEVICE_RESULTS") else { return };
        let line = serde_json::json!({
            "name": name, "device": self.name(), "software": self.software, "floor_us": floor, "p10_us": low, "median_us": median,
            "p90_us": high, "cold_us": cold, "cold_to_floor": cold / floor,
        });
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
        let written = file.and_then(|mut file| writeln!(file, "{line}"));
        written.unwrap_or_else(|error| panic!("XBM_DEVICE_RESULTS={}: {error}", path.display()));
    }
}

fn quantile(samples: &mut [f64], share: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[(share * (samples.len() - 1) as f64).round() as usize]
}
