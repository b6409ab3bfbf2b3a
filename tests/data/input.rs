//! Files that a user names: only regular files are opened, text is read as spreadsheets and editors write it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;
use xbm_fast::files::input;

const PROGRAM: &str = env!("CARGO_BIN_EXE_xbm-fast");

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn file(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

#[track_caller]
fn assert_says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "`{text}` does not say `{word}`");
    }
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: xbm_fast::Result<T>, words: &[&str]) {
    assert_says(&result.expect_err("bad input was accepted").to_string(), words);
}

/// What is no regular file, by the name it must be called.
#[cfg(unix)]
fn no_regular_files(folder: &TempDir) -> Vec<(PathBuf, &'static str)> {
    let place = |name: &str| folder.path().join(name);
    assert!(Command::new("mkfifo").arg(place("pipe")).status().unwrap().success());
    std::os::unix::fs::symlink(place("pipe"), place("link")).unwrap();
    std::os::unix::net::UnixListener::bind(place("socket")).unwrap();
    fs::create_dir(place("folder")).unwrap();
    vec![
        (place("pipe"), "a named pipe"),
        (place("link"), "a named pipe"),
        (place("socket"), "a socket"),
        (place("folder"), "a folder"),
        (PathBuf::from("/dev/zero"), "a device"),
    ]
}

#[cfg(unix)]
#[test]
fn only_regular_files_are_opened_and_others_are_named() {
    let folder = folder();
    for (path, name) in no_regular_files(&folder) {
        let words = [path.to_str().unwrap(), "expected a file", name];
        assert_refused(input::open(&path), &words);
        assert_refused(input::read(&path), &words);
        assert_refused(input::read_text(&path), &words);
    }
    assert_refused(input::read(folder.path().join("missing")), &["missing", "No such file"]);
    assert_refused(input::read("-"), &["-: expected the path of a file", "standard input"]);
}

#[cfg(unix)]
#[test]
fn no_command_waits_for_a_pipe_or_reads_a_device() {
    let folder = folder();
    let paths = no_regular_files(&folder);
    let somewhere = folder.path().join("out.npy");
    for (path, name) in &paths {
        let (path, out) = (path.to_str().unwrap(), somewhere.to_str().unwrap());
        let (csv, packed) = (format!("csv:{path}"), format!("packed:{path}"));
        for arguments in [
            &["data", csv.as_str()][..],
            &["data", packed.as_str()],
            &["train", "--config", path],
            &["train", "--pretrained", path, "--backbone", "resnet18", "--steps", "1", "--out", out],
            &["eval", "--checkpoint", path],
            &["embed", "--data", "synthetic", "--checkpoint", path, "--out", out],
            &["study", path, "--out", out],
        ] {
            let output = run(arguments);
            assert!(!output.status.success(), "{arguments:?}");
            assert_says(&String::from_utf8_lossy(&output.stderr), &[name]);
        }
    }
}

#[test]
fn text_is_read_with_any_byte_order_mark_and_without() {
    let folder = folder();
    let words = "a = \"é🐦\"\r\n";
    let utf16 = |mark: &[u8], bytes: fn(u16) -> [u8; 2]| [mark, &words.encode_utf16().flat_map(bytes).collect::<Vec<_>>()].concat();
    for bytes in [
        words.as_bytes().to_vec(),
        [b"\xEF\xBB\xBF", words.as_bytes()].concat(),
        utf16(b"\xFF\xFE", u16::to_le_bytes),
        utf16(b"\xFE\xFF", u16::to_be_bytes),
    ] {
        assert_eq!(input::read_text(file(&folder, "text", &bytes)).unwrap(), words);
    }
}

#[test]
fn bytes_that_are_no_text_are_named_with_their_line() {
    let folder = folder();
    let refused = |bytes: &[u8], words: &[&str]| assert_refused(input::read_text(file(&folder, "text", bytes)), words);
    refused(b"one\ncaf\xE9\n", &["line 2", "0xE9", "Latin-1", "UTF-8"]);
    refused(b"o\0n\0e\0\n\0", &["line 1", "a zero", "UTF-16"]);
    refused(b"\xFF\xFE\0\0o\0\0\0", &["line 1", "a zero", "UTF-32"]);
    refused(b"\xFF\xFEa", &["UTF-16", "byte order mark"]);
}

#[test]
fn settings_may_be_in_utf16() {
    let folder = folder();
    let text: Vec<u8> = "stpes = 3\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let path = file(&folder, "my.toml", &[b"\xFF\xFE", &text[..]].concat());
    let output = run(&["train", "--config", path.to_str().unwrap()]);
    assert_says(&String::from_utf8_lossy(&output.stderr), &["stpes", "did you mean `steps`"]);
}
