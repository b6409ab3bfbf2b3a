//! A folder with images, a list of them and a model: what commands read and write.

use super::{PROGRAM, assert_says, error_of, succeed, train};
use image::{Rgb, RgbImage};
use std::path::PathBuf;
use std::process::Command;

/// Commands that write a file, which is to follow; `@name` is a file of the scene.
pub const EMBED: &str = "embed --data csv:@labels.csv --checkpoint @run/checkpoints/best.safetensors --out";
pub const EVAL: &str = "eval --data csv:@labels.csv --checkpoint @run/checkpoints/best.safetensors --per-class";
pub const PACK: &str = "pack --data csv:@labels.csv --out";
pub const SEARCH: &str = "search --index @photos.npy --query @images/1-2.png --out";
pub const WEIGHTS: &str = "weights circle --out";

/// Four classes of four small images, listed in `labels.csv`, and a model.
pub struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    /// An empty folder.
    pub fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// All of it.
    pub fn new() -> Self {
        let scene = Self::empty();
        let mut table = "path,label,split\n".to_owned();
        for (class, view) in (0..4).flat_map(|class| (0..4).map(move |view| (class, view))) {
            let name = format!("images/{class}-{view}.png");
            let colour = |x: u32, y: u32| Rgb([class as u8 * 60, (x * 9) as u8, (y * 9 + view * 30) as u8]);
            std::fs::create_dir_all(scene.path("images")).unwrap();
            RgbImage::from_fn(20, 20, colour).save(scene.path(&name)).unwrap();
            table += &format!("{name},class {class},test\n");
        }
        std::fs::write(scene.path("labels.csv"), table).unwrap();
        succeed(train(&scene.path("run"), &["--steps=1"]));
        scene
    }

    /// A file of the scene.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Its path as text.
    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A command by words in which `@name` is a file of the scene.
    pub fn command(&self, words: &str) -> Command {
        let mut command = Command::new(PROGRAM);
        let placed = |word: &str| match word.split_once('@') {
            Some((before, name)) => format!("{before}{}", self.text(name)),
            None => word.to_owned(),
        };
        command.args(words.split(' ').map(placed));
        command
    }

    /// A command that must succeed.
    pub fn run(&self, words: &str) {
        succeed(self.command(words));
    }

    /// Fails unless the command is refused with these words and `kept` is what it was.
    #[track_caller]
    pub fn refused(&self, words: &str, kept: &str, said: &[&str]) {
        let before = std::fs::read(self.path(kept)).unwrap();
        assert_says(&error_of(self.command(words)), said);
        assert!(std::fs::read(self.path(kept)).unwrap() == before, "{words} wrote to {kept}");
    }
}
