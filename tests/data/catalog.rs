//! Published layouts, quirks included: what is read from a small tree of each, and which words refuse a malformed one.

use std::fs;

use crate::support::layouts::{self, Tree};
use proptest::prelude::*;
use xbm_fast::app::data::{Dataset, OpenOptions, PixelBox, Split};

fn open(tree: &Tree) -> Dataset {
    Dataset::open(&tree.spec(), &OpenOptions::default()).unwrap()
}

#[track_caller]
fn assert_refused(tree: &Tree, words: &[&str]) {
    let message = Dataset::open(&tree.spec(), &OpenOptions::default()).expect_err("bad input was accepted").to_string();
    for word in words {
        assert!(message.contains(word), "`{message}` does not say `{word}`");
    }
}

/// Names of the classes of the images of a split, in the order of the images.
fn classes(dataset: &Dataset, split: Split) -> Vec<&str> {
    dataset.labels(&dataset.indices(split)).iter().map(|&label| dataset.classes[label as usize].as_str()).collect()
}

/// Adds to a file of the tree.
fn append(tree: &Tree, path: &str, text: &str) {
    let whole = fs::read_to_string(tree.root().join(path)).unwrap() + text;
    tree.text(path, &whole);
}

/// Replaces a text in a file of the tree, where it must occur.
fn replace(tree: &Tree, path: &str, from: &str, to: &str) {
    let whole = fs::read_to_string(tree.root().join(path)).unwrap();
    assert!(whole.contains(from), "{whole}");
    tree.text(path, &whole.replacen(from, to, 1));
}

#[test]
fn every_image_of_every_layout_can_be_read() {
    for tree in layouts::all() {
        let dataset = open(&tree);
        assert!(!dataset.indices(Split::Train).is_empty(), "{}", dataset.name);
        for index in 0..dataset.images.len() {
            let image = dataset.decode(index).unwrap();
            let whole = dataset.images[index].part.is_none();
            assert_eq!(whole, (image.height, image.width) == (16, 20), "{} {index}", dataset.name);
        }
    }
}

#[test]
fn in_shop_has_queries_a_gallery_and_an_item_of_one_image() {
    let tree = layouts::inshop();
    let dataset = open(&tree);
    let train =
        ["id_00000001", "id_00000001", "id_00000003", "id_00000003", "id_00000004", "id_00000004", "id_00000007", "id_00000007"];
    assert_eq!(classes(&dataset, Split::Train)[..8], train);
    assert_eq!(classes(&dataset, Split::Train)[8..], ["id_00000008"]);
    assert_eq!(classes(&dataset, Split::Query), ["id_00000002", "id_00000005"]);
    assert_eq!(classes(&dataset, Split::Gallery), ["id_00000002", "id_00000002", "id_00000005", "id_00000005"]);
    assert_eq!(dataset.protocol.recall_at, [1, 10, 20, 30, 40, 50]);
    fs::rename(tree.root().join("Img/img"), tree.root().join("img")).unwrap();
    assert_eq!(open(&tree).images.len(), 15, "images unpacked beside the list");
    fs::remove_file(tree.root().join("img/WOMEN/Blouses_Shirts/id_00000003/00_1_front.jpg")).unwrap();
    assert_eq!(open(&tree).skipped.len(), 1);
}

#[test]
fn a_malformed_in_shop_list_is_refused() {
    const LIST: &str = "Eval/list_eval_partition.txt";
    let broken = |from: &str, to: &str, words: &[&str]| {
        let tree = layouts::inshop();
        replace(&tree, LIST, from, to);
        assert_refused(&tree, words);
    };
    broken("15\n", "52712\n", &["list_eval_partition.txt", "truncated", "promises 52712", "found 15"]);
    broken("15\n", "fifteen\n", &["line 1", "number of images", "fifteen"]);
    broken("item_id  ", "item  ", &["line 2", "image_name item_id evaluation_status"]);
    broken("query", "probe", &["train, query or gallery", "probe"]);
    broken("id_00000001    train", "id_00000001", &["line 3", "3 fields", "found 2"]);
}

#[test]
fn deepfashion2_cuts_items_and_pairs_users_with_shops() {
    let tree = layouts::deepfashion2();
    let dataset = open(&tree);
    let pairs = |part: &str, pair: u32| [1, 2].map(|style| format!("{part} pair {pair} style {style}"));
    let [one, two] = [pairs("validation", 1), pairs("validation", 2)];
    let expected: Vec<&String> = one.iter().chain(&two).collect();
    assert_eq!(classes(&dataset, Split::Query), expected);
    assert_eq!(classes(&dataset, Split::Gallery), expected);
    let [one, two] = [pairs("train", 1), pairs("train", 2)];
    assert_eq!(classes(&dataset, Split::Train), [&one[..], &one, &two, &two].concat());
    assert_eq!(dataset.images[0].part, Some(PixelBox { left: 1, top: 2, right: 15, bottom: 900 }));
    let (first, second) = (dataset.decode(0).unwrap(), dataset.decode(1).unwrap());
    assert_eq!(((first.height, first.width), (second.height, second.width)), ((14, 14), (14, 12)), "boxes are cut at the edge");
    assert_eq!(dataset.skipped.len(), 8);
    assert!(dataset.skipped.iter().all(|(_, reason)| reason.contains("style 0")));
    assert!(dataset.protocol.remark.contains("ground-truth boxes"));
    assert_eq!(dataset.protocol.recall_at, [1, 5, 10, 15, 20]);
}

#[test]
fn damaged_annotations_of_deepfashion2_are_listed() {
    let tree = layouts::deepfashion2();
    let validation = |number: u32| format!("validation/annos/{number:06}.json");
    tree.text(&validation(1), "{\"source\": \"user\", ");
    tree.text(&validation(2), &layouts::annotation("nobody", 1, &[1]));
    replace(&tree, &validation(3), "\"bounding_box\": [1, 2, 15, 900]", "\"bounding_box\": [9, 2, 9, 900]");
    tree.text("train/annos/000099.json", &layouts::annotation("user", 9, &[1]));
    let skipped = open(&tree).skipped;
    let reason = |path: &str| &skipped.iter().find(|(skipped, _)| skipped.ends_with(path)).unwrap_or_else(|| panic!("{path}")).1;
    assert!(reason("000001.json").contains("expected an annotation"));
    assert!(reason("000002.json").contains("nobody"));
    assert!(reason("validation/image/000003.jpg").contains("box is empty"));
    assert!(reason("train/image/000099.jpg").contains("no such file"));
}

#[test]
fn birds_are_split_by_class_whatever_their_own_split_says() {
    let tree = layouts::cub();
    let dataset = open(&tree);
    let names = ["001", "002", "099", "100"].map(|number| format!("{number}.Sooty_Albatross"));
    assert_eq!(classes(&dataset, Split::Train), names.iter().flat_map(|name| [name; 2]).collect::<Vec<_>>());
    assert_eq!(classes(&dataset, Split::Test)[1..3], ["101.Sooty_Albatross", "200.Sooty_Albatross"]);
    assert_eq!(dataset.protocol.recall_at, [1, 2, 4, 8]);
    append(&tree, "images.txt", "99 001.Sooty_Albatross/none.jpg\n");
    assert_refused(&tree, &["images.txt", "line 13", "class of image 99", "image_class_labels.txt"]);
    append(&tree, "image_class_labels.txt", "99 0\n");
    assert_refused(&tree, &["image_class_labels.txt", "class id", "`0`"]);
}

#[test]
fn birds_of_two_classes_and_classes_of_one_name_are_refused() {
    let tree = layouts::cub();
    let first = |list: &str| fs::read_to_string(tree.root().join(list)).unwrap().lines().next().unwrap().to_owned();
    let (image, class) = (first("image_class_labels.txt"), first("classes.txt"));
    let id = image.split(' ').next().unwrap();
    append(&tree, "image_class_labels.txt", &format!("{id} 77\n"));
    assert_refused(&tree, &["image_class_labels.txt", "expected one class of image", "and 77"]);
    let tree = layouts::cub();
    append(&tree, "classes.txt", &format!("177 {}\n", class.split_once(' ').unwrap().1));
    assert_refused(&tree, &["classes.txt", "expected a name for each class", "and 177"]);
}

#[test]
fn cars_are_read_from_the_published_matlab_file() {
    let mut tree = Tree::new("cars");
    tree.bytes("cars_annos.mat", include_bytes!("../fixtures/cars_annos.mat"));
    for name in ["000001.jpg", "000002.jpg", "000003.jpg", "000004.JPG"] {
        tree.image(&format!("car_ims/{name}"));
    }
    let dataset = open(&tree);
    assert_eq!(classes(&dataset, Split::Train), ["Maker Model 1815", "Maker Model 1815", "Maker Model 1912"]);
    assert_eq!(classes(&dataset, Split::Test), ["Maker Model 1913"]);
    assert!(dataset.skipped[0].0.ends_with("car_ims/000005.jpg"));
    assert_eq!(dataset.protocol.recall_at, [1, 2, 4, 8]);
}

#[test]
fn a_matlab_file_may_be_uncompressed() {
    let mut tree = Tree::new("cars");
    tree.bytes("cars_annos.mat", include_bytes!("../fixtures/cars_plain.mat"));
    tree.image("car_ims/000001.jpg");
    tree.image("car_ims/000002.jpg");
    assert_refused(&tree, &["at least two classes", "Maker Model 1815"]);
}

#[test]
fn cars_are_read_from_a_table_as_well() {
    let tree = layouts::cars();
    let dataset = open(&tree);
    assert_eq!(classes(&dataset, Split::Train), ["1", "1", "2", "2", "97", "97", "98", "98"]);
    assert_eq!(classes(&dataset, Split::Test), ["99", "99", "196", "196"]);
    append(&tree, "cars_annos.csv", "0,1,car_ims/000001.jpg\n");
    assert_refused(&tree, &["cars_annos.csv", "line 14", "class of 1 or more", "`0`"]);
    fs::remove_file(tree.root().join("cars_annos.csv")).unwrap();
    assert_refused(&tree, &["cars_annos.mat", "No such file"]);
}

#[test]
fn matlab_files_that_are_none_are_refused() {
    let refused = |bytes: &[u8], words: &[&str]| {
        let tree = Tree::new("cars");
        tree.bytes("cars_annos.mat", bytes);
        assert_refused(&tree, &[words, &["cars_annos.mat"]].concat());
    };
    let good = include_bytes!("../fixtures/cars_annos.mat");
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = good.to_vec();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    refused(b"path,class\n", &["shorter"]);
    refused(&with(124, &[0, 2]), &["7.3", "-v7"]);
    refused(&with(126, b"MI"), &["big-endian"]);
    refused(&[7; 500], &["level 5", "something else"]);
    refused(&good[..128], &["variable `annotations`"]);
    refused(&good[..good.len() / 2], &["truncated"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Most changes break a checksum of zlib in the compressed file, and reach the reader itself in the plain one.
    #[test]
    fn a_damaged_matlab_file_never_panics(compressed: bool, flips in prop::collection::vec((128..1296_usize, any::<u8>()), 1..4), cut in 0..1400_usize) {
        let mut bytes = if compressed { include_bytes!("../fixtures/cars_annos.mat").to_vec() } else { include_bytes!("../fixtures/cars_plain.mat").to_vec() };
        for (at, value) in flips {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes.truncate(cut.max(128));
        let tree = Tree::new("cars");
        tree.bytes("cars_annos.mat", &bytes);
        // There are no images, so that even an intact file is an error.
        prop_assert!(Dataset::open(&tree.spec(), &OpenOptions::default()).is_err());
    }
}

#[test]
fn vehicles_are_listed_by_number_and_tested_on_the_list_asked_for() {
    let tree = layouts::vehicleid();
    let dataset = open(&tree);
    assert_eq!(classes(&dataset, Split::Train), ["5", "5", "6", "6", "7", "7", "8", "8"]);
    assert_eq!(classes(&dataset, Split::Test), ["20", "20", "21", "21", "22", "22", "23", "23"]);
    assert!(dataset.protocol.remark.contains("not comparable"));
    let spec = tree.spec();
    let refused = |spec: &str| Dataset::open(spec, &OpenOptions::default()).unwrap_err().to_string();
    let without = refused(spec.strip_suffix(",test=800").unwrap());
    assert!(without.contains("test_list_2400.txt"), "{without}");
    let unknown = refused(&spec.replace("800", "801"));
    assert!(unknown.contains("800, 1600 or 2400") && unknown.contains("801"), "{unknown}");
    append(&tree, "train_test_split/train_list.txt", "1234\n");
    assert_refused(&tree, &["train_list.txt", "line 9", "2 fields"]);
}

#[test]
fn a_table_may_hold_boxes() {
    let tree = layouts::csv();
    let dataset = open(&tree);
    assert_eq!((dataset.images[0].part, dataset.indices(Split::Gallery).len()), (None, 4));
    assert_eq!(dataset.images[1].part, Some(PixelBox { left: 2, top: 3, right: 13, bottom: 90 }));
    let (whole, cut) = (dataset.decode(0).unwrap(), dataset.decode(1).unwrap());
    assert_eq!(((whole.height, whole.width), (cut.height, cut.width)), ((16, 20), (13, 11)));
    let full = xbm_fast::app::data::Image::open(&tree.root().join("images/0-1.jpg")).unwrap();
    assert_eq!(cut.rgb[..6], full.rgb[(3 * 20 + 2) * 3..][..6]);
    assert_eq!(cut.rgb[12 * 11 * 3..], full.rgb[(15 * 20 + 2) * 3..][..33]);
    for corners in ["1,2,3,", "5,5,5,9", "a,b,c,d", "1,1,inf,2", "-9,-9,0,0"] {
        let tree = layouts::csv();
        append(&tree, "list.csv", &format!("images/0-1.jpg,0,train,{corners}\n"));
        assert_refused(&tree, &["line 18", "corners", corners]);
    }
    append(&tree, "list.csv", "images/0-1.jpg,0,train,500,0,600,9\n");
    let error = open(&tree).decode(16).unwrap_err().to_string();
    assert!(error.contains("images/0-1.jpg") && error.contains("20 x 16") && error.contains("(500, 0) to (600, 9)"), "{error}");
    replace(&tree, "list.csv", "y2", "y3");
    assert_refused(&tree, &["column `y2`"]);
}

#[test]
fn a_csv_may_give_every_image_a_soft_label() {
    let tree = layouts::csv();
    let whole = fs::read_to_string(tree.root().join("list.csv")).unwrap();
    assert_eq!(open(&tree).soft_labels, Vec::<f32>::new());
    let labelled = |label: &dyn Fn(usize) -> String| {
        let lines = whole.lines().enumerate().map(|(line, text)| match line {
            0 => format!("{text},soft_label\n"),
            line => format!("{text},{}\n", label(line)),
        });
        tree.text("list.csv", &lines.collect::<String>());
    };
    labelled(&|line| format!("{}", line as f32 / 4.0));
    let dataset = open(&tree);
    let expected: Vec<f32> = (1..=dataset.images.len()).map(|line| line as f32 / 4.0).collect();
    assert_eq!(dataset.soft_labels, expected);
    labelled(&|line| if line == 2 { "nan".to_owned() } else { "1".to_owned() });
    assert_refused(&tree, &["list.csv", "line 3", "soft_label", "`nan`"]);
}

#[test]
fn classes_held_out_of_training_are_no_test_classes_but_can_take_their_place() {
    let mut dataset = Dataset::open("synthetic:classes=20,views=3,size=16", &OpenOptions::default()).unwrap();
    let trained: Vec<i32> = dataset.labels(&dataset.indices(Split::Train));
    dataset.soft_labels = dataset.images.iter().map(|image| image.label as f32).collect();
    let tested = dataset.indices(Split::Test);
    dataset.hold_out(0.3, 1).unwrap();
    assert_eq!((dataset.indices(Split::Validation).len(), dataset.indices(Split::Test)), (3 * 3, tested));
    let validating = dataset.labels(&dataset.indices(Split::Validation));
    dataset.test_on_validation();
    assert_eq!(dataset.labels(&dataset.indices(Split::Test)), validating);
    let (train, test) = (dataset.labels(&dataset.indices(Split::Train)), dataset.labels(&dataset.indices(Split::Test)));
    assert_eq!((train.len(), test.len()), (7 * 3, 3 * 3));
    assert!(test.iter().all(|label| trained.contains(label) && !train.contains(label)), "{train:?} {test:?}");
    assert!(dataset.images.iter().zip(&dataset.soft_labels).all(|(image, &soft)| image.label as f32 == soft));
    let refused = dataset.hold_out(0.95, 1).unwrap_err().to_string();
    assert!(refused.contains("--validation") && refused.contains("found 0.95 of 7 classes"), "{refused}");
}
