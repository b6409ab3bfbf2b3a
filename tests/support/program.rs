//! The program as it is typed, on little pictures that the test draws.
#![allow(dead_code, reason = "each suite uses its own part")]

use image::{Rgb, RgbImage};
use std::path::PathBuf;
use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_xbm-fast");
const TINY: [&str; 8] = [
    "--image-size=16",
    "--dim=8",
    "--batch-size=4",
    "--samples-per-class=2",
    "--memory=none",
    "--threads=1",
    "--steps=2",
    "--backbone=small",
];

/// A folder for a test's data and runs.
pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `name` as the text of an argument.
    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Draws `views` pictures of each class into `name/CLASS/`, all of them different.
    pub fn draw(&self, name: &str, classes: &[&str], views: u8) {
        for class in classes {
            (0..views).for_each(|view| self.picture(&format!("{name}/{class}/{view}.png")));
        }
    }

    /// Draws a picture that depends on its name.
    pub fn picture(&self, name: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let shade = name.bytes().fold(7u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte)));
        let colour = |x: u32, y: u32| Rgb([shade as u8, (shade >> 8) as u8 ^ (x * 11) as u8, (shade >> 16) as u8 ^ (y * 7) as u8]);
        RgbImage::from_fn(20, 20, colour).save(path).unwrap();
    }

    pub fn copy(&self, from: &str, to: &str) {
        std::fs::create_dir_all(self.path(to).parent().unwrap()).unwrap();
        std::fs::copy(self.path(from), self.path(to)).unwrap();
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Runs the program in the folder.
    pub fn command(&self, arguments: &[&str]) -> Output {
        self.command_in("", arguments)
    }

    pub fn command_in(&self, folder: &str, arguments: &[&str]) -> Output {
        Command::new(PROGRAM).args(arguments).current_dir(self.path(folder)).output().unwrap()
    }

    /// What it says, on stderr and then on stdout; it must succeed.
    #[track_caller]
    pub fn says(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments);
        let said = [output.stderr, output.stdout].map(|text| String::from_utf8(text).unwrap()).concat();
        assert!(output.status.success(), "{arguments:?}: {said}");
        said
    }

    /// What it prints as JSON; it must succeed.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.command(&[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The error it fails with.
    #[track_caller]
    pub fn refuses(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        said.lines().find(|line| line.starts_with("error:")).unwrap_or_default().to_owned()
    }

    /// Trains a tiny network on `data` into `run`, and returns what is said.
    #[track_caller]
    pub fn train(&self, data: &str, run: &str, flags: &[&str]) -> String {
        let name = |flag: &str| flag.split('=').next().unwrap_or_default().to_owned();
        let tiny = TINY.iter().copied().filter(|tiny| flags.iter().all(|flag| name(flag) != name(tiny)));
        let arguments: Vec<&str> =
            ["train", "--data", data, "--out", run].into_iter().chain(tiny).chain(flags.iter().copied()).collect();
        self.says(&arguments)
    }
}

/// The best model of the run in `run`.
pub const MODEL: &str = "run/checkpoints/best.safetensors";

#[track_caller]
pub fn assert_says(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "expected `{word}` in: {said}");
    }
}
