//! Folders as people and their file managers leave them.

use crate::pictures::{flat, write, write_classes};
use crate::program::{assert_says, refused, run, succeed, xbm};
use std::path::Path;
use std::process::Command;
use xbm_fast::app::data::{Dataset, OpenOptions, Split};

fn open(root: &Path) -> xbm_fast::Result<Dataset> {
    Dataset::open(&format!("folder:{}", root.display()), &OpenOptions::default())
}

/// The classes of the images, each once, sorted.
fn classes(dataset: &Dataset) -> Vec<&str> {
    let mut names: Vec<&str> = dataset.images.iter().map(|image| dataset.classes[image.label as usize].as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn spec(root: &Path) -> String {
    format!("folder:{}", root.display())
}

// github.com/pytorch/vision/issues/109: .DS_Store became a class.
// github.com/fastai/fastai/issues/488: .DS_Store in a class folder was opened as an image.
#[test]
fn what_a_file_manager_leaves_is_no_class_and_no_image() {
    let folder = tempfile::tempdir().unwrap();
    write_classes(folder.path(), &["a", "b"], 2);
    for name in [".DS_Store", "a/.DS_Store", "Thumbs.db", "a/Thumbs.db", "b/desktop.ini"] {
        write(folder.path(), name, b"\0\0\0\x01Bud1");
    }
    let dataset = open(folder.path()).unwrap();
    assert_eq!((classes(&dataset), dataset.images.len()), (vec!["a", "b"], 4));
}

// github.com/pytorch/vision/issues/2831: .ipynb_checkpoints became a class, and the last index of a network was wrong.
// github.com/tensorflow/tensorflow/issues/46595: the same in a notebook service.
// github.com/open-mmlab/mmpretrain/issues/507: the same, with a CUDA assertion as the message.
#[test]
fn hidden_folders_are_no_classes_even_with_images_in_them() {
    let folder = tempfile::tempdir().unwrap();
    write_classes(folder.path(), &["no_skip", "skip", ".ipynb_checkpoints"], 2);
    write(folder.path(), "skip/.ipynb_checkpoints/0-checkpoint.png", &flat([1, 2, 3]));
    let dataset = open(folder.path()).unwrap();
    assert_eq!((classes(&dataset), dataset.images.len()), (vec!["no_skip", "skip"], 4));
}

// github.com/simulot/immich-go/issues/480: ._photo.jpeg beside photo.jpeg holds what macOS knows of it, and no picture.
// github.com/jurplel/qView/issues/651: such a file was shown as a damaged image.
#[test]
fn resource_forks_are_not_taken_for_photographs() {
    let folder = tempfile::tempdir().unwrap();
    write_classes(folder.path(), &["a", "b"], 2);
    write(folder.path(), "a/._0.png", b"\0\x05\x16\x07\0\x02\0\0Mac OS X        ");
    assert_eq!(open(folder.path()).unwrap().images.len(), 4);
    succeed(&mut xbm(&["data", "--decode", &spec(folder.path())]));
}

// github.com/pytorch/vision/issues/4925: an empty class folder was an error.
// github.com/pytorch/vision/issues/8297: it is to be allowed on request.
#[test]
fn an_empty_class_folder_is_no_class_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    write_classes(folder.path(), &["a", "c", "d"], 2);
    std::fs::create_dir(folder.path().join("b")).unwrap();
    let dataset = open(folder.path()).unwrap();
    assert_eq!(classes(&dataset), ["a", "c", "d"]);
    assert!(dataset.skipped.iter().any(|(path, why)| path.ends_with("b") && why.contains("no image")), "{:?}", dataset.skipped);
}

// github.com/pytorch/vision/issues/72: a folder without images was found out by the loader, in words of its own.
// github.com/pytorch/vision/issues/2138: "can only join an iterable".
#[test]
fn a_folder_without_images_is_refused_in_words_that_fit() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a/readme.txt", b"no picture");
    let message = refused(&mut xbm(&["data", &spec(folder.path())]));
    assert_says(&message, &["expected images, found none", "readme.txt"]);
}

// github.com/open-edge-platform/anomalib/issues/3058: images with a suffix in capitals were not found.
// github.com/GaParmar/clean-fid/issues/37: the same of .JPEG, and their repair counted files twice elsewhere.
#[test]
fn suffixes_in_capitals_are_found_once() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a/1.PNG", "a/2.Png", "a/3.png", "b/1.JPG", "b/2.JPEG", "b/3.Jpg"] {
        write(folder.path(), name, &flat([9, 9, 9]));
    }
    assert_eq!(open(folder.path()).unwrap().images.len(), 6);
}

// github.com/ultralytics/ultralytics/issues/13936: a test folder without one of the classes shifted the labels of the others.
// github.com/weecology/DeepForest/pull/1147: training and validation numbered their classes apart.
#[test]
fn a_class_has_one_label_in_every_split() {
    let folder = tempfile::tempdir().unwrap();
    write_classes(&folder.path().join("train"), &["0", "180", "270", "90"], 2);
    write_classes(&folder.path().join("test"), &["0", "270", "90", "new"], 2);
    let dataset = open(folder.path()).unwrap();
    for image in &dataset.images {
        let path = image.source.to_string();
        let class = Path::new(&path).parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(dataset.classes[image.label as usize], class, "{path}");
    }
    assert_eq!((dataset.indices(Split::Train).len(), dataset.classes.len()), (8, 5));
}

// github.com/modestyachts/ImageNetV2/issues/10: a class folder "100" had the index 2, for folders are sorted as text.
#[test]
fn classes_are_told_by_their_names_not_by_their_places() {
    let folder = tempfile::tempdir().unwrap();
    write_classes(folder.path(), &["0", "1", "2", "10", "100"], 1);
    let dataset = open(folder.path()).unwrap();
    let hundred = dataset.images.iter().find(|image| image.source.to_string().contains("/100/")).unwrap();
    assert_eq!(dataset.classes[hundred.label as usize], "100");
}

// github.com/huggingface/datasets/issues/6853: images that are links were not found.
// github.com/fastai/fastai/pull/2270: nor were folders that are links.
#[cfg(unix)]
#[test]
fn links_to_images_and_to_class_folders_are_followed() {
    use std::os::unix::fs::symlink;
    let (elsewhere, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_classes(elsewhere.path(), &["far"], 3);
    write_classes(folder.path(), &["a"], 2);
    symlink(elsewhere.path().join("far"), folder.path().join("far")).unwrap();
    symlink(elsewhere.path().join("far/0.png"), folder.path().join("a/linked.png")).unwrap();
    symlink(elsewhere.path().join("gone.png"), folder.path().join("a/dangling.png")).unwrap();
    let dataset = open(folder.path()).unwrap();
    let readable = (0..dataset.images.len()).filter(|&index| dataset.decode(index).is_ok()).count();
    assert_eq!((classes(&dataset), readable), (vec!["a", "far"], 6));
}

// github.com/mindspore-lab/mindocr/pull/538: a link to a folder above is walked without end.
// github.com/CarVac/filmulator-gui/issues/142: links were not followed at all, for fear of that.
#[cfg(unix)]
#[test]
fn a_link_to_a_folder_above_is_not_walked() {
    let folder = tempfile::tempdir().unwrap();
    write_classes(folder.path(), &["a", "b"], 2);
    std::os::unix::fs::symlink(folder.path(), folder.path().join("a/above")).unwrap();
    let ended = succeed(&mut xbm(&["data", &spec(folder.path())]));
    assert_says(&ended.out, &["4 images of 2 classes", "a/above"]);
}

// github.com/keras-team/keras/pull/4552: images in folders below a class folder were left out without a word.
#[test]
fn a_folder_below_a_class_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    write_classes(folder.path(), &["cats", "dogs", "cats/from a friend"], 2);
    let ended = succeed(&mut xbm(&["data", &spec(folder.path())]));
    assert_says(&ended.out, &["4 images of 2 classes", "from a friend"]);
}

// github.com/deadc0de6/gocatcli/issues/31: a named pipe among the files was opened and waited for.
// github.com/odeke-em/drive/issues/208: reading one hangs until somebody writes.
#[cfg(unix)]
#[test]
fn a_named_pipe_among_the_images_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    write_classes(folder.path(), &["a", "b"], 2);
    assert!(Command::new("mkfifo").arg(folder.path().join("a/pipe.png")).status().unwrap().success());
    let ended = run(&mut xbm(&["data", "--decode", &spec(folder.path())]));
    assert_says(&ended.both(), &["a/pipe.png"]);
}

// github.com/pytorch/pytorch/issues/11201: loaders ran out of file descriptors after a thousand images.
#[cfg(unix)]
#[test]
fn images_are_closed_when_they_are_read() {
    let folder = tempfile::tempdir().unwrap();
    write_classes(folder.path(), &["a", "b", "c"], 60);
    let script = "ulimit -n 32; exec \"$0\" data --decode \"$1\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, crate::program::PROGRAM, &spec(folder.path())]);
    assert_says(&succeed(&mut command).out, &["decoded all 180"]);
}
