//! A trained model at work, as it is typed: scored, embedded, searched.

use image::{Rgb, RgbImage};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_xbm-fast");

#[track_caller]
fn run(arguments: &[&str]) -> Output {
    let output = Command::new(PROGRAM).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

#[track_caller]
fn refused(arguments: &[&str], words: &[&str]) {
    let output = Command::new(PROGRAM).args(arguments).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {message}");
    for word in words {
        assert!(message.contains(word), "expected `{word}` in: {message}");
    }
}

/// Twelve classes of four views, half of the classes for training.
struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (class, split) in (0..12).map(|class| (class, if class % 2 == 0 { "train" } else { "test" })) {
            let images = folder.path().join(format!("images/{split}/class-{class}"));
            std::fs::create_dir_all(&images).unwrap();
            for view in 0..4 {
                let colour = |x: u32, y: u32| Rgb([class as u8 * 20, (x * 9 + view * 20) as u8, (y * 9) as u8]);
                RgbImage::from_fn(20, 20, colour).save(images.join(format!("{view}.png"))).unwrap();
            }
        }
        let scene = Self { folder };
        let out = scene.path("run");
        let tiny = ["--image-size=16", "--dim=8", "--batch-size=8", "--samples-per-class=2", "--memory=none", "--threads=1"];
        run(&[&["train", "--steps=2", "--data", &scene.data(), "--out", &out][..], &tiny].concat());
        scene
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn data(&self) -> String {
        format!("folder:{}", self.path("images"))
    }

    fn model(&self) -> String {
        self.path("run/checkpoints/best.safetensors")
    }
}

fn table(path: impl AsRef<Path>) -> Vec<csv::StringRecord> {
    csv::ReaderBuilder::new().has_headers(false).from_path(path).unwrap().records().map(Result::unwrap).collect()
}

#[test]
fn a_model_is_scored_embedded_and_searched() {
    let scene = Scene::new();
    let (data, model) = (scene.data(), scene.model());
    assert_is_scored_in_full(&scene);
    for name in ["rows.npy", "rows.safetensors"] {
        let rows = scene.path(name);
        run(&["embed", "--data", &data, "--checkpoint", &model, "--split=test", "--out", &rows]);
        let list = table(PathBuf::from(&rows).with_extension("csv"));
        assert_eq!(list.len(), 1 + 24);
        assert_eq!(&list[0], &["image", "path", "label", "split", "content", "part"][..]);
        assert!(list[1..].iter().all(|row| &row[3] == "test"));
        assert_finds_the_image_itself(&scene, &rows);
    }
    let all = scene.path("all.npy");
    run(&["embed", "--data", &data, "--checkpoint", &model, "--out", &all]);
    assert_eq!(table(scene.path("all.csv")).len(), 1 + 48);
    assert_refusals_say_what_to_do(&scene);
}

fn assert_is_scored_in_full(scene: &Scene) {
    let (data, model, classes) = (scene.data(), scene.model(), scene.path("classes.csv"));
    let output = run(&["eval", "--data", &data, "--checkpoint", &model, "--json", "--per-class", &classes]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["protocol"], "all against all");
    assert_eq!((&report["gallery"], &report["queries"], &report["classes"]), (&24.into(), &24.into(), &6.into()));
    assert_eq!((&report["network"]["dim"], &report["data"]), (&8.into(), &data.into()));
    // Classes of one size: their means are those of the queries.
    let close = |a: &serde_json::Value, b: &serde_json::Value| (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-12;
    for score in ["map_at_r", "r_precision", "mean_reciprocal_rank"] {
        assert!(close(&report[score], &report["class_means"][score]), "{score}");
    }
    let classes = table(classes);
    assert_eq!(classes.len(), 1 + 6);
    assert_eq!((&classes[0][0], &classes[0][2], &classes[1][1]), ("class", "recall_at_1", "4"));
    let mean = classes[1..].iter().map(|row| row[2].parse::<f64>().unwrap()).sum::<f64>() / 6.0;
    assert!(close(&mean.into(), &report["recall"][0][1]));
}

fn assert_finds_the_image_itself(scene: &Scene, rows: &str) {
    let (query, other) = (scene.path("images/test/class-3/2.png"), scene.path("images/test/class-7/0.png"));
    let page = scene.path("page.html");
    let output = run(&["search", "--index", rows, "--query", &query, &other, "--top=5", "--json", "--out", &page]);
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found.as_array().unwrap().len(), 2);
    for (found, query) in found.as_array().unwrap().iter().zip([&query, &other]) {
        let hits = found["hits"].as_array().unwrap();
        assert_eq!((hits.len(), found["query"].as_str().unwrap()), (5, query.as_str()));
        let similarity = |hit: &serde_json::Value| hit["similarity"].as_f64().unwrap();
        assert!(hits.is_sorted_by(|a, b| similarity(a) >= similarity(b)));
        assert!((similarity(&hits[0]) - 1.0).abs() < 1e-5);
        // A network of two steps may map views of a class to one point, but the image itself is among the nearest.
        assert!(hits.iter().any(|hit| hit["path"] == **query && (similarity(hit) - 1.0).abs() < 1e-5), "{hits:?}");
    }
    let page = std::fs::read_to_string(page).unwrap();
    assert_eq!(page.matches("<img src=\"data:image/jpeg;base64,").count(), 2 * (1 + 5));
    let lines = String::from_utf8(run(&["search", "--index", rows, "--query", &query, "--top=3"]).stdout).unwrap();
    assert_eq!(lines.lines().next(), Some(query.as_str()));
    assert!(lines.lines().nth(1).unwrap().starts_with("   1  1.0000  class-"), "{lines}");
    assert_eq!(lines.lines().count(), 1 + 3);
}

fn assert_refusals_say_what_to_do(scene: &Scene) {
    let (data, model, rows) = (scene.data(), scene.model(), scene.path("rows.npy"));
    let query = scene.path("images/test/class-3/2.png");
    let embed = ["embed", "--data", &data, "--checkpoint", &model];
    refused(&[&embed[..], &["--out", &scene.path("rows.txt")]].concat(), &["rows.txt", ".npy or .safetensors"]);
    refused(&[&embed[..], &["--split=query", "--out", &rows]].concat(), &["no query images", "--split"]);
    refused(&["search", "--index", &scene.path("no.npy"), "--query", &query], &["no.npy", "No such file"]);
    refused(&["search", "--index", &rows, "--query", &scene.path("no.png")], &["no.png"]);
    let other = scene.path("run/checkpoints/step-000002.safetensors");
    refused(&["search", "--index", &rows, "--query", &query, "--checkpoint", &other], &["checksum", "embed"]);
    std::fs::rename(&model, scene.path("moved.safetensors")).unwrap();
    refused(&["search", "--index", &rows, "--query", &query], &["best.safetensors", "--checkpoint"]);
    run(&["search", "--index", &rows, "--query", &query, "--checkpoint", &scene.path("moved.safetensors")]);
}

/// The pictures of a page, queries and what was found, in their order.
fn pictures(page: &Path) -> Vec<String> {
    let page = std::fs::read_to_string(page).unwrap();
    page.split("<img src=\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

#[test]
fn a_page_shows_the_pictures_that_were_embedded_whatever_became_of_the_data() {
    let scene = Scene::new();
    let (rows, query) = (scene.path("rows.npy"), scene.path("query.png"));
    let hit = |name: &str| scene.path(&format!("images/test/class-3/{name}.png"));
    std::fs::copy(hit("2"), &query).unwrap();
    run(&["embed", "--data", &scene.data(), "--checkpoint", &scene.model(), "--out", &rows]);
    let page = PathBuf::from(scene.path("page.html"));
    let search = |top: &str| {
        let output =
            run(&["search", "--index", &rows, "--query", &query, "--top", top, "--json", "--out", &scene.path("page.html")]);
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (found, pictures(&page))
    };
    let before = search("48");
    assert_eq!(before.1.len(), 1 + 48);
    let same: Vec<&serde_json::Value> =
        before.0[0]["hits"].as_array().unwrap().iter().filter(|hit| hit["same_picture"] == true).collect();
    assert_eq!((same.len(), same[0]["path"].as_str().unwrap()), (1, hit("2").as_str()));

    // Positions in the data set shift by one.
    std::fs::copy(hit("2"), scene.path("images/train/class-0/00.png")).unwrap();
    assert_eq!(search("48"), before, "an added image changed the pictures");
    std::fs::remove_file(scene.path("images/train/class-0/00.png")).unwrap();

    std::fs::remove_file(hit("0")).unwrap();
    std::fs::copy(scene.path("images/train/class-0/0.png"), hit("1")).unwrap();
    let after = search("48");
    assert_eq!(after.0, before.0);
    let place = |name: &str| before.0[0]["hits"].as_array().unwrap().iter().position(|found| found["path"] == *hit(name)).unwrap();
    let crossed_out = &after.1[1 + place("0")];
    assert_eq!(&after.1[1 + place("1")], crossed_out);
    let kept = |place: &usize| after.1[*place] == before.1[*place];
    assert_eq!((0..49).filter(kept).count(), 1 + 48 - 2);
    let text = std::fs::read_to_string(&page).unwrap();
    for words in [format!("{} is no longer there", hit("0")), format!("{} was replaced since", hit("1"))] {
        assert!(text.contains(&words), "{words}");
    }
}

#[test]
fn pages_find_relative_paths_packed_images_and_parts_from_another_folder() {
    let scene = Scene::new();
    let program = |folder: &str, arguments: &[&str]| {
        let output = Command::new(PROGRAM).args(arguments).current_dir(scene.path(folder)).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let mut table = "path,label,split,x1,y1,x2,y2\n".to_owned();
    for class in 0..12 {
        let split = if class % 2 == 0 { "train" } else { "test" };
        table += &format!("images/{split}/class-{class}/0.png,{class},{split},0,0,9,20\n");
        table += &format!("images/{split}/class-{class}/0.png,{class},{split},9,0,20,20\n");
    }
    std::fs::write(scene.path("parts.csv"), table).unwrap();
    let query = scene.path("images/test/class-3/2.png");
    std::fs::create_dir(scene.path("elsewhere")).unwrap();
    program("", &["pack", "--data=folder:images", "--out=photos.xbm"]);
    program("", &["pack", "--data=csv:parts.csv", "--out=parts.xbm", "--encoding=jpeg"]);
    for data in ["folder:images", "csv:parts.csv", "packed:photos.xbm", "packed:parts.xbm", "synthetic:classes=8,views=2,size=20"] {
        program("", &["embed", "--data", data, "--checkpoint=run/checkpoints/best.safetensors", "--out=rows.npy"]);
        let search = ["search", "--query", &query, "--top=9", "--out=page.html", "--index"];
        program("", &[&search[..], &["rows.npy"]].concat());
        program("elsewhere", &[&search[..], &["../rows.npy"]].concat());
        let (here, elsewhere) = (scene.path("page.html"), scene.path("elsewhere/page.html"));
        assert_eq!(pictures(Path::new(&here)).len(), 1 + 9, "{data}");
        assert_eq!(pictures(Path::new(&elsewhere)), pictures(Path::new(&here)), "{data}");
        let page = std::fs::read_to_string(&elsewhere).unwrap();
        assert!(!page.contains("no longer there") && !page.contains("was replaced"), "{data}");
    }
}

#[test]
fn an_index_of_an_earlier_version_is_searched_and_its_page_says_what_it_cannot_know() {
    let scene = Scene::new();
    let (rows, page) = (scene.path("rows.npy"), scene.path("page.html"));
    run(&["embed", "--data", &scene.data(), "--checkpoint", &scene.model(), "--out", &rows]);
    let list = scene.path("rows.csv");
    let old: String = table(&list).iter().map(|row| format!("{},{},{},{}\n", &row[0], &row[1], &row[2], &row[3])).collect();
    std::fs::write(&list, old).unwrap();
    let about = std::fs::read_to_string(scene.path("rows.json")).unwrap();
    let mut about: serde_json::Value = serde_json::from_str(&about).unwrap();
    assert!(about.as_object_mut().unwrap().remove("folder").is_some());
    std::fs::write(scene.path("rows.json"), about.to_string()).unwrap();
    run(&["search", "--index", &rows, "--query", &scene.path("images/test/class-3/2.png"), "--top=4", "--out", &page]);
    assert_eq!(pictures(Path::new(&page)).len(), 1 + 4);
    assert!(std::fs::read_to_string(&page).unwrap().contains("of an earlier version"));
}
