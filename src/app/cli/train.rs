//! `xbm-fast train`: its flags, and how they become a run.

use super::interrupt::Interrupt;
use super::{DeviceRequest, Job};
use crate::app::config::{Source, TrainConfig, TrainFlags};
use crate::app::recipes::Recipe;
use crate::app::run::{self, Ending, RunFolder, Verbosity};
use crate::app::terminal::{print_failure, print_json, say};
use crate::error::{Error, Result};
use crate::group::Group;
use crate::ops::Backend;
use crate::words::quoted;
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
        let file = resumed.as_ref().map(RunFolder::config).or(self.config);
        let given = self.flags.table()?;
        let mut config = match &self.recipe {
            Some(name) => {
                let recipe = Recipe::named(name)?;
                TrainConfig::layered([(Source::Recipe(recipe.name), recipe.table()?), (Source::Flags, given.clone())])?
            }
            None => TrainConfig::merged(file.as_deref(), given.clone())?,
        };
        let mut idle = config.idle(&given);
        if let Some(folder) = &resumed {
            config.record.out = folder.root().to_owned();
            if given.contains_key("pretrained") && folder.last_checkpoint()?.is_some() {
                idle.push("--pretrained has no effect with --resume: the run goes on from its checkpoint".to_owned());
            }
        }
        group.wait_at_most(Duration::from_secs(config.machine.group_timeout));
        config.train.check_ranks(group.size())?;
        Ok(TrainJob { config, resumed, idle, json: self.json })
    }
}

/// A run that is ready to start or to go on.
#[derive(Debug)]
pub struct TrainJob {
    config: TrainConfig,
    resumed: Option<RunFolder>,
    /// Sentences about flags without effect.
    idle: Vec<String>,
    json: bool,
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
        if !backend.group().is_first() {
            return self.follow(backend, &interrupt);
        }
        self.idle.iter().for_each(|words| say(format_args!("note      {words}")));
        let ending = match self.resumed {
            Some(folder) => run::resume(backend, folder, self.config, interrupt.flag(), Verbosity::Aloud)?,
            None => run::start(backend, self.config, interrupt.flag(), Verbosity::Aloud)?,
        };
        match ending {
            Ending::Finished(summary, folder, unreported) => {
                let (before, after) = (100.0 * summary.initial_recall_at_1, 100.0 * summary.recall_at_1);
                let score = summary.classes.headline();
                say(format_args!("{score}: {before:.1} % before, {after:.1} % after {:.0} s", summary.seconds));
                if self.json {
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
                if self.json {
                    print_failure(&format!("interrupted; saved {}", checkpoint.display()))?;
                }
                Ok(interrupt.exit_code())
            }
        }
    }
}

impl TrainJob {
    /// The same as a rank that leaves it to the first one to speak.
    fn follow<B: Backend>(self, backend: &B, interrupt: &Interrupt) -> Result<ExitCode> {
        match self.resumed {
            Some(folder) => run::resume(backend, folder, self.config, interrupt.flag(), Verbosity::Silent)?,
            None => run::start(backend, self.config, interrupt.flag(), Verbosity::Silent)?,
        };
        Ok(ExitCode::SUCCESS)
    }
}
