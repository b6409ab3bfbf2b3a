//! The same picture in two places of a data set: where a score says more than it should, somebody has to say so.

use crate::pictures::write_classes;
use crate::program::{assert_says, succeed, xbm};
use std::path::Path;

/// What `data` says of a folder to which `to` was copied from `from`.
fn said_of_a_copy(write: impl Fn(&Path), from: &str, to: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let data = || succeed(&mut xbm(&["data", &format!("folder:{}", folder.path().display())])).both();
    let name = Path::new(to).file_name().unwrap().to_str().unwrap();
    assert!(!data().contains(name), "{to} is spoken of before it is there");
    std::fs::copy(folder.path().join(from), folder.path().join(to)).unwrap();
    data()
}

// github.com/sergeywong/cp-vton/issues/42: images of the training part were in the test part under other names.
// github.com/thulab/DeepHash/issues/49: most of the test set was in the set that it was tested against.
#[test]
fn a_test_image_that_is_trained_on_is_named() {
    let parts = |root: &Path| {
        write_classes(&root.join("train"), &["a", "b"], 3);
        write_classes(&root.join("test"), &["c", "d"], 3);
        distinct(&root.join("test"));
    };
    assert_says(&said_of_a_copy(parts, "train/a/0.png", "test/c/copied.png"), &["copied.png"]);
}

// github.com/filipradenovic/cnnimageretrieval-pytorch/issues/48: queries were in the database, too.
#[test]
fn a_query_that_is_in_the_gallery_is_named() {
    let parts = |root: &Path| {
        write_classes(&root.join("train"), &["a", "b"], 3);
        for part in ["query", "gallery"] {
            write_classes(&root.join(part), &["c", "d"], 2);
            distinct(&root.join(part));
        }
    };
    assert_says(&said_of_a_copy(parts, "query/c/0.png", "gallery/c/copied.png"), &["copied.png"]);
}

// github.com/MVC-Datasets/MVC/issues/4: one photograph was listed under several products.
#[test]
fn one_picture_under_two_classes_is_named() {
    let classes = |root: &Path| write_classes(root, &["a", "b", "c", "d"], 3);
    assert_says(&said_of_a_copy(classes, "a/0.png", "b/copied.png"), &["copied.png"]);
}

/// Marks every image below a folder with the folder's name, so that no other part has the same.
fn distinct(part: &Path) {
    let mark = part.file_name().unwrap().to_str().unwrap().bytes().map(u32::from).sum::<u32>() as u8;
    for class in std::fs::read_dir(part).unwrap() {
        for image in std::fs::read_dir(class.unwrap().path()).unwrap() {
            let path = image.unwrap().path();
            let mut picture = image::open(&path).unwrap().into_rgb8();
            picture.put_pixel(0, 0, image::Rgb([mark; 3]));
            picture.save(&path).unwrap();
        }
    }
}
