//! Coordinate search: settings are tuned one after another, each by the scores of its values while the others stay as they are.
//!
//! What a value is worth is the mean Recall@1 over the seeds on classes held out of the training classes (the setting `validation`), so
//! the classes that test a run have no part in the choice. At the end the settings as they were and as they are now are trained on all
//! training classes and scored on the test classes. Every run is one of a study, and found again when the search is taken up.

use super::plan::{MARK, Search, StudyPlan, Variant, shown};
use super::runner::{Outcome, Planned, RunFolders};
use super::statistics::Spread;
use crate::app::config::ScoredOn;
use crate::app::run;
use crate::app::terminal::say;
use crate::error::{Error, Result};
use crate::files::input;
use crate::files::lock::FolderLock;
use crate::files::output::Outputs;
use crate::files::write_atomically;
use crate::ops::Backend;
use crate::words::counted;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// What a search has found, inside its folder.
pub const RESULTS_FILE: &str = "tune.json";
/// Share of the training classes that score a value, where the declaration does not say.
const VALIDATION: f64 = 0.3;

/// What a search has found.
#[derive(Clone, Debug, Serialize)]
pub struct Tuned {
    /// Its name.
    pub name: String,
    /// Everything tried, in order; Recall@1 on the held-out training classes, `None` where a run failed.
    pub trials: Vec<Trial>,
    /// Settings it ended with, beside the base.
    pub chosen: BTreeMap<String, String>,
    /// Recall@1 on the test classes with the settings it started from.
    pub before: Option<Spread>,
    /// The same with those it ended with.
    pub after: Option<Spread>,
}

/// Settings and what they are worth.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// Beside the base.
    pub settings: BTreeMap<String, String>,
    /// Over the seeds.
    pub recall_at_1: Option<Spread>,
}

/// Runs every search of a declaration; `None` if somebody asked to stop.
///
/// # Errors
/// [`Error::Config`] on a declaration without searches or with settings that `train` refuses; [`Error::Io`].
pub fn tune<B: Backend>(plan: &StudyPlan, folder: &Path, backend: &B, interrupted: &AtomicBool) -> Result<Option<Vec<Tuned>>> {
    if plan.searches.is_empty() || plan.seeds.is_empty() {
        return Err(Error::config("expected a declaration with `seeds` and at least one [[tune]], found none"));
    }
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    check_outputs(plan, folder)?;
    let _lock = FolderLock::take(folder)?;
    let mut all = Vec::new();
    for search in &plan.searches {
        let folders = RunFolders::of(folder)?;
        let mut climber = Climber { plan, folder, backend, interrupted, folders, trials: Vec::new(), failure: None };
        let Some(tuned) = climber.search(search)? else { return Ok(None) };
        all.push(tuned);
        write_atomically(folder.join(RESULTS_FILE), |file| {
            serde_json::to_writer_pretty(&mut *file, &all)?;
            file.write_all(b"\n")
        })?;
    }
    Ok(Some(all))
}

/// Fails where a search would write over a file that none has made.
fn check_outputs(plan: &StudyPlan, folder: &Path) -> Result<()> {
    let (outputs, results) = (Outputs::in_folder(), folder.join(RESULTS_FILE));
    let is_results = |path: &Path| {
        let value = input::read(path).ok().and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
        value.and_then(|value| value.get(0)?.get("trials").cloned()).is_some()
    };
    outputs.check(&results, is_results)?;
    plan.searches.iter().try_for_each(|search| {
        outputs.check(&settings_file(folder, &search.name), |path| {
            (StudyPlan::is_written(path) || is_results(&results)) && !plan.is_at(path)
        })
    })
}

/// Where the settings go that a search ended with: a file for `train --config`.
pub fn settings_file(folder: &Path, search: &str) -> PathBuf {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    folder.join(format!("{}.toml", search.chars().map(plain).collect::<String>()))
}

struct Climber<'a, B> {
    plan: &'a StudyPlan,
    folder: &'a Path,
    backend: &'a B,
    interrupted: &'a AtomicBool,
    folders: RunFolders,
    trials: Vec<Trial>,
    /// What the first run that failed ended with.
    failure: Option<String>,
}

impl<B: Backend> Climber<'_, B> {
    fn search(&mut self, search: &Search) -> Result<Option<Tuned>> {
        let mut best = search.settings.clone();
        run::check_data(&self.variant(&best, true)?.config)?;
        let Some(mut score) = self.try_settings(&best)? else { return Ok(None) };
        for _ in 0..search.rounds {
            let before = best.clone();
            for (key, values) in &search.axes {
                let Some(values) = values.as_array().filter(|values| !values.is_empty()) else {
                    let words = format!("search `{}`: axis `{key}` must be a list of values, found {values}", search.name);
                    return Err(Error::config(words));
                };
                let others = best.clone();
                for value in values {
                    let mut settings = others.clone();
                    settings.insert(key.clone(), value.clone());
                    let Some(found) = self.try_settings(&settings)? else { return Ok(None) };
                    if found > score {
                        (best, score) = (settings, found);
                    }
                }
            }
            if best == before {
                break;
            }
        }
        if let Some(words) = self.failure.take().filter(|_| score == f64::NEG_INFINITY) {
            let trials = counted(self.trials.len(), "trial");
            return Err(Error::Training(format!(
                "search `{}`: none of its {trials} has finished; the first failure: {words}",
                search.name
            )));
        }
        let Some(before) = self.scores(&search.settings, false)? else { return Ok(None) };
        let Some(after) = self.scores(&best, false)? else { return Ok(None) };
        let settings = format!("{MARK}\n\n{}", self.plan.config(&best)?.to_toml());
        write_atomically(settings_file(self.folder, &search.name), |file| file.write_all(settings.as_bytes()))?;
        let trials = std::mem::take(&mut self.trials);
        let name = search.name.clone();
        Ok(Some(Tuned { name, trials, chosen: words(&best), before: Spread::of(&before), after: Spread::of(&after) }))
    }

    /// What settings are worth on the held-out training classes: nothing where a run fails.
    fn try_settings(&mut self, settings: &toml::Table) -> Result<Option<f64>> {
        let Some(scores) = self.scores(settings, true)? else { return Ok(None) };
        let spread = Spread::of(&scores).filter(|spread| spread.count == self.plan.seeds.len());
        let (settings, known) = (words(settings), self.trials.len());
        if !self.trials.iter().any(|trial| trial.settings == settings) {
            let listed: Vec<String> = settings.iter().map(|(key, value)| format!("{key} = {value}")).collect();
            let listed = if listed.is_empty() { "as it starts".to_owned() } else { listed.join(", ") };
            let worth = spread.map_or("failed".to_owned(), |spread| format!("Recall@1 {:.1} %", 100.0 * spread.mean));
            say(format_args!("trial {:>3}  {listed}  {worth}", known + 1));
            self.trials.push(Trial { settings, recall_at_1: spread });
        }
        Ok(Some(spread.map_or(f64::NEG_INFINITY, |spread| spread.mean)))
    }

    /// What is trained to score settings: on the held-out training classes, or on the test classes.
    fn variant(&self, settings: &toml::Table, held_out: bool) -> Result<Variant> {
        let mut config = self.plan.config(settings)?;
        config.data.validation = match (held_out, config.data.validation > 0.0) {
            (false, _) => 0.0,
            (true, true) => config.data.validation,
            (true, false) => VALIDATION as f32,
        };
        config.data.score_on = if held_out { ScoredOn::Validation } else { ScoredOn::Test };
        Ok(Variant { name: if held_out { "trial" } else { "tested" }.to_owned(), changes: settings.clone(), config })
    }

    /// Recall@1 of the seeds whose runs finished.
    fn scores(&mut self, settings: &toml::Table, held_out: bool) -> Result<Option<Vec<f64>>> {
        let variant = self.variant(settings, held_out)?;
        let mut scores = Vec::new();
        for &seed in &self.plan.seeds {
            let run = Planned::new(&mut self.folders, &variant, seed);
            run.forget_refusal()?;
            let outcome = match run.outcome() {
                Outcome::Pending => run.execute(self.backend, self.interrupted)?,
                known => Some(known),
            };
            match outcome {
                Some(Outcome::Finished(summary)) => scores.push(summary.recall_at_1.unwrap_or(0.0)),
                Some(Outcome::Failed(words)) => {
                    self.failure.get_or_insert(words);
                }
                Some(Outcome::Pending) => {}
                None => return Ok(None),
            }
        }
        Ok(Some(scores))
    }
}

fn words(settings: &toml::Table) -> BTreeMap<String, String> {
    settings.iter().map(|(key, value)| (key.clone(), shown(value))).collect()
}
