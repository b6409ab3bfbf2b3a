//! `xbm-fast weights`: draws weight curves, and prints the table behind them.

use super::{DeviceRequest, EmbedFlags, Job, reading_model};
use crate::app::config::{DeviceChoice, read_weighting};
use crate::app::report::{Figure, FigureCurve};
use crate::app::run::{self, DataRequest};
use crate::app::terminal;
use crate::device::cuda::{PairLossPath, Precision};
use crate::error::{Error, Result};
use crate::files::output::Outputs;
use crate::files::write_atomically;
use crate::loss::{Named, PairWeighting, ReferenceRow};
use crate::ops::Backend;
use clap::Args;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Similarities that a curve is drawn at.
const POINTS: usize = 401;
/// Similarities of the table, from -1 to 1.
const TABLE_ROWS: usize = 21;
const HISTOGRAM_BINS: usize = 80;

/// Which weights to draw.
#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub struct WeightsArgs {
    /// Published losses, such as circle or circle:gamma=64, and TOML files with the tables `positive` and `negative` [default: all losses]
    #[arg(value_name = "NAME|FILE.toml")]
    pub weightings: Vec<String>,
    /// Where the figure goes; without it only the table is printed
    #[arg(long, value_name = "FILE.svg")]
    pub out: Option<PathBuf>,
    /// Write over files that xbm-fast did not make; never over one that is read
    #[arg(long)]
    pub force: bool,
    /// Draw the weights as they are, not each curve divided by its largest weight
    #[arg(long, requires = "out")]
    pub absolute: bool,
    /// Draw below the curves how similar pairs of test images are to this model
    #[arg(long, value_name = "FILE", requires = "out")]
    pub checkpoint: Option<PathBuf>,
    /// Data, as for train [default: what --checkpoint was trained on]
    #[arg(long, value_name = "SPEC", requires = "checkpoint")]
    pub data: Option<String>,
    /// How images are embedded.
    #[command(flatten)]
    pub embedding: EmbedFlags,
    /// Worker threads; 0 is one per core
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
}

impl Job for WeightsArgs {
    fn device(&self) -> DeviceRequest {
        // Only a model that is drawn below the curves computes.
        let draws_a_model = self.checkpoint.is_some() && self.out.is_some();
        let choice = if draws_a_model { DeviceChoice::Auto } else { DeviceChoice::Cpu };
        DeviceRequest { choice, threads: self.threads, precision: Precision::Fp16, pair_loss: PairLossPath::Auto }
    }

    fn run<B: Backend>(mut self, backend: &B) -> Result<ExitCode> {
        self.checkpoint = self.checkpoint.as_deref().map(run::model_file).transpose()?;
        if let Some(out) = self.out.as_ref().filter(|out| out.extension().is_none_or(|extension| extension != "svg")) {
            return Err(Error::config(format!("--out {}: expected a file that ends with .svg", out.display())));
        }
        if let Some(out) = &self.out {
            let outputs = Outputs::new(self.force).reading(&self.weightings);
            let outputs = match &self.checkpoint {
                Some(checkpoint) => reading_model(outputs, checkpoint, self.data.as_deref()),
                None => outputs,
            };
            outputs.check(out, Figure::is_at)?;
        }
        let names = match self.weightings.as_slice() {
            [] => Named::all().iter().map(|named| named.name.to_owned()).collect(),
            given => given.to_vec(),
        };
        let weightings = names.iter().map(|name| Ok((name.clone(), read_weighting(name)?))).collect::<Result<Vec<_>>>()?;
        let row = ReferenceRow::default();
        let printed = terminal::print(&table(&weightings, &row));
        let Some(out) = &self.out else { return printed.map(|()| ExitCode::SUCCESS) };
        let mut figure = self.figure(&weightings, &row);
        if let Some(path) = &self.checkpoint {
            let request = DataRequest { spec: self.data.as_deref(), ..DataRequest::default() };
            let (histogram, data) = run::similarities(backend, path, request, &self.embedding.options()?, HISTOGRAM_BINS)?;
            figure.histogram = Some(histogram);
            figure.notes.push(format!("Filled: similarities of random pairs of test images of {data}, by {}.", path.display()));
        }
        write_atomically(out, |file| file.write_all(figure.svg().as_bytes()))?;
        terminal::say(format_args!("figure    {}", out.display()));
        printed.map(|()| ExitCode::SUCCESS)
    }
}

impl WeightsArgs {
    fn figure(&self, weightings: &[(String, PairWeighting)], row: &ReferenceRow) -> Figure {
        let curves = weightings.iter().map(|(name, weighting)| FigureCurve {
            name: name.clone(),
            positive: self.sampled(weighting, row, true),
            negative: self.sampled(weighting, row, false),
        });
        let label = if self.absolute { "weight" } else { "weight / largest weight" };
        let mut notes = Vec::new();
        if weightings.iter().any(|(_, weighting)| !weighting.depends_on_similarity_alone()) {
            notes.push(format!("Where weights depend on the row: {}.", row.describe()));
        }
        Figure { curves: curves.collect(), weight_label: label.to_owned(), histogram: None, notes }
    }

    fn sampled(&self, weighting: &PairWeighting, row: &ReferenceRow, positive: bool) -> Vec<(f64, f64)> {
        let points = row.curve(weighting, positive, POINTS);
        let largest = points.iter().map(|point| point.1.abs()).fold(0.0, f64::max);
        let scale = if self.absolute || largest == 0.0 { 1.0 } else { 1.0 / largest };
        points.into_iter().map(|(s, weight)| (s, weight * scale)).collect()
    }
}

/// The weights, positive and negative beside one another, as columns between tabs.
fn table(weightings: &[(String, PairWeighting)], row: &ReferenceRow) -> String {
    let mut text = String::new();
    if weightings.iter().any(|(_, weighting)| !weighting.depends_on_similarity_alone()) {
        let _ = writeln!(text, "# where weights depend on the row: {}", row.describe());
    }
    for (name, weighting) in weightings {
        let _ = writeln!(text, "# {name}: {weighting}");
    }
    text.push_str("similarity");
    for (name, _) in weightings {
        let _ = write!(text, "\t{name} +\t{name} -");
    }
    for point in 0..TABLE_ROWS {
        let s = 2.0 * point as f32 / (TABLE_ROWS - 1) as f32 - 1.0;
        let _ = write!(text, "\n{s:.1}");
        for (_, weighting) in weightings {
            for positive in [true, false] {
                let _ = write!(text, "\t{:.4e}", row.weight(weighting, positive, s));
            }
        }
    }
    text + "\n"
}
