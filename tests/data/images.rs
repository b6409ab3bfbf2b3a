//! Image files that are not what they seem: too large, of other kinds, of several frames, or under a name that says little.


use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::process::{Command, Output};

use image::{DynamicImage, ImageFormat, RgbImage};
use crate::support::layouts::Tree;
use xbm_fast::app::data::{DEFAULT_MAX_MEGAPIXELS, Dataset, Decoded, Image, OpenOptions};

const PROGRAM: &str = env!("CARGO_BIN_EXE_xbm-fast");

fn encoded(format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let picture = RgbImage::from_fn(16, 8, |x, y| image::Rgb([x as u8 * 9, y as u8 * 20, 77]));
    DynamicImage::from(picture).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn decode(bytes: &[u8]) -> xbm_fast::Result<Decoded> {
    Decoded::from_bytes(bytes, Path::new("some/picture.jpg"), DEFAULT_MAX_MEGAPIXELS)
}

#[track_caller]
fn assert_says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "`{text}` does not say `{word}`");
    }
}

#[track_caller]
fn assert_refused(bytes: &[u8], words: &[&str]) {
    let message = decode(bytes).expect_err("it was decoded").to_string();
    assert_says(&message, words);
    assert_says(&message, &["some/picture.jpg"]);
    assert!(!message.contains("damaged"), "{message}");
}

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

fn chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let mut checksum = flate2::Crc::new();
    checksum.update(name);
    checksum.update(content);
    [&(content.len() as u32).to_be_bytes()[..], name, content, &checksum.sum().to_be_bytes()].concat()
}

/// A PNG that is nothing but its header.
fn hollow_png(width: u32, height: u32) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &header), chunk(b"IDAT", b""), chunk(b"IEND", b"")].concat()
}

/// A GIF of a screen and frames of given sizes, without colours.
fn gif(screen: (u16, u16), frames: &[(u16, u16)]) -> Vec<u8> {
    let mut bytes =
        [b"GIF89a", &screen.0.to_le_bytes()[..], &screen.1.to_le_bytes(), &[0x80, 0, 0, 0, 0, 0, 255, 255, 255]].concat();
    for (width, height) in frames {
        bytes.extend([b"\x2C\0\0\0\0", &width.to_le_bytes()[..], &height.to_le_bytes(), b"\0\x02\x02\x4C\x01\0"].concat());
    }
    bytes.push(0x3B);
    bytes
}

fn riff(chunks: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
    let chunks: Vec<u8> =
        chunks.iter().flat_map(|(name, content)| [&name[..], &(content.len() as u32).to_le_bytes(), content].concat()).collect();
    [b"RIFF", &(chunks.len() as u32 + 4).to_le_bytes()[..], b"WEBP", &chunks].concat()
}

/// The content of the only chunk of a small WebP.
fn vp8l() -> Vec<u8> {
    encoded(ImageFormat::WebP)[20..].to_vec()
}

/// The header of an extended WebP of that many pixels a side, less one, animated or not.
fn vp8x(animated: bool, width_less_1: u32, height_less_1: u32) -> Vec<u8> {
    let three = |value: u32| value.to_le_bytes()[..3].to_vec();
    [vec![u8::from(animated) * 2, 0, 0, 0], three(width_less_1), three(height_less_1)].concat()
}

/// A frame of an animated WebP.
fn anmf(width_less_1: u32, height_less_1: u32) -> Vec<u8> {
    let three = |value: u32| value.to_le_bytes()[..3].to_vec();
    let content = vp8l();
    let inner = [b"VP8L", &(content.len() as u32).to_le_bytes()[..], &content].concat();
    [vec![0; 6], three(width_less_1), three(height_less_1), vec![100, 0, 0, 0], inner].concat()
}

#[test]
fn an_image_that_claims_too_many_pixels_is_refused_with_its_size() {
    let refused = |bytes: &[u8], size: &str| assert_refused(bytes, &["at most 128 megapixels (--max-megapixels)", size]);
    refused(&gif((65000, 16000), &[(65000, 16000)]), "65000 x 16000");
    refused(&gif((4, 4), &[(65000, 16000)]), "65000 x 16000");
    refused(&hollow_png(65535, 65535), "65535 x 65535");
    let mut bmp = encoded(ImageFormat::Bmp);
    bmp[18..26].copy_from_slice(&[20_000_i32.to_le_bytes(), 20_000_i32.to_le_bytes()].concat());
    refused(&bmp, "20000 x 20000");
    let mut jpeg = encoded(ImageFormat::Jpeg);
    let frame = jpeg.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xFD, 0xE8, 0xFD, 0xE8]);
    refused(&jpeg, "65000 x 65000");
    let mut lossless = vp8l();
    lossless[1..5].copy_from_slice(&(16_383_u32 | 16_383 << 14).to_le_bytes());
    refused(&riff(&[(b"VP8L", lossless.clone())]), "16384 x 16384");
    refused(&riff(&[(b"VP8X", vp8x(false, 15, 7)), (b"VP8L", lossless)]), "16384 x 16384");
    refused(&riff(&[(b"VP8X", vp8x(true, 99_999, 9_999)), (b"ANIM", vec![0; 6]), (b"ANMF", anmf(15, 7))]), "100000 x 10000");
    refused(&riff(&[(b"VP8X", vp8x(true, 15, 7)), (b"ANIM", vec![0; 6]), (b"ANMF", anmf(15_999, 15_999))]), "16000 x 16000");
    let mut tiff = encoded(ImageFormat::Tiff);
    let directory = u32::from_le_bytes(tiff[4..8].try_into().unwrap()) as usize;
    for entry in (directory + 2..tiff.len() - 12).step_by(12).take(2) {
        assert!([256, 257].contains(&u16::from_le_bytes([tiff[entry], tiff[entry + 1]])), "sides come first");
        tiff[entry + 2..entry + 12].copy_from_slice(&[4, 0, 1, 0, 0, 0, 0x20, 0x4E, 0, 0]);
    }
    refused(&tiff, "20000 x 20000");
}

#[test]
fn a_part_of_a_webp_that_claims_more_than_the_file_holds_is_cut_short() {
    let mut bytes = riff(&[(b"VP8X", vp8x(false, 15, 7)), (b"VP8L", vp8l()), (b"EXIF", vec![0; 4])]);
    let length = bytes.len() - 8;
    bytes[length..length + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_refused(&bytes, &["WebP", "cut short"]);
}

#[test]
fn compressed_metadata_takes_no_more_memory_than_there_is_room_for() {
    use flate2::{Compression, write::ZlibEncoder};
    use std::io::Write;
    let mut bomb = ZlibEncoder::new(Vec::new(), Compression::best());
    for _ in 0..200 {
        bomb.write_all(&vec![0; 1 << 20]).unwrap();
    }
    let profile = [b"x\0\0".to_vec(), bomb.finish().unwrap()].concat();
    let png = encoded(ImageFormat::Png);
    let with_profile = [&png[..33], &chunk(b"iCCP", &profile), &png[33..]].concat();
    // The profile is left out, or the image is: it is not unpacked.
    if let Err(error) = decode(&with_profile) {
        assert_says(&error.to_string(), &["--max-megapixels"]);
    }
}

#[test]
fn the_largest_image_is_an_option() {
    let mut tree = Tree::new("folder");
    tree.image("a/1.jpg");
    tree.image("b/1.jpg");
    let mut wide = Cursor::new(Vec::new());
    DynamicImage::new_luma8(1001, 1000).write_to(&mut wide, ImageFormat::Png).unwrap();
    tree.bytes("b/wide.png", &wide.into_inner());
    let decode = |limit: &str| run(&["data", "--decode", &tree.spec(), "--max-megapixels", limit]);
    assert!(decode("2").status.success());
    let refused = decode("1");
    assert!(!refused.status.success());
    assert_says(&String::from_utf8_lossy(&refused.stdout), &["wide.png", "at most 1 megapixels (--max-megapixels)", "1001 x 1000"]);
    assert_says(
        &String::from_utf8_lossy(&run(&["train", "--max-megapixels", "0"]).stderr),
        &["--max-megapixels must be at least 1"],
    );
    let options = OpenOptions { max_megapixels: 1, ..OpenOptions::default() };
    let dataset = Dataset::open(&tree.spec(), &options).unwrap();
    assert!((0..3).any(|index| dataset.decode(index).is_err_and(|error| error.to_string().contains("1001 x 1000"))));
}

#[cfg(target_os = "linux")]
#[test]
fn a_small_file_does_not_take_the_memory_of_the_machine() {
    let mut tree = Tree::new("folder");
    tree.image("a/1.jpg");
    tree.bytes("b/bomb.gif", &gif((65000, 16000), &[(65000, 16000)]));
    tree.bytes("b/bomb.png", &hollow_png(65535, 65535));
    let command = format!("ulimit -v 3000000; exec '{PROGRAM}' data --decode {}", tree.spec());
    let output = Command::new("sh").args(["-c", &command]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert_says(&String::from_utf8_lossy(&output.stdout), &["2 cannot be read", "bomb.gif", "bomb.png", "megapixels"]);
}

#[test]
fn what_is_no_readable_image_is_called_by_its_kind() {
    let ftyp = |brand: &[u8]| [b"\0\0\0\x1Cftyp", brand, b"\0\0\0\0mif1miaf", &[0; 40]].concat();
    let mut targa = vec![0; 18];
    (targa[2], targa[12], targa[14], targa[16]) = (2, 4, 4, 24);
    for (bytes, words) in [
        (ftyp(b"avif"), &["an AVIF image", "not supported", "convert it"][..]),
        (ftyp(b"heic"), &["a HEIC image", "convert it to JPEG"]),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp42".to_vec(), &["a video"]),
        (b"\0\0\0\x0CjP  \r\n\x87\n".to_vec(), &["a JPEG 2000 image", "convert it"]),
        (b"\xFF\x0A\xFA\x1F".to_vec(), &["a JPEG XL image"]),
        (b"8BPS\0\x01".to_vec(), &["a Photoshop image"]),
        (b"P6\n4 4\n255\n\xFF\xFE\xFD".to_vec(), &["a PNM image"]),
        (b"\0\0\x01\0\x01\0\x10\x10".to_vec(), &["an icon"]),
        (targa, &["a TGA image"]),
        (b"II*\0\x10\0\0\0CR\x02\0".to_vec(), &["a raw photograph"]),
        (b"<!DOCTYPE html><html>404 Not Found</html>".to_vec(), &["an HTML page", "download the image again"]),
        (b"\n <svg xmlns='http://www.w3.org/2000/svg'/>".to_vec(), &["an SVG drawing"]),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n".to_vec(), &["Git LFS", "git lfs pull"]),
        ("some wörds".as_bytes().to_vec(), &["a text file"]),
        (b"\0\x05\x16\x07\0\x02\0\0Mac OS X".to_vec(), &["AppleDouble"]),
        (b"%PDF-1.7".to_vec(), &["a PDF document"]),
        (b"PK\x03\x04\x14\0".to_vec(), &["a ZIP archive", "unpack it"]),
        (vec![0; 900], &["a file of zeros"]),
        (b"\x81\x92\x03\x04 noise".to_vec(), &["something else"]),
        (Vec::new(), &["an empty file"]),
    ] {
        assert_refused(&bytes, words);
        assert_refused(&bytes, &["expected an image (JPEG, PNG, WebP, BMP, GIF or TIFF)"]);
    }
}

#[test]
fn a_jpeg_of_a_kind_that_is_not_read_is_not_called_damaged() {
    let jpeg = encoded(ImageFormat::Jpeg);
    let frame = jpeg.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
    for (at, value, word) in
        [(1, 0xC3, "lossless"), (1, 0xC9, "arithmetically coded"), (1, 0xC5, "hierarchical"), (4, 12, "12-bit")]
    {
        let mut other = jpeg.clone();
        other[frame + at] = value;
        assert_refused(&other, &["not supported", word]);
    }
}

#[test]
fn a_folder_is_listed_by_content_and_what_is_left_out_is_counted_by_kind() {
    let mut tree = Tree::new("folder");
    tree.image("a/1.jpg");
    for (name, format) in [
        ("a/none", ImageFormat::Png),
        ("a/2.jfif", ImageFormat::Jpeg),
        ("a/3.DIB", ImageFormat::Bmp),
        ("a/4.apng", ImageFormat::Png),
        ("a/5.img", ImageFormat::Gif),
        ("b/1.pjpeg", ImageFormat::Jpeg),
    ] {
        tree.bytes(name, &encoded(format));
    }
    for name in ["b/1.heic", "b/2.heic", "b/3.HEIC"] {
        tree.bytes(name, b"\0\0\0\x18ftypheic\0\0\0\0mif1heic");
    }
    tree.bytes("b/Thumbs.db", b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1");
    tree.text("b/notes.txt", "words");
    tree.text("b/read.me", "words");
    let dataset = Dataset::open(&tree.spec(), &OpenOptions::default()).unwrap();
    assert_eq!(dataset.images.len(), 7);
    for index in 0..7 {
        dataset.decode(index).unwrap();
    }
    let said = String::from_utf8(run(&["data", &tree.spec()]).stdout).unwrap();
    let heic = "b/1.heic: expected an image (JPEG, PNG, WebP, BMP, GIF or TIFF), found a HEIC image, which is not supported";
    assert_says(
        &said,
        &["left out: 3 files, the first", heic, "Thumbs.db: expected", "2 files, the first", "notes.txt", "a text file"],
    );
}

#[test]
fn a_folder_without_images_says_what_it_holds_instead() {
    let tree = Tree::new("folder");
    tree.bytes("a/Thumbs.db", b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1");
    tree.bytes("a/x.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic");
    tree.bytes("b/y.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic");
    let error = Dataset::open(&tree.spec(), &OpenOptions::default()).unwrap_err().to_string();
    assert_says(&error, &["expected images, found none", "Thumbs.db", "2 files, the first", "x.heic", "a HEIC image"]);
}

#[cfg(unix)]
#[test]
fn a_pipe_called_as_an_image_is_left_out() {
    let mut tree = Tree::new("folder");
    for name in ["a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg"] {
        tree.image(name);
    }
    assert!(Command::new("mkfifo").arg(tree.root().join("a/x.png")).status().unwrap().success());
    let output = run(&["data", "--decode", &tree.spec()]);
    assert!(output.status.success());
    assert_says(&String::from_utf8_lossy(&output.stdout), &["x.png: expected a file, found a named pipe", "decoded all 4"]);
    let packed = tree.root().join("set.xbm");
    assert!(run(&["pack", "--data", &tree.spec(), "--out", packed.to_str().unwrap()]).status.success());
    let error = Image::open(&tree.root().join("a/x.png")).unwrap_err().to_string();
    assert_says(&error, &["x.png", "a named pipe"]);
    fs::write(tree.root().join("list.csv"), "path,label,split\na/x.png,a,train\n").unwrap();
    let error = Dataset::open(&format!("csv:{}/list.csv", tree.root().display()), &OpenOptions::default()).unwrap_err().to_string();
    assert_says(&error, &["line 2", "a named pipe"]);
}

#[test]
fn frames_after_the_first_are_noticed() {
    let png = encoded(ImageFormat::Png);
    let animation = |frames: u8| [&png[..33], &chunk(b"acTL", &[0, 0, 0, frames, 0, 0, 0, 0]), &png[33..]].concat();
    let webp = |frames: usize| {
        let mut chunks = vec![(b"VP8X", vp8x(true, 15, 7)), (b"ANIM", vec![0; 6])];
        chunks.extend((0..frames).map(|_| (b"ANMF", anmf(15, 7))));
        riff(&chunks)
    };
    let mut pages = encoded(ImageFormat::Tiff);
    let directory = u32::from_le_bytes(pages[4..8].try_into().unwrap()) as usize;
    let next = directory + 2 + 12 * usize::from(pages[directory]);
    let second = (pages.len() as u32).to_le_bytes();
    pages.extend_from_within(directory..next + 4);
    pages[next..next + 4].copy_from_slice(&second);
    for (bytes, several) in [
        (gif((1, 1), &[(1, 1)]), false),
        (gif((1, 1), &[(1, 1), (1, 1)]), true),
        (animation(1), false),
        (animation(2), true),
        (webp(1), false),
        (webp(2), true),
        (encoded(ImageFormat::Tiff), false),
        (pages, true),
        (encoded(ImageFormat::Jpeg), false),
    ] {
        assert_eq!(decode(&bytes).unwrap().several, several);
    }
}

#[test]
fn frames_that_are_not_used_are_said_once() {
    let mut tree = Tree::new("folder");
    for name in ["a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg", "c/1.jpg", "c/2.jpg", "d/1.jpg"] {
        tree.image(name);
    }
    for name in ["a/3.gif", "b/3.gif", "c/3.gif", "d/3.gif"] {
        tree.bytes(name, &gif((1, 1), &[(1, 1), (1, 1)]));
    }
    let said = String::from_utf8(run(&["data", "--decode", &tree.spec()]).stdout).unwrap();
    assert_says(&said, &["note: 4 images are the first frame or page of a file that holds more", "a/3.gif"]);
    let out = tree.root().join("run");
    let fixed = ["train", "--steps=3", "--image-size=16", "--dim=8", "--batch-size=8", "--samples-per-class=4", "--memory=none"];
    let own = [format!("--data={}", tree.spec()), format!("--out={}", out.display())];
    let output = run(&[&fixed[..], &[own[0].as_str(), own[1].as_str()]].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches("first frame or page").count(), 1, "{said}");
    assert_eq!(said.matches("2 classes to train on have fewer than 4 images (--samples-per-class)").count(), 1, "{said}");
}
