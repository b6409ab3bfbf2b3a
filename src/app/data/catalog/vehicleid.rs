//! `vehicleid:PATH[,test=800|1600|2400]`: PKU VehicleID (Liu et al., CVPR 2016), a folder with `train_test_split/train_list.txt` and
//! `test_list_{800,1600,2400}.txt` (`image vehicle`, white-space separated) and `image/%07d.jpg`. Test images query all others, as
//! cross-batch memory's authors did; without `test=` the largest list is used.

use std::path::Path;

use super::list::List;
use super::{Entry, path_of};
use crate::app::data::builder::Builder;
use crate::app::data::{Dataset, OpenOptions, Protocol, Split};
use crate::error::{Error, Result};

pub(super) const ENTRY: Entry = Entry { name: "vehicleid", usage: "vehicleid:PATH[,test=800|1600|2400]", open };

const TEST_LISTS: [&str; 3] = ["800", "1600", "2400"];
const REMARK: &str = "every test image queries all others; not comparable with the re-identification protocol, which draws one gallery \
                      image of each vehicle";

fn open(rest: &str, _options: &OpenOptions) -> Result<Dataset> {
    let (path, vehicles) = rest.rsplit_once(",test=").unwrap_or((rest, "2400"));
    if !TEST_LISTS.contains(&vehicles) {
        return Err(Error::config(format!("vehicleid option `test`: expected 800, 1600 or 2400, found `{vehicles}`")));
    }
    let root = path_of(path, &ENTRY)?;
    let mut builder = Builder::new(root, Protocol::recall_at(&[1, 5]).with_remark(REMARK));
    read_list(&mut builder, root, "train_list.txt", Split::Train)?;
    read_list(&mut builder, root, &format!("test_list_{vehicles}.txt"), Split::Test)?;
    builder.note(format!("tested on the {vehicles} vehicles of test_list_{vehicles}.txt"));
    builder.finish()
}

fn read_list(builder: &mut Builder, root: &Path, name: &str, split: Split) -> Result<()> {
    let list = List::read(root.join("train_test_split").join(name))?;
    for row in list.rows(0, ["image", "vehicle"]) {
        let (line, [image, vehicle]) = row?;
        let image = list.number(line, "image number", 0, image)?;
        let vehicle = list.number(line, "vehicle id", 0, vehicle)?;
        builder.push_listed(&vehicle.to_string(), split, root.join("image").join(format!("{image:07}.jpg")), name);
    }
    Ok(())
}
