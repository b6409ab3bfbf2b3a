//! Batches of 64 photographs of 500 x 375 pixels, loaded and augmented to 224: from JPEG files, and from a packed file of raw pixels.
//! One thread loads, one augments; nothing is kept between batches.
//!
//! The Python side of the comparison is `benches/peers/data_loader.py`. It starts this benchmark with `XBM_FAST_PEER` set to a folder of
//! photographs; then processor time per image is printed, and criterion is not involved.

use criterion::{Criterion, Throughput, criterion_main};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use xbm_fast::backend::{Cpu, SpanMut};
use xbm_fast::data::packed::{Encoding, PackOptions, pack};
use xbm_fast::data::synthetic::Drawing;
use xbm_fast::data::{Dataset, Loader, LoaderOptions, OpenOptions, RandomView, Sampler, SamplerOptions, Sampling, Split};
use xbm_fast::ops::augment::Augment;

const SIZE: usize = 224;
const BATCH: usize = 64;
const IMAGES_PER_CLASS: usize = 4;
const CROP_SCALE: (f32, f32) = (0.2, 1.0);
const WARM_BATCHES: usize = 4;
const TIMED_BATCHES: usize = 40;

/// Loads and augments batch after batch.
struct Feed {
    cpu: Cpu,
    loader: Loader,
    view: RandomView,
    output: Vec<f32>,
}

impl Feed {
    fn new(spec: &str) -> xbm_fast::Result<Self> {
        let dataset = Arc::new(Dataset::open(spec, &OpenOptions { holdout: 0.0, ..OpenOptions::default() })?);
        let train = dataset.indices(Split::Train);
        let batch = SamplerOptions { batch_size: BATCH, samples_per_class: IMAGES_PER_CLASS, sampling: Sampling::Epochs, seed: 0 };
        let sampler = Sampler::new(&train, &dataset.labels(&train), batch)?;
        let options = LoaderOptions { threads: 1, cache_bytes: 0, ..LoaderOptions::default() };
        Ok(Self {
            cpu: Cpu::new(Some(1))?,
            loader: Loader::new(dataset, sampler, 0, &options)?,
            view: RandomView::new(CROP_SCALE, true, 0)?,
            output: vec![0.0; BATCH * SIZE * SIZE * 3],
        })
    }

    fn next(&mut self) -> xbm_fast::Result<()> {
        let batch = self.loader.next()?;
        let crops: Vec<_> =
            batch.images.iter().enumerate().map(|(position, image)| self.view.crop("query", batch.step, position, image)).collect();
        let pixels: Vec<_> = batch.images.iter().map(|image| image.pixels()).collect();
        self.cpu.augment(SIZE, &pixels, &crops, SpanMut::all(&mut self.output))
    }
}

/// A folder of classes, and the same packed.
fn specs(photographs: &Path, packed: &Path) -> xbm_fast::Result<[(&'static str, String); 2]> {
    let folder = format!("folder:{}", photographs.display());
    let dataset = Arc::new(Dataset::open(&folder, &OpenOptions { holdout: 0.0, ..OpenOptions::default() })?);
    let options = PackOptions { encoding: Encoding::Raw, short_side: 0, threads: 2, max_unreadable: 0.0 };
    pack(&dataset, packed, &options, &AtomicBool::new(false), || {})?;
    Ok([("jpeg", folder), ("packed_raw", format!("packed:{}", packed.display()))])
}

/// Sixteen classes of eight drawn products on landscape canvases.
fn draw_photographs(root: &Path) {
    for (class, view) in (0..16).flat_map(|class| (0..8).map(move |view| (class, view))) {
        let drawn = Drawing { seed: 0, class, view, size: 500 }.draw();
        let square = image::RgbImage::from_raw(500, 500, drawn.rgb.to_vec()).expect("a byte for each value");
        let folder = root.join(class.to_string());
        std::fs::create_dir_all(&folder).expect("the temporary folder can be written");
        let photograph = image::imageops::crop_imm(&square, 0, 62, 500, 375).to_image();
        photograph.save(folder.join(format!("{view}.jpg"))).expect("the temporary folder can be written");
    }
}

/// User and system time of this process so far, in seconds; none where the system does not say.
fn processor_time() -> Option<f64> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

/// Prints milliseconds of processor time, and of wall time, per image.
fn measure_for_peer(photographs: &Path) {
    let packed = photographs.with_extension("xbm");
    for (name, spec) in specs(photographs, &packed).expect("photographs can be read") {
        let mut feed = Feed::new(&spec).expect("photographs can be read");
        let mut run = |batches: usize| (0..batches).for_each(|_| feed.next().expect("photographs can be read"));
        run(WARM_BATCHES);
        let (before, begun) = (processor_time(), Instant::now());
        run(TIMED_BATCHES);
        let per_image = |seconds: f64| 1e3 * seconds / (TIMED_BATCHES * BATCH) as f64;
        let spent = processor_time().zip(before).map_or(f64::NAN, |(after, before)| after - before);
        println!("{name}|{:.4} {:.4}", per_image(spent), per_image(begun.elapsed().as_secs_f64()));
    }
}

fn data_loader() {
    if let Some(photographs) = std::env::var_os("XBM_FAST_PEER") {
        return measure_for_peer(&PathBuf::from(photographs));
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let photographs = folder.path().join("photographs");
    draw_photographs(&photographs);
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("data_loader");
    group.sample_size(20).measurement_time(Duration::from_secs(6)).throughput(Throughput::Elements(BATCH as u64));
    for (name, spec) in specs(&photographs, &folder.path().join("set.xbm")).expect("photographs can be read") {
        let mut feed = Feed::new(&spec).expect("photographs can be read");
        group.bench_function(name, |bencher| bencher.iter(|| feed.next().expect("photographs can be read")));
    }
    group.finish();
}

criterion_main!(data_loader);
