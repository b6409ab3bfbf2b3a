//! The program as it is typed, and what it writes: commands, settings, runs, studies, reports, and every mistake with its one line.

#[cfg(unix)]
mod advice;
#[cfg(unix)]
mod cli;
mod cli_data;
mod config;
#[cfg(unix)]
mod console;
#[cfg(unix)]
mod failed_pictures;
mod index;
mod leakage;
mod limits;
#[cfg(unix)]
mod outputs;
mod recipes;
mod report;
#[cfg(unix)]
mod run_folder;
mod runlog;
mod search;
mod split;
#[cfg(unix)]
mod study;
mod drive;
#[path = "../support/program.rs"]
mod place;
#[path = "../support/mod.rs"]
mod support;
