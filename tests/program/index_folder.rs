//! Indexes that live: what is found is exact, a change is seen whole or not at all, and what is damaged is told apart.

use crate::support::unit_rows;
use half::f16;
use std::fs;
use std::path::{Path, PathBuf};
use xbm_fast::app::data::Content;
use xbm_fast::app::index::store::{Editor, MANIFEST, Origin, RowFormat, Store, StoredImage};

const DIM: usize = 24;

fn image(number: usize) -> StoredImage {
    StoredImage {
        id: 0,
        content: (number > 0).then_some(Content(number as u64)),
        origin: 0,
        path: format!("/photos/{number}.jpg"),
        label: format!("class {}", number % 3),
        split: "test".to_owned(),
        part: None,
        stamp: None,
    }
}

fn origin() -> Origin {
    Origin { data: "folder:photos".to_owned(), holdout: 0.5, seed: 0, folder: PathBuf::from("/"), splits: Vec::new() }
}

fn create(root: &Path, rows: RowFormat) -> Editor {
    Editor::create(root, (PathBuf::from("/model"), 7), DIM, rows).unwrap()
}

fn add(editor: &mut Editor, numbers: std::ops::Range<usize>, values: &[f32]) {
    editor.origin(origin());
    editor.append(&values[numbers.start * DIM..numbers.end * DIM], numbers.map(image).collect()).unwrap();
    editor.commit().unwrap();
}

/// The numbers of the images in an index, in their order.
fn numbers(store: &Store) -> Vec<usize> {
    let number = |path: &str| path.trim_start_matches("/photos/").trim_end_matches(".jpg").parse().unwrap();
    store.positions().map(|position| number(&store.image(position).unwrap().path)).collect()
}

/// Fails unless the nearest to each query are those that a plain loop over the rows finds.
#[track_caller]
fn assert_exact(store: &Store, queries: &[f32], depth: usize) {
    for query in queries.chunks(DIM) {
        let similarity = |position| -> f32 {
            let product: f64 = store.row(position).iter().zip(query).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            (product as f32).clamp(-1.0, 1.0)
        };
        let mut expected: Vec<(usize, f32)> = store.positions().map(|position| (position, similarity(position))).collect();
        expected.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        expected.truncate(depth);
        assert_eq!(store.nearest(query, depth).unwrap(), expected);
    }
}

#[test]
fn the_nearest_of_many_rows_are_exact_whatever_was_added_joined_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let count = 9000;
    let mut values = unit_rows("rows", count, DIM);
    // Rows that 8 bits do not tell apart, and the same row many times.
    for row in 500..1500 {
        let (near, far) = (values[..DIM].to_vec(), values[row * DIM..(row + 1) * DIM].to_vec());
        let share = if row % 2 == 0 { 0.0 } else { 1e-3 };
        let mixed: Vec<f32> = near.iter().zip(far).map(|(near, far)| near + share * far).collect();
        let length = mixed.iter().map(|value| value * value).sum::<f32>().sqrt();
        values[row * DIM..(row + 1) * DIM].iter_mut().zip(mixed).for_each(|(value, mixed)| *value = mixed / length);
    }
    values[2 * DIM..3 * DIM].fill(0.0);
    let queries = [&unit_rows("queries", 4, DIM), &values[..DIM], &values[700 * DIM..701 * DIM]].concat();
    for rows in [RowFormat::F32, RowFormat::F16] {
        let root = folder.path().join(rows.name());
        let mut editor = create(&root, rows);
        let mut kept: Vec<usize> = Vec::new();
        for (start, end) in [(0, 6000), (6000, 6010), (6010, 8000), (8000, 8001), (8001, count)] {
            add(&mut editor, start..end, &values);
            kept.extend(start..end);
            let store = Store::open(&root).unwrap();
            assert_eq!(numbers(&store), kept);
            for depth in [1, 10, 600, count + 5] {
                assert_exact(&store, &queries, depth);
            }
            // Few of the first images, and most of the last ones, so that shards are written anew in both ways.
            let gone = |number: usize| number % 97 == 5 || (number >= start && !number.is_multiple_of(3));
            let positions: Vec<usize> =
                store.positions().zip(&kept).filter(|(_, number)| gone(**number)).map(|(at, _)| at).collect();
            editor.remove(&positions);
            editor.commit().unwrap();
            kept.retain(|number| !gone(*number));
            let store = Store::open(&root).unwrap();
            assert_eq!((numbers(&store), store.len()), (kept.clone(), kept.len()));
            assert_exact(&store, &queries, 10);
        }
        let store = Store::open(&root).unwrap();
        let (removed, shards, _) = store.room();
        assert!(removed * 4 <= store.len() + removed && shards <= 4, "{removed} removed, {shards} shards");
        let ids: Vec<u64> = store.positions().map(|position| store.image(position).unwrap().id).collect();
        assert!(ids.is_sorted_by(|a, b| a < b));
        assert_eq!(store.positions_of(&ids), store.positions().collect::<Vec<_>>());
        assert_eq!(store.positions_of(&[5, 1 << 40]), Vec::<usize>::new());
        let rounded: Vec<f32> = values[..DIM]
            .iter()
            .map(|value| if rows == RowFormat::F16 { f16::from_f32(*value).to_f32() } else { *value })
            .collect();
        assert_eq!(store.row(0), rounded);
        let first = store.positions().next().unwrap();
        assert_eq!((kept[0], store.image(first).unwrap().content), (0, None));
        let second = store.positions().nth(1).unwrap();
        assert_eq!(store.image(second).unwrap().content, Some(Content(kept[1] as u64)));
    }
}

#[test]
fn a_reader_keeps_what_it_opened_and_a_change_that_did_not_end_counts_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("index");
    let values = unit_rows("rows", 300, DIM);
    let mut editor = create(&root, RowFormat::F32);
    add(&mut editor, 0..100, &values);
    let before = Store::open(&root).unwrap();
    editor.append(&values[100 * DIM..200 * DIM], (100..200).map(image).collect()).unwrap();
    assert_eq!(Store::open(&root).unwrap().len(), 100, "what is not committed is seen");
    drop(editor);
    assert!(root.join("000002.npy").exists());
    fs::write(root.join("000009.codes.77.tmp"), "half").unwrap();
    let mut editor = Editor::open(&root).unwrap();
    assert!(!root.join("000002.npy").exists() && !root.join("000009.codes.77.tmp").exists(), "leftovers stay");
    add(&mut editor, 200..300, &values);
    editor.remove(&(0..50).collect::<Vec<_>>());
    editor.commit().unwrap();
    assert!(before.is_outdated());
    assert_eq!(numbers(&before), (0..100).collect::<Vec<_>>());
    assert_exact(&before, &values[..DIM], 5);
    assert_eq!(numbers(&Store::open(&root).unwrap()), (50..100).chain(200..300).collect::<Vec<_>>());
}

#[test]
fn readers_see_whole_changes_while_a_writer_is_at_work() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("index");
    let values = unit_rows("rows", 400, DIM);
    let mut editor = create(&root, RowFormat::F16);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = Vec::new();
            while seen.last() != Some(&400) {
                let store = Store::open(&root).unwrap();
                assert_eq!(numbers(&store), (0..store.len()).collect::<Vec<_>>());
                seen.push(store.len());
            }
            seen
        });
        (0..40).for_each(|step| add(&mut editor, step * 10..(step + 1) * 10, &values));
        let seen = reader.join().unwrap();
        assert!(seen.is_sorted() && seen.iter().all(|len| len.is_multiple_of(10)), "{seen:?}");
    });
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: xbm_fast::Result<T>, words: &[&str]) {
    let message = result.unwrap_err().to_string();
    for word in words {
        assert!(message.contains(word), "expected `{word}` in: {message}");
    }
}

#[test]
fn foreign_folders_second_writers_and_damaged_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (root, foreign) = (folder.path().join("index"), folder.path().join("photos"));
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("a.jpg"), "").unwrap();
    let model = || (PathBuf::from("/model"), 7);
    assert_refused(Editor::create(&foreign, model(), DIM, RowFormat::F32), &["photos", "an empty folder", "a.jpg"]);
    assert_refused(Store::open(&foreign), &["expected an index", "xbm-fast index add"]);
    assert_refused(Editor::create(&root, model(), 9000, RowFormat::F32), &["1 to 8260 numbers", "9000"]);
    let values = unit_rows("rows", 50, DIM);
    let mut editor = create(&root, RowFormat::F32);
    assert_refused(editor.append(&[2.0; DIM], vec![image(0)]), &["length 1"]);
    assert_refused(editor.append(&[f32::NAN; DIM], vec![image(0)]), &["not finite"]);
    add(&mut editor, 0..50, &values);
    editor.remove(&[3]);
    editor.commit().unwrap();
    assert_refused(Editor::open(&root), &["another process"]);
    drop(editor);
    assert_refused(Store::open(&root).unwrap().nearest(&values[..DIM - 1], 3), &["24 numbers", "23"]);

    for file in fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()) {
        if file.file_name().is_some_and(|name| name == ".lock") {
            continue;
        }
        let whole = fs::read(&file).unwrap();
        for len in [0, 1, whole.len() / 2, whole.len() - 1] {
            fs::write(&file, &whole[..len]).unwrap();
            assert_refused(Store::open(&root), &[file.file_name().unwrap().to_str().unwrap(), "expected"]);
        }
        fs::write(&file, &whole).unwrap();
    }
    let manifest = fs::read_to_string(root.join(MANIFEST)).unwrap();
    for (from, to, words) in [
        ("\"format\": 1", "\"format\": 2", "expected an index of format 1, found format 2"),
        ("\"000001\"", "\"../000001\"", "is no name of a shard"),
        ("\"rows\": 50", "\"rows\": 51", "expected 51 rows"),
    ] {
        assert!(manifest.contains(from), "{manifest}");
        fs::write(root.join(MANIFEST), manifest.replace(from, to)).unwrap();
        assert_refused(Store::open(&root), &[words]);
    }
    fs::write(root.join(MANIFEST), &manifest).unwrap();
    let list = root.join("000001.images");
    let bytes = fs::read(&list).unwrap();
    let broken = String::from_utf8_lossy(&bytes).contains("\"origin\"").then(|| {
        let at = bytes.windows(8).position(|window| window == b"\"origin\"").unwrap();
        [&bytes[..at], b"!origin\"", &bytes[at + 8..]].concat()
    });
    fs::write(&list, broken.unwrap()).unwrap();
    assert_refused(Store::open(&root).unwrap().image(0), &["000001.images", "row 0"]);
}
