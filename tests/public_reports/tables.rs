//! Tables of labels as spreadsheets write them.

use crate::pictures::{flat, write};
use xbm_fast::app::data::{Dataset, OpenOptions};

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

// github.com/asafdav/ng-csv/issues/28: spreadsheets in much of Europe separate columns by semicolons.
// github.com/BodenmillerGroup/steinbock/issues/28: such a table was not read.
#[test]
fn columns_separated_by_semicolons_or_tabs_are_read() {
    for separator in [";", "\t"] {
        let table = "path,label,split\r\n1.png,\"a, b\",train\r\n2.png,c,train\r\n".replace(',', separator);
        let dataset = open(table.as_bytes(), &["1.png", "2.png"]).unwrap();
        assert_eq!(dataset.classes, [format!("a{separator} b"), "c".to_owned()]);
    }
}

// github.com/PHPOffice/PHPExcel/issues/200: a table in UTF-16 was cut in the middle of its characters.
// github.com/mafintosh/csv-parser/issues/184: its texts came out with a zero behind every letter.
#[test]
fn a_table_in_utf_16_is_read_or_called_one() {
    let text = "\u{feff}path,label,split\r\n1.png,grün,train\r\n2.png,b,train\r\n";
    for to_bytes in [u16::to_le_bytes, u16::to_be_bytes] {
        let table: Vec<u8> = text.encode_utf16().flat_map(to_bytes).collect();
        match open(&table, &["1.png", "2.png"]) {
            Ok(dataset) => assert_eq!(dataset.classes, ["grün", "b"]),
            Err(error) => assert!(error.to_string().contains("UTF-16"), "{error}"),
        }
    }
}
