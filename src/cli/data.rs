//! `xbm-fast data`: what is in a data set.

use crate::config::TrainConfig;
use crate::data::sampler;
use crate::data::survey::{self, Survey};
use crate::data::{Content, Copies, DEFAULT_MAX_MEGAPIXELS, Dataset, LoaderOptions, OpenOptions, SameImages, Split};
use crate::error::{Error, Result};
use crate::terminal::{self, Bar};
use clap::Args;
use serde::Serialize;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

/// What to look at.
#[derive(Debug, Args)]
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
    /// Share of the classes held out for testing, where the data has no split of its own
    #[arg(long, default_value_t = 0.5)]
    pub holdout: f32,
    /// Seed of the held-out classes
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
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
        let options = OpenOptions {
            holdout: f64::from(self.holdout),
            seed: self.seed,
            max_megapixels: self.max_megapixels,
            ..OpenOptions::default()
        };
        let dataset = Arc::new(Dataset::open(&self.spec, &options)?);
        let (mut same, mut unreadable) = (SameImages::by_files(&dataset), None);
        if self.decode {
            let bar = Bar::new(dataset.images.len() as u64, 0, "images");
            let advance = || bar.iter().for_each(Bar::advance);
            let decoded = survey::decode_all(&dataset, LoaderOptions::default().threads, advance)?;
            same.add(decoded.iter().enumerate().filter_map(|(index, image)| Some((index, *image.as_ref().ok()?))));
            let named = |(index, image): (usize, Result<Content, String>)| {
                Some(Unreadable { image: dataset.name_of(index), reason: image.err()? })
            };
            unreadable = Some(decoded.into_iter().enumerate().filter_map(named).collect());
        }
        let mut survey = Survey::new(&dataset);
        survey.notes.extend(repeated(&dataset, TrainConfig::default().samples_per_class).into_iter().chain(dataset.first_frames()));
        let findings = Findings { survey, copies: Copies::find(&dataset, &same), unreadable };
        if self.json {
            terminal::print_json(&findings)?;
        } else {
            terminal::print(&findings.text())?;
        }
        match findings.unreadable.map_or(0, |unreadable| unreadable.len()) {
            0 => Ok(ExitCode::SUCCESS),
            bad => Err(Error::data(&self.spec, format!("{bad} of {} images cannot be read", dataset.images.len()))),
        }
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
            for Unreadable { reason, .. } in unreadable {
                let _ = writeln!(text, "    {reason}");
            }
        }
        text
    }
}
