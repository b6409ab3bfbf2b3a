//! The same picture in more than one place of a data set is counted and named, once, wherever a score depends on it; and a class that was
//! trained on is never called new.


use crate::place::{MODEL, Place, assert_says};
use serde_json::Value;

const CLASSES: [&str; 4] = ["a", "b", "c", "d"];

/// Trains on four classes and returns what is said, the summary and the page.
#[track_caller]
fn train(place: &Place, data: &str, flags: &[&str]) -> (String, Value, String) {
    let _ = std::fs::remove_dir_all(place.path("run"));
    let said = place.train(data, "run", flags);
    let text = |name: &str| std::fs::read_to_string(place.path("run").join(name)).unwrap();
    (said, serde_json::from_str(&text("summary.json")).unwrap(), text("report.html"))
}

/// The one finding of a kind, as `(images, first)`.
#[track_caller]
fn found(report: &Value, kind: &str) -> (u64, String) {
    let of_kind: Vec<&Value> = report["copies"].as_array().unwrap().iter().filter(|copies| copies["kind"] == kind).collect();
    assert_eq!(of_kind.len(), 1, "{report}");
    (of_kind[0]["images"].as_u64().unwrap(), of_kind[0]["first"].as_str().unwrap().to_owned())
}

#[track_caller]
fn eval(place: &Place, flags: &[&str]) -> Value {
    place.json(&[&["eval", "--checkpoint", MODEL][..], flags].concat())
}

fn split_tree(place: &Place) {
    place.draw("photos/train", &CLASSES[..2], 4);
    place.draw("photos/test", &CLASSES[2..], 4);
}

#[test]
fn nothing_is_said_where_every_picture_is_there_once() {
    let place = Place::new();
    split_tree(&place);
    let (said, summary, page) = train(&place, "folder:photos", &[]);
    assert!(!said.contains("note"), "{said}");
    assert_eq!(summary["copies"], Value::Array(Vec::new()));
    assert_says(&page, &["Recall@1 on classes never trained on"]);
    assert_says(&said, &["untrained Recall@1 on classes never trained on", "Recall@1 on classes never trained on: "]);
    assert_eq!(eval(&place, &[])["copies"], Value::Array(Vec::new()));
}

#[test]
fn a_class_that_is_trained_on_is_not_called_new() {
    let place = Place::new();
    place.draw("photos/train", &CLASSES, 4);
    for class in &CLASSES[..3] {
        (5..8).for_each(|view| place.picture(&format!("photos/test/{class}/{view}.png")));
    }
    let (said, summary, page) = train(&place, "folder:photos", &[]);
    assert!(!said.contains("never trained on") && !page.contains("never trained on"), "{said}");
    assert_says(&said, &["untrained Recall@1 on test images of classes trained on: "]);
    assert_says(&page, &["Recall@1 on test images of classes trained on"]);
    assert_eq!((&summary["test_classes"], &summary["test_classes_trained_on"]), (&3.into(), &3.into()));
    place.draw("photos/test", &["z"], 2);
    let (said, ..) = train(&place, "folder:photos", &[]);
    assert_says(&said, &["Recall@1 on test images, 3 of 4 classes trained on: "]);
    let said = place.says(&["eval", "--checkpoint", MODEL]);
    assert_says(&said, &["4 test classes, 3 of them trained on"]);
    assert_eq!(eval(&place, &[])["test_classes_trained_on"], 3);
}

#[test]
fn copies_and_links_of_training_images_in_the_test_are_named_everywhere() {
    let place = Place::new();
    split_tree(&place);
    place.copy("photos/train/a/0.png", "photos/test/c/copy.png");
    std::fs::hard_link(place.path("photos/train/a/1.png"), place.path("photos/test/d/hard.png")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(place.path("photos/train/b/0.png"), place.path("photos/test/d/soft.png")).unwrap();
    let count = if cfg!(unix) { 3 } else { 2 };
    let words = format!("{count} test images were trained on, too");
    let (said, summary, page) = train(&place, "folder:photos", &[]);
    assert_eq!(said.matches(&words).count(), 1, "{said}");
    assert_says(&said, &["photos/test/c/copy.png is photos/train/a/0.png"]);
    assert_says(&page, &[&words, "photos/test/c/copy.png"]);
    assert!(!page.contains("never trained on"), "the pictures of both classes were trained on");
    let copy = (count, "photos/test/c/copy.png".to_owned());
    assert_eq!(found(&summary, "trained-on"), copy);
    assert_eq!(found(&eval(&place, &[]), "trained-on"), copy);
    assert_eq!(found(&place.json(&["data", "folder:photos"]), "trained-on"), copy);
    assert_says(&place.says(&["data", "folder:photos"]), &[&words]);
    for encoding in ["raw", "jpeg"] {
        place.says(&["pack", "--data", "folder:photos", "--out", "photos.xbm", "--encoding", encoding]);
        assert_eq!(found(&place.json(&["data", "packed:photos.xbm"]), "trained-on").0, count);
        assert_eq!(found(&eval(&place, &["--data=packed:photos.xbm"]), "trained-on").0, count);
        std::fs::remove_file(place.path("photos.xbm")).unwrap();
    }
}

#[test]
fn a_model_knows_the_pictures_it_was_trained_on_in_another_data_set() {
    let place = Place::new();
    split_tree(&place);
    train(&place, "folder:photos", &["--steps=8"]);
    place.draw("other/test", &["x", "y"], 3);
    assert_eq!(eval(&place, &["--data=folder:other"])["test_classes_trained_on"], 0);
    // The pixels of another format are the same, its bytes are not.
    image::open(place.path("photos/train/a/0.png")).unwrap().save(place.path("other/test/x/again.bmp")).unwrap();
    let report = eval(&place, &["--data=folder:other"]);
    assert_eq!(found(&report, "trained-on"), (1, "other/test/x/again.bmp".to_owned()));
    assert_eq!((&report["test_classes"], &report["test_classes_trained_on"]), (&2.into(), &1.into()));
}

#[test]
fn pictures_of_another_format_are_found_by_their_pixels() {
    let place = Place::new();
    split_tree(&place);
    image::open(place.path("photos/train/a/0.png")).unwrap().save(place.path("photos/test/c/again.bmp")).unwrap();
    assert_eq!(place.json(&["data", "folder:photos"])["copies"], Value::Array(Vec::new()), "files are only listed");
    let again = (1, "photos/test/c/again.bmp".to_owned());
    assert_eq!(found(&place.json(&["data", "--decode", "folder:photos"]), "trained-on"), again);
    let (said, summary, _) = train(&place, "folder:photos", &["--steps=8"]);
    assert_eq!(said.matches("1 test image was trained on").count(), 1, "{said}");
    assert_eq!(found(&summary, "trained-on"), again);
}

#[test]
fn queries_that_are_in_the_gallery_are_named_and_left_out_on_request() {
    let place = Place::new();
    place.draw("photos", &CLASSES, 4);
    let mut table = "path,label,split\n".to_owned();
    for class in CLASSES {
        for view in 0..4 {
            let splits: &[&str] = if class < "c" { &["train"] } else { &["query", "gallery"] };
            splits.iter().for_each(|split| table += &format!("photos/{class}/{view}.png,{class},{split}\n"));
        }
    }
    place.write("photos.csv", &table);
    let (said, summary, _) = train(&place, "csv:photos.csv", &[]);
    assert_says(&said, &["8 queries are in the gallery, too", "photos/c/0.png is photos/c/0.png", "--same-set"]);
    assert_eq!((found(&summary, "query-in-gallery").0, summary["recall_at_1"].as_f64()), (8, Some(1.0)));
    assert_eq!(eval(&place, &[])["recall"][0][1], 1.0);
    // As if every test image searched all others.
    let own = eval(&place, &["--same-set"]);
    place.write(
        "all.csv",
        &table
            .lines()
            .filter(|line| !line.ends_with("gallery"))
            .map(|line| line.replace("query", "test") + "\n")
            .collect::<String>(),
    );
    let all = eval(&place, &["--data=csv:all.csv"]);
    for score in ["recall", "map_at_r", "r_precision", "mean_reciprocal_rank"] {
        assert_eq!(own[score], all[score], "{score}");
    }
    assert_eq!(own["copies"], Value::Array(Vec::new()));
    assert_says(&own["notes"].to_string(), &["8 copies"]);
    let (said, summary, _) = train(&place, "csv:photos.csv", &["--same-set"]);
    assert!(!said.contains("in the gallery"), "{said}");
    assert_eq!(summary["recall_at_1"], eval(&place, &["--same-set"])["recall"][0][1]);
}

#[test]
fn a_picture_that_is_tested_twice_does_not_find_its_copy_in_one_set() {
    let place = Place::new();
    split_tree(&place);
    train(&place, "folder:photos", &[]);
    let before = eval(&place, &[]);
    for view in 0..4 {
        place.copy(&format!("photos/test/c/{view}.png"), &format!("photos/test/c/copy-{view}.png"));
    }
    let report = eval(&place, &[]);
    assert_eq!(found(&report, "tested-twice"), (8, "photos/test/c/0.png".to_owned()));
    let same_set = eval(&place, &["--same-set"]);
    assert_eq!((&same_set["recall"], &same_set["map_at_r"]), (&before["recall"], &before["map_at_r"]));
}

#[test]
fn a_picture_under_two_classes_is_named_with_both() {
    let place = Place::new();
    split_tree(&place);
    place.copy("photos/test/c/0.png", "photos/test/d/9.png");
    place.copy("photos/train/a/0.png", "photos/train/b/9.png");
    let (said, summary, page) = train(&place, "folder:photos", &[]);
    let words = "4 images are the same pictures under two classes: photos/test/c/0.png (c) is photos/test/d/9.png (d)";
    assert_says(&said, &[words]);
    assert_says(&page, &[words]);
    assert_eq!(found(&summary, "two-classes").0, 4);
    assert_says(&place.says(&["data", "folder:photos"]), &[words]);
}

#[test]
fn parts_of_one_file_are_pictures_of_their_own() {
    let place = Place::new();
    place.draw("photos", &CLASSES, 2);
    let mut table = "path,label,split,x1,y1,x2,y2\n".to_owned();
    for (class, split) in CLASSES.into_iter().zip(["train", "train", "test", "test"]) {
        table += &format!("photos/{class}/0.png,{class},{split},0,0,10,20\nphotos/{class}/0.png,{class},{split},8,0,20,20\n");
    }
    table += "photos/a/0.png,c,test,10,0,20,20\n";
    place.write("photos.csv", &table);
    assert_eq!(place.json(&["data", "--decode", "csv:photos.csv"])["copies"], Value::Array(Vec::new()));
    place.write("photos.csv", &(table + "photos/a/0.png,c,test,0,0,10,20\n"));
    assert_eq!(found(&place.json(&["data", "csv:photos.csv"]), "trained-on").0, 1);
}

#[test]
fn near_duplicates_are_looked_for_on_request() {
    let place = Place::new();
    split_tree(&place);
    train(&place, "folder:photos", &[]);
    let mut nearly = image::open(place.path("photos/train/a/0.png")).unwrap().into_rgb8();
    nearly.get_pixel_mut(3, 3).0[0] ^= 1;
    nearly.save(place.path("photos/test/c/nearly.png")).unwrap();
    assert!(eval(&place, &[]).get("near_duplicates").is_none());
    let report = eval(&place, &["--near-duplicates=0.99999"]);
    let near = report["near_duplicates"].as_array().unwrap().iter().find(|near| near["others"] == "training images").unwrap();
    assert_eq!((&near["first"], &near["near"]), (&"photos/test/c/nearly.png".into(), &"photos/train/a/0.png".into()));
    assert_says(&place.refuses(&["eval", "--checkpoint", MODEL, "--near-duplicates=98"]), &["0.98", "98"]);
}
