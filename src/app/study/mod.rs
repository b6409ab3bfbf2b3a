//! Studies: variants of a training run over several seeds, and what they show.
//!
//! A study is declared ([`StudyPlan`]): shared settings, groups of variants with their axes, seeds, and facts, each a set of comparisons
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
pub mod statistics;
pub mod tune;

pub use plan::StudyPlan;
pub use results::Results;

use crate::app::config::TrainConfig;
use crate::app::report::is_page;
use crate::app::run;
use crate::app::terminal::say;
use crate::error::{Error, Result};
use crate::files::lock::FolderLock;
use crate::files::output::Outputs;
use crate::files::write_atomically;
use crate::ops::Backend;
use crate::words::quoted;
use plan::Variant;
use runner::{Outcome, Planned, RunFolders};
use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Name of the declaration inside a study's folder.
pub const PLAN_FILE: &str = "study.toml";
const PAGE_FILE: &str = "study.html";

/// So many runs that fail with the same words, before any has finished, are no accidents.
pub const ALIKE: usize = 3;

/// How a study ended.
#[derive(Debug)]
pub enum Ending {
    /// Every run has finished or failed, and one at least has finished; why there is no page of them, if it could not be written.
    Finished(Box<Results>, Option<String>),
    /// Somebody asked to stop.
    Interrupted,
}

/// A study in its folder.
#[derive(Debug)]
pub struct Study {
    plan: StudyPlan,
    folder: PathBuf,
    variants: Vec<Variant>,
    /// By variant, then by seed.
    runs: Vec<Vec<Planned>>,
    _lock: FolderLock,
}

impl Study {
    /// Prepares a study and writes its declaration into its folder. Runs that the folder holds already, of this declaration or an earlier
    /// one, are taken over where their settings are the same.
    ///
    /// # Errors
    /// Those of [`StudyPlan::variants`]; [`Error::Data`] where a file of somebody else is in the way, [`Error::Busy`] if another process is
    /// at work in the folder; [`Error::Io`].
    pub fn open(plan: StudyPlan, folder: &Path) -> Result<Self> {
        let variants = plan.variants()?;
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        check_outputs(&plan, folder)?;
        let lock = FolderLock::take(folder)?;
        let declaration = folder.join(PLAN_FILE);
        // A declaration that says the same keeps its comments.
        if !plan.is_at(&declaration) {
            write_atomically(&declaration, |file| file.write_all(plan.to_toml().as_bytes()))?;
        }
        let mut folders = RunFolders::of(folder)?;
        let mut planned = |variant: &Variant| plan.seeds.iter().map(|&seed| Planned::new(&mut folders, variant, seed)).collect();
        let runs: Vec<Vec<Planned>> = variants.iter().map(&mut planned).collect();
        runs.iter().flatten().try_for_each(Planned::forget_refusal)?;
        Ok(Self { plan, folder: folder.to_owned(), variants, runs, _lock: lock })
    }

    /// Opens the data of every variant that has a run to come, once for all that ask the same of it.
    fn check_data(&self) -> Result<()> {
        let mut asked = HashSet::new();
        for (variant, runs) in self.variants.iter().zip(&self.runs) {
            let Some(run) = runs.iter().find(|run| run.outcome() == Outcome::Pending) else { continue };
            let TrainConfig { data, sampling, train, .. } = run.config();
            let shares = ([data.holdout, data.validation].map(|share| share.to_bits()), data.score_on.name());
            let batch = (train.batch.size, sampling.samples_per_class);
            if asked.insert((&data.spec, shares, batch, train.weighting.negative.soft.is_some())) {
                run::check_data(run.config()).map_err(|error| Error::config(format!("variant `{}`: {error}", variant.name)))?;
            }
        }
        Ok(())
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
    /// [`Error::Config`] where the data of a variant cannot be used, found before the first run; [`Error::Training`] where the first
    /// [`ALIKE`] runs have failed alike, or none has finished; [`Error::Io`] where a record cannot be written. Otherwise a run that fails
    /// is noted and does not stop the others.
    pub fn execute<B: Backend>(&self, backend: &B, interrupted: &AtomicBool) -> Result<Ending> {
        let order = || (0..self.plan.seeds.len()).flat_map(|seed| (0..self.variants.len()).map(move |variant| (variant, seed)));
        self.check_data()?;
        let mut failures = Vec::new();
        let open = order().filter(|&(variant, seed)| self.runs[variant][seed].outcome() == Outcome::Pending).count();
        let (total, mut pace) = (order().count(), Pace::new(open));
        if open < total {
            say(format_args!("{} of {total} runs were done before", total - open));
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
            let results = self.record()?;
            // Written anew after each run: only the last one has to succeed.
            let _ = self.write_page(&results);
            if let Outcome::Failed(words) = outcome {
                failures.push(words);
            }
            if failures.len() == ALIKE && results.counts().0 == 0 && failures.iter().all(|words| *words == failures[0]) {
                return Err(self.nothing_finished(&format!("the first {ALIKE} runs have failed alike"), &failures[0]));
            }
            if interrupted.load(Ordering::Relaxed) {
                return Ok(Ending::Interrupted);
            }
        }
        let results = self.record()?;
        let unshown = self.write_page(&results).err().map(|error| error.to_string());
        match results.first_failure().filter(|_| results.counts().0 == 0) {
            Some(words) => Err(self.nothing_finished("none of the runs has finished", words)),
            None => Ok(Ending::Finished(Box::new(results), unshown)),
        }
    }

    fn nothing_finished(&self, what: &str, failure: &str) -> Error {
        let folder = self.folder.to_string_lossy();
        let advice = format!(
            "change the settings in {}, or try the same again by `xbm-fast study --retry --out {}`",
            self.folder.join(PLAN_FILE).display(),
            quoted(&folder)
        );
        Error::Training(format!("{what}: {failure}; {advice}"))
    }

    /// What is studied.
    pub fn plan(&self) -> &StudyPlan {
        &self.plan
    }

    /// Where the page is.
    pub fn page(&self) -> PathBuf {
        self.folder.join(PAGE_FILE)
    }

    /// Writes the results as the runs stand.
    fn record(&self) -> Result<Results> {
        let results = Results::gather(&self.plan, &self.folder, &self.variants, &self.runs);
        results.write(&self.folder)?;
        Ok(results)
    }

    fn write_page(&self, results: &Results) -> Result<()> {
        write_atomically(self.page(), |file| file.write_all(page::render(results).as_bytes()))
    }
}

/// Fails where a study would write over a file that none has made.
fn check_outputs(plan: &StudyPlan, folder: &Path) -> Result<()> {
    let (outputs, [json, csv]) = (Outputs::in_folder(), results::files(folder));
    outputs.check(&json, Results::is_at)?;
    outputs.check(&csv, Results::is_table)?;
    outputs.check(&folder.join(PAGE_FILE), is_page)?;
    outputs.check(&folder.join(PLAN_FILE), |path| plan.is_at(path) || StudyPlan::is_written(path) || Results::is_at(&json))
}

fn words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Pending => String::new(),
        Outcome::Finished(summary) => format!("Recall@1 {:.1} %", 100.0 * summary.recall_at_1.unwrap_or(0.0)),
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
