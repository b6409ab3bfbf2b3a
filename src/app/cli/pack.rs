//! `xbm-fast pack`: a data set into one file.

use super::SplitFlags;
use super::embedding::check_share;
use super::interrupt::Interrupt;
use super::reading_data;
use crate::app::data::loader::DEFAULT_MAX_UNREADABLE;
use crate::app::data::packed::{Encoding, PackOptions, is_packed, pack};
use crate::app::data::{DEFAULT_MAX_MEGAPIXELS, Dataset, LoaderOptions, OpenOptions};
use crate::app::terminal::{Bar, say};
use crate::device;
use crate::error::Result;
use crate::files::output::Outputs;
use crate::words::{counted, quoted};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What to pack, and how.
#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub struct PackArgs {
    /// Data, as for train
    #[arg(long, value_name = "SPEC")]
    pub data: String,
    /// The packed file; train on it with --data packed:FILE
    #[arg(long, value_name = "FILE.xbm")]
    pub out: PathBuf,
    /// Write over files that xbm-fast did not make; never over one that is read
    #[arg(long)]
    pub force: bool,
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
    /// Which classes are held out.
    #[command(flatten)]
    pub split: SplitFlags,
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
        check_share("--max-unreadable", self.max_unreadable)?;
        let threads = device::checked_threads(self.threads)?;
        let open = OpenOptions { max_megapixels: self.max_megapixels, ..self.split.options() };
        reading_data(Outputs::new(self.force), &self.data).check(&self.out, is_packed)?;
        let interrupt = Interrupt::listen("image")?;
        let dataset = Arc::new(Dataset::open(&self.data, &open)?);
        self.split.say_if_idle(&dataset);
        let options = PackOptions {
            encoding: match self.encoding {
                PackEncoding::Raw => Encoding::Raw,
                PackEncoding::Jpeg => Encoding::Files,
            },
            short_side: self.short_side,
            threads: if threads == 0 { LoaderOptions::default().threads } else { threads },
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
        for (index, reason) in &report.unreadable {
            let (place, reason) = dataset.fault(*index, reason);
            say(format_args!("left out  {place}: {reason}"));
        }
        let megabytes = report.bytes as f64 / 1e6;
        say(format_args!("packed    {}, {megabytes:.1} MB, into {}", counted(report.images, "image"), self.out.display()));
        say(format_args!("use it as --data {}", quoted(&format!("packed:{}", self.out.display()))));
        Ok(ExitCode::SUCCESS)
    }
}
