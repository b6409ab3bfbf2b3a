//! Advice of `embed`, `search` and `weights`.

use super::place::{Place, assert_says, commands};

/// An index of eight classes of four photographs.
fn indexed() -> Place {
    let place = Place::new();
    place.photos(8, 4, &[]);
    place.trained();
    place.works("embed --data folder:photos --checkpoint run/checkpoints/best.safetensors --out photos.npy");
    place
}

#[test]
fn splits_that_hold_no_image_are_met_with_all() {
    let place = Place::new();
    place.photos(8, 4, &[]);
    place.trained();
    let embed = "embed --data folder:photos --checkpoint run/checkpoints/best.safetensors --out photos.npy";
    assert_says(&place.refuses(&format!("{embed} --split query,gallery")), &["leave --split out to embed all"]);
    assert_says(&place.works(embed), &["32 embeddings of length 8"]);
}

#[test]
fn queries_are_files_folders_and_what_is_piped() {
    let place = indexed();
    place.shell(
        "mkdir -p deep/er && cp 'photos/class 0/1.png' deep/er/ && cp 'photos/class 3/0.png' deep/ && echo words > deep/broken.png",
    );
    let query = "photos/class 0/0.png";
    let asked = |line: &str| {
        let output = place.shell(line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let names = found.as_array().unwrap().iter().map(|found| found["query"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        let first = found[0]["hits"].as_array().unwrap().iter().any(|hit| hit["same_picture"] == true);
        assert!(first, "{line}: {found}");
        (names, String::from_utf8(output.stderr).unwrap())
    };
    let search = "xbm-fast search --index photos.npy --json --top 32 --out found.html --query";
    assert_eq!(asked(&format!("{search} - < '{query}'")).0, ["-"]);
    assert_eq!(asked(&format!("ls photos/*/0.png | {search} -")).0.len(), 8);
    let (names, said) = asked(&format!("{search} 'photos/class 1/2.png' deep"));
    assert_eq!(names, ["photos/class 1/2.png", "deep/0.png", "deep/er/1.png"]);
    assert_says(&said, &["left out  deep/broken.png: expected an image"]);
    assert_eq!(asked(&format!("{search} photos/*/0.png")).0.len(), 8);
}

#[test]
fn as_many_hits_are_found_as_were_asked_for_or_it_is_said() {
    let place = indexed();
    assert_says(
        &place.refuses("search --index photos.npy --query 'photos/class 0/0.png' --top 0"),
        &["--top must be at least 1, found 0"],
    );
    let said = place.works("search --index photos.npy --query 'photos/class 0/0.png' --top 100000");
    assert_says(&said, &["--top 100000: the index has 32 images, which are all listed"]);
    let output = place.shell("xbm-fast search --json --index photos.npy --query 'photos/class 0/0.png' --top 1");
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found[0]["hits"].as_array().unwrap().len(), 1);
}

#[test]
fn a_page_goes_into_a_file_of_pages_only() {
    let place = indexed();
    let search = "search --index photos.npy --query 'photos/class 0/0.png'";
    assert_says(&place.refuses(&format!("{search} --out found.pdf")), &["--out found.pdf", ".html"]);
    assert!(!place.path("found.pdf").exists());
    place.works(&format!("{search} --out found.html"));
}

#[test]
fn a_model_that_has_moved_or_is_another_is_met_with_the_flag_or_the_command_that_helps() {
    let place = indexed();
    std::fs::rename(place.path("run"), place.path("moved")).unwrap();
    let search = "search --index photos.npy --query 'photos/class 0/0.png'";
    assert_says(&place.refuses(search), &["say where it is with --checkpoint"]);
    place.works(&format!("{search} --checkpoint moved/checkpoints/best.safetensors"));
    place.works(&super::place::tiny("--seed 4 --steps 4"));
    let refused = place.refuses(&format!("{search} --checkpoint run/checkpoints/best.safetensors"));
    assert_eq!(commands(&refused).iter().map(|command| command.split(' ').next().unwrap()).collect::<Vec<_>>(), ["embed"]);
    place.works("embed --data folder:photos --checkpoint run/checkpoints/best.safetensors --out again.npy");
    place.works("search --index again.npy --query 'photos/class 0/0.png'");
}

#[test]
fn a_figure_is_drawn_where_something_asks_for_one() {
    let place = indexed();
    let model = "--checkpoint run/checkpoints/best.safetensors";
    for idle in [format!("weights circle {model}"), "weights circle --absolute".to_owned()] {
        let output = place.shell(&format!("xbm-fast {idle}"));
        assert_eq!(output.status.code(), Some(2));
        assert_says(&String::from_utf8(output.stderr).unwrap(), &["--out"]);
    }
    assert_says(&place.refuses("weights circle --out curves.jpg"), &["ends with .svg"]);
    place.works(&format!("weights circle --absolute {model} --data folder:photos --out curves.svg"));
}

#[test]
fn a_batch_that_finds_no_room_is_met_with_a_smaller_one() {
    let place = indexed();
    let model = "--data folder:photos --checkpoint run/checkpoints/best.safetensors";
    for command in [format!("eval {model}"), format!("embed {model} --out again.npy")] {
        let refused = place.refuses(&format!("{command} --batch-size 100000000000"));
        assert_says(&refused, &["out of memory", "--batch-size"]);
        assert!(!refused.contains("--image-size"), "{refused}");
        place.works(&format!("{command} --batch-size 8"));
    }
}
