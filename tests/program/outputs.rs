//! No command writes over a file that it reads, nor without `--force` over one that it did not make, and it says so before the work.


use crate::drive::scene::{EMBED, EVAL, PACK, SEARCH, Scene, WEIGHTS};
use crate::drive::{PROGRAM, assert_says, error_of, train};
use std::process::Command;

#[test]
fn a_file_that_is_read_is_never_written_over() {
    let scene = Scene::new();
    scene.run(&format!("{EMBED} @photos.npy"));
    scene.run(&format!("{PACK} @photos.xbm"));
    std::fs::hard_link(scene.path("labels.csv"), scene.path("hard.csv")).unwrap();
    for (read, name) in [
        ("photos.npy", "rows"),
        ("photos.csv", "list"),
        ("images/1-2.png", "query"),
        ("images/3-3.png", "hit"),
        ("run/checkpoints/best.safetensors", "model"),
    ] {
        std::fs::hard_link(scene.path(read), scene.path(&format!("{name}.html"))).unwrap();
    }
    std::os::unix::fs::symlink("labels.csv", scene.path("soft.csv")).unwrap();
    std::os::unix::fs::symlink("images", scene.path("elsewhere")).unwrap();
    std::fs::write(scene.path("mine.toml"), std::fs::read(scene.path("run/config.toml")).unwrap()).unwrap();
    for (words, kept) in [
        (format!("{EMBED} @labels.npy"), "labels.csv"),
        (format!("{EMBED} @hard.npy"), "labels.csv"),
        (format!("{EMBED} @soft.npy"), "labels.csv"),
        (format!("{EMBED} @images/../labels.npy"), "labels.csv"),
        (format!("{EMBED} @run/checkpoints/best.safetensors"), "run/checkpoints/best.safetensors"),
        (format!("{EVAL} @labels.csv"), "labels.csv"),
        (format!("{EVAL} @run/checkpoints/best.safetensors"), "run/checkpoints/best.safetensors"),
        (format!("{EVAL} @elsewhere/0-0.png"), "images/0-0.png"),
        (format!("{PACK} @labels.csv"), "labels.csv"),
        ("pack --data packed:@photos.xbm --out @photos.xbm".to_owned(), "photos.xbm"),
        ("pack --data folder:@images --out @images/0-0.png".to_owned(), "images/0-0.png"),
        (format!("{SEARCH} @rows.html"), "photos.npy"),
        (format!("{SEARCH} @list.html"), "photos.csv"),
        (format!("{SEARCH} @query.html"), "images/1-2.png"),
        (format!("{SEARCH} @hit.html"), "images/3-3.png"),
        (format!("{SEARCH} @model.html"), "run/checkpoints/best.safetensors"),
    ] {
        scene.refused(&words, kept, &["another name"]);
        scene.refused(&format!("{words} --force"), kept, &["this command reads that file"]);
    }
    assert!(!scene.path("labels.npy").exists() && !scene.path("labels.json").exists(), "a part of an index was written");
}

#[test]
#[cfg(target_os = "linux")]
fn an_image_whose_name_is_no_text_is_not_written_over_either() {
    use std::os::unix::ffi::OsStrExt;
    let scene = Scene::new();
    for class in ["a", "b"] {
        let folder = scene.path("classes").join(class);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::copy(scene.path("images/0-0.png"), folder.join(std::ffi::OsStr::from_bytes(b"\xE9.png"))).unwrap();
    }
    let image = scene.path("classes/a").join(std::ffi::OsStr::from_bytes(b"\xE9.png"));
    std::fs::hard_link(image, scene.path("hit.html")).unwrap();
    scene.run("embed --data folder:@classes --checkpoint @run/checkpoints/best.safetensors --out @photos.npy");
    scene.refused(&format!("{SEARCH} @hit.html --force"), "hit.html", &["this command reads that file"]);
}

#[test]
fn a_file_of_somebody_else_is_written_over_with_force_only() {
    let scene = Scene::new();
    scene.run(&format!("{EMBED} @photos.npy"));
    for (words, theirs) in [
        (format!("{EMBED} @new.npy"), "new.npy"),
        (format!("{EMBED} @list.npy"), "list.csv"),
        (format!("{EMBED} @about.safetensors"), "about.json"),
        (format!("{EVAL} @scores.csv"), "scores.csv"),
        (format!("{PACK} @packed.xbm"), "packed.xbm"),
        (format!("{SEARCH} @page.html"), "page.html"),
        (format!("{WEIGHTS} @curves.svg"), "curves.svg"),
    ] {
        let content = "{\"somebody\": \"else's\"}\n";
        std::fs::write(scene.path(theirs), content).unwrap();
        scene.refused(&words, theirs, &[theirs, "--force"]);
        scene.run(&format!("{words} --force"));
        assert!(std::fs::read(scene.path(theirs)).unwrap() != content.as_bytes(), "{words} --force");
        // What the program made it may make again.
        scene.run(&words);
    }
}

#[test]
fn an_output_that_cannot_be_written_is_told_before_anything_is_read() {
    let scene = Scene::empty();
    std::fs::create_dir(scene.path("folder.npy")).unwrap();
    std::fs::write(scene.path("file"), "").unwrap();
    assert!(Command::new("mkfifo").arg(scene.path("pipe.csv")).status().unwrap().success());
    for (words, said) in [
        ("embed --data csv:@no.csv --checkpoint @no.safetensors --out @nodir/x.npy", ["nodir", "does not exist"]),
        ("embed --data csv:@no.csv --checkpoint @no.safetensors --out @folder.npy", ["folder.npy", "found a folder"]),
        ("embed --data csv:@no.csv --checkpoint @no.safetensors --out @file/x.npy", ["file/x.npy", "Not a directory"]),
        ("eval --data csv:@no.csv --checkpoint @no.safetensors --per-class @nodir/x.csv", ["nodir", "does not exist"]),
        ("eval --data csv:@no.csv --checkpoint @no.safetensors --per-class @pipe.csv", ["pipe.csv", "a pipe"]),
        ("pack --data csv:@no.csv --out @nodir/x.xbm", ["nodir", "does not exist"]),
        ("search --index @no.npy --query @no.png --out @nodir/x.html", ["nodir", "does not exist"]),
        ("weights circle --out @nodir/x.svg", ["nodir", "does not exist"]),
    ] {
        assert_says(&error_of(scene.command(words)), &said);
    }
}

#[test]
fn a_run_and_a_study_do_not_move_in_with_somebodys_files() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["report.html", "summary.json", "metrics.jsonl", "checkpoints/step-000001.safetensors"] {
        let out = folder.path().join(name.replace(['/', '.'], "-"));
        let theirs = out.join(name);
        std::fs::create_dir_all(theirs.parent().unwrap()).unwrap();
        std::fs::write(&theirs, "mine").unwrap();
        assert_says(&error_of(train(&out, &[])), &[name.split('/').next().unwrap(), "another --out"]);
        assert_eq!(std::fs::read(&theirs).unwrap(), b"mine");
        assert!(!out.join("config.toml").exists());
    }
    for name in ["study.toml", "study.html", "results.json", "results.csv"] {
        let out = folder.path().join(format!("study-{name}"));
        std::fs::create_dir_all(&out).unwrap();
        std::fs::write(out.join(name), "title = \"mine\"").unwrap();
        let mut command = Command::new(PROGRAM);
        command.args(["study", "--quick", "--out"]).arg(&out);
        assert_says(&error_of(command), &[name, "another --out"]);
        assert_eq!(std::fs::read(out.join(name)).unwrap(), b"title = \"mine\"");
    }
}
