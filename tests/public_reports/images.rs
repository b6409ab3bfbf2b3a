//! Image files as they come: turned, in ink, deep, transparent, misnamed, cut short, or larger than they look.

use crate::pictures::{decode, deflated, encoded, flat, pixel, png, png_header, write, write_classes};
use crate::program::{PROGRAM, assert_says, run, tiny_training, xbm};
use image::codecs::gif::GifEncoder;
use image::{DynamicImage, Frame, GrayAlphaImage, ImageEncoder, ImageFormat, LumaA, Rgb, RgbImage};
use std::path::Path;
use xbm_fast::app::data::{Dataset, Image, OpenOptions};

/// JPEG changes a flat colour by a few of 255 levels.
const LOSSY_LEVELS: i32 = 8;
const RED: [u8; 3] = [200, 40, 40];
const GREEN: [u8; 3] = [40, 200, 40];
const BLUE: [u8; 3] = [40, 40, 200];
const GREY: [u8; 3] = [120, 120, 120];

#[track_caller]
fn assert_near(found: [u8; 3], expected: [u8; 3]) {
    let near = found.iter().zip(expected).all(|(&a, b)| (i32::from(a) - i32::from(b)).abs() <= LOSSY_LEVELS);
    assert!(near, "found {found:?}, expected {expected:?}");
}

/// 32 x 16 in the file: red and green above, blue and grey below; with an EXIF orientation.
fn photograph(orientation: u8) -> Vec<u8> {
    let quarters = RgbImage::from_fn(32, 16, |x, y| Rgb([[RED, GREEN], [BLUE, GREY]][(y / 8) as usize][(x / 16) as usize]));
    let mut exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 97);
    encoder.set_exif_metadata(exif).unwrap();
    encoder.write_image(&quarters, 32, 16, image::ExtendedColorType::Rgb8).unwrap();
    bytes
}

/// The colours in the middle of the quarters: above left, above right, below left, below right.
fn quarters(image: &Image) -> [[u8; 3]; 4] {
    let (x, y) = (image.width / 4, image.height / 4);
    [(x, y), (3 * x, y), (x, 3 * y), (3 * x, 3 * y)].map(|(x, y)| pixel(image, x, y))
}

// github.com/pytorch/vision/issues/7977: photographs of telephones were read lying on their side.
#[test]
fn every_exif_orientation_is_applied() {
    let upright = [
        [RED, GREEN, BLUE, GREY],
        [GREEN, RED, GREY, BLUE],
        [GREY, BLUE, GREEN, RED],
        [BLUE, GREY, RED, GREEN],
        [RED, BLUE, GREEN, GREY],
        [BLUE, RED, GREY, GREEN],
        [GREY, GREEN, BLUE, RED],
        [GREEN, GREY, RED, BLUE],
    ];
    for (orientation, expected) in (1..).zip(upright) {
        let image = decode(&photograph(orientation)).unwrap();
        let size = if orientation < 5 { (32, 16) } else { (16, 32) };
        assert_eq!((image.width, image.height), size, "orientation {orientation}");
        quarters(&image).into_iter().zip(expected).for_each(|(found, expected)| assert_near(found, expected));
    }
}

// github.com/tensorflow/tensorflow/issues/49834: boxes drawn on the upright picture were cut from the one in the file.
#[test]
fn a_box_is_cut_from_the_upright_picture() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "turned.jpg", &photograph(6));
    write(folder.path(), "other.png", &flat(RED));
    // Upright it is 16 wide and 32 high, red above on the right: rows 2 to 14.
    write(folder.path(), "list.csv", b"path,label,split,x1,y1,x2,y2\nturned.jpg,a,train,9,2,15,14\nother.png,b,train,,,,\n");
    let spec = format!("csv:{}", folder.path().join("list.csv").display());
    let cut = Dataset::open(&spec, &OpenOptions::default()).unwrap().decode(0).unwrap();
    assert_eq!((cut.width, cut.height), (6, 12));
    assert_near(pixel(&cut, 3, 6), RED);
}

// github.com/lovell/sharp/issues/1649: a CMYK JPEG without Adobe's marker came out as its own negative.
// github.com/libvips/libvips/issues/1283: whether the inks are inverted was decided by that marker alone.
#[test]
fn inks_have_the_same_colours_with_and_without_adobes_marker() {
    let marked = include_bytes!("../fixtures/cmyk.jpg");
    let at = marked.windows(4).position(|bytes| bytes[..2] == [0xFF, 0xEE]).unwrap();
    let length = 2 + usize::from(u16::from_be_bytes([marked[at + 2], marked[at + 3]]));
    let unmarked = [&marked[..at], &marked[at + length..]].concat();
    for bytes in [&marked[..], &unmarked] {
        let image = decode(bytes).unwrap();
        assert_near(pixel(&image, 3, 3), [51, 207, 226]);
        assert_near(pixel(&image, 12, 3), [245, 95, 35]);
    }
}

// github.com/python-pillow/Pillow/issues/2574: every grey above 255 of 65,535 became white.
// github.com/python-pillow/Pillow/issues/5991: a spectrogram of 16 bits lost nearly all of its picture.
// github.com/python-pillow/Pillow/issues/1108: the same of a TIFF.
#[test]
fn sixteen_bit_greys_are_scaled_not_clipped() {
    let greys: [u16; 5] = [0, 300, 12_000, 40_000, 65_535];
    let picture = image::ImageBuffer::<image::Luma<u16>, _>::from_fn(5, 1, |x, _| image::Luma([greys[x as usize]]));
    for format in [ImageFormat::Png, ImageFormat::Tiff] {
        let image = decode(&encoded(DynamicImage::from(picture.clone()), format)).unwrap();
        for (x, grey) in greys.into_iter().enumerate() {
            let expected = (f64::from(grey) / 257.0).round() as u8;
            assert_eq!(pixel(&image, x, 0), [expected; 3], "{grey} in {format:?}");
        }
    }
}

// github.com/python-pillow/Pillow/issues/514: a palette with transparent entries could not be converted.
// github.com/meerk40t/meerk40t/issues/962: transparent corners of a palette image became black.
#[test]
fn transparent_entries_of_a_palette_are_laid_over_white() {
    let (header, pixels) = (png_header(3, 1, 8, 3), deflated(&[0, 0, 1, 2]));
    let palette = [RED, GREEN, [0, 0, 0]].concat();
    let image = decode(&png(&[("IHDR", &header), ("PLTE", &palette), ("tRNS", &[255, 0, 51]), ("IDAT", &pixels), ("IEND", &[])]));
    let image = image.unwrap();
    assert_eq!([0, 1, 2].map(|x| pixel(&image, x, 0)), [RED, [255; 3], [204; 3]]);
}

// github.com/nothings/stb/issues/284: greys of fewer than eight bits were read as what they are not.
// github.com/apple/turicreate/issues/375: one bit a pixel was not read at all.
// github.com/python-pillow/Pillow/issues/9281: the transparent grey of such an image was opaque.
#[test]
fn one_bit_a_pixel_is_black_and_white_and_one_of_them_may_be_transparent() {
    // Black, white, black and white again, from the highest bit down.
    let (header, pixels) = (png_header(4, 1, 1, 0), deflated(&[0, 0b0101_0000]));
    let plain = decode(&png(&[("IHDR", &header), ("IDAT", &pixels), ("IEND", &[])])).unwrap();
    assert_eq!([0, 1, 2, 3].map(|x| pixel(&plain, x, 0)[0]), [0, 255, 0, 255]);
    let transparent_black = png(&[("IHDR", &header), ("tRNS", &[0, 0]), ("IDAT", &pixels), ("IEND", &[])]);
    assert!(decode(&transparent_black).unwrap().rgb.iter().all(|&value| value == 255));
}

// github.com/kornelski/pngquant/issues/362: the colour under a wholly transparent pixel is anything, and showed.
#[test]
fn what_is_wholly_transparent_is_white_whatever_colour_lies_under_it() {
    let picture = GrayAlphaImage::from_fn(4, 1, |x, _| LumaA([x as u8 * 80, 0]));
    let image = decode(&encoded(DynamicImage::from(picture), ImageFormat::Png)).unwrap();
    assert!(image.rgb.iter().all(|&value| value == 255));
}

/// Three frames: red, green, blue.
fn animation() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new(&mut bytes);
    for colour in [RED, GREEN, BLUE] {
        let frame = DynamicImage::from(RgbImage::from_pixel(16, 16, Rgb(colour))).into_rgba8();
        encoder.encode_frame(Frame::new(frame)).unwrap();
    }
    drop(encoder);
    bytes
}

// github.com/diasurgical/d1-graphics-tool/issues/101: which frame of an animation is read.
#[test]
fn an_animation_is_its_first_frame() {
    let image = decode(&animation()).unwrap();
    assert_eq!((image.width, image.height), (16, 16));
    assert_near(pixel(&image, 8, 8), RED);
}

// github.com/image-rs/image/issues/1233: a PNG named .jpg was called a damaged JPEG.
// github.com/brendan-duncan/image/issues/636: a JPEG named .png was not read.
// github.com/apple/turicreate/issues/2526: bitmaps named .jpg among photographs.
#[test]
fn the_content_decides_the_format_not_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let picture = RgbImage::from_pixel(16, 16, Rgb(RED));
    let formats =
        [(ImageFormat::Jpeg, "a.png"), (ImageFormat::Png, "b.jpg"), (ImageFormat::Bmp, "c.jpeg"), (ImageFormat::WebP, "d.gif")];
    for (format, name) in formats {
        write(folder.path(), name, &encoded(picture.clone(), format));
        assert_near(pixel(&Image::open(&folder.path().join(name)).unwrap(), 8, 8), RED);
    }
}

// github.com/pytorch/vision/issues/138: an image that is cut short stopped the loader.
// github.com/pytorch/pytorch/issues/7238: the error of a damaged image did not name its file.
#[test]
fn an_image_that_is_cut_short_is_named() {
    let folder = tempfile::tempdir().unwrap();
    write_classes(folder.path(), &["a", "b"], 2);
    let noise = RgbImage::from_fn(64, 64, |x, y| Rgb([(x * 37 + y * 91) as u8, (x * y) as u8, (x * 5) as u8]));
    let whole = encoded(noise, ImageFormat::Jpeg);
    write(folder.path(), "b/half.jpg", &whole[..whole.len() / 2]);
    let ended = run(xbm(&["data", "--decode"]).arg(format!("folder:{}", folder.path().display())));
    assert_eq!(ended.code, Some(1));
    assert_says(&ended.both(), &["b/half.jpg", "1 of 5"]);
}

// github.com/image-rs/jpeg-decoder/issues/43: two bytes between the last pixel and the end marker, as a telephone wrote them.
// github.com/dsoprea/go-jpeg-image-structure/issues/6: files that go on after the end marker.
#[test]
fn bytes_after_the_last_pixel_do_not_make_a_photograph_damaged() {
    let whole = photograph(1);
    let (scan, end) = whole.split_at(whole.len() - 2);
    assert_eq!(end, [0xFF, 0xD9]);
    for bytes in
        [[scan, &[0x3C, 0x5A], end].concat(), [scan, end, &[0; 40]].concat(), [scan, end, b"a film of this photograph"].concat()]
    {
        let image = decode(&bytes).unwrap();
        quarters(&image).into_iter().zip([RED, GREEN, BLUE, GREY]).for_each(|(found, expected)| assert_near(found, expected));
    }
}

// github.com/lucidrains/stylegan2-pytorch/issues/7: one such image among ten thousand ended training after two hours.
#[test]
fn one_damaged_image_does_not_end_training() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("images");
    write_classes(&images, &["a", "b", "c", "d", "e", "f", "g", "h"], 6);
    write(&images, "a/0.png", &flat(RED)[..60]);
    let (run_folder, data) = (folder.path().join("run"), format!("--data=folder:{}", images.display()));
    let ended = run(&mut tiny_training(&run_folder, &[&data, "--holdout=0.25", "--max-unreadable=0.1"]));
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(run_folder.join("checkpoints/best.safetensors").is_file());
}

// github.com/opencv/opencv/issues/4292: paths beyond ASCII could not be opened.
// github.com/opencv/opencv/issues/14132: an image with a Hebrew name was read as nothing.
#[test]
fn names_in_any_script_are_opened() {
    let folder = tempfile::tempdir().unwrap();
    for class in ["Öffentlich", "你好", "шкаф 1"] {
        for name in ["א.png", "a b'\"&.png", "🦉.png"] {
            write(folder.path(), &format!("{class}/{name}"), &flat(BLUE));
        }
    }
    let dataset = Dataset::open(&format!("folder:{}", folder.path().display()), &OpenOptions::default()).unwrap();
    assert_eq!(dataset.images.len(), 9);
    assert_eq!(dataset.classes.len(), 3);
    (0..9).for_each(|index| assert_eq!(pixel(&dataset.decode(index).unwrap(), 1, 1), BLUE));
}

/// Decodes a folder in less memory than the image states to need: a refusal in words, not the end of the process.
fn assert_refused_where_its_pixels_do_not_fit(name: &str, bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    write_classes(folder.path(), &["a", "b"], 2);
    write(folder.path(), &format!("a/{name}"), bytes);
    let script = "ulimit -v 6000000 2> /dev/null; exec \"$0\" data --decode \"$1\"";
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script, PROGRAM]).arg(format!("folder:{}", folder.path().display()));
    // Threads of a large machine must not fill it with address space of their own.
    command.env("MALLOC_ARENA_MAX", "1");
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(1), "{}", ended.both());
    assert_says(&ended.both(), &[name, "1 of 5", "pixel"]);
    assert!(Image::open(Path::new(&folder.path().join("a").join(name))).is_err());
}

// github.com/sksamuel/scrimage/issues/893: a GIF of 35 bytes that states 65,535 x 32,767 pixels took gigabytes.
// github.com/image-rs/image/issues/1052: one of 469 bytes took seven.
#[test]
fn a_tiny_gif_that_states_a_huge_size_is_refused_before_it_takes_the_memory() {
    let size = [0xFF, 0xFF, 0xFF, 0x7F];
    let screen = [&b"GIF89"[..], b"a", &size, &[0x80, 0, 0, 0, 0, 0, 255, 255, 255]].concat();
    let frame = [&[0x2C, 0, 0, 0, 0][..], &size, &[0, 2, 2, 0x44, 1, 0, 0x3B]].concat();
    assert_refused_where_its_pixels_do_not_fit("bomb.gif", &[screen, frame].concat());
}

// github.com/python-pillow/Pillow/issues/515: a PNG of 44 KB decompressed to a gigabyte.
#[test]
fn a_small_png_of_a_huge_size_is_refused_before_it_takes_the_memory() {
    let pixels = deflated(&[0; 100]);
    let bomb = png(&[("IHDR", &png_header(60_000, 60_000, 8, 2)), ("IDAT", &pixels), ("IEND", &[])]);
    assert_refused_where_its_pixels_do_not_fit("bomb.png", &bomb);
}
