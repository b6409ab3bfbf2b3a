//! Advice about images and splits.

use super::place::{Place, assert_says, assert_silent, commands, tiny};

/// One of each of the classes of four: more than the share that is allowed, whichever classes are tested.
const BROKEN: [usize; 8] = [1, 6, 8, 15, 17, 22, 24, 31];

#[test]
fn a_folder_with_unreadable_images_is_listed_scored_embedded_packed_and_trained_on_as_advised() {
    let place = Place::new();
    place.photos(8, 4, &BROKEN);
    let model = place.trained();
    let commands_that_read = [
        format!("eval --data folder:photos --checkpoint {model}"),
        format!("embed --data folder:photos --checkpoint {model} --out photos.npy"),
        format!("weights contrastive --data folder:photos --checkpoint {model} --out curves.svg"),
        tiny("--data folder:photos --out refused-run"),
    ];
    for command in commands_that_read {
        let refused = place.refuses(&command);
        assert_says(&refused, &["cannot be read", "--max-unreadable", ".png: expected an image"]);
        assert_silent(&refused, &["--lr"]);
        let [listing] = commands(&refused)[..] else { panic!("{refused}") };
        assert_says(&place.refuses(listing), &["8 of 32 images cannot be read"]);
        let said = place.works(&format!("{} --max-unreadable 0.5", command.replace("refused-run", "allowed-run")));
        assert_says(&said, &[if command.starts_with("weights") { "figure" } else { "left out" }]);
        for line in said.lines().filter(|line| line.contains("left out")) {
            assert_eq!(line.matches(".png").count(), 1, "a place is named twice: {line}");
        }
    }
    // Training images are read, too, where near duplicates are looked for.
    place.works("eval --checkpoint allowed-run/checkpoints/best.safetensors --near-duplicates 0.99 --max-unreadable 0.5");
    let pack = "pack --data folder:photos --out photos.xbm";
    assert_says(&place.refuses(pack), &["of 32 images cannot be read", "--max-unreadable"]);
    let said = place.works(&format!("{pack} --max-unreadable 0.5"));
    assert_eq!(
        said.lines().filter(|line| line.contains("left out")).map(|line| line.matches(".png").count()).collect::<Vec<_>>(),
        [1; 8]
    );
    place.works("data packed:photos.xbm --decode");
}

#[test]
fn what_eval_lists_as_json_names_each_image_once() {
    let place = Place::new();
    place.photos(8, 4, &BROKEN);
    let model = place.trained();
    let output = place.shell(&format!("xbm-fast eval --json --data folder:photos --checkpoint {model} --max-unreadable 1"));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let unreadable = report["unreadable"].as_array().unwrap();
    assert!(!unreadable.is_empty());
    for pair in unreadable {
        assert!(pair[0].as_str().unwrap().ends_with(".png") && !pair[1].as_str().unwrap().contains(".png"), "{pair}");
    }
}

#[test]
fn images_none_of_which_can_be_read_are_not_met_with_a_share() {
    let place = Place::new();
    place.photos(2, 1, &[0, 1]);
    let refused = place.refuses("pack --data folder:photos --out photos.xbm --max-unreadable 1");
    assert_says(&refused, &["2 of 2 images cannot be read"]);
    assert_silent(&refused, &["--max-unreadable"]);
}

#[test]
fn a_share_that_holds_nothing_out_is_met_with_one_that_does() {
    let place = Place::new();
    place.photos(12, 4, &[]);
    let said = place.works(&tiny("--data folder:photos --holdout 0 --out all"));
    assert_says(&said, &["48 training images of 12 classes, 0 test images", "nothing is scored", "--holdout 0.1"]);
    assert_silent(&said, &["Recall@1"]);
    let refused = place.refuses("eval --checkpoint all");
    assert_says(&refused, &["no test images with --holdout 0;", "--holdout 0.5"]);
    place.works(&tiny("--data folder:photos --holdout 0.5"));
}

#[test]
fn data_with_a_split_of_its_own_is_not_met_with_a_share_and_a_share_for_it_is_named() {
    let place = Place::new();
    place.photos(12, 4, &[]);
    place.table(12, 12, "train");
    let run = tiny("--data csv:labels.csv");
    let refused = place.refuses(&run);
    assert_says(&refused, &["csv:labels.csv has a split of its own and no test images", "`test`"]);
    assert_silent(&refused, &["--holdout"]);
    place.table(12, 6, "test");
    assert_silent(&place.works(&run), &["no effect"]);

    place.works("pack --data csv:labels.csv --out photos.xbm");
    for data in ["csv:labels.csv", "packed:photos.xbm"] {
        let effect = format!("--holdout 0.2 has no effect: {data} has a split of its own");
        assert_says(&place.works(&tiny(&format!("--data {data} --holdout 0.2 --out {}", &data[..3]))), &[&effect]);
        let said = place.works(&format!("data {data} --holdout 0.2 --seed 3"));
        assert_says(&said, &["--holdout has no effect", "--seed has no effect"]);
        assert_silent(&place.works(&format!("data {data}")), &["no effect"]);
    }
    assert_says(&place.works("pack --data csv:labels.csv --out again.xbm --holdout 0.2"), &["--holdout has no effect"]);
    assert_silent(&place.works("data folder:photos --holdout 0.2 --seed 3"), &["no effect"]);
}

#[test]
fn classes_held_out_of_few_are_met_with_a_share_that_leaves_enough() {
    let place = Place::new();
    place.photos(12, 4, &[]);
    let run = tiny("--data folder:photos --batch-size 4 --validation 0.1");
    assert_says(&place.refuses(&run), &["--validation 0.5 does both"]);
    place.works(&run.replace("--validation 0.1", "--validation 0.5"));
    place.table(12, 3, "test");
    let run = tiny("--data csv:labels.csv --batch-size 4 --validation 0.5 --out few");
    assert_says(&place.refuses(&run), &["of 3 classes", "--validation 0 takes none"]);
    place.works(&run.replace("--validation 0.5", "--validation 0"));
}

#[test]
fn a_batch_of_more_classes_than_there_are_is_met_with_sizes_that_fit() {
    let place = Place::new();
    let run = tiny("--batch-size 64");
    let refused = place.refuses(&run);
    let (largest, samples) = (super::place::value(&refused, "of at most"), super::place::value(&refused, "--samples-per-class"));
    place.works(&tiny(&format!("--batch-size {largest} --out a")));
    place.works(&tiny(&format!("--batch-size 64 --samples-per-class {samples} --out b")));

    place.photos(4, 4, &[]);
    place.table(4, 0, "test");
    let refused = place.refuses(&tiny("--data csv:labels.csv --out c"));
    assert_says(&refused, &["found 0 classes", "split `train`"]);
    assert_silent(&refused, &["at most 0"]);
}

#[test]
fn a_path_without_its_kind_is_met_with_the_spec_that_it_means() {
    let place = Place::new();
    place.photos(4, 4, &[]);
    place.table(4, 2, "test");
    place.works("pack --data folder:photos --out photos.xbm");
    for path in ["photos", "labels.csv", "photos.xbm"] {
        let refused = place.refuses(&format!("data {path}"));
        let spec = refused.split('`').nth(3).unwrap_or_else(|| panic!("{refused}"));
        place.works(&format!("data {spec}"));
    }
}

#[test]
fn one_class_and_one_image_are_spoken_of_in_the_singular() {
    let place = Place::new();
    place.photos(12, 4, &[]);
    place.table(12, 6, "test");
    let table = std::fs::read_to_string(place.path("labels.csv")).unwrap();
    let alone: String =
        table.lines().filter(|line| !line.contains("c0,") || line.contains("/0.png")).map(|line| format!("{line}\n")).collect();
    std::fs::write(place.path("labels.csv"), alone).unwrap();
    assert_says(&place.works(&tiny("--data csv:labels.csv")), &["1 class has one image: it has no positives"]);
}
