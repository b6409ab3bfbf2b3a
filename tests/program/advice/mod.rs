//! What errors and notes advise, tried: each test provokes an error with a small input, takes the advice out of its words, follows it, and
//! sees it lead on.

mod data;
mod flags;
mod json;
mod living;
mod named;
mod place;
mod run;
mod search;
mod turns;
