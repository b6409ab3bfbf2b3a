//! Batches of 64 photographs of 500 x 375 pixels, loaded and augmented to 224: from JPEG files, and from a packed file of raw pixels.

#[path = "fixtures/photographs.rs"]
mod fixture;

use criterion::{Criterion, Throughput, criterion_main};
use fixture::{BATCH, Feed, specs};
use std::path::Path;
use std::time::Duration;
use xbm_fast::app::data::synthetic::Drawing;

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

fn data_loader() {
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
