//! With `--json` whoever reads standard output learns of a failure there.

use super::place::Place;

#[track_caller]
fn assert_fails_in_json(place: &Place, line: &str, code: i32, words: &str) {
    let output = place.shell(&format!("xbm-fast {line}"));
    assert_eq!(output.status.code(), Some(code), "{line}");
    let failure: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{line}: {error}"));
    let (found, said) = (failure["error"].as_str().unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(found.contains(words), "{line}: {found}");
    assert!(said.contains(found.lines().next().unwrap()), "{line}: {said}");
}

#[test]
fn every_command_with_json_fails_in_json() {
    let place = Place::new();
    place.photos(3, 2, &[0]);
    for (line, words) in [
        ("train --json --data folder:phtos", "phtos"),
        ("eval --json --data synthetic --checkpoint none.safetensors", "none.safetensors"),
        ("search --json --index none.npy --query none.png", "none"),
        ("study --json --out study --data folder:phtos", "phtos"),
        ("study --json --tune --out study --data folder:phtos", "phtos"),
        ("data --json folder:phtos", "phtos"),
        ("data --json --decode folder:photos", "1 of 6 images cannot be read"),
    ] {
        assert_fails_in_json(&place, line, 1, words);
    }
    assert_fails_in_json(&place, "train --json --stpes 3", 2, "--steps");
}

#[test]
fn without_json_a_failure_leaves_standard_output_empty() {
    let place = Place::new();
    assert!(place.shell("xbm-fast data folder:phtos").stdout.is_empty());
}
