//! `packed:FILE`: a data set of any other layout, packed into one file by `xbm-fast pack`.

use super::{Entry, path_of};
use crate::app::data::{Dataset, OpenOptions, packed};
use crate::error::Result;

pub(super) const ENTRY: Entry = Entry { name: "packed", usage: "packed:FILE.xbm", open };

fn open(rest: &str, _options: &OpenOptions) -> Result<Dataset> {
    packed::open(path_of(rest, &ENTRY)?)
}
