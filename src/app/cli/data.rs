//! `xbm-fast data`: what is in a data set.

use super::SplitFlags;
use crate::app::config::TrainConfig;
use crate::app::data::sampler;
use crate::app::data::survey::{self, Survey};
use crate::app::data::{Content, Copies, DEFAULT_MAX_MEGAPIXELS, Dataset, LoaderOptions, OpenOptions, SameImages, Split};
use crate::app::terminal::{self, Bar};
use crate::error::{Error, Result};
use crate::words::counted;
use clap::Args;
use serde::Serialize;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

/// What to look at.
#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub struct DataArgs {
    /// Data, as for train
    #[arg(value_name = "SPEC")]
    pub spec: String,
    /// Decode every image and list those that cannot be read, which then is an error
    #[arg(long)]
    pub decode: bool,
    /// Largest image that is decoded, in millions of pixels
    #[arg(long, default_value_t = DEFAULT_MAX_MEGAPIXELS, value_name = "MPX")]
    pub max_megapixels: u32,
    /// Which classes are held out.
    #[command(flatten)]
    pub split: SplitFlags,
    /// Print as JSON on stdout
    #[arg(long)]
    pub json: bool,
}

#[derive(Serialize)]
struct Findings {
    #[serde(flatten)]
    survey: Survey,
    copies: Vec<Copies>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<Vec<Unreadable>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct Unreadable {
    image: String,
    reason: String,
}

impl DataArgs {
    /// Prints what was found.
    ///
    /// # Errors
    /// A data set that cannot be opened; unreadable images, where all were decoded.
    pub fn run(self) -> Result<ExitCode> {
        let options = OpenOptions { max_megapixels: self.max_megapixels, ..self.split.options() };
        let dataset = Arc::new(Dataset::open(&self.spec, &options)?);
        self.split.say_if_idle(&dataset);
        let (mut same, mut unreadable) = (SameImages::by_files(&dataset), None);
        if self.decode {
            let bar = Bar::new(dataset.images.len() as u64, 0, "images");
            let advance = || bar.iter().for_each(Bar::advance);
            let decoded = survey::decode_all(&dataset, LoaderOptions::default().threads, advance)?;
            same.add(decoded.iter().enumerate().filter_map(|(index, image)| Some((index, *image.as_ref().ok()?))));
            let named = |(index, image): (usize, Result<Content, String>)| {
                let (image, reason) = dataset.fault(index, &image.err()?);
                Some(Unreadable { image, reason })
            };
            unreadable = Some(decoded.into_iter().enumerate().filter_map(named).collect::<Vec<_>>());
        }
        let bad = unreadable.as_ref().map_or(0, Vec::len);
        let error = (bad > 0).then(|| {
            let images = counted(dataset.images.len(), "image");
            Error::data(&self.spec, format!("{bad} of {images} cannot be read"))
        });
        let mut survey = Survey::new(&dataset);
        survey.notes.extend(
            repeated(&dataset, TrainConfig::default().sampling.samples_per_class).into_iter().chain(dataset.first_frames()),
        );
        let findings =
            Findings { survey, copies: Copies::find(&dataset, &same), unreadable, error: error.as_ref().map(Error::to_string) };
        if self.json {
            terminal::print_json(&findings)?;
        } else {
            terminal::print(&findings.text())?;
        }
        error.map_or(Ok(ExitCode::SUCCESS), Err)
    }
}

/// Classes to train on that are too small to fill their part of a batch.
fn repeated(dataset: &Dataset, samples_per_class: usize) -> Option<String> {
    let mut images = vec![0; dataset.classes.len()];
    for index in dataset.indices(Split::Train) {
        images[dataset.images[index].label as usize] += 1;
    }
    sampler::repetition(images.iter().filter(|images| (1..samples_per_class).contains(*images)).count(), samples_per_class)
}

impl Findings {
    fn text(&self) -> String {
        let mut text = self.survey.to_string();
        for copies in &self.copies {
            let _ = writeln!(text, "  note: {copies}");
        }
        if let Some(unreadable) = &self.unreadable {
            let _ = writeln!(text, "  decoded all {}: {} cannot be read", self.survey.images, unreadable.len());
            for Unreadable { image, reason } in unreadable {
                let _ = writeln!(text, "    {image}: {reason}");
            }
        }
        text
    }
}
