//! The pair loss against plain loops in double precision, over ragged sizes, every curve and gate, and every way to be no pair.

mod agreement;
mod case;
mod oracle;
mod pairs;
mod refusals;
