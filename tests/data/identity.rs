//! Labels and paths stay what they are: through folders, tables, packed files and an index, two names never become one.


use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;
use crate::support::layouts::{self, Tree};
use xbm_fast::app::data::packed::{Encoding, PackOptions, pack};
use xbm_fast::app::data::{Dataset, OpenOptions, Split};
use xbm_fast::files::name;

const PROGRAM: &str = env!("CARGO_BIN_EXE_xbm-fast");

fn open(spec: &str) -> xbm_fast::Result<Dataset> {
    Dataset::open(spec, &OpenOptions::default())
}

/// A csv beside `1.png` to `9.png`.
fn table(bytes: &[u8]) -> Tree {
    let mut tree = Tree::new("csv");
    for number in 1..=9 {
        tree.image(&format!("{number}.png"));
    }
    tree.bytes("list.csv", bytes);
    tree
}

fn read(bytes: &[u8]) -> Dataset {
    open(&table(bytes).spec()).unwrap()
}

#[track_caller]
fn assert_refused(bytes: &[u8], words: &[&str]) {
    let message = open(&table(bytes).spec()).expect_err("bad input was accepted").to_string();
    for word in words {
        assert!(message.contains(word), "`{message}` does not say `{word}`");
    }
}

/// The data set packed and opened again.
fn packed(dataset: Dataset, folder: &Path) -> Dataset {
    let options = PackOptions { encoding: Encoding::Files, short_side: 0, threads: 1, max_unreadable: 0.0 };
    let path = folder.join("packed.xbm");
    pack(&Arc::new(dataset), &path, &options, &AtomicBool::new(false), || {}).unwrap();
    open(&format!("packed:{}", path.display())).unwrap()
}

#[test]
fn blanks_inside_quotes_belong_to_the_label_and_others_do_not() {
    let dataset = read(
        b"path , label, split\n1.png, cat ,train\n2.png,\" cat\", train\n3.png,\"cat \",test\n\n4.png,\" a \"\"b\"\",\nc \",test\n5.png,cat,test\n",
    );
    assert_eq!(dataset.classes, ["cat", " cat", "cat ", " a \"b\",\nc "]);
    assert_eq!(dataset.images[4].label, 0);
}

#[test]
fn labels_that_look_like_one_number_are_different_classes() {
    let dataset = read(b"path,label,split\n1.png,1,train\n2.png,01,train\n3.png,1.0,test\n4.png,+1,test\n");
    assert_eq!(dataset.classes, ["1", "01", "1.0", "+1"]);
}

#[test]
fn tables_are_read_as_spreadsheets_write_them() {
    let plain = "path,label,split\r\n1.png,caf\u{e9},train\r\n2.png,\"b,;\tb\",test\r\n";
    let utf16: Vec<u8> = plain.replace(",", "\t").replace("b\t;", "b,;").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let semicolons = plain.replace(',', ";").replace("b;;", "b,;");
    for bytes in [
        plain.as_bytes().to_vec(),
        [b"\xEF\xBB\xBF", plain.replace("path", "\"path\"").as_bytes()].concat(),
        [b"\xFF\xFE", &utf16[..]].concat(),
        semicolons.clone().into_bytes(),
        format!("sep=;\r\n{semicolons}").into_bytes(),
    ] {
        let dataset = read(&bytes);
        assert_eq!(dataset.classes, ["caf\u{e9}", "b,;\tb"]);
        assert_eq!(dataset.notes, [] as [&str; 0]);
    }
    assert_refused(b"sep=;\npath;label;split\n1.png;a;train\n2.png;b;tset\n", &["line 4", "`tset`"]);
    assert_refused(b"path,label,split\n1.png,caf\xE9,train\n", &["line 2", "0xE9", "Windows-1252"]);
}

#[test]
fn columns_are_found_in_any_case_and_what_is_not_used_is_said() {
    let dataset = read(b"Path, Split ,LABEL,X1,Y1,X2,Y2\n1.png,train,a,1,1,9,9\n2.png,test,b,,,,\n");
    assert!(dataset.images[0].part.is_some() && dataset.images[1].part.is_none());
    assert_eq!(dataset.notes, [] as [&str; 0]);
    let dataset = read(b"path,label,split,xmin,ymin,xmax,ymax\n1.png,a,train,1,1,9,9\n2.png,b,test,1,1,9,9\n");
    assert!(dataset.images[0].part.is_none());
    let [note] = &dataset.notes[..] else { panic!("{:?}", dataset.notes) };
    assert!(note.contains("not used: xmin, ymin, xmax, ymax (those that are:") && note.contains("x1, y1, x2 and y2"), "{note}");
    assert_refused(
        b"image_path,label,split\n1.png,a,train\n",
        &["expected a column `path`", "if `image_path` is meant, rename it"],
    );
    assert_refused(b"path,labels,split\n1.png,a,train\n", &["expected a column `label`", "if `labels` is meant"]);
    assert_refused(b"path,label,split,x1,y1,x2\n1.png,a,train,1,1,2\n", &["expected a column `y2`"]);
    assert_refused(b"path,label,split,label\n1.png,a,train,b\n", &["expected one column `label`, found 2"]);
    assert_refused(b"path,Label,split,LABEL\n1.png,a,train,b\n", &["expected one column `label`, found 2"]);
}

#[test]
fn odd_names_survive_packing() {
    let tree = table(b"path,label,split\n1.png,\" a\tb\n\"\"c\"\" \",train\n2.png,\"d,e\",test\n3.png,\xE2\x80\xAEf,test\n");
    let dataset = open(&tree.spec()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (classes, paths) =
        (dataset.classes.clone(), dataset.images.iter().map(|image| image.source.to_string()).collect::<Vec<_>>());
    let packed = packed(dataset, folder.path());
    assert_eq!(packed.classes, classes);
    for (image, path) in packed.images.iter().zip(paths) {
        assert!(image.source.to_string().starts_with(&path), "{} {path}", image.source);
    }
}

#[cfg(unix)]
mod names_of_bytes {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    /// Nine folders that are one or two to whoever writes a question mark for what is no UTF-8.
    const FOLDERS: [&[u8]; 9] =
        [b"a\xE9", b"a\xE8", b"a\xFF", b"a\xC3\xA9", b"a\\xE9", b"a\\x5CxE9", b"a\xEF\xBF\xBD", b"a\n\"", b" a "];

    fn tree() -> Tree {
        let mut tree = Tree::new("folder");
        for (number, folder) in FOLDERS.iter().enumerate() {
            tree.image("drawn.jpg");
            let folder = tree.root().join(OsStr::from_bytes(folder));
            fs::create_dir(&folder).unwrap();
            fs::copy(tree.root().join("drawn.jpg"), folder.join("same.jpg")).unwrap();
            fs::rename(
                tree.root().join("drawn.jpg"),
                folder.join(OsStr::from_bytes(&[b"b\xF0"[..].to_vec(), vec![number as u8 + 200]].concat())),
            )
            .unwrap();
        }
        tree
    }

    #[test]
    fn folders_that_are_not_utf8_stay_different_classes() {
        let tree = tree();
        let dataset = open(&tree.spec()).unwrap();
        assert_eq!(dataset.images.len(), 18, "{:?}", dataset.skipped);
        let different = |dataset: &Dataset| {
            let classes: BTreeSet<&String> = dataset.classes.iter().collect();
            let paths: BTreeSet<String> = dataset.images.iter().map(|image| image.source.to_string()).collect();
            (classes.len(), paths.len())
        };
        assert_eq!(different(&dataset), (9, 18));
        for class in &dataset.classes {
            assert!(tree.root().join(name::path_of(class)).is_dir(), "{class}");
        }
        assert!(dataset.classes.contains(&"a\\xE9".to_owned()) && dataset.classes.contains(&"a\\x5CxE9".to_owned()));
        let folder = tempfile::tempdir().unwrap();
        let classes = dataset.classes.clone();
        let packed = packed(dataset, folder.path());
        assert_eq!((different(&packed), &packed.classes), ((9, 18), &classes));
    }

    #[test]
    fn a_table_may_list_files_that_are_not_utf8() {
        let tree = table(b"path,label,split\ncaf\\xE9.png,a,train\nlit\\xE9.png,b,test\n");
        for name in [&b"caf\xE9.png"[..], b"lit\\xE9.png"] {
            fs::copy(tree.root().join("1.png"), tree.root().join(OsStr::from_bytes(name))).unwrap();
        }
        let dataset = open(&tree.spec()).unwrap();
        dataset.decode(0).unwrap();
        dataset.decode(1).unwrap();
    }

    proptest! {
        #[test]
        fn the_text_of_a_name_leads_back_to_it(bytes in prop::collection::vec(prop::sample::select(b"\\xE95C/\xC3\xA9".to_vec()), 0..12)) {
            let text = name::text_of(OsStr::from_bytes(&bytes));
            let path = name::path_of(&text);
            prop_assert_eq!(path.as_os_str().as_bytes(), &bytes[..]);
        }
    }
}

#[test]
fn the_folder_of_images_that_was_chosen_is_said() {
    let tree = layouts::inshop();
    fs::create_dir(tree.root().join("Img/img_highres")).unwrap();
    let dataset = open(&tree.spec()).unwrap();
    let chosen = format!("images are read from {}", tree.root().join("Img/img").display());
    assert_eq!(dataset.notes, [chosen.clone() + "; img_highres beside it is not used"]);
    assert!(!dataset.indices(Split::Train).is_empty());
    let output = Command::new(PROGRAM).args(["data", &tree.spec()]).output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains(&format!("note: {chosen}")));
}

#[test]
fn published_lists_are_read_in_utf16_and_with_other_ends_of_lines() {
    for (tree, list) in [(layouts::sop(), "Ebay_train.txt"), (layouts::inshop(), "Eval/list_eval_partition.txt")] {
        let expected = open(&tree.spec()).unwrap();
        let text = fs::read_to_string(tree.root().join(list)).unwrap().replace('\n', "\r\n");
        let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        for bytes in [text.clone().into_bytes(), [b"\xEF\xBB\xBF", text.as_bytes()].concat(), [b"\xFE\xFF", &utf16[..]].concat()] {
            tree.bytes(list, &bytes);
            assert_eq!(open(&tree.spec()).unwrap().images, expected.images);
        }
    }
}
