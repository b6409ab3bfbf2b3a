//! Wrong turns of a new user, typed one after another: each ends with what was expected, what was found and what to type.

use super::place::{Place, TINY, assert_says, assert_silent};

/// What is typed, and words of the answer.
type Turn = (&'static str, &'static [&'static str]);

const TURNS: &[Turn] = &[
    // The data.
    ("data photos", &["`photos`", "expected `folder:photos`"]),
    ("data folder:phtos", &["phtos: No such file or folder", "did you mean photos?"]),
    ("data folder:", &["`folder`", "expected `folder:PATH`, found no path"]),
    ("data foldr:photos", &["`foldr`", "did you mean `folder`?"]),
    ("data labels.csv", &["expected `csv:labels.csv`"]),
    ("data csv:lables.csv", &["did you mean labels.csv?"]),
    ("data csv:photos", &["expected a file, found a folder"]),
    ("data folder:labels.csv", &["a part of the path is a file"]),
    ("data folder:flat", &["expected images, found none", "in no class folder", "`embed` and `index` take it"]),
    ("data folder:one", &["at least two classes, found one (only)", "`embed` and `index` take images as they are"]),
    ("data folder:deep", &["expected images, found none", "found another folder"]),
    ("data csv:paths.csv", &["expected a column `label`, found the header `path`"]),
    ("data csv:unsplit.csv", &["expected a column `split`, found the header `path,label`"]),
    ("data csv:typo.csv", &["line 2", "expected a split of train, test, query or gallery, found `trian`"]),
    ("data csv:missing.csv", &["line 2", "there is no file gone.png"]),
    ("data list:paths.txt", &["a list of paths has no classes", "a csv with the columns path, label and split"]),
    ("data packed:photos/new.png", &["photos/new.png", "No such file or folder"]),
    ("data folder:photos --holdout 2", &["holdout", "expected a share of the classes in 0..=1, found 2"]),
    // Training.
    ("train --data folder:flat", &["in no class folder"]),
    ("train --data folder:photos --holdout 0 --schedule plateau", &["--holdout 0 scores nothing", "--validation 0.1"]),
    ("train --data folder:photos --epochs 10 --steps 5", &["--epochs", "another way to say --steps"]),
    ("train --data folder:photos --steps 0", &["--steps", "at least 1"]),
    ("train --data folder:photos --batch-size 16 --image-size 5000", &["--image-size"]),
    ("train --data folder:photos --batch-size 9", &["not a multiple of --samples-per-class", "8 and 12"]),
    ("train --data folder:photos --batch-size 16 --pretrained flat/a.png", &["expected a complete safetensors file"]),
    ("train --config none.toml", &["none.toml: No such file or folder"]),
    ("train --config typo.toml", &["stpes", "did you mean `steps`?"]),
    ("train --config ill.toml", &["steps", "expected u64"]),
    ("train --recipe spo", &["spo", "sop"]),
    ("train --resume flat", &["flat", "config.toml"]),
    ("study --out studied --data folder:phtos --quick", &["did you mean photos?"]),
    ("study --out studied --data photos --quick", &["expected `folder:photos`"]),
    ("man trian", &["expected a command of train, eval"]),
    // Models.
    ("eval --checkpoint flat/a.png", &["flat/a.png", "expected a complete safetensors file"]),
    ("eval --checkpoint run/checkpoints/bset.safetensors", &["did you mean run/checkpoints/best.safetensors?"]),
    ("eval --checkpoint flat", &["expected a model or the folder of a run", "give the file of a model"]),
    ("eval --checkpoint run --data folder:phtos", &["did you mean photos?"]),
    ("eval --checkpoint run --holdout 0", &["no test images"]),
    ("eval --checkpoint run --per-class none/table.csv", &["the folder none does not exist; make it first"]),
    // Embeddings.
    ("embed --checkpoint run --data flat --out rows.npy", &["expected `folder:flat`"]),
    ("embed --checkpoint run --data folder:flat --out none/rows.npy", &["the folder none does not exist; make it first"]),
    ("embed --checkpoint run --data folder:flat --out rows.txt", &["expected a name that ends in"]),
    ("embed --checkpoint run --data folder:empty --out rows.npy", &["empty: expected images, found none"]),
    ("embed --checkpoint run --data list:typo.txt --out rows.npy", &["gone.png", "there is no such file"]),
    ("embed --checkpoint run --data - --out rows.npy < /dev/null", &["-: expected images, found none"]),
    // Search.
    ("search --index none.npy --query flat/a.png", &["none.npy: No such file or folder"]),
    ("search --index photos.npy --query gone.png", &["gone.png: No such file or folder"]),
    ("search --index photos.npy --query labels.csv", &["labels.csv: expected an image", "found"]),
    ("search --index photos.npy --query empty", &["empty: expected images, found none"]),
    ("search --index photos.npy --query - < /dev/null", &["expected an image or a list of image files", "found nothing"]),
    ("search --index photos.npy --query https://example.org/a.jpg", &["an address is not fetched", "--query -"]),
    ("search --index photos.npy --query flat/a.png --top 0", &["--top must be at least 1, found 0"]),
    ("search --index photos.npy --query flat/a.png --out found.pdf", &["expected a file that ends with .html"]),
    ("search --index photos.npy --query flat/a.png --out none/found.html", &["the folder none does not exist; make it first"]),
    ("search --index photos.npy --query flat/a.png --checkpoint empty", &["expected a model or the folder of a run"]),
    ("search --index flat/a.png --query flat/a.png", &["expected a name that ends in"]),
];

fn scene() -> Place {
    let place = Place::new();
    place.photos(8, 4, &[]);
    place.table(8, 4, "test");
    let prepare = "mkdir -p flat one/only deep/shoes/sku1 empty && cp 'photos/class 0/0.png' flat/a.png && cp 'photos/class 1/0.png' flat/b.png \
                   && cp flat/*.png one/only/ && cp flat/*.png deep/shoes/sku1/ && ls flat/*.png > paths.txt && echo gone.png > typo.txt \
                   && (echo path; cat paths.txt) > paths.csv && echo 'steps = \"ten\"' > ill.toml && echo 'stpes = 3' > typo.toml \
                   && printf 'path,label\\nflat/a.png,a\\n' > unsplit.csv && printf 'path,label,split\\nflat/a.png,a,trian\\n' > typo.csv \
                   && printf 'path,label,split\\ngone.png,a,train\\n' > missing.csv";
    let output = place.shell(prepare);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    place.works(TINY);
    place.works("embed --data folder:photos --checkpoint run --out photos.npy");
    place
}

#[test]
fn every_wrong_turn_says_what_was_expected_what_was_found_and_what_to_type() {
    let place = scene();
    let mut unclear = Vec::new();
    for (typed, words) in TURNS {
        let output = place.shell(&format!("xbm-fast {typed}"));
        let said = String::from_utf8(output.stderr).unwrap();
        let (words, is_bare) = (words.iter().copied().filter(|words| !said.contains(words)), said.contains("(os error"));
        let missing: Vec<&str> = words.collect();
        if output.status.code() != Some(1) || !missing.is_empty() || is_bare || said.matches("error: ").count() != 1 {
            unclear.push(format!("xbm-fast {typed}\n  misses {missing:?} ({}): {said}", output.status));
        }
    }
    assert!(unclear.is_empty(), "{}", unclear.join("\n"));
    assert!(!place.path("rows.npy").exists() && !place.path("studied").join("runs").exists());
}

#[test]
fn any_images_are_embedded_and_searched() {
    let place = scene();
    let embed = "embed --checkpoint run --out rows.npy --force --data";
    for (data, rows, labels) in [
        ("folder:flat", 2, ",,test"),
        ("folder:one", 2, ",only,test"),
        ("folder:deep", 2, ",shoes/sku1,test"),
        ("folder:photos", 32, ",class 3,test"),
        ("csv:paths.csv", 2, ",,test"),
        ("csv:unsplit.csv", 1, ",a,test"),
        ("list:paths.txt", 2, ",,test"),
        ("list:- < paths.txt", 2, ",,test"),
        ("- < paths.txt", 2, ",,test"),
    ] {
        let said = place.works(&format!("{embed} {data}"));
        assert_says(&said, &[&format!("{rows} embedding")]);
        assert_silent(&said, &["note", "left out"]);
        let list = std::fs::read_to_string(place.path("rows.csv")).unwrap();
        assert_eq!(list.lines().count(), 1 + rows, "{data}");
        assert_says(&list, &[labels]);
        let output = place.shell("xbm-fast search --index rows.npy --query flat/a.png --top 32 --json --out found.html");
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(found[0]["hits"].as_array().unwrap().len(), rows, "{data}");
        assert_silent(&std::fs::read_to_string(place.path("found.html")).unwrap(), &["no longer there"]);
    }
    place.works(&format!("{embed} - < paths.txt --split test"));
    let piped = place.shell("find flat -name '*.png' -print0 | xbm-fast embed --checkpoint run --data - --out rows.npy");
    assert_says(&String::from_utf8(piped.stderr).unwrap(), &["2 embeddings"]);
}

#[test]
fn shells_and_man_know_every_command() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        let output = place.shell(&format!("xbm-fast completions {shell}"));
        assert!(output.status.success());
        assert_says(&String::from_utf8(output.stdout).unwrap(), &["memory-size", "max-megapixels", "update"]);
    }
    assert!(place.shell("xbm-fast completions bash > script && bash -n script").status.success());
    for (page, words) in [("", "xbm"), ("train", "memory"), ("index", "update")] {
        let output = place.shell(&format!("xbm-fast man {page}"));
        assert_says(&String::from_utf8(output.stdout).unwrap(), &[".TH", ".SH SYNOPSIS", words]);
    }
}
