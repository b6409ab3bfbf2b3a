//! `xbm-fast pack`: a data set into one file.

use super::interrupt::Interrupt;
use crate::data::loader::DEFAULT_MAX_UNREADABLE;
use crate::data::packed::{Encoding, PackOptions, pack};
use crate::data::{DEFAULT_MAX_MEGAPIXELS, Dataset, LoaderOptions, OpenOptions};
use crate::error::{Error, Result};
use crate::terminal::{Bar, say};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What to pack, and how.
#[derive(Debug, Args)]
pub struct PackArgs {
    /// Data, as for train
    #[arg(long, value_name = "SPEC")]
    pub data: String,
    /// The packed file; train on it with --data packed:FILE
    #[arg(long, value_name = "FILE.xbm")]
    pub out: PathBuf,
    /// raw: pixels, large and fast; jpeg: image files as they are, decoded at every use
    #[arg(long, default_value = "raw")]
    pub encoding: PackEncoding,
    /// Make images smaller until their short side has this many pixels; 0 leaves them as they are
    #[arg(long, default_value_t = 0, value_name = "PIXELS")]
    pub short_side: usize,
    /// Threads; 0 is one per core
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Largest share of images that may be unreadable and left out
    #[arg(long, default_value_t = DEFAULT_MAX_UNREADABLE)]
    pub max_unreadable: f32,
    /// Largest image that is decoded, in millions of pixels
    #[arg(long, default_value_t = DEFAULT_MAX_MEGAPIXELS, value_name = "MPX")]
    pub max_megapixels: u32,
    /// Share of the classes held out for testing, where the data has no split of its own
    #[arg(long, default_value_t = 0.5)]
    pub holdout: f32,
    /// Seed of the held-out classes
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// How pixels are kept.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum PackEncoding {
    /// Pixels.
    Raw,
    /// Image files.
    Jpeg,
}

impl PackArgs {
    /// Packs and says what was packed.
    ///
    /// # Errors
    /// Data that cannot be opened, too many unreadable images, a file that cannot be written.
    pub fn run(self) -> Result<ExitCode> {
        if !(0.0..=1.0).contains(&self.max_unreadable) {
            return Err(Error::config(format!("--max-unreadable must be in [0, 1], found {}", self.max_unreadable)));
        }
        let interrupt = Interrupt::listen("image")?;
        let open = OpenOptions {
            holdout: f64::from(self.holdout),
            seed: self.seed,
            max_megapixels: self.max_megapixels,
            ..OpenOptions::default()
        };
        let dataset = Arc::new(Dataset::open(&self.data, &open)?);
        let options = PackOptions {
            encoding: match self.encoding {
                PackEncoding::Raw => Encoding::Raw,
                PackEncoding::Jpeg => Encoding::Files,
            },
            short_side: self.short_side,
            threads: if self.threads == 0 { LoaderOptions::default().threads } else { self.threads },
            max_unreadable: f64::from(self.max_unreadable),
        };
        let bar = Bar::new(dataset.images.len() as u64, 0, "images");
        let packed = pack(&dataset, &self.out, &options, interrupt.flag(), || bar.iter().for_each(Bar::advance));
        drop(bar);
        if interrupt.flag().load(Ordering::Relaxed) && packed.is_err() {
            say("interrupted; nothing was written");
            return Ok(interrupt.exit_code());
        }
        let report = packed?;
        for (_, reason) in &report.unreadable {
            say(format_args!("left out  {reason}"));
        }
        let megabytes = report.bytes as f64 / 1e6;
        say(format_args!("packed    {} images, {megabytes:.1} MB, into {}", report.images, self.out.display()));
        say(format_args!("use it as --data packed:{}", self.out.display()));
        Ok(ExitCode::SUCCESS)
    }
}
