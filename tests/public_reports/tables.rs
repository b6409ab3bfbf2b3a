//! Tables of labels as spreadsheets write them.

use crate::pictures::{flat, write};
use xbm_fast::data::{Dataset, OpenOptions};

/// A data set of this table and some images.
fn open(table: &[u8], images: &[&str]) -> xbm_fast::Result<Dataset> {
    let folder = tempfile::tempdir().unwrap();
    images.iter().for_each(|image| write(folder.path(), image, &flat([7, 8, 9])));
    write(folder.path(), "labels.csv", table);
    Dataset::open(&format!("csv:{}", folder.path().join("labels.csv").display()), &OpenOptions::default())
}

// github.com/pandas-dev/pandas/issues/4793: a byte order mark became part of the first column's name.
// github.com/C2FO/fast-csv/issues/131: the first column could not be found by its name.
// github.com/Clever/csvlint/issues/37: with a quoted name the file was called malformed.
#[test]
fn a_byte_order_mark_is_no_part_of_the_first_column() {
    for header in ["path,label,split", "\"path\",\"label\",\"split\""] {
        let table = format!("\u{feff}{header}\r\n1.png,a,train\r\n2.png,b,train\r\n");
        let dataset = open(table.as_bytes(), &["1.png", "2.png"]).unwrap();
        assert_eq!(dataset.classes, ["a", "b"]);
    }
}

// github.com/wireservice/csvkit/issues/977: a column of numbers with leading zeros lost them.
// github.com/fastai/fastai/issues/1008: so did file names.
#[test]
fn leading_zeros_of_labels_and_names_are_kept() {
    let table = "path,label,split\n007.png,007,train\n7.png,7,train\n07.png,7.0,train\n";
    let dataset = open(table.as_bytes(), &["007.png", "7.png", "07.png"]).unwrap();
    assert_eq!(dataset.classes, ["007", "7", "7.0"]);
    let names: Vec<String> = dataset.images.iter().map(|image| image.source.to_string()).collect();
    assert!(names[0].ends_with("/007.png") && names[1].ends_with("/7.png") && names[2].ends_with("/07.png"), "{names:?}");
}
