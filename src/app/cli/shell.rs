//! `xbm-fast completions` and `xbm-fast man`: what shells and `man` know of the command line.

use super::Cli;
use crate::app::terminal;
use crate::error::{Error, Result};
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use std::process::ExitCode;

/// For which shell.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell; bash takes `source <(xbm-fast completions bash)`, the others read a file of it
    #[arg(value_enum)]
    pub shell: Shell,
}

impl CompletionsArgs {
    /// Prints the script.
    ///
    /// # Errors
    /// Standard output that cannot be written.
    pub fn run(self) -> Result<ExitCode> {
        let (mut command, mut text) = (Cli::command(), Vec::new());
        let name = command.get_name().to_owned();
        clap_complete::generate(self.shell, &mut command, name, &mut text);
        print(&text)
    }
}

/// Of which command.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// A command [default: the program]
    #[arg(value_name = "COMMAND")]
    pub command: Option<String>,
}

impl ManArgs {
    /// Prints the page, for `man -l -` or a file.
    ///
    /// # Errors
    /// [`Error::Config`] on what is no command; standard output that cannot be written.
    pub fn run(self) -> Result<ExitCode> {
        let mut program = Cli::command();
        program.build();
        let page = match &self.command {
            None => program,
            Some(name) => {
                let names = program.get_subcommands().filter(|command| !command.is_hide_set()).map(clap::Command::get_name);
                let known = names.collect::<Vec<_>>().join(", ");
                let found = program.find_subcommand(name).cloned();
                found.ok_or_else(|| Error::config(format!("man {name}: expected a command of {known}")))?
            }
        };
        let mut text = Vec::new();
        Man::new(page).render(&mut text).map_err(Error::io("the manual page"))?;
        print(&text)
    }
}

fn print(text: &[u8]) -> Result<ExitCode> {
    terminal::print(&String::from_utf8_lossy(text)).map(|()| ExitCode::SUCCESS)
}
