//! What the runs show: scores by variant, verdicts by fact, as JSON and as csv.

use super::plan::{StudyPlan, Variant, shown};
use super::runner::{Outcome, Planned};
use super::statistics::{Direction, Spread, Verdict, sign_flip_p};
use crate::app::data::Content;
use crate::app::runlog::Summary;
use crate::error::{Error, Result};
use crate::files::{input, output, write_atomically};
use crate::loss::PairWeighting;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

/// How the table of the runs begins.
const TABLE_HEADER: [&str; 4] = ["variant", "changes", "seed", "status"];

/// Where results go, as JSON and as a table.
pub fn files(study: &Path) -> [PathBuf; 2] {
    ["results.json", "results.csv"].map(|name| study.join(name))
}

/// Everything a study has found so far.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    /// Heading.
    pub title: String,
    /// Version of the program.
    pub version: String,
    /// Settings that all variants share.
    pub base: BTreeMap<String, String>,
    /// The seeds.
    pub seeds: Vec<u64>,
    /// Variants with their runs.
    pub variants: Vec<VariantResult>,
    /// Facts with their verdicts.
    pub facts: Vec<FactResult>,
    /// What the scores are of, such as `Recall@1 on classes never trained on`.
    pub score: String,
    /// What to know about the data before believing the scores.
    pub remarks: Vec<String>,
}

/// A variant and its runs.
#[derive(Clone, Debug, Serialize)]
pub struct VariantResult {
    /// Its name.
    pub name: String,
    /// What it changes in the base.
    pub changes: BTreeMap<String, String>,
    /// One for each seed.
    pub runs: Vec<RunResult>,
    /// Recall@1 over the finished runs.
    pub recall_at_1: Option<Spread>,
    /// MAP@R over the finished runs.
    pub map_at_r: Option<Spread>,
    /// Training seconds over the finished runs.
    pub seconds: Option<Spread>,
    /// Its pair weights.
    #[serde(skip)]
    pub weighting: PairWeighting,
}

/// A run.
#[derive(Clone, Debug, Serialize)]
pub struct RunResult {
    /// Its seed.
    pub seed: u64,
    /// Its folder inside the study's.
    pub folder: String,
    /// How it stands.
    pub outcome: Outcome,
}

/// A fact and what the seeds say about it.
#[derive(Clone, Debug, Serialize)]
pub struct FactResult {
    /// Short name.
    pub name: String,
    /// The statement.
    pub statement: String,
    /// Of all its claims together.
    pub verdict: Verdict,
    /// Each comparison.
    pub claims: Vec<ClaimResult>,
}

/// A comparison of two variants, seed by seed.
#[derive(Clone, Debug, Serialize)]
pub struct ClaimResult {
    /// The variant spoken of.
    pub variant: String,
    /// What is claimed.
    pub is: Direction,
    /// The variant it is compared with.
    pub than: String,
    /// The smallest gain that matters.
    pub margin: f64,
    /// Differences of Recall@1, in the order of the seeds, where both runs finished.
    pub differences: Vec<f64>,
    /// Their mean and spread.
    pub spread: Option<Spread>,
    /// Half of the 95 % interval around their mean: a smaller difference cannot be told from none with these seeds.
    pub half_width: Option<f64>,
    /// Two-sided p of the exact sign-flip test.
    pub sign_flip_p: Option<f64>,
    /// What follows.
    pub verdict: Verdict,
}

impl Results {
    /// Of the runs as they stand.
    pub fn gather(plan: &StudyPlan, study: &Path, variants: &[Variant], runs: &[Vec<Planned>]) -> Self {
        let variants: Vec<VariantResult> =
            variants.iter().zip(runs).map(|(variant, runs)| VariantResult::of(plan, study, variant, runs)).collect();
        let facts = plan.facts.iter().map(|fact| {
            let claims: Vec<ClaimResult> = fact.claims.iter().map(|claim| ClaimResult::of(claim, &variants)).collect();
            let verdict = Verdict::of_all(claims.iter().map(|claim| claim.verdict));
            FactResult { name: fact.name.clone(), statement: fact.statement.clone(), verdict, claims }
        });
        let facts = facts.collect();
        let (score, remarks) = (score(&variants), remarks(&variants));
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self {
            title: plan.title.clone(),
            version,
            base: readable(&plan.base),
            seeds: plan.seeds.clone(),
            variants,
            facts,
            score,
            remarks,
        }
    }

    /// Seeds under which the runs of every claim of a fact have finished.
    pub fn seeds_of(&self, fact: &FactResult) -> usize {
        fact.claims.iter().map(|claim| claim.differences.len()).min().unwrap_or(0)
    }

    /// The first failure, if a run has failed.
    pub fn first_failure(&self) -> Option<&str> {
        let mut outcomes = self.variants.iter().flat_map(|variant| &variant.runs).map(|run| &run.outcome);
        outcomes.find_map(|outcome| if let Outcome::Failed(words) = outcome { Some(words.as_str()) } else { None })
    }

    /// Runs finished, failed and in all.
    pub fn counts(&self) -> (usize, usize, usize) {
        let outcomes = || self.variants.iter().flat_map(|variant| &variant.runs).map(|run| &run.outcome);
        let finished = outcomes().filter(|outcome| matches!(outcome, Outcome::Finished(_))).count();
        let failed = outcomes().filter(|outcome| matches!(outcome, Outcome::Failed(_))).count();
        (finished, failed, outcomes().count())
    }

    /// Whether a file holds results.
    pub fn is_at(path: &Path) -> bool {
        let value = input::read(path).ok().and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
        value.is_some_and(|value| ["title", "version", "seeds", "variants", "facts"].iter().all(|key| value.get(key).is_some()))
    }

    /// Whether a file holds the table of the runs.
    pub fn is_table(path: &Path) -> bool {
        let start = TABLE_HEADER.join(",");
        output::head(path, start.len() as u64) == start.as_bytes()
    }

    /// Writes `results.json` and `results.csv` into the study's folder.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, study: &Path) -> Result<()> {
        let [json, path] = files(study);
        write_atomically(json, |file| {
            serde_json::to_writer_pretty(&mut *file, self)?;
            file.write_all(b"\n")
        })?;
        let bytes = self.csv().map_err(|error| Error::data(&path, error.to_string()))?;
        write_atomically(&path, |file| file.write_all(&bytes))
    }

    /// A line for each run.
    fn csv(&self) -> std::result::Result<Vec<u8>, csv::Error> {
        let mut lines = csv::Writer::from_writer(Vec::new());
        let scores = ["recall_at_1", "recall_at_10", "map_at_r", "r_precision", "initial_recall_at_1", "seconds"];
        lines.write_record(TABLE_HEADER.into_iter().chain(scores).chain(["folder", "error"]))?;
        for variant in &self.variants {
            let changes: Vec<String> = variant.changes.iter().map(|(name, value)| format!("{name}={value}")).collect();
            for run in &variant.runs {
                let (status, summary, error) = match &run.outcome {
                    Outcome::Pending => ("pending", None, ""),
                    Outcome::Finished(summary) => ("finished", Some(summary), ""),
                    Outcome::Failed(error) => ("failed", None, error.as_str()),
                };
                let score = |value: fn(&Summary) -> Option<f64>| {
                    summary.and_then(|summary| value(summary)).map_or(String::new(), |value| value.to_string())
                };
                lines.write_record([
                    variant.name.clone(),
                    changes.join(" "),
                    run.seed.to_string(),
                    status.to_owned(),
                    score(|summary| summary.recall_at_1),
                    score(|summary| summary.recall_at_10),
                    score(|summary| summary.map_at_r),
                    score(|summary| summary.r_precision),
                    score(|summary| summary.initial_recall_at_1),
                    score(|summary| Some(summary.seconds)),
                    run.folder.clone(),
                    error.to_owned(),
                ])?;
            }
        }
        lines.into_inner().map_err(|error| error.into_error().into())
    }
}

fn finished(variants: &[VariantResult]) -> impl Iterator<Item = &Summary> {
    let outcomes = variants.iter().flat_map(|variant| &variant.runs).map(|run| &run.outcome);
    outcomes.filter_map(|outcome| if let Outcome::Finished(summary) = outcome { Some(&**summary) } else { None })
}

/// What the scores of all runs may be called: classes that one run trained on are not new.
fn score(variants: &[VariantResult]) -> String {
    let least_new = finished(variants).map(|summary| summary.classes).max_by_key(|classes| classes.trained_on);
    least_new.map_or("Recall@1".to_owned(), |classes| classes.headline())
}

/// Copies, each once, and runs that did not see the same images.
fn remarks(variants: &[VariantResult]) -> Vec<String> {
    let mut remarks: Vec<String> = Vec::new();
    for words in finished(variants).flat_map(|summary| &summary.copies).map(ToString::to_string) {
        if !remarks.contains(&words) {
            remarks.push(words);
        }
    }
    let mut lists: BTreeMap<(&str, Content), usize> = BTreeMap::new();
    for summary in finished(variants) {
        if let Some(images) = summary.images {
            *lists.entry((&summary.data, images)).or_default() += 1;
        }
    }
    let specs: BTreeSet<&str> = lists.keys().map(|(data, _)| *data).collect();
    for spec in specs {
        let counts: Vec<String> = lists.iter().filter(|((data, _), _)| *data == spec).map(|(_, runs)| runs.to_string()).collect();
        if counts.len() > 1 {
            remarks.push(format!(
                "{spec} changed between the runs: {} of them saw different images, and their scores cannot be compared; study it again in \
                 another --out",
                counts.join(" and ")
            ));
        }
    }
    remarks
}

impl VariantResult {
    fn of(plan: &StudyPlan, study: &Path, variant: &Variant, runs: &[Planned]) -> Self {
        let result = |(&seed, run): (&u64, &Planned)| {
            let folder = run.folder().strip_prefix(study).unwrap_or(run.folder()).display().to_string();
            RunResult { seed, folder, outcome: run.outcome() }
        };
        let runs: Vec<RunResult> = plan.seeds.iter().zip(runs).map(result).collect();
        let spread = |value: fn(&Summary) -> Option<f64>| {
            let finished =
                runs.iter().filter_map(|run| if let Outcome::Finished(summary) = &run.outcome { Some(summary) } else { None });
            Spread::of(&finished.filter_map(|summary| value(summary)).collect::<Vec<_>>())
        };
        let (recall_at_1, map_at_r) = (spread(|summary| summary.recall_at_1), spread(|summary| summary.map_at_r));
        let seconds = spread(|summary| Some(summary.seconds));
        let weighting = variant.config.train.weighting.clone();
        Self { name: variant.name.clone(), changes: readable(&variant.changes), recall_at_1, map_at_r, seconds, runs, weighting }
    }

    /// Recall@1 of the run under a seed, once it has finished.
    fn score(&self, seed: u64) -> Option<f64> {
        self.runs.iter().find(|run| run.seed == seed).and_then(|run| match &run.outcome {
            Outcome::Finished(summary) => summary.recall_at_1,
            _ => None,
        })
    }
}

impl ClaimResult {
    fn of(claim: &super::plan::Claim, variants: &[VariantResult]) -> Self {
        let named = |name: &str| variants.iter().find(|variant| variant.name == name).expect("claims are checked with the plan");
        let (one, other) = (named(&claim.variant), named(&claim.than));
        let seeds = one.runs.iter().map(|run| run.seed);
        let differences: Vec<f64> = seeds.filter_map(|seed| Some(one.score(seed)? - other.score(seed)?)).collect();
        let spread = Spread::of(&differences);
        Self {
            variant: claim.variant.clone(),
            is: claim.is,
            than: claim.than.clone(),
            margin: claim.margin,
            spread,
            half_width: spread.and_then(|spread| spread.half_width()),
            sign_flip_p: sign_flip_p(&differences),
            verdict: spread.map_or(Verdict::NotTested, |spread| claim.is.judge(&spread, claim.margin)),
            differences,
        }
    }
}

fn readable(table: &toml::Table) -> BTreeMap<String, String> {
    table.iter().map(|(name, value)| (name.clone(), shown(value))).collect()
}
