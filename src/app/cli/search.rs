//! `xbm-fast search`: the images of an index that look like given ones.

use super::interrupt::Interrupt;
use super::{DeviceFlags, DeviceRequest, Job, place_of};
use crate::app::data::DEFAULT_MAX_MEGAPIXELS;
use crate::app::index::Opened;
use crate::app::report;
use crate::app::run::{Found, Query, Search, model_file, serve_search};
use crate::app::serve::listen;
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
    /// A folder made by `xbm-fast index`, or rows written by `xbm-fast embed`
    #[arg(long, value_name = "DIR|FILE.npy|FILE.safetensors")]
    pub index: PathBuf,
    /// Images to look for: files, folders, which stand for the images at any depth below them, or - for an image or a list of files on
    /// standard input
    #[arg(long, value_name = "IMAGE|DIR|-", num_args = 1.., required_unless_present = "serve")]
    pub query: Vec<PathBuf>,
    /// Keep the index open and answer a browser there, HOST:PORT or a port, until Ctrl-C: a page to drop pictures on, and the same as JSON
    #[arg(long, value_name = "ADDR", num_args = 0..=1, default_missing_value = "127.0.0.1:8077",
        conflicts_with_all = ["query", "out", "json", "top"])]
    pub serve: Option<String>,
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
        let checkpoint = self.checkpoint.as_deref().map(model_file).transpose()?;
        let queries = Query::gather(&self.query)?;
        let mut search = Search::open(backend, &self.index, checkpoint)?.with_max_megapixels(self.max_megapixels);
        if let Some(address) = &self.serve {
            return serve(&mut search, address);
        }
        let (found, unreadable) = search.find(&queries, self.top)?;
        for reason in &unreadable {
            terminal::say(format_args!("left out  {reason}"));
        }
        if let Some(Found { hits, .. }) = found.first().filter(|found| found.hits.len() < self.top) {
            let rows = counted(hits.len(), "image");
            terminal::say(format_args!("note      --top {}: the index has {rows}, which are all listed", self.top));
        }
        // The result first: a page that cannot be made does not cost it.
        let printed = if self.json { terminal::print_json(&found) } else { terminal::print(&list(&found)) };
        if let Some(path) = &self.out {
            search.write_page(&found, &queries, path)?;
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
            let index = Opened::open(&self.index)?.into_files()?;
            let (about, images) = (&index.about, &index.images);
            let images = images.iter().map(|image| name::listed(&about.folder, &image.path));
            let places = place_of(&about.data).map(|place| about.folder.join(place));
            Ok(images.chain([about.checkpoint.clone()]).chain(places).collect())
        })
    }
}

/// Answers a browser until somebody asks to stop.
fn serve<B: Backend>(search: &mut Search<'_, B>, address: &str) -> Result<ExitCode> {
    let interrupt = Interrupt::listen("request")?;
    let listener = listen(address)?;
    let local = listener.local_addr().map_err(Error::io(address))?;
    if !local.ip().is_loopback() {
        terminal::say(
            "note      whoever reaches this address sees the pictures of the index; nothing is asked of them, nor encrypted",
        );
    }
    let images = counted(search.index().len(), "image");
    terminal::say(format_args!("serving   {images} at http://{local}/ until Ctrl-C"));
    serve_search(search, listener, interrupt.flag())?;
    Ok(ExitCode::SUCCESS)
}

/// Refuses what people write for a file that is none, with what to do instead.
fn check_query(query: &Path) -> Result<()> {
    let text = query.to_string_lossy();
    if !text.contains("://") {
        return Ok(());
    }
    let piped = format!("curl {} | xbm-fast search --query - ...", quoted(&text));
    Err(Error::config(format!(
        "--query {text}: an address is not fetched; download the image, and give the file, or pipe it: {piped}"
    )))
}

fn list(found: &[Found]) -> String {
    let mut text = String::new();
    for Found { query, hits } in found {
        let _ = writeln!(text, "{}", query.display());
        for hit in hits {
            let label = if hit.label.is_empty() { String::new() } else { format!("{}  ", hit.label) };
            let same = if hit.same_picture == Some(true) { "  (the query itself)" } else { "" };
            let _ = writeln!(text, "{:>4}  {:.4}  {}{}{same}", hit.rank, hit.similarity, label, hit.path);
        }
    }
    text
}
