//! What a run drew at its start belongs to it: its model is scored on its own test classes, and it goes on with its own images, whatever
//! became of the folder.


use crate::place::{MODEL, Place, assert_says};
use std::collections::BTreeSet;

const CLASSES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// Eight classes of three pictures in `photos`, and a model of them in `run`.
fn trained(flags: &[&str]) -> Place {
    let place = Place::new();
    place.draw("photos", &CLASSES, 3);
    place.train("folder:photos", "run", flags);
    place
}

/// The classes that `eval` scores.
#[track_caller]
fn scored(place: &Place, flags: &[&str]) -> BTreeSet<String> {
    let arguments = [&["eval", "--checkpoint", MODEL, "--per-class", "classes.csv"][..], flags].concat();
    place.says(&arguments);
    let mut table = csv::Reader::from_path(place.path("classes.csv")).unwrap();
    table.records().map(|row| row.unwrap()[0].to_owned()).collect()
}

#[test]
fn a_model_is_scored_on_its_runs_data_and_test_classes_without_being_told() {
    let place = trained(&["--seed=5", "--holdout=0.25"]);
    let own = scored(&place, &["--data=folder:photos", "--seed=5", "--holdout=0.25"]);
    assert_eq!(own.len(), 2);
    assert_eq!(scored(&place, &[]), own);
    assert_eq!(scored(&place, &["--data=folder:photos"]), own);
    let report = place.json(&["eval", "--checkpoint", MODEL]);
    assert_eq!((&report["data"], &report["test_classes"]), (&"folder:photos".into(), &2.into()));
    assert_eq!(report["test_classes_trained_on"], 0);
    assert_says(&place.says(&["eval", "--checkpoint", MODEL]), &["folder:photos: 2 test classes, none of them trained on"]);
    let summary: serde_json::Value = serde_json::from_slice(&std::fs::read(place.path("run/summary.json")).unwrap()).unwrap();
    assert_eq!((&summary["data"], &summary["test_classes_trained_on"]), (&"folder:photos".into(), &0.into()));
}

#[test]
fn a_model_taken_from_its_run_and_data_that_moved_keep_the_split() {
    let place = trained(&["--seed=5"]);
    let own = scored(&place, &[]);
    std::fs::rename(place.path("photos"), place.path("moved")).unwrap();
    let error = place.refuses(&["eval", "--checkpoint", MODEL]);
    assert_says(&error, &["photos", "trained on", "--data"]);
    assert_eq!(scored(&place, &["--data=folder:moved"]), own);
    std::fs::create_dir(place.path("run/elsewhere")).unwrap();
    let said = place
        .command_in("run/elsewhere", &["eval", "--checkpoint", "../checkpoints/best.safetensors", "--data=folder:../../moved"]);
    assert_says(&String::from_utf8(said.stdout).unwrap(), &["4 test classes, none of them trained on"]);
}

#[test]
fn another_draw_is_made_when_asked_for_and_what_was_trained_on_is_named() {
    let place = trained(&["--seed=5"]);
    let own = scored(&place, &[]);
    let seed = (0..9).map(|seed| format!("--seed={seed}")).find(|seed| scored(&place, &[seed]) != own).unwrap();
    let other = scored(&place, &[&seed]);
    let (trained, first) = (other.difference(&own).count(), other.difference(&own).next().unwrap());
    let eval = ["eval", "--checkpoint", MODEL, &seed];
    assert_says(&place.says(&eval), &[&format!("{trained} of 4 were trained on (the first: {first})"), "seed 5"]);
    assert_eq!(place.json(&eval)["test_classes_trained_on"], trained);
}

#[test]
fn classes_that_came_later_are_tested_and_changes_are_named() {
    let place = trained(&[]);
    let own = scored(&place, &[]);
    place.draw("photos", &["aa"], 3);
    place.picture("photos/b/9.png");
    std::fs::remove_file(place.path("photos/c/0.png")).unwrap();
    let said = place.says(&["eval", "--checkpoint", MODEL]);
    assert_says(
        &said,
        &["1 class added (aa)", "4 images added (the first: aa/0.png)", "1 image removed (c/0.png)", "5 test classes, none"],
    );
    let mut expected = own;
    expected.insert("aa".to_owned());
    assert_eq!(scored(&place, &[]), expected);
}

#[test]
fn embeddings_are_listed_under_the_runs_split() {
    let place = trained(&["--seed=5", "--holdout=0.25"]);
    let own = scored(&place, &[]);
    place.says(&["embed", "--checkpoint", MODEL, "--data=folder:photos", "--split=test", "--out=rows.npy"]);
    let mut table = csv::Reader::from_path(place.path("rows.csv")).unwrap();
    let embedded: BTreeSet<String> = table.records().map(|row| row.unwrap()[2].to_owned()).collect();
    assert_eq!(embedded, own);
}

#[test]
fn an_empty_folder_draws_no_class() {
    let place = trained(&[]);
    let own = scored(&place, &["--data=folder:photos", "--seed=3"]);
    for empty in ["0", "cc", "z"] {
        std::fs::create_dir(place.path(&format!("photos/{empty}"))).unwrap();
    }
    place.write("photos/cc/notes.txt", "no picture");
    assert_eq!(scored(&place, &["--data=folder:photos", "--seed=3"]), own);
    place.train("folder:photos", "again", &[]);
    let bytes = |run: &str| std::fs::read(place.path(run).join("checkpoints/best.safetensors")).unwrap();
    assert!(bytes("run") == bytes("again"), "an empty folder changed the run");
}

#[test]
fn a_run_goes_on_with_the_images_it_began_with() {
    let place = Place::new();
    place.draw("photos", &CLASSES, 3);
    for memory in ["--memory=instance", "--memory=cross-batch", "--memory=prototype"] {
        let flags = [memory, "--memory-start=1", "--memory-size=12"];
        let (whole, halves) = (format!("whole{memory}"), format!("halves{memory}"));
        place.train("folder:photos", &whole, &[&flags[..], &["--steps=6"]].concat());
        place.train("folder:photos", &halves, &[&flags[..], &["--steps=3"]].concat());
        place.draw("photos", &["0-new", "dd"], 2);
        place.picture("photos/a/00.png");
        let said = place.says(&["train", "--resume", &halves, "--steps=6"]);
        assert_says(&said, &["2 classes added (the first: 0-new)", "5 images added (the first: 0-new/0.png)", "left out"]);
        let last = |run: &str| std::fs::read(place.path(run).join("checkpoints/step-000006.safetensors")).unwrap();
        let tensors = |run: &str| {
            let bytes = last(run);
            let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let mut tensors: Vec<_> = file.iter().map(|(name, tensor)| (name.to_owned(), tensor.data().to_vec())).collect();
            tensors.sort();
            tensors
        };
        assert!(tensors(&whole) == tensors(&halves), "{memory}: another run");
        for added in ["photos/0-new", "photos/dd"] {
            std::fs::remove_dir_all(place.path(added)).unwrap();
        }
        std::fs::remove_file(place.path("photos/a/00.png")).unwrap();
    }
}

#[test]
fn a_run_does_not_go_on_with_images_missing_or_another_draw() {
    let place = trained(&["--seed=5"]);
    let resume = ["train", "--resume", "run", "--steps=4"];
    for flag in ["--seed=6", "--holdout=0.3", "--validation=0.5"] {
        let (name, value) = flag.split_once('=').unwrap();
        assert_says(&place.refuses(&[&resume[..], &[flag]].concat()), &[name, value, "the run began with", "resume without"]);
    }
    std::fs::rename(place.path("photos/d"), place.path("d")).unwrap();
    std::fs::remove_file(place.path("photos/e/1.png")).unwrap();
    let error = place.refuses(&resume);
    assert_says(&error, &["folder:photos", "1 class removed (d)", "4 images removed (the first: d/0.png)", "put back"]);
    std::fs::rename(place.path("d"), place.path("photos/d")).unwrap();
    place.picture("photos/e/1.png");
    place.says(&[&resume[..], &["--seed=5"]].concat());
}

#[test]
fn classes_taken_for_validation_are_neither_tested_nor_called_trained_on() {
    let place = trained(&["--seed=5", "--validation=0.5"]);
    let scored = scored(&place, &[]);
    assert_eq!(scored.len(), 4, "the test classes of the split, none of those that chose the settings");
    assert_eq!(place.json(&["eval", "--checkpoint", MODEL])["test_classes_trained_on"], 0);
}

#[test]
fn a_model_without_a_record_is_scored_on_what_is_named() {
    let place = trained(&[]);
    forget_the_record(&place);
    assert_says(&place.refuses(&["eval", "--checkpoint", "old.safetensors"]), &["does not record", "--data"]);
    let said = place.says(&["eval", "--checkpoint", "old.safetensors", "--data=folder:photos"]);
    assert_says(&said, &["does not record what it was trained on", "folder:photos: 4 test classes\n"]);
    let resumed = place.says(&["train", "--resume", "run", "--steps=4"]);
    assert!(!resumed.contains("changed since"), "{resumed}");
}

/// Writes `old.safetensors`, the model as an earlier version would have.
fn forget_the_record(place: &Place) {
    let bytes = std::fs::read(place.path(MODEL)).unwrap();
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let mut header: serde_json::Value = serde_json::from_str(&metadata.metadata().as_ref().unwrap()["xbm-fast"]).unwrap();
    assert!(header.as_object_mut().unwrap().remove("trained_on").is_some());
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let old = safetensors::serialize(file.tensors(), Some([("xbm-fast".to_owned(), header.to_string())].into())).unwrap();
    std::fs::write(place.path("old.safetensors"), old).unwrap();
}
