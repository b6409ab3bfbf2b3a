//! `xbm-fast search`: the images of an index that look like given ones.

use super::{DeviceRequest, Job};
use crate::backend::cuda::{Numbers, PairLossPath};
use crate::config::DeviceChoice;
use crate::data::DEFAULT_MAX_MEGAPIXELS;
use crate::error::Result;
use crate::ops::Backend;
use crate::run::{Found, Search};
use crate::terminal;
use clap::Args;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// What to look for, and where.
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// Rows written by `xbm-fast embed`
    #[arg(long, value_name = "FILE.npy|FILE.safetensors")]
    pub index: PathBuf,
    /// Images to look for
    #[arg(long, value_name = "IMAGE", num_args = 1.., required = true)]
    pub query: Vec<PathBuf>,
    /// The index's model, if it has moved
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// Images to find for each query
    #[arg(long, default_value_t = 10)]
    pub top: usize,
    /// Also write a page that shows them
    #[arg(long, value_name = "FILE.html")]
    pub out: Option<PathBuf>,
    /// Largest image that is decoded, in millions of pixels
    #[arg(long, default_value_t = DEFAULT_MAX_MEGAPIXELS, value_name = "MPX")]
    pub max_megapixels: u32,
    /// auto, cpu or cuda
    #[arg(long, value_enum, default_value = "auto")]
    pub device: DeviceChoice,
    /// What a GPU computes in
    #[arg(long, value_enum, default_value = "fp16")]
    pub precision: Numbers,
    /// Worker threads; 0 is one per core
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Print what was found as JSON on stdout
    #[arg(long)]
    pub json: bool,
}

impl Job for SearchArgs {
    fn device(&self) -> DeviceRequest {
        DeviceRequest { choice: self.device, threads: self.threads, numbers: self.precision, pair_loss: PairLossPath::Auto }
    }

    fn run<B: Backend>(self, backend: &B) -> Result<ExitCode> {
        let search = Search::open(backend, &self.index, self.checkpoint)?.with_max_megapixels(self.max_megapixels);
        let found = search.find(&self.query, self.top)?;
        // The result first: a page that cannot be made does not cost it.
        let printed = if self.json { terminal::print_json(&found) } else { terminal::print(&list(&found)) };
        if let Some(path) = &self.out {
            search.write_page(&found, path)?;
        }
        printed.map(|()| ExitCode::SUCCESS)
    }
}

fn list(found: &[Found]) -> String {
    let mut text = String::new();
    for Found { query, hits } in found {
        let _ = writeln!(text, "{}", query.display());
        for hit in hits {
            let same = if hit.same_picture == Some(true) { "  (the query itself)" } else { "" };
            let _ = writeln!(text, "{:>4}  {:.4}  {}  {}{same}", hit.rank, hit.similarity, hit.label, hit.path);
        }
    }
    text
}
