//! The program as it is typed, and what it writes: commands, settings, runs, studies, reports, and every mistake with its one line.

#[cfg(unix)]
mod advice;
#[cfg(unix)]
mod cli;
mod cli_data;
mod config;
#[cfg(unix)]
mod console;
mod drive;
#[cfg(unix)]
mod failed_pictures;
mod fit;
mod index;
mod index_folder;
mod leakage;
mod learning;
mod limits;
#[cfg(unix)]
mod outputs;
#[path = "../support/program.rs"]
mod place;
mod recipes;
mod report;
#[cfg(unix)]
mod run_folder;
mod runlog;
mod search;
mod serve;
mod split;
#[cfg(unix)]
mod study;
#[path = "../support/mod.rs"]
mod support;
