//! `xbm-fast study`: finds out which rule holds on the data at hand.

use super::interrupt::Interrupt;
use super::{DeviceRequest, Job, one_of};
use crate::app::config::DeviceChoice;
use crate::app::study::results::FactResult;
use crate::app::study::statistics::Spread;
use crate::app::study::tune::{self, Tuned};
use crate::app::study::{Ending, PLAN_FILE, Results, Study, StudyPlan, plan};
use crate::app::terminal::{print_failure, print_json, say};
use crate::device::cuda::{PairLossPath, Precision};
use crate::error::{Error, Result};
use crate::files::input;
use crate::ops::Backend;
use crate::words::{counted, quoted};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What to study.
#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub struct StudyArgs {
    /// Declaration of the study [default: the one in DIR if there is one, else the built-in one]
    #[arg(value_name = "FILE.toml", conflicts_with = "quick")]
    pub plan: Option<PathBuf>,
    /// Folder of the study; a study that it holds goes on
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Data, as for train, in the place of the declaration's
    #[arg(long, value_name = "SPEC")]
    pub data: Option<String>,
    /// The built-in study in a few minutes
    #[arg(long)]
    pub quick: bool,
    /// Seeds in the place of the declaration's
    #[arg(long, value_name = "SEED,..", value_delimiter = ',')]
    pub seeds: Option<Vec<u64>>,
    /// Tune settings by a coordinate search on classes held out of the training classes, in the place of a study
    #[arg(long, conflicts_with_all = ["quick", "retry"])]
    pub tune: bool,
    /// Try again what has failed
    #[arg(long)]
    pub retry: bool,
    /// What a GPU computes in
    #[arg(long, value_parser = one_of::<Precision>(), default_value = "fp16")]
    pub precision: Precision,
    /// Worker threads; 0 is one per core. Changes no result
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Print the results as JSON on stdout
    #[arg(long)]
    pub json: bool,
}

impl StudyArgs {
    fn read(path: &Path) -> Result<StudyPlan> {
        StudyPlan::parse(&input::read_text(path)?, path)
    }

    fn plan(&self) -> Result<StudyPlan> {
        let held = self.out.join(PLAN_FILE);
        let mut plan = match &self.plan {
            Some(path) => Self::read(path)?,
            None if self.tune => StudyPlan::parse(plan::TUNE, Path::new("the built-in search"))?,
            None if self.quick => StudyPlan::parse(plan::QUICK, Path::new("the quick study"))?,
            None if held.is_file() => Self::read(&held)?,
            None => StudyPlan::parse(plan::DEFAULT, Path::new("the built-in study"))?,
        };
        if let Some(data) = &self.data {
            plan.base.insert("data".to_owned(), data.clone().into());
        }
        if let Some(seeds) = &self.seeds {
            plan.seeds.clone_from(seeds);
        }
        Ok(plan)
    }
}

impl Job for StudyArgs {
    fn device(&self) -> DeviceRequest {
        DeviceRequest {
            choice: DeviceChoice::Auto,
            threads: self.threads,
            precision: self.precision,
            pair_loss: PairLossPath::Auto,
        }
    }

    fn run<B: Backend>(self, backend: &B) -> Result<ExitCode> {
        if self.tune {
            return self.search(backend);
        }
        let study = Study::open(self.plan()?, &self.out)?;
        if self.retry {
            study.forget_failures()?;
        }
        if study.plan().seeds.len() == 1 {
            say("note      one seed decides nothing: claims compare two variants over several");
        }
        let interrupt = Interrupt::listen("step")?;
        match study.execute(backend, interrupt.flag())? {
            Ending::Finished(results, unshown) => {
                verdicts(&results).iter().for_each(say);
                results.remarks.iter().for_each(|remark| say(format_args!("note      {remark}")));
                if self.json {
                    print_json(&*results)?;
                }
                if let Some(reason) = unshown {
                    return Err(Error::config(format!("the results are whole, their page could not be written: {reason}")));
                }
                say(format_args!("page      {}", study.page().display()));
                Ok(ExitCode::SUCCESS)
            }
            Ending::Interrupted => {
                let precision = match self.precision {
                    Precision::Fp16 => String::new(),
                    other => format!(" --precision {}", other.name()),
                };
                let out = self.out.to_string_lossy();
                say(format_args!("interrupted; continue with: xbm-fast study --out {}{precision}", quoted(&out)));
                if self.json {
                    print_failure("interrupted")?;
                }
                Ok(interrupt.exit_code())
            }
        }
    }
}

impl StudyArgs {
    fn search<B: Backend>(&self, backend: &B) -> Result<ExitCode> {
        let interrupt = Interrupt::listen("step")?;
        let Some(found) = tune::tune(&self.plan()?, &self.out, backend, interrupt.flag())? else {
            say("interrupted; the same command continues");
            return Ok(interrupt.exit_code());
        };
        for Tuned { name, chosen, before, after, .. } in &found {
            let chosen: Vec<String> = chosen.iter().map(|(key, value)| format!("{key} = {value}")).collect();
            let score =
                |spread: &Option<Spread>| spread.map_or("failed".to_owned(), |spread| format!("{:.1} %", 100.0 * spread.mean));
            let settings = tune::settings_file(&self.out, name);
            say(format_args!("{name}  {}", if chosen.is_empty() { "as it started".to_owned() } else { chosen.join(", ") }));
            let scores = (score(before), score(after));
            say(format_args!("  Recall@1 on the test classes {} before, {} after; {}", scores.0, scores.1, settings.display()));
        }
        if self.json {
            print_json(&found)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn verdicts(results: &Results) -> Vec<String> {
    let line = |fact: &FactResult| {
        let (seeds, of) = (results.seeds_of(fact), results.seeds.len());
        let part = if seeds < of { format!(" (by {seeds} of {})", counted(of, "seed")) } else { String::new() };
        format!("{}  {:<13}  {}{part}", fact.name, fact.verdict.words(), fact.statement)
    };
    let (finished, failed, total) = results.counts();
    let failures = (failed > 0).then(|| format!("{finished} of {total} runs finished, {failed} failed; --retry tries these again"));
    results.facts.iter().map(line).chain(failures).collect()
}
