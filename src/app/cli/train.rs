//! `xbm-fast train`: its flags, and how they become a run.

use super::interrupt::Interrupt;
use super::{DeviceRequest, Job};
use crate::app::config::{Source, TrainConfig, TrainFlags, read_table};
use crate::app::recipes::Recipe;
use crate::app::run::{self, Ending, RunFolder, Verbosity};
use crate::app::runlog::{Summary, Validated};
use crate::app::terminal::{print_failure, print_json, say};
use crate::error::{Error, Result};
use crate::group::Group;
use crate::ops::Backend;
use crate::words::{counted, quoted};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Where a run comes from and how it reports.
#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub struct TrainArgs {
    /// Settings file; flags override it
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// Settings for a published data set; flags override them
    #[arg(long, value_name = "NAME", conflicts_with_all = ["config", "resume"])]
    pub recipe: Option<String>,
    /// Print the recipes, with their sources, and do nothing else
    #[arg(long)]
    pub list_recipes: bool,
    /// Continue the run in this folder from its last checkpoint
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "out"])]
    pub resume: Option<PathBuf>,
    /// Print the summary as JSON on stdout
    #[arg(long)]
    pub json: bool,
    /// The run's settings.
    #[command(flatten)]
    pub flags: TrainFlags,
}

impl TrainArgs {
    /// Reads the settings, those of the run to continue included.
    ///
    /// # Errors
    /// Settings that are unknown, ill-typed or contradict each other; a folder without a run.
    pub fn prepare(self, group: &Group) -> Result<TrainJob> {
        let open = |root| if group.is_first() { RunFolder::open(root) } else { Ok(RunFolder::of_first_rank(root)) };
        let resumed = self.resume.as_deref().map(open).transpose()?;
        let given = self.flags.table()?;
        let (mut config, fitted) = match (&self.recipe, &resumed) {
            (Some(name), _) => {
                let recipe = Recipe::named(name)?;
                (TrainConfig::layered([(Source::Recipe(recipe.name), recipe.table()?), (Source::Flags, given.clone())])?, None)
            }
            (None, Some(folder)) => (folder.settings(given.clone())?, None),
            (None, None) => {
                let config = TrainConfig::merged(self.config.as_deref(), given.clone())?;
                let mut known = self.config.as_deref().map(read_table).transpose()?.unwrap_or_default();
                known.extend(given.clone());
                (config, Some(known))
            }
        };
        let mut idle = config.idle(&given);
        if let Some(folder) = &resumed {
            config.record.out = folder.root().to_owned();
            if given.contains_key("pretrained") && folder.last_checkpoint()?.is_some() {
                idle.push("--pretrained has no effect with --resume: the run goes on from its checkpoint".to_owned());
            }
        }
        group.wait_at_most(Duration::from_secs(config.machine.group_timeout));
        Ok(TrainJob { config, fitted, resumed, idle, json: self.json })
    }
}

/// A run that is ready to start or to go on.
#[derive(Debug)]
pub struct TrainJob {
    config: TrainConfig,
    /// Settings that were given, where the others may be chosen by the images.
    fitted: Option<toml::Table>,
    resumed: Option<RunFolder>,
    /// Sentences about flags without effect.
    idle: Vec<String>,
    json: bool,
}

/// The score, and what it is of.
fn ending_words(summary: &Summary) -> String {
    let seconds = summary.seconds;
    let (Some(before), Some(after)) = (summary.initial_recall_at_1, summary.recall_at_1) else {
        return format!("trained for {seconds:.0} s on all classes; nothing was held out, so nothing is scored");
    };
    let score = summary.classes.headline();
    let words = format!("{score}: {:.1} % before, {:.1} % after {seconds:.0} s", 100.0 * before, 100.0 * after);
    match summary.validation {
        None => words,
        Some(Validated { classes, step, .. }) => {
            format!("{words}, by the checkpoint of step {step}, which {} chose", counted(classes, "validation class"))
        }
    }
}

impl Job for TrainJob {
    fn device(&self) -> DeviceRequest {
        let machine = &self.config.machine;
        DeviceRequest {
            choice: machine.device,
            threads: machine.threads,
            precision: machine.precision,
            pair_loss: machine.pair_loss,
        }
    }

    fn run<B: Backend>(self, backend: &B) -> Result<ExitCode> {
        let interrupt = Interrupt::listen("step")?;
        // The first rank speaks for all.
        if !backend.group().is_first() {
            return self.train(backend, &interrupt, Verbosity::Silent).map(|_| ExitCode::SUCCESS);
        }
        self.idle.iter().for_each(|words| say(format_args!("note      {words}")));
        let json = self.json;
        match self.train(backend, &interrupt, Verbosity::Aloud)? {
            Ending::Finished(summary, folder, unreported) => {
                say(ending_words(&summary));
                if json {
                    print_json(&*summary)?;
                }
                if let Some(reason) = unreported {
                    let root = folder.root().display();
                    let words = format!("the run is whole, its report could not be written: {reason}; try --resume {root} again");
                    return Err(Error::config(words));
                }
                say(format_args!("report    {}", folder.report().display()));
                Ok(ExitCode::SUCCESS)
            }
            Ending::Interrupted(checkpoint, folder) => {
                say(format_args!("interrupted; saved {}", checkpoint.display()));
                say(format_args!("continue with: xbm-fast train --resume {}", quoted(&folder.root().to_string_lossy())));
                if json {
                    print_failure(&format!("interrupted; saved {}", checkpoint.display()))?;
                }
                Ok(interrupt.exit_code())
            }
        }
    }
}

impl TrainJob {
    fn train<B: Backend>(self, backend: &B, interrupt: &Interrupt, verbosity: Verbosity) -> Result<Ending> {
        match (self.resumed, self.fitted) {
            (Some(folder), _) => run::resume(backend, folder, self.config, interrupt.flag(), verbosity),
            (None, Some(given)) => run::start_fitted(backend, self.config, &given, interrupt.flag(), verbosity),
            (None, None) => run::start(backend, self.config, interrupt.flag(), verbosity),
        }
    }
}
