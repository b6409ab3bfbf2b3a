//! Indexes: rows and list come back as they were written, in formats that other programs read, and damaged ones are told apart.

use std::path::{Path, PathBuf};
use xbm_fast::app::data::{Content, PixelBox};
use xbm_fast::app::index::{About, Index, IndexedImage, check_name};

fn example() -> Index {
    let image = |image: usize| IndexedImage {
        image: image * 3,
        path: format!("photos, \"new\"/{image}.jpg"),
        label: format!("class {}", image / 2),
        split: "test".to_owned(),
        content: (image > 0).then_some(Content((0xfeed << 40) | image as u64)),
        part: (image == 2).then_some(PixelBox { left: 1, top: 2, right: 30, bottom: 40 }),
    };
    let about = About {
        checkpoint: PathBuf::from("/models/best.safetensors"),
        checkpoint_crc32c: 0xdead_beef,
        data: "folder:photos".to_owned(),
        holdout: 0.25,
        seed: 7,
        folder: PathBuf::from("/home/photos"),
        version: "0.1.0".to_owned(),
    };
    let of = |angle: f32| [angle.sin(), 0.6 * angle.cos(), 0.8 * angle.cos()];
    let values = (0..5).flat_map(|row| of(row as f32)).collect();
    Index { about, images: (0..5).map(image).collect(), values, dim: 3 }
}

#[test]
fn an_index_is_read_back_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["rows.npy", "rows.safetensors"] {
        let path = folder.path().join(name);
        example().write(&path).unwrap();
        assert_eq!(Index::read(&path).unwrap(), example(), "{name}");
    }
}

/// What `numpy.save` writes for a matrix of this kind, byte for byte: tests/golden/npy.py.
#[test]
fn rows_are_what_numpy_writes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.npy");
    let index = Index { values: vec![0.0, 0.5, -1.0, 2.0, 3.5, -0.25], images: example().images[..2].to_vec(), ..example() };
    index.write(&path).unwrap();
    assert!(std::fs::read(&path).unwrap() == include_bytes!("../golden/rows.npy"));
}

#[test]
fn a_safetensors_index_holds_one_named_matrix() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.safetensors");
    example().write(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!((file.names(), file.tensor("embeddings").unwrap().shape()), (vec!["embeddings"], &[5, 3][..]));
}

#[track_caller]
fn refused(path: &Path, words: &[&str]) {
    let message = Index::read(path).unwrap_err().to_string();
    for word in words {
        assert!(message.contains(word), "expected `{word}` in: {message}");
    }
}

#[test]
fn rows_that_are_no_embeddings_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["rows.npy", "rows.safetensors"] {
        let path = folder.path().join(name);
        let spoiled = |at: usize, value: f32| {
            let mut index = example();
            index.values[at] = value;
            index.write(&path).unwrap();
        };
        spoiled(3 * 3 + 1, 5.0);
        refused(&path, &[name, "rows of the index, row 3: expected a vector of length 1, found one of length 5"]);
        spoiled(2 * 3, f32::NAN);
        refused(&path, &[name, "rows of the index", "not finite", "row 2"]);
        spoiled(4 * 3 + 2, f32::INFINITY);
        refused(&path, &["not finite", "row 4"]);
        let mut index = example();
        index.values[..3].fill(0.0);
        index.write(&path).unwrap();
        assert_eq!(Index::read(&path).unwrap(), index, "a row of zeros is one that had no direction");
    }
}

#[test]
fn damaged_and_foreign_files_are_refused_with_what_was_found() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["rows.npy", "rows.safetensors"] {
        let path = folder.path().join(name);
        example().write(&path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for len in 0..whole.len() {
            std::fs::write(&path, &whole[..len]).unwrap();
            refused(&path, &[name, "expected a complete"]);
        }
        std::fs::write(&path, &whole).unwrap();
    }
    let path = folder.path().join("rows.npy");
    let whole = std::fs::read(&path).unwrap();
    let replaced = |from: &str, to: &str| {
        let at = whole.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        let mut bytes = whole.clone();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        std::fs::write(&path, bytes).unwrap();
    };
    replaced("'<f4'", "'<f8'");
    refused(&path, &["32-bit floats", "<f8"]);
    replaced("False", "True ");
    refused(&path, &["True"]);
    replaced("(5, 3)", "(9, 9)");
    refused(&path, &["60 bytes for a shape of 9 x 9"]);
    std::fs::write(&path, &whole).unwrap();
    std::fs::write(folder.path().join("rows.csv"), "image,path,label,split\n0,a,b,test\n").unwrap();
    refused(&path, &["rows.csv", "expected 5 lines", "found 1"]);
    std::fs::remove_file(folder.path().join("rows.csv")).unwrap();
    refused(&path, &["rows.csv", "No such file"]);
    assert!(check_name(Path::new("rows.txt")).unwrap_err().to_string().contains(".npy or .safetensors"));
}
