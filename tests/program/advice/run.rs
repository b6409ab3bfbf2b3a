//! Advice about a run that cannot start, cannot go on, or went astray.

use super::place::{Place, assert_says, assert_silent, commands, tiny, with};

#[test]
fn settings_that_contradict_each_other_are_met_with_some_that_do_not() {
    let place = Place::new();
    let cases = [
        ("--batch-size 9", "8 and 10", &["--batch-size 8", "--batch-size 10"][..]),
        ("--memory momentum --memory-size 7", "--batch-size 8", &["--memory-size 8"]),
        (
            "--memory cross-batch --memory-own slot --memory-enqueue after",
            "needs --memory-enqueue before",
            &["--memory-enqueue before"],
        ),
        ("--memory-max-drift 0.5", "needs --memory cross-batch or momentum", &["--memory cross-batch", "--memory momentum"]),
        (
            "--memory cross-batch --memory-max-drift 0.5 --memory-own slot",
            "needs --memory-own instance",
            &["--memory-own instance"],
        ),
        ("--memory prototype --memory-own slot", "use --memory-own instance", &["--memory-own instance"]),
        ("--steps 0", "--steps must be at least 1", &["--steps 1"]),
    ];
    for (number, (flags, advice, followed)) in cases.into_iter().enumerate() {
        let wrong = tiny(&format!("--out {number} --memory-start 1 {flags}"));
        assert_says(&place.refuses(&wrong), &[advice]);
        for (way, right) in followed.iter().enumerate() {
            place.works(&with(&wrong, &format!("{right} --out {number}-{way}")));
        }
    }
}

#[test]
fn epochs_are_counted_in_steps_and_given_beside_steps_by_one_of_them() {
    let place = Place::new();
    let counted = String::from_utf8(place.shell("xbm-fast data --json synthetic:classes=12,views=4,size=16").stdout).unwrap();
    let counted: serde_json::Value = serde_json::from_str(&counted).unwrap();
    let train = counted["splits"].as_array().unwrap().iter().find(|split| split["split"] == "train").unwrap();
    let images = train["images"].as_u64().unwrap();
    let steps = |run: &str| {
        let settings = std::fs::read_to_string(place.path(run).join("config.toml")).unwrap();
        settings.lines().find_map(|line| line.strip_prefix("steps = ")).unwrap().parse::<u64>().unwrap()
    };
    let run = tiny("").replace("--steps 3", "");
    assert_ne!(run, tiny(""));
    let said = place.works(&format!("{run} --epochs 2 --out a"));
    assert_says(&said, &[&format!("--steps {}: 2 epochs of {images} images", 2 * images / 8)]);
    assert_eq!(steps("a"), 2 * images / 8);
    let both = place.refuses(&format!("{} --epochs 2 --out b", tiny("")));
    assert_says(&both, &["--epochs", "another way to say --steps", "leave one of them out"]);
    // What is said later counts, and a run is repeated with the steps it had.
    std::fs::write(place.path("settings.toml"), "epochs = 2\n").unwrap();
    place.works(&format!("{} --config settings.toml --out c", tiny("")));
    assert_eq!(steps("c"), 3);
    place.works("train --config a/config.toml --out d");
    assert_eq!(steps("d"), steps("a"));
    place.works("train --config c/config.toml --epochs 1 --out e");
    assert_eq!(steps("e"), images / 8);
}

#[test]
fn a_negative_number_is_taken_for_the_value_it_is() {
    let place = Place::new();
    for line in
        ["train --steps -5", "search --top -1 --index a.npy --query a.png", "pack --data synthetic --out a.xbm --threads -1"]
    {
        let output = place.shell(&format!("xbm-fast {line}"));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert_says(&said, &["invalid value '-"]);
    }
    assert_says(&place.refuses(&tiny("--lr -1")), &["--lr must be a positive number, found -1"]);
}

#[test]
fn a_loss_that_explodes_is_met_with_a_calmer_start_or_the_last_good_checkpoint() {
    let place = Place::new();
    let wild = tiny("--optimizer sgd --lr 1e30 --steps 6");
    let refused = place.refuses(&wild);
    assert_says(&refused, &["there is no checkpoint yet; start again with a smaller --lr than 1e30"]);
    place.works(&with(&wild, "--lr 0.01 --out calm"));

    place.works("train --resume calm --steps 8");
    let refused = place.refuses("train --resume calm --steps 12 --lr 1e30");
    assert_says(&refused, &["the last good checkpoint is calm/checkpoints/step-000008.safetensors"]);
    let [resume] = commands(&refused)[..] else { panic!("{refused}") };
    place.works(&format!("{resume} --lr 0.01"));
}

#[test]
fn a_checkpoint_that_cannot_be_read_is_met_with_what_goes_on() {
    let place = Place::new();
    place.works(&tiny("--steps 6 --checkpoint-every 3"));
    let cut = |name: &str| std::fs::File::options().write(true).open(place.path(name)).unwrap().set_len(1000).unwrap();
    cut("run/checkpoints/step-000006.safetensors");
    let refused = place.refuses("train --resume run --steps 7");
    assert_says(&refused, &["delete it to go on from run/checkpoints/step-000003.safetensors"]);
    std::fs::remove_file(place.path("run/checkpoints/step-000006.safetensors")).unwrap();
    place.works("train --resume run --steps 7");

    for step in [3, 6, 7] {
        let _ = std::fs::remove_file(place.path(&format!("run/checkpoints/step-{step:06}.safetensors")));
    }
    std::fs::write(place.path("run/checkpoints/step-000007.safetensors"), "cut").unwrap();
    let refused = place.refuses("train --resume run --steps 8");
    assert_says(&refused, &["there is no older one"]);
    let [again] = commands(&refused)[..] else { panic!("{refused}") };
    place.works(&format!("{again} --out again"));
}

#[test]
fn a_picture_in_the_place_of_a_model_is_met_with_a_model_and_not_with_deletion() {
    let place = Place::new();
    place.trained();
    place.photos(2, 1, &[]);
    let refused = place.refuses("eval --data synthetic:classes=12,views=4,size=16 --checkpoint 'photos/class 0/0.png'");
    assert_says(&refused, &["expected a complete safetensors file of xbm-fast", "checkpoints/best.safetensors"]);
    assert_silent(&refused, &["delete", "goes on"]);
    place.works("eval --data synthetic:classes=12,views=4,size=16 --checkpoint run/checkpoints/best.safetensors");
}

#[test]
fn a_run_resumed_with_other_settings_goes_on_without_them() {
    let place = Place::new();
    place.works(&tiny("--memory cross-batch --memory-size 20 --memory-start 1"));
    for other in ["--dim 16", "--memory none", "--memory-size 24", "--optimizer sgd"] {
        assert_says(&place.refuses(&format!("train --resume run --steps 5 {other}")), &["resume without"]);
    }
    place.works("train --resume run --steps 5");
}

#[test]
fn a_folder_that_holds_a_run_is_met_with_going_on_or_another() {
    let place = Place::new();
    place.works(TINY_WITH_BLANK);
    let refused = place.refuses(TINY_WITH_BLANK);
    assert_says(&refused, &["--resume", "or choose another --out"]);
    place.works("train --resume 'my run' --steps 4");
}

const TINY_WITH_BLANK: &str = "train --data synthetic:classes=12,views=4,size=16 --out 'my run' --backbone small --image-size 16 --dim 8 \
                               --batch-size 8 --samples-per-class 2 --memory none --steps 3 --device cpu";

#[test]
fn a_collapse_is_not_met_with_settings_of_a_memory_that_is_not_there() {
    let place = Place::new();
    // Without negatives every pair pulls.
    let flags = "--negative-gate 1 --steps 40 --log-every 10 --eval-every 0 --lr 0.01 --optimizer adam";
    let said = place.works(&tiny(flags));
    assert_says(&said, &["collapse", "try a smaller --lr"]);
    assert_silent(&said, &["--memory-"]);
}
