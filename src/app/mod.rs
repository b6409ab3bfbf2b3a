//! The program `xbm-fast`: data sets, settings, runs and their records, studies, and the commands. Nothing in the engine imports it.
//!
//! Reading order: [`cli`] has a file for each command; [`run`] is a training run with everything around the algorithm; [`config`] its
//! settings; [`data`] where images come from; [`study`] many runs compared.

pub mod cli;
pub mod config;
pub mod data;
pub mod embed;
pub mod fit;
pub mod index;
pub mod mapping;
pub mod recipes;
pub mod report;
pub mod run;
pub mod runlog;
pub mod selfcheck;
pub mod serve;
pub mod study;
pub mod tensorboard;
pub mod terminal;
pub mod window;
