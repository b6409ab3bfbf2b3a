//! Settings that follow from the images: the rules on counts, and what a run makes of them.

use crate::place::{MODEL, Place, assert_says};
use xbm_fast::app::config::TrainConfig;
use xbm_fast::app::data::survey::Sides;
use xbm_fast::app::fit::{self, Found};

#[test]
fn each_rule_answers_few_and_many_images_and_its_limits() {
    assert_eq!(
        [1, 36, 37, 63, 64, 73, 74, 110, 147, 480, 4000].map(|side| fit::image_size(side, false)),
        [32, 32, 32, 32, 32, 32, 64, 96, 128, 128, 128]
    );
    assert_eq!([64, 147, 256, 480, 4000].map(|side| fit::image_size(side, true)), [32, 128, 224, 224, 224]);

    // Classes, images of the middle one: images of a class in a batch, and of the batch.
    for (classes, median, samples, batch) in [
        (1000, 1, 2, 64),
        (1000, 2, 2, 64),
        (1000, 3, 3, 63),
        (1000, 50, 4, 64),
        (16, 4, 4, 64),
        (5, 40, 12, 60),
        (5, 3, 3, 15),
        (2, 500, 32, 64),
    ] {
        assert_eq!(fit::samples_per_class(classes, median), samples, "{classes} classes of {median}");
        assert_eq!(fit::batch_size(classes, samples), batch, "{classes} classes of {median}");
    }
    assert_eq!([(250, 64), (2500, 64), (50_000, 64)].map(|(images, batch)| fit::steps(images, batch)), [300, 1172, 20_000]);
    assert_eq!(fit::steps_of(3, 100, 8), 38);
    assert_eq!(
        [(10, 64), (250, 64), (50_000, 64), (1_000_000, 64)].map(|(images, batch)| fit::memory_size(images, batch)),
        [64, 192, 49_984, 65_536]
    );
    assert_eq!([3, 300, 4000, 20_000].map(fit::memory_start), [0, 75, 1000, 1000]);
    assert_eq!([3, 300, 1172, 20_000].map(fit::eval_every), [50, 50, 118, 2000]);
    assert_eq!([2, 19, 20, 99, 100, 11_000].map(fit::validation), [0.0, 0.0, 0.2, 0.2, 0.1, 0.1]);
}

#[test]
fn what_was_given_stays_and_the_rest_follows_from_it() {
    let found = Found { images: 900, classes: 60, median: 10, sides: Some(Sides { median: 300, looked_at: 128 }) };
    let chosen = |given: &str, known: bool| {
        let given: toml::Table = given.parse().unwrap();
        let mut config = TrainConfig::merged(None, given.clone()).unwrap();
        let choices = fit::choose(&found, &mut config, known.then_some(&given));
        (config, choices.into_iter().map(|choice| choice.flag).collect::<Vec<_>>())
    };
    let (config, flags) = chosen("", true);
    config.check().unwrap();
    let all = ["image-size", "samples-per-class", "batch-size", "steps", "memory-size", "memory-start", "eval-every"];
    assert_eq!(flags, all.map(|name| format!("--{name}")));
    let train = &config.train;
    assert_eq!((train.model.image_size, train.batch.size, config.sampling.samples_per_class), (128, 64, 4));
    assert_eq!((train.batch.steps, train.memory.size, train.memory.start), (422, 896, 105));

    let (config, flags) = chosen("steps = 40\nbatch_size = 32\nmemory = \"none\"", true);
    assert_eq!(flags, ["--image-size", "--eval-every"]);
    assert_eq!((config.train.batch.steps, config.train.batch.size, config.sampling.samples_per_class), (40, 32, 4));
    let (config, flags) = chosen("epochs = 2\nsamples_per_class = 8", true);
    assert_eq!((config.train.batch.size, config.train.batch.steps, config.sampling.epochs), (64, 29, 0));
    assert!(flags.contains(&"--steps".to_owned()) && !flags.contains(&"--samples-per-class".to_owned()), "{flags:?}");

    let (config, flags) = chosen("", false);
    assert_eq!((config, flags), (TrainConfig::default(), Vec::new()));
    let unread = Found { sides: None, ..found };
    let mut config = TrainConfig::default();
    fit::choose(&unread, &mut config, Some(&toml::Table::new()));
    assert_eq!(config.train.model.image_size, TrainConfig::default().train.model.image_size);
}

/// Forty-eight classes of so many pictures.
fn photos(views: u8) -> Place {
    let place = Place::new();
    let names: Vec<String> = (0..48).map(|class| format!("c{class:02}")).collect();
    place.draw("photos", &names.iter().map(String::as_str).collect::<Vec<_>>(), views);
    place
}

const QUICK: [&str; 5] = ["--backbone=small", "--dim=8", "--threads=1", "--steps=40", "--log-every=20"];

#[test]
fn a_run_on_photographs_says_what_it_chose_and_is_scored_on_classes_without_a_part_in_the_choice() {
    let place = photos(3);
    let said = place.says(&[&["train", "--data", "folder:photos", "--out", "run"][..], &QUICK].concat());
    let chosen = [
        "seen      57 images of 19 classes to train on, 3 images in the middle class, 20 pixels on the shorter side",
        "chosen    --validation 0.2: of 24 training classes",
        "chosen    --image-size 32: for pictures of 20 pixels",
        "chosen    --samples-per-class 3: ",
        "chosen    --batch-size 57: 3 of each of 19 classes",
        "chosen    --memory-size 57: ",
        "chosen    --memory-start 10: ",
        "data      folder:photos: 57 training images of 19 classes, 15 validation images, 72 test images",
        "estimate  about ",
        "which 5 validation classes chose",
    ];
    assert_says(&said, &chosen);
    assert!(said.find("chosen    --image-size").unwrap() < said.find("step     20/40").unwrap(), "{said}");
    let config = std::fs::read_to_string(place.path("run/config.toml")).unwrap();
    assert_says(&config, &["image_size = 32", "batch_size = 57", "samples_per_class = 3", "memory_size = 57", "epochs = 0"]);

    let summary: serde_json::Value = serde_json::from_slice(&std::fs::read(place.path("run/summary.json")).unwrap()).unwrap();
    assert_eq!((&summary["validation"]["classes"], &summary["test_classes_trained_on"]), (&5.into(), &0.into()));
    let scores = place.json(&["eval", "--checkpoint", MODEL]);
    assert_eq!((&scores["recall"][0][1], &scores["test_classes_trained_on"]), (&summary["recall_at_1"], &0.into()));
    let logged = std::fs::read_to_string(place.path("run/metrics.jsonl")).unwrap();
    let best =
        logged.lines().skip(1).filter_map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["recall_at_1"].as_f64());
    assert_eq!(summary["validation"]["recall_at_1"].as_f64(), best.reduce(f64::max));
    let report = std::fs::read_to_string(place.path("run/report.html")).unwrap();
    assert_says(&report, &["on 5 validation classes at step 40", "on the test images, which had no part in the choice"]);

    // The same once more by its settings, and on: what was chosen is given now.
    let again = place.says(&["train", "--config", "run/config.toml", "--out", "again"]);
    assert!(!again.contains("chosen    "), "{again}");
    assert!(std::fs::read(place.path("again/checkpoints/best.safetensors")).unwrap() == std::fs::read(place.path(MODEL)).unwrap());
    let on = place.says(&["train", "--resume", "run", "--steps=42"]);
    assert!(!on.contains("chosen    "), "{on}");
}

#[test]
fn everything_is_trained_on_and_nothing_scored_where_nothing_is_held_out() {
    let place = photos(3);
    let said = place.says(&[&["train", "--data=folder:photos", "--out=run", "--holdout=0", "--validation=0"][..], &QUICK].concat());
    assert_says(&said, &["144 training images of 48 classes, 0 test images", "nothing is held out, so nothing is scored"]);
    let summary = std::fs::read_to_string(place.path("run/summary.json")).unwrap();
    assert!(!summary.contains("recall_at_1") && summary.contains("\"steps\": 40"), "{summary}");
    assert!(std::fs::read_to_string(place.path("run/report.html")).unwrap().contains("nothing is scored"));
    let head = |file: &str, tensor: &str| {
        let bytes = std::fs::read(place.path("run/checkpoints").join(file)).unwrap();
        safetensors::SafeTensors::deserialize(&bytes).unwrap().tensor(tensor).unwrap().data().to_vec()
    };
    let last = head("step-000040.safetensors", "key_encoder.fc.weight");
    assert!(head("best.safetensors", "fc.weight") == last, "the last model is the one to use");
}

#[test]
fn classes_that_are_tested_are_not_kept_from_training_where_a_split_trains_on_them() {
    let place = photos(4);
    let splits = ["train", "train", "test", "test"];
    let rows = (0..48).flat_map(|class| splits.iter().enumerate().map(move |(view, split)| (class, view, split)));
    let rows = rows.map(|(class, view, split)| format!("photos/c{class:02}/{view}.png,c{class:02},{split}\n"));
    place.write("photos.csv", &("path,label,split\n".to_owned() + &rows.collect::<String>()));
    let said = place.says(&[&["train", "--data=csv:photos.csv", "--out=run"][..], &QUICK].concat());
    assert_says(&said, &["96 training images of 48 classes, 96 test images"]);
    assert!(!said.contains("--validation"), "{said}");
}

#[test]
fn a_run_of_a_version_that_scored_on_validation_classes_goes_on_as_it_began() {
    let place = photos(3);
    let began =
        ["train", "--data=folder:photos", "--score-on=validation", "--validation=0.5", "--image-size=16", "--memory-start=1"];
    place.says(&[&began[..], &QUICK, &["--steps=3", "--out=old"]].concat());
    place.says(&[&began[..], &QUICK, &["--steps=6", "--out=whole"]].concat());
    let path = place.path("old/config.toml");
    let settings = std::fs::read_to_string(&path).unwrap();
    let old: String = settings
        .lines()
        .filter(|line| !line.starts_with("score_on") && !line.starts_with("epochs"))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_ne!(old, settings);
    std::fs::write(&path, old).unwrap();
    let said = place.says(&["train", "--resume=old", "--steps=6"]);
    assert_says(&said, &["36 training images of 12 classes, 36 test images"]);
    let last = |run: &str| {
        let bytes = std::fs::read(place.path(run).join("checkpoints/step-000006.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut tensors: Vec<_> = file.iter().map(|(name, tensor)| (name.to_owned(), tensor.data().to_vec())).collect();
        tensors.sort();
        tensors
    };
    assert!(last("old") == last("whole"));
}
