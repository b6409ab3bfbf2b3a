//! `xbm-fast search`: the images of an index that look like given ones.

use super::{DeviceFlags, DeviceRequest, Job, place_of};
use crate::app::data::DEFAULT_MAX_MEGAPIXELS;
use crate::app::index::Index;
use crate::app::report;
use crate::app::run::{Found, Search};
use crate::app::terminal;
use crate::error::{Error, Result};
use crate::files::name;
use crate::files::output::Outputs;
use crate::ops::Backend;
use crate::words::{counted, quoted};
use clap::Args;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What to look for, and where.
#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
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
    /// Write over files that xbm-fast did not make; never over one that is read
    #[arg(long)]
    pub force: bool,
    /// Where it computes.
    #[command(flatten)]
    pub device: DeviceFlags,
    /// Print what was found as JSON on stdout
    #[arg(long)]
    pub json: bool,
}

impl Job for SearchArgs {
    fn device(&self) -> DeviceRequest {
        self.device.request()
    }

    fn run<B: Backend>(self, backend: &B) -> Result<ExitCode> {
        self.check()?;
        if let Some(path) = &self.out {
            self.outputs().check(path, report::is_page)?;
        }
        let search = Search::open(backend, &self.index, self.checkpoint)?.with_max_megapixels(self.max_megapixels);
        let found = search.find(&self.query, self.top)?;
        if let Some(Found { hits, .. }) = found.first().filter(|found| found.hits.len() < self.top) {
            let rows = counted(hits.len(), "image");
            terminal::say(format_args!("note      --top {}: the index has {rows}, which are all listed", self.top));
        }
        // The result first: a page that cannot be made does not cost it.
        let printed = if self.json { terminal::print_json(&found) } else { terminal::print(&list(&found)) };
        if let Some(path) = &self.out {
            search.write_page(&found, path)?;
        }
        printed.map(|()| ExitCode::SUCCESS)
    }
}

impl SearchArgs {
    fn check(&self) -> Result<()> {
        if self.top == 0 {
            return Err(Error::config("--top must be at least 1, found 0"));
        }
        let is_page = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "html" || extension == "htm");
        if let Some(path) = self.out.as_ref().filter(|path| !is_page(path)) {
            return Err(Error::config(format!("--out {}: expected a file that ends with .html", path.display())));
        }
        self.query.iter().try_for_each(|query| check_query(query))
    }

    /// Reads the index, its model, its images and the queries.
    fn outputs(&self) -> Outputs<'_> {
        let files = [self.index.clone(), self.index.with_extension("csv"), self.index.with_extension("json")];
        let read = files.into_iter().chain(self.query.clone()).chain(self.checkpoint.clone());
        Outputs::new(self.force).reading(read).reading_listed(|| -> Result<Vec<PathBuf>> {
            let Index { about, images, .. } = Index::read(&self.index)?;
            let images = images.iter().map(|image| name::listed(&about.folder, &image.path));
            Ok(images.chain([about.checkpoint]).chain(place_of(&about.data).map(|place| about.folder.join(place))).collect())
        })
    }
}

/// Refuses what people write for a file that is none, with what to write instead.
fn check_query(query: &Path) -> Result<()> {
    let text = query.to_string_lossy();
    let advice = if text == "-" {
        "standard input is not read; save the image as a file, and give that".to_owned()
    } else if text.contains("://") {
        "an address is not fetched; download the image, and give the file".to_owned()
    } else if query.is_dir() {
        format!("a folder is no image; give its files, such as {}", quoted(&query.join("NAME.jpg").to_string_lossy()))
    } else {
        return Ok(());
    };
    Err(Error::config(format!("--query {text}: {advice}")))
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
