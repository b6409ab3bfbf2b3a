//! What there is least of: an empty memory, a batch without rows, one row, one class. Nothing of it is an error, and every value is that
//! of the formula, not merely a number.

mod evaluation;
mod losses;
mod oracle;
mod training;
