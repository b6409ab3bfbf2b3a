//! Packed files: the same images, labels and bits as the data set they were packed from, and an error for every file that is not whole.


use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::AtomicBool;

use image::{DynamicImage, ImageFormat, RgbImage};
use proptest::prelude::*;
use crate::support::layouts::{self, Tree};
use tempfile::TempDir;
use xbm_fast::Result;
use xbm_fast::app::data::packed::{Encoding, PackOptions, PackReport, pack};
use xbm_fast::app::data::{Dataset, OpenOptions, Source, survey};

const ENCODINGS: [Encoding; 2] = [Encoding::Raw, Encoding::Files];
/// Where the format puts things; see `src/app/data/packed/layout.rs`.
const VERSION_AT: usize = 8;
const HEADER_LEN: usize = 128;

fn options(encoding: Encoding, short_side: usize) -> PackOptions {
    PackOptions { encoding, short_side, threads: 2, max_unreadable: 0.05 }
}

fn open(spec: &str) -> Result<Arc<Dataset>> {
    Dataset::open(spec, &OpenOptions::default()).map(Arc::new)
}

fn open_file(path: &Path) -> Result<Arc<Dataset>> {
    open(&format!("packed:{}", path.display()))
}

fn pack_to(path: &Path, dataset: &Arc<Dataset>, options: &PackOptions) -> Result<PackReport> {
    pack(dataset, path, options, &AtomicBool::new(false), || {})
}

/// A folder with a packed file of the data set.
fn packed(dataset: &Arc<Dataset>, options: &PackOptions) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.xbm");
    let report = pack_to(&path, dataset, options).unwrap();
    assert_eq!((report.images, report.unreadable.len()), (dataset.images.len(), 0));
    assert_eq!(report.bytes, fs::metadata(&path).unwrap().len());
    (folder, path)
}

#[track_caller]
fn assert_same_data(found: &Dataset, expected: &Dataset) {
    assert_eq!((&found.classes, &found.protocol), (&expected.classes, &expected.protocol));
    assert_eq!(found.images.len(), expected.images.len());
    assert_eq!(found.soft_labels, expected.soft_labels);
    for (index, (image, original)) in found.images.iter().zip(&expected.images).enumerate() {
        assert_eq!((image.label, image.split), (original.label, original.split), "image {index}");
        assert_eq!(found.decode(index).unwrap(), expected.decode(index).unwrap(), "image {index}");
        assert!(image.source.to_string().starts_with(&original.source.to_string()));
    }
}

#[test]
fn every_layout_is_the_same_packed() {
    for tree in layouts::all() {
        let dataset = open(&tree.spec()).unwrap();
        for encoding in ENCODINGS {
            let (_folder, path) = packed(&dataset, &options(encoding, 0));
            let found = open_file(&path).unwrap();
            assert_same_data(&found, &dataset);
            assert_eq!(survey::unreadable(&found, 2, || {}).unwrap(), []);
        }
    }
}

#[test]
fn soft_labels_are_the_same_packed() {
    let tree = layouts::csv();
    let mut dataset = open(&tree.spec());
    let data = Arc::make_mut(dataset.as_mut().unwrap());
    data.soft_labels = (0..data.images.len()).map(|index| index as f32 - 2.5).collect();
    let dataset = dataset.unwrap();
    let (_folder, path) = packed(&dataset, &options(Encoding::Raw, 0));
    assert_same_data(&open_file(&path).unwrap(), &dataset);
}

#[test]
fn drawn_images_and_packed_files_can_be_packed() {
    let drawn = open("synthetic:classes=4,views=2,size=20").unwrap();
    for encoding in ENCODINGS {
        let (_folder, path) = packed(&drawn, &options(encoding, 0));
        let once = open_file(&path).unwrap();
        assert_same_data(&once, &drawn);
        for again in ENCODINGS {
            let (_folder, path) = packed(&once, &options(again, 0));
            assert_same_data(&open_file(&path).unwrap(), &drawn);
        }
    }
}

#[test]
fn raw_pixels_are_not_copied() {
    let (_folder, path) = packed(&open("synthetic:classes=4,views=2,size=20").unwrap(), &options(Encoding::Raw, 0));
    let dataset = open_file(&path).unwrap();
    let (first, second) = (dataset.decode(3).unwrap(), dataset.decode(3).unwrap());
    assert_eq!(first.rgb.as_ptr(), second.rgb.as_ptr());
    assert_eq!(first.rgb.owned_len(), 0);
    drop(dataset);
    assert_eq!(first.rgb.len(), 20 * 20 * 3, "an image keeps its file open");
}

#[test]
fn a_packed_file_does_not_depend_on_threads() {
    let tree = layouts::csv();
    let dataset = open(&tree.spec()).unwrap();
    for encoding in ENCODINGS {
        let files = [1, 3].map(|threads| {
            let (_folder, path) = packed(&dataset, &PackOptions { threads, ..options(encoding, 10) });
            fs::read(path).unwrap()
        });
        assert!(files[0] == files[1]);
    }
}

#[test]
fn images_are_made_smaller_but_never_larger() {
    let dataset = open("synthetic:classes=4,views=2,size=32").unwrap();
    for encoding in ENCODINGS {
        let (_folder, path) = packed(&dataset, &options(encoding, 20));
        let small = open_file(&path).unwrap().decode(0).unwrap();
        assert_eq!((small.height, small.width), (20, 20));
        let mean = |bytes: &[u8]| bytes.iter().map(|&byte| f64::from(byte)).sum::<f64>() / bytes.len() as f64;
        let expected = mean(&dataset.decode(0).unwrap().rgb);
        assert!((mean(&small.rgb) - expected).abs() < 2.0, "the picture is another one");
        let (_folder, path) = packed(&dataset, &options(encoding, 64));
        assert_same_data(&open_file(&path).unwrap(), &dataset);
    }
    // The short side is asked for, the long one follows, rounded down as torchvision's resize does.
    let tree = layouts::sop();
    let (_folder, path) = packed(&open(&tree.spec()).unwrap(), &options(Encoding::Raw, 9));
    let image = open_file(&path).unwrap().decode(0).unwrap();
    assert_eq!((image.height, image.width), (9, 11));
}

#[test]
fn boxes_are_cut_where_images_are_made_smaller() {
    let tree = layouts::csv();
    let dataset = open(&tree.spec()).unwrap();
    for encoding in ENCODINGS {
        let (_folder, path) = packed(&dataset, &options(encoding, 10));
        let found = open_file(&path).unwrap();
        let (whole, cut) = (found.decode(0).unwrap(), found.decode(1).unwrap());
        assert_eq!(((whole.height, whole.width), (cut.height, cut.width)), ((10, 12), (11, 10)));
    }
}

fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Everything that occurs in downloaded data sets looks the same after packing: grey, CMYK, palette, 16 bits, rotation by EXIF,
/// transparency and upper-case extensions.
#[test]
fn every_kind_of_file_is_the_same_packed() {
    let picture = RgbImage::from_fn(16, 8, |x, y| image::Rgb([(x * 16) as u8, (y * 30) as u8, 90]));
    let picture = DynamicImage::from(picture);
    let mut rotated = Vec::new();
    let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut rotated, 95);
    let orientation_6 = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0".to_vec();
    image::ImageEncoder::set_exif_metadata(&mut encoder, orientation_6).unwrap();
    encoder.encode_image(&picture).unwrap();
    let files = [
        ("grey.JPG", encoded(picture.to_luma8(), ImageFormat::Jpeg)),
        ("grey.PNG", encoded(picture.to_luma16(), ImageFormat::Png)),
        ("cmyk.Jpeg", include_bytes!("../fixtures/cmyk.jpg").to_vec()),
        ("palette.GIF", encoded(picture.to_rgba8(), ImageFormat::Gif)),
        ("deep.TIFF", encoded(picture.to_rgb16(), ImageFormat::Tiff)),
        ("transparent.png", encoded(transparent(), ImageFormat::Png)),
        ("rotated.jpg", rotated),
    ];
    let tree = Tree::new("folder");
    for (name, bytes) in &files {
        tree.bytes(&format!("train/a/{name}"), bytes);
        tree.bytes(&format!("train/b/{name}"), bytes);
    }
    let dataset = open(&tree.spec()).unwrap();
    assert_eq!((dataset.images.len(), dataset.skipped.len()), (2 * files.len(), 0));
    for encoding in ENCODINGS {
        let (_folder, path) = packed(&dataset, &options(encoding, 0));
        assert_same_data(&open_file(&path).unwrap(), &dataset);
    }
    let rotated = dataset.images.iter().position(|image| image.source.to_string().ends_with("rotated.jpg")).unwrap();
    assert_eq!((dataset.decode(rotated).unwrap().height, dataset.decode(rotated).unwrap().width), (16, 8));
}

fn transparent() -> DynamicImage {
    image::RgbaImage::from_fn(5, 4, |x, y| image::Rgba([200, (x * 40) as u8, 10, (y * 80) as u8])).into()
}

#[test]
fn unreadable_images_are_left_out_and_too_many_leave_no_file() {
    let tree = layouts::folder();
    tree.text("class 3/0.JPG", "no image");
    let dataset = open(&tree.spec()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.xbm");
    for encoding in ENCODINGS {
        let refused = pack_to(&path, &dataset, &options(encoding, 0)).unwrap_err().to_string();
        assert!(refused.contains("1 of 16 images") && refused.contains("class 3/0.JPG"), "{refused}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
    let report = pack_to(&path, &dataset, &PackOptions { max_unreadable: 0.1, ..options(Encoding::Raw, 0) }).unwrap();
    let [(index, reason)] = report.unreadable.as_slice() else { panic!("{report:?}") };
    assert!(dataset.images[*index].source.to_string().ends_with("class 3/0.JPG") && reason.contains("class 3/0.JPG"));
    let found = open_file(&path).unwrap();
    assert_eq!((found.images.len(), &found.classes), (15, &dataset.classes));
    assert!(found.images.iter().all(|image| !image.source.to_string().contains("class 3/0.JPG")));
}

#[test]
fn an_interrupted_packing_leaves_what_was_there() {
    let dataset = open("synthetic:classes=4,views=2,size=20").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.xbm");
    fs::write(&path, "earlier").unwrap();
    let error = pack(&dataset, &path, &options(Encoding::Raw, 0), &AtomicBool::new(true), || {}).unwrap_err();
    assert!(error.to_string().contains("interrupted"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"earlier");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// Two small packed files, raw and encoded.
static FILES: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
    let tree = layouts::csv();
    let dataset = open(&tree.spec()).unwrap();
    ENCODINGS.map(|encoding| fs::read(packed(&dataset, &options(encoding, 0)).1).unwrap())
});

/// Opens the bytes as a packed file and reads everything in it. Returns the error of opening, or what `data --decode` would list.
fn read_all(bytes: &[u8]) -> Result<Vec<(usize, String)>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.xbm");
    fs::write(&path, bytes).unwrap();
    let dataset = open_file(&path)?;
    survey::unreadable(&dataset, 1, || {})
}

#[track_caller]
fn assert_refused(bytes: &[u8], words: &[&str]) {
    let message = read_all(bytes).expect_err("a damaged file was opened").to_string();
    for word in words.iter().chain(&["set.xbm"]) {
        assert!(message.contains(word), "`{message}` does not say `{word}`");
    }
}

/// The file with other bytes in its header, and the header's checksum made right.
fn with_header(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = FILES[0].clone();
    file[at..at + bytes.len()].copy_from_slice(bytes);
    let checksum = crc32c::crc32c(&file[..HEADER_LEN - 4]);
    file[HEADER_LEN - 4..HEADER_LEN].copy_from_slice(&checksum.to_le_bytes());
    file
}

/// The file with other bytes in the record of its second image, and all checksums made right.
fn with_record(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = FILES[0].clone();
    let at = HEADER_LEN + 64 + at;
    file[at..at + bytes.len()].copy_from_slice(bytes);
    let images = u64::from_le_bytes(file[16..24].try_into().unwrap()) as usize;
    let texts = u64::from_le_bytes(file[32..40].try_into().unwrap()) as usize;
    let checksum = crc32c::crc32c(&file[HEADER_LEN..HEADER_LEN + 64 * images + texts]);
    file[56..60].copy_from_slice(&checksum.to_le_bytes());
    let checksum = crc32c::crc32c(&file[..HEADER_LEN - 4]);
    file[HEADER_LEN - 4..HEADER_LEN].copy_from_slice(&checksum.to_le_bytes());
    file
}

#[test]
fn files_that_are_not_whole_are_refused_in_words_that_say_why() {
    let file = &FILES[0];
    assert!(read_all(file).unwrap().is_empty());
    assert_refused(b"", &["something else"]);
    assert_refused(&encoded(transparent(), ImageFormat::Png), &["packed file", "something else"]);
    assert_refused(&file[..60], &["truncated", "128", "60"]);
    assert_refused(&file[..file.len() - 1], &["truncated", &file.len().to_string(), &(file.len() - 1).to_string()]);
    assert_refused(&file[..5000], &["truncated", "found 5000"]);
    assert_refused(&[&file[..], b"x"].concat(), &["too long"]);
    assert_refused(&with_header(VERSION_AT, &[2]), &["version 1", "found 2", "pack the data again"]);
    assert_refused(&with_header(12, &[9]), &["encoding", "9"]);
    assert_refused(&with_header(16, &[0xFF; 8]), &["no room"]);
    assert_refused(&with_header(32, &[0xFF; 8]), &["no room"]);
    assert_refused(&with_header(40, &[1]), &["no room"]);
    assert_refused(&with_header(48, &[0xFF; 8]), &["no room"]);
    assert_refused(&with_header(24, &[1]), &["names"]);
    let error = open_file(&std::env::temp_dir()).unwrap_err().to_string();
    assert!(error.contains("found a folder"), "{error}");
}

#[test]
fn records_that_do_not_fit_the_file_are_refused() {
    assert!(read_all(&with_record(0, &[])).unwrap().is_empty());
    assert_refused(&with_record(0, &[0; 8]), &["image 1", "expected bytes within"]);
    assert_refused(&with_record(0, &[0xFF; 8]), &["image 1", "expected bytes within"]);
    assert_refused(&with_record(8, &[0xFF; 8]), &["image 1", "expected bytes within"]);
    assert_refused(&with_record(8, &[0, 0, 0]), &["3 bytes for each of"]);
    assert_refused(&with_record(16, &[0; 4]), &["at least one pixel"]);
    assert_refused(&with_record(16, &[0xFF; 8]), &["3 bytes for each of"]);
    assert_refused(&with_record(24, &[0xFF; 4]), &["label below 8", "found -1"]);
    assert_refused(&with_record(24, &[8]), &["label below 8", "found 8"]);
    assert_refused(&with_record(32, &[4]), &["split", "4"]);
    assert_refused(&with_record(33, &[4]), &["flags", "4"]);
    assert_refused(&with_record(33, &[2]), &["a soft label for each of", "found 1"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_file_cut_anywhere_is_refused(raw: bool, keep in 0.0..1.0_f64) {
        let file = &FILES[usize::from(!raw)];
        let cut = (file.len() as f64 * keep) as usize;
        prop_assert!(read_all(&file[..cut]).is_err());
    }

    /// Nothing is lost to a flipped bit: header and index are refused, an image's own bytes are listed.
    #[test]
    fn a_flipped_bit_is_noticed(raw: bool, place in 0.0..1.0_f64, early: bool, bit in 0..8_u32) {
        let file = &FILES[usize::from(!raw)];
        let payload = u64::from_le_bytes(file[40..48].try_into().unwrap()) as usize;
        let index_end = HEADER_LEN + 64 * 16 + u64::from_le_bytes(file[32..40].try_into().unwrap()) as usize;
        let at = (place * if early { index_end } else { file.len() } as f64) as usize;
        let mut changed = file.clone();
        changed[at] ^= 1 << bit;
        let padding = (index_end..payload).contains(&at);
        let noticed = read_all(&changed).map_or(true, |unreadable| !unreadable.is_empty());
        prop_assert_eq!(noticed, !padding, "byte {}", at);
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), with_magic: bool) {
        let start: &[u8] = if with_magic { &FILES[0][..12] } else { &[] };
        prop_assert!(read_all(&[start, &bytes].concat()).is_err());
    }

    /// Checksums made right by somebody who means harm: an error or wrong pixels, but never a panic.
    #[test]
    fn a_forged_record_never_panics(at in 0..64_usize, bytes in prop::collection::vec(any::<u8>(), 1..8)) {
        let bytes = &bytes[..bytes.len().min(64 - at)];
        let _ = read_all(&with_record(at, bytes));
    }
}

#[test]
fn images_of_two_files_are_different_sources() {
    let dataset = open("synthetic:classes=4,views=2,size=20").unwrap();
    let ((_a, a), (_b, b)) = (packed(&dataset, &options(Encoding::Raw, 0)), packed(&dataset, &options(Encoding::Raw, 0)));
    let [first, again, other] = [&a, &a, &b].map(|path| open_file(path).unwrap().images[0].source.clone());
    assert!(first == again && first != other);
    let Source::Packed(image) = first else { panic!("{first}") };
    assert_eq!(image.name(), "drawn product 0, view 0 (seed 0, 20 pixels)");
}
