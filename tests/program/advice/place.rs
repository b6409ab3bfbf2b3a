//! A folder in which commands are typed, and small inputs to put there.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_xbm-fast");

/// A run that takes a second.
pub const TINY: &str = "train --data synthetic:classes=12,views=4,size=16 --out run --backbone small --image-size 16 --dim 8 --batch-size 8 \
                        --samples-per-class 2 --memory none --steps 3 --device cpu --threads 2";

/// Where commands are typed; `xbm-fast` is on the path.
pub struct Place {
    folder: TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What a shell makes of a line.
    pub fn shell(&self, line: &str) -> Output {
        let folder = Path::new(PROGRAM).parent().unwrap();
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
        Command::new("sh").args(["-c", line]).env("PATH", path).current_dir(&self.folder).output().unwrap()
    }

    /// `xbm-fast` with these words, which must succeed; what it said beside its results.
    #[track_caller]
    pub fn works(&self, words: &str) -> String {
        let output = self.shell(&format!("xbm-fast {words}"));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "xbm-fast {words}: {said}");
        said
    }

    /// `xbm-fast` with these words, which must fail with one line; that line.
    #[track_caller]
    pub fn refuses(&self, words: &str) -> String {
        let output = self.shell(&format!("xbm-fast {words}"));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "xbm-fast {words}: {said}");
        let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(errors.len() == 1, "xbm-fast {words}: {said}");
        errors[0].to_owned()
    }

    /// A model of the [`TINY`] network, at `run/checkpoints/best.safetensors`.
    #[track_caller]
    pub fn trained(&self) -> &'static str {
        self.works(TINY);
        "run/checkpoints/best.safetensors"
    }

    /// A folder `photos` of classes of as many images; those at `broken`, counted class by class, are none.
    pub fn photos(&self, classes: usize, views: usize, broken: &[usize]) {
        for class in 0..classes {
            let folder = self.path(&format!("photos/class {class}"));
            std::fs::create_dir_all(&folder).unwrap();
            for view in 0..views {
                let file = folder.join(format!("{view}.png"));
                if broken.contains(&(class * views + view)) {
                    std::fs::write(file, "no image").unwrap();
                } else {
                    let pixel = |x: u32, y: u32| image::Rgb([(x * 9) as u8, (y * 9 + view as u32 * 20) as u8, class as u8 * 20]);
                    image::RgbImage::from_fn(18, 18, pixel).save(file).unwrap();
                }
            }
        }
    }

    /// A table of the images of [`Place::photos`], those of the first `train` classes for training, the others of the split `rest`.
    pub fn table(&self, classes: usize, train: usize, rest: &str) {
        let mut rows = "path,label,split\n".to_owned();
        for class in 0..classes {
            for view in 0..4 {
                let split = if class < train { "train" } else { rest };
                rows += &format!("photos/class {class}/{view}.png,c{class},{split}\n");
            }
        }
        std::fs::write(self.path("labels.csv"), rows).unwrap();
    }
}

/// [`TINY`] with other values of some flags.
pub fn tiny(flags: &str) -> String {
    with(TINY, flags)
}

/// A command with other values of some flags.
pub fn with(command: &str, flags: &str) -> String {
    let mut words: Vec<String> = command.split(' ').map(str::to_owned).collect();
    for flag in flags.split("--").filter(|flag| !flag.is_empty()) {
        let (name, value) = flag.trim().split_once(' ').unwrap_or((flag.trim(), ""));
        match words.iter().position(|word| *word == format!("--{name}")) {
            Some(place) => words[place + 1] = value.to_owned(),
            None => words.extend([format!("--{name}"), value.to_owned()]),
        }
    }
    words.join(" ")
}

/// The commands between backticks.
pub fn commands(words: &str) -> Vec<&str> {
    words.split('`').skip(1).step_by(2).filter_map(|quoted| quoted.strip_prefix("xbm-fast ")).collect()
}

/// The value that the words give a flag.
#[track_caller]
pub fn value<'a>(words: &'a str, flag: &str) -> &'a str {
    let (_, rest) = words.split_once(&format!("{flag} ")).unwrap_or_else(|| panic!("no {flag} in: {words}"));
    rest.split([' ', ',', ';', ':', '`']).next().unwrap()
}

#[track_caller]
pub fn assert_says(words: &str, expected: &[&str]) {
    for expected in expected {
        assert!(words.contains(expected), "expected `{expected}` in: {words}");
    }
}

#[track_caller]
pub fn assert_silent(words: &str, unwanted: &[&str]) {
    for unwanted in unwanted {
        assert!(!words.contains(unwanted), "did not expect `{unwanted}` in: {words}");
    }
}
