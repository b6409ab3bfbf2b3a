//! Data sets on disk and drawn: what is read, what is refused and in which words.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageEncoder, ImageFormat, RgbImage, RgbaImage};
use tempfile::TempDir;
use xbm_fast::app::data::{Dataset, Image, OpenOptions, Source, Split, catalog};

/// Lossy formats and colour conversion change a flat colour by a few of 255 levels.
const LOSSY_LEVELS: i32 = 6;

const BROWN: [u8; 3] = [150, 90, 30];

/// Left half brown, right half black, 16 x 8.
fn picture() -> RgbImage {
    RgbImage::from_fn(16, 8, |x, _| image::Rgb(if x < 8 { BROWN } else { [0; 3] }))
}

fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn decode(bytes: &[u8]) -> xbm_fast::Result<Image> {
    Image::decode(bytes, Path::new("some/picture.jpg"))
}

fn pixel(image: &Image, x: usize, y: usize) -> [u8; 3] {
    image.rgb[(y * image.width + x) * 3..][..3].try_into().unwrap()
}

#[track_caller]
fn assert_near(found: [u8; 3], expected: [u8; 3], levels: i32) {
    let near = found.iter().zip(expected).all(|(&a, b)| (i32::from(a) - i32::from(b)).abs() <= levels);
    assert!(near, "found {found:?}, expected {expected:?} within {levels}");
}

/// A folder with files, given by path and content.
fn tree(files: &[(&str, &[u8])]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    root
}

fn open(layout: &str, path: impl AsRef<Path>) -> xbm_fast::Result<Dataset> {
    Dataset::open(&format!("{layout}:{}", path.as_ref().display()), &OpenOptions::default())
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: xbm_fast::Result<T>, words: &[&str]) {
    let message = result.expect_err("bad input was accepted").to_string();
    for word in words {
        assert!(message.contains(word), "`{message}` does not say `{word}`");
    }
}

#[test]
fn every_format_is_decoded_to_rgb() {
    use ImageFormat::{Bmp, Gif, Jpeg, Png, Tiff, WebP};
    for (format, levels) in [(Jpeg, LOSSY_LEVELS), (Png, 0), (WebP, 0), (Bmp, 0), (Gif, LOSSY_LEVELS), (Tiff, 0)] {
        let image = decode(&encoded(picture(), format)).unwrap();
        assert_eq!((image.height, image.width, image.rgb.len()), (8, 16, 8 * 16 * 3), "{format:?}");
        assert_near(pixel(&image, 3, 3), BROWN, levels);
        assert_near(pixel(&image, 12, 3), [0; 3], levels);
    }
}

#[test]
fn grey_and_sixteen_bit_images_become_eight_bit_rgb() {
    let grey = DynamicImage::from(picture()).into_luma8();
    let level = grey.get_pixel(3, 3)[0];
    for format in [ImageFormat::Jpeg, ImageFormat::Png] {
        assert_near(pixel(&decode(&encoded(grey.clone(), format)).unwrap(), 3, 3), [level; 3], LOSSY_LEVELS);
    }
    let deep = DynamicImage::from(picture()).into_rgb16();
    assert_eq!(pixel(&decode(&encoded(deep, ImageFormat::Png)).unwrap(), 3, 3), BROWN);
    let deep_grey = DynamicImage::from(grey).into_luma16();
    assert_eq!(pixel(&decode(&encoded(deep_grey, ImageFormat::Png)).unwrap(), 3, 3), [level; 3]);
}

#[test]
fn transparent_images_are_laid_over_white() {
    let image = RgbaImage::from_fn(3, 1, |x, _| image::Rgba([200, 0, 100, [0, 255, 51][x as usize]]));
    let image = decode(&encoded(image, ImageFormat::Png)).unwrap();
    assert_eq!([0, 1, 2].map(|x| pixel(&image, x, 0)), [[255; 3], [200, 0, 100], [244, 204, 224]]);
}

/// The file was written by Pillow, which converts it to (51, 207, 226) on the left and (245, 95, 35) on the right.
#[test]
fn cmyk_jpeg_has_the_colours_other_readers_see() {
    let image = decode(include_bytes!("../fixtures/cmyk.jpg")).unwrap();
    assert_near(pixel(&image, 3, 3), [51, 207, 226], LOSSY_LEVELS);
    assert_near(pixel(&image, 12, 3), [245, 95, 35], LOSSY_LEVELS);
}

#[test]
fn palette_images_are_decoded() {
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::gif::GifEncoder::new(&mut bytes);
    encoder.encode_frame(image::Frame::new(DynamicImage::from(picture()).into_rgba8())).unwrap();
    drop(encoder);
    assert_near(pixel(&decode(&bytes).unwrap(), 3, 3), BROWN, LOSSY_LEVELS);
}

/// An EXIF block that holds nothing but the orientation.
fn exif(orientation: u8) -> Vec<u8> {
    let mut block = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    block.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    block
}

#[test]
fn exif_orientation_is_applied() {
    // Orientation 6: the file's left edge is the top of the scene; 3: it is upside down; 2: mirrored.
    for (orientation, size, brown, black) in
        [(1, (8, 16), (3, 3), (12, 3)), (6, (16, 8), (3, 3), (3, 12)), (3, (8, 16), (12, 3), (3, 3)), (2, (8, 16), (12, 3), (3, 3))]
    {
        let mut bytes = Vec::new();
        let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 95);
        encoder.set_exif_metadata(exif(orientation)).unwrap();
        encoder.write_image(&picture(), 16, 8, image::ExtendedColorType::Rgb8).unwrap();
        let image = decode(&bytes).unwrap();
        assert_eq!((image.height, image.width), size, "orientation {orientation}");
        assert_near(pixel(&image, brown.0, brown.1), BROWN, LOSSY_LEVELS);
        assert_near(pixel(&image, black.0, black.1), [0; 3], LOSSY_LEVELS);
    }
}

#[test]
fn damaged_files_are_refused_with_their_path() {
    assert_refused(decode(b""), &["some/picture.jpg", "empty file"]);
    assert_refused(decode(b"<html>404 Not Found</html>"), &["some/picture.jpg", "expected an image", "an HTML page"]);
    let noise = RgbImage::from_fn(64, 64, |x, y| image::Rgb([(x * 37 + y * 91) as u8, (x * y) as u8, (x * 5) as u8]));
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Tiff] {
        let whole = encoded(noise.clone(), format);
        for length in [whole.len() / 2, whole.len() * 9 / 10] {
            assert_refused(decode(&whole[..length]), &["some/picture.jpg", "expected an intact"]);
        }
    }
}

#[test]
fn an_end_marker_in_a_thumbnail_does_not_hide_that_a_jpeg_is_cut_short() {
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 95);
    let mut block = exif(1);
    block.extend(encoded(picture(), ImageFormat::Jpeg));
    encoder.set_exif_metadata(block).unwrap();
    encoder.write_image(&picture(), 16, 8, image::ExtendedColorType::Rgb8).unwrap();
    decode(&bytes).unwrap();
    assert_refused(decode(&bytes[..bytes.len() - 2]), &["cut short"]);
}

#[test]
fn an_image_without_pixels_is_refused() {
    let mut bytes = encoded(picture(), ImageFormat::Bmp);
    bytes[18..22].copy_from_slice(&0_i32.to_le_bytes());
    assert_refused(decode(&bytes), &["some/picture.jpg", "expected"]);
}

#[test]
fn a_folder_with_train_and_test_is_split_as_it_says() {
    let png = encoded(picture(), ImageFormat::Png);
    let root = tree(&[
        ("train/b/1.PNG", &png),
        ("train/b/2.jpeg", &png),
        ("train/b/notes.txt", b"x"),
        ("train/a/1.png", &png),
        ("test/c/1.png", &png),
        ("test/c/.hidden.png", &png),
        ("test/a/9.png", &png),
        ("README", b"x"),
    ]);
    let dataset = open("folder", root.path()).unwrap();
    assert_eq!(dataset.classes, ["a", "c", "b"]);
    assert_eq!(dataset.indices(Split::Test).len(), 2);
    assert_eq!(dataset.labels(&dataset.indices(Split::Train)), [0, 2, 2]);
    let skipped: Vec<_> = dataset.skipped.iter().map(|(path, _)| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(skipped, ["README", "notes.txt"]);
    assert_eq!(dataset.decode(0).unwrap().width, 16);
}

#[test]
fn a_folder_of_classes_is_split_by_class_with_the_holdout() {
    let png = encoded(picture(), ImageFormat::Png);
    let names: Vec<String> = (0..20).flat_map(|class| [format!("class {class}/1.png"), format!("class {class}/2.png")]).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), png.as_slice())).collect();
    let root = tree(&files);
    let spec = format!("folder:{}", root.path().display());
    let test_labels = |holdout, seed| {
        let dataset = Dataset::open(&spec, &OpenOptions { holdout, seed, ..Default::default() }).unwrap();
        let (train, test) = [Split::Train, Split::Test].map(|split| dataset.labels(&dataset.indices(split))).into();
        assert!(train.iter().all(|label| !test.contains(label)), "a class is on both sides");
        assert_eq!(train.len() + test.len(), 40);
        test
    };
    assert_eq!(test_labels(0.25, 0).len(), 10);
    assert_eq!(test_labels(0.001, 0).len(), 2);
    assert_eq!((test_labels(0.0, 0).len(), test_labels(1.0, 0).len()), (0, 40));
    assert_eq!(test_labels(0.5, 1), test_labels(0.5, 1));
    assert_ne!(test_labels(0.5, 1), test_labels(0.5, 2));
    assert_refused(Dataset::open(&spec, &OpenOptions { holdout: 1.5, ..Default::default() }), &["holdout", "1.5"]);
}

#[test]
fn folders_that_cannot_be_learned_from_are_refused() {
    let empty = tree(&[]);
    assert_refused(open("folder", empty.path()), &[empty.path().to_str().unwrap(), "expected images, found none"]);
    let hollow = tree(&[("a/notes.txt", b"x"), ("b/notes.txt", b"x")]);
    assert_refused(open("folder", hollow.path()), &["found none", "notes.txt"]);
    let single = tree(&[("only/1.png", b"x"), ("only/2.png", b"x")]);
    assert_refused(open("folder", single.path()), &["at least two classes", "only"]);
    assert_refused(open("folder", single.path().join("missing")), &["missing", "No such file"]);
    let half = tree(&[("train/a/1.png", b"x"), ("query/a/1.png", b"x"), ("query/b/1.png", b"x")]);
    assert_refused(open("folder", half.path()), &["query", "no gallery"]);
    let both = tree(&[("test/a/1.png", b"x"), ("query/a/1.png", b"x"), ("gallery/b/1.png", b"x")]);
    assert_refused(open("folder", both.path()), &["both test and query/gallery"]);
}

#[test]
fn a_table_is_read_by_the_names_of_its_columns() {
    let table = "label,split,shop,path\nred mug, train,x,1.png\n\"blue, mug\",query,x,sub/2.png\nred mug,gallery,x,1.png\n";
    let root = tree(&[("list.csv", table.as_bytes()), ("1.png", b"x"), ("sub/2.png", b"x")]);
    let dataset = open("csv", root.path().join("list.csv")).unwrap();
    assert_eq!(dataset.classes, ["red mug", "blue, mug"]);
    let splits: Vec<_> = dataset.images.iter().map(|image| (image.label, image.split)).collect();
    assert_eq!(splits, [(0, Split::Train), (1, Split::Query), (0, Split::Gallery)]);
    assert_eq!(dataset.images[1].source, Source::File(root.path().join("sub/2.png")));
}

#[test]
fn malformed_tables_are_refused_with_line_and_column() {
    let refused = |table: &str, words: &[&str]| {
        let root = tree(&[("list.csv", table.as_bytes()), ("1.png", b"x")]);
        let words: Vec<&str> = words.iter().copied().chain(["list.csv"]).collect();
        assert_refused(open("csv", root.path().join("list.csv")), &words);
    };
    refused("path,class,split\n1.png,a,train\n", &["column `label`", "path,class,split"]);
    refused("path,label\n1.png,a\n", &["column `split`", "`path,label`"]);
    refused("path,label,split\n1.png,a,train\nno.png,b,train\n", &["line 3", "no.png"]);
    refused("path,label,split\n1.png,a,training\n", &["line 2", "`training`", "train, test, query or gallery"]);
    refused("path,label,split\n1.png,a\n", &["line: 2", "2 fields"]);
    refused("path,label,split\n1.png,,train\n", &["line 2", "a label"]);
    refused("path,label,split\n", &["found none"]);
    refused("path,label,split\n1.png,a,train\n1.png,a,test\n", &["at least two classes"]);
    assert_refused(open("csv", "nowhere/list.csv"), &["nowhere/list.csv", "No such file"]);
}

const SOP_HEADER: &str = "image_id class_id super_class_id path\n";

fn sop_tree(train: &str, test: &str) -> TempDir {
    let [train, test] = [train, test].map(|rows| format!("{SOP_HEADER}{rows}"));
    tree(&[
        ("Ebay_train.txt", train.as_bytes()),
        ("Ebay_test.txt", test.as_bytes()),
        ("mug_final/1_0.JPG", b"x"),
        ("mug_final/2_0.JPG", b"x"),
    ])
}

#[test]
fn online_products_are_read_and_missing_files_listed() {
    let train = "1 1 3 mug_final/1_0.JPG\n2 1 3 mug_final/1_0.JPG\r\n3 7 3 mug_final/gone.JPG\n";
    let root = sop_tree(train, "4 11319 3 mug_final/2_0.JPG\n\n");
    let dataset = open("sop", root.path()).unwrap();
    assert_eq!(dataset.classes, ["1", "11319"]);
    assert_eq!(dataset.labels(&dataset.indices(Split::Train)), [0, 0]);
    assert_eq!(dataset.labels(&dataset.indices(Split::Test)), [1]);
    let [(path, reason)] = dataset.skipped.as_slice() else { panic!("{:?}", dataset.skipped) };
    assert_eq!(*path, root.path().join("mug_final/gone.JPG"));
    assert!(reason.contains("no such file"), "{reason}");
}

#[test]
fn malformed_online_products_are_refused_with_the_line() {
    let good = "1 1 3 mug_final/1_0.JPG\n";
    assert_refused(
        open("sop", sop_tree(good, "2 2 mug_final/2_0.JPG\n").path()),
        &["Ebay_test.txt", "line 2", "4 fields", "found 3"],
    );
    assert_refused(
        open("sop", sop_tree("1 0 3 mug_final/1_0.JPG\n", good).path()),
        &["Ebay_train.txt", "line 2", "class id", "`0`"],
    );
    let root = sop_tree(good, good);
    fs::write(root.path().join("Ebay_test.txt"), good).unwrap();
    assert_refused(open("sop", root.path()), &["Ebay_test.txt", "line 1", "expected the header", "image_id"]);
    fs::remove_file(root.path().join("Ebay_test.txt")).unwrap();
    assert_refused(open("sop", root.path()), &["Ebay_test.txt", "No such file"]);
}

#[test]
fn unknown_names_and_options_are_answered_with_a_suggestion() {
    let open = |spec: &str| Dataset::open(spec, &OpenOptions::default());
    assert_refused(open("sinthetic"), &["`sinthetic`", "did you mean `synthetic`?", "folder, csv, sop"]);
    assert_refused(open("xyz:a"), &["`xyz`", "Known: synthetic, folder, csv, sop"]);
    assert_refused(open("synthetic:clases=4"), &["`clases`", "did you mean `classes`?"]);
    assert_refused(open("synthetic:classes=many"), &["`classes`", "whole number", "`many`"]);
    assert_refused(open("synthetic:classes=1"), &["`classes`", "2 to", "found 1"]);
    assert_refused(open("synthetic:size=4"), &["`size`", "16 to 1024", "found 4"]);
    assert_refused(open("folder"), &["folder:PATH", "no path"]);
    assert_eq!(catalog::usage().lines().count(), 11);
}

#[test]
fn drawn_products_are_a_function_of_seed_class_and_view() {
    let draw = |spec: &str, index: usize| Dataset::open(spec, &OpenOptions::default()).unwrap().decode(index).unwrap();
    let base = "synthetic:classes=20,views=4,size=32";
    assert_eq!(draw(base, 7), draw("synthetic:size=32,views=4,classes=90", 7));
    assert_ne!(draw(base, 7), draw(&format!("{base},seed=1"), 7));
    assert_ne!(draw(base, 7), draw(base, 6));
    assert_ne!(draw(base, 3), draw(base, 3 + 4 * 16), "two products of one family");
    assert_eq!(draw(base, 0).rgb.len(), 32 * 32 * 3);
}

#[test]
fn drawn_classes_for_tests_are_never_trained_on() {
    let options = OpenOptions { default_image_size: 48, ..Default::default() };
    let dataset = Dataset::open("synthetic:classes=30,views=3", &options).unwrap();
    let [train, test] = [Split::Train, Split::Test].map(|split| dataset.labels(&dataset.indices(split)));
    assert_eq!((train.len(), test.len(), dataset.classes.len()), (45, 45, 30));
    assert!(train.iter().max() < test.iter().min());
    assert_eq!(dataset.decode(0).unwrap().width, 48);
}

/// If colour alone told products apart, training on them would show nothing.
#[test]
fn mean_colour_does_not_identify_a_drawn_product() {
    let dataset = Dataset::open("synthetic:classes=64,views=4,size=32", &OpenOptions::default()).unwrap();
    let means: Vec<[f64; 3]> = (0..dataset.images.len())
        .map(|index| {
            let image = dataset.decode(index).unwrap();
            let sums = image.rgb.chunks(3).fold([0.0; 3], |sums, rgb| [0, 1, 2].map(|c| sums[c] + f64::from(rgb[c])));
            sums.map(|sum| sum / (image.height * image.width) as f64)
        })
        .collect();
    let distance = |a: usize, b: usize| means[a].iter().zip(means[b]).map(|(x, y)| (x - y).powi(2)).sum::<f64>();
    let nearest = |query: usize| {
        (0..means.len()).filter(|&other| other != query).min_by(|&a, &b| distance(query, a).total_cmp(&distance(query, b)))
    };
    let right =
        (0..means.len()).filter(|&query| dataset.images[nearest(query).unwrap()].label == dataset.images[query].label).count();
    assert!(right * 10 < means.len(), "{right} of {} found by mean colour", means.len());
}

#[test]
fn a_source_is_printed_as_its_path() {
    assert_eq!(Source::File(PathBuf::from("a/b.png")).to_string(), "a/b.png");
}
