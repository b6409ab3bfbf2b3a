//! Studies: variants of a training run over several seeds, and what they show.
//!
//! A study is declared ([`Plan`]): shared settings, groups of variants with their axes, seeds, and facts, each a set of comparisons
//! between variants. Every run is an ordinary run in a sub-folder ([`runner`]), so a study that was killed goes on where it was. After each
//! run the results are written anew: `results.json`, `results.csv` and one page, `study.html`, with a verdict for each fact
//! ([`statistics`]).
//!
//! A declaration may also say which settings to tune ([`tune`]).
//!
//! The built-in study asks whether the facts of arXiv 2103.14003 hold on the data at hand.

mod page;
pub mod plan;
pub mod results;
pub mod runner;
mod sketch;
pub mod statistics;
pub mod tune;

pub use plan::Plan;
pub use results::Results;

use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::ops::Backend;
use crate::terminal::say;
use plan::Variant;
use runner::{Outcome, Planned, RunFolders};
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Name of the declaration inside a study's folder.
pub const PLAN_FILE: &str = "study.toml";

/// How a study ended.
#[derive(Debug)]
pub enum Ending {
    /// Every run has finished or failed.
    Finished(Box<Results>),
    /// Somebody asked to stop.
    Interrupted,
}

/// A study in its folder.
#[derive(Debug)]
pub struct Study {
    plan: Plan,
    folder: PathBuf,
    variants: Vec<Variant>,
    /// By variant, then by seed.
    runs: Vec<Vec<Planned>>,
}

impl Study {
    /// Prepares a study and writes its declaration into its folder. Runs that the folder holds already, of this declaration or an earlier
    /// one, are taken over where their settings are the same.
    ///
    /// # Errors
    /// Those of [`Plan::variants`]; [`Error::Io`].
    pub fn open(plan: Plan, folder: &Path) -> Result<Self> {
        let variants = plan.variants()?;
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        write_atomically(folder.join(PLAN_FILE), |file| file.write_all(plan.to_toml().as_bytes()))?;
        let mut folders = RunFolders::of(folder)?;
        let mut planned = |variant: &Variant| plan.seeds.iter().map(|&seed| Planned::new(&mut folders, variant, seed)).collect();
        let runs = variants.iter().map(&mut planned).collect();
        Ok(Self { plan, folder: folder.to_owned(), variants, runs })
    }

    /// Forgets failures, so that [`Study::execute`] tries those runs again.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn forget_failures(&self) -> Result<()> {
        self.runs.iter().flatten().try_for_each(Planned::forget_failure)
    }

    /// Trains every run that is not finished, all variants of a seed before the next seed, so that a study cut short compares like with
    /// like. Results and page are written after each run.
    ///
    /// # Errors
    /// [`Error::Io`] where a record cannot be written. A run that fails is noted and does not stop the others.
    pub fn execute<B: Backend>(&self, backend: &B, interrupted: &AtomicBool) -> Result<Ending> {
        let order = || (0..self.plan.seeds.len()).flat_map(|seed| (0..self.variants.len()).map(move |variant| (variant, seed)));
        let open = order().filter(|&(variant, seed)| self.runs[variant][seed].outcome() == Outcome::Pending).count();
        let (total, mut pace) = (order().count(), Pace::new(open));
        if open < total {
            say(format_args!("{} of {total} runs are done already", total - open));
        }
        let mut current = HashMap::new();
        let outdated = self.runs.iter().flatten().filter(|run| run.is_outdated(&mut current)).count();
        if outdated > 0 {
            say(format_args!(
                "note      {outdated} of these saw other images than the data holds now; study it again in another --out"
            ));
        }
        for (number, (variant, seed)) in order().enumerate() {
            let run = &self.runs[variant][seed];
            // A variant of the same settings may have trained it meanwhile.
            if run.outcome() != Outcome::Pending {
                continue;
            }
            let Some(outcome) = run.execute(backend, interrupted)? else { return Ok(Ending::Interrupted) };
            let place = format!("run {:>3}/{total}  {}, seed {}", number + 1, self.variants[variant].name, self.plan.seeds[seed]);
            say(format_args!("{place}  {}{}", words(&outcome), pace.left_after_another()));
            self.record()?;
            if interrupted.load(Ordering::Relaxed) {
                return Ok(Ending::Interrupted);
            }
        }
        Ok(Ending::Finished(Box::new(self.record()?)))
    }

    /// Where the page is.
    pub fn page(&self) -> PathBuf {
        self.folder.join("study.html")
    }

    /// Writes results and page as the runs stand.
    fn record(&self) -> Result<Results> {
        let results = Results::gather(&self.plan, &self.folder, &self.variants, &self.runs);
        results.write(&self.folder)?;
        write_atomically(self.page(), |file| file.write_all(page::render(&results).as_bytes()))?;
        Ok(results)
    }
}

fn words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Pending => String::new(),
        Outcome::Finished(summary) => format!("Recall@1 {:.1} %", 100.0 * summary.recall_at_1),
        Outcome::Failed(error) => format!("failed: {error}"),
    }
}

/// How long the rest will take.
struct Pace {
    begun: Instant,
    done: usize,
    open: usize,
}

impl Pace {
    fn new(open: usize) -> Self {
        Self { begun: Instant::now(), done: 0, open }
    }

    fn left_after_another(&mut self) -> String {
        self.done += 1;
        let left = self.begun.elapsed().div_f64(self.done as f64).mul_f64(self.open.saturating_sub(self.done) as f64);
        if left > Duration::ZERO { format!("  ({:.0} min left)", (left.as_secs_f64() / 60.0).ceil()) } else { String::new() }
    }
}
