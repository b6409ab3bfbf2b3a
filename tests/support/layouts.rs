//! Small trees in exactly the published layouts, quirks included: four classes to train on, more to test with, tiny images.
#![allow(dead_code, reason = "each suite uses its own part")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use tempfile::TempDir;

/// A data set on disk and the layout it is in.
pub struct Tree {
    root: TempDir,
    layout: &'static str,
    /// What follows the path in its SPEC.
    options: &'static str,
    next_image: u32,
}

impl Tree {
    pub fn new(layout: &'static str) -> Self {
        Self { root: tempfile::tempdir().unwrap(), layout, options: "", next_image: 0 }
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    pub fn spec(&self) -> String {
        let table = if self.layout == "csv" { "/list.csv" } else { "" };
        format!("{}:{}{table}{}", self.layout, self.root.path().display(), self.options)
    }

    pub fn text(&self, path: &str, text: &str) {
        self.bytes(path, text.as_bytes());
    }

    pub fn bytes(&self, path: &str, bytes: &[u8]) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// A JPEG of 20 x 16 pixels, like no other.
    pub fn image(&mut self, path: &str) {
        self.next_image += 1;
        let seed = self.next_image * 37;
        let picture =
            image::RgbImage::from_fn(20, 16, |x, y| image::Rgb([(seed + x * 9) as u8, (seed * 3 + y * 9) as u8, (seed * 7) as u8]));
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
        self.bytes(path, &bytes.into_inner());
    }
}

/// Every layout that is a tree of files.
pub fn all() -> [Tree; 8] {
    [folder(), csv(), sop(), inshop(), deepfashion2(), cub(), cars(), vehicleid()]
}

pub fn folder() -> Tree {
    let mut tree = Tree::new("folder");
    for class in 0..8 {
        for view in 0..2 {
            tree.image(&format!("class {class}/{view}.JPG"));
        }
    }
    tree
}

/// With boxes, and with queries and a gallery.
pub fn csv() -> Tree {
    let mut tree = Tree::new("csv");
    let mut rows = "path,label,split,x1,y1,x2,y2\n".to_owned();
    for class in 0..4 {
        for (view, split) in ["train", "train", "query", "gallery"].into_iter().enumerate() {
            tree.image(&format!("images/{class}-{view}.jpg"));
            let label = if split == "train" { class } else { 10 + class };
            let corners = if view == 0 { ",,," } else { "2,3,12.5,90" };
            writeln!(rows, "images/{class}-{view}.jpg,{label},{split},{corners}").unwrap();
        }
    }
    tree.text("list.csv", &rows);
    tree
}

pub fn sop() -> Tree {
    let mut tree = Tree::new("sop");
    let mut id = 0;
    for (name, first, super_class) in [("Ebay_train.txt", 1, "bicycle"), ("Ebay_test.txt", 11_319, "stapler")] {
        let mut rows = "image_id class_id super_class_id path\n".to_owned();
        for (class, view) in (0..8).map(|index| (first + index / 2, index % 2)) {
            id += 1;
            let path = format!("{super_class}_final/{class}_{view}.JPG");
            tree.image(&path);
            writeln!(rows, "{id} {class} 1 {path}").unwrap();
        }
        tree.text(name, &rows);
    }
    tree
}

/// Columns aligned with spaces; the last training item has one image.
pub fn inshop() -> Tree {
    let mut tree = Tree::new("inshop");
    let mut rows = Vec::new();
    let mut row = |tree: &mut Tree, item: usize, view: usize, status: &str| {
        let path = format!("img/WOMEN/Blouses_Shirts/id_{item:08}/0{view}_1_front.jpg");
        tree.image(&format!("Img/{path}"));
        rows.push(format!("{path:<70} id_{item:08}    {status}\r\n"));
    };
    for item in [1, 3, 4, 7] {
        (0..2).for_each(|view| row(&mut tree, item, view, "train"));
    }
    row(&mut tree, 8, 1, "train");
    for item in [2, 5] {
        row(&mut tree, item, 1, "query");
        (2..4).for_each(|view| row(&mut tree, item, view, "gallery"));
    }
    let header = format!("{}\n{:<70} item_id        evaluation_status\n", rows.len(), "image_name");
    tree.text("Eval/list_eval_partition.txt", &(header + &rows.concat()));
    tree
}

/// An annotation of DeepFashion2 with items of the given styles, each with a box of its own, and keys that are of no use here.
pub fn annotation(source: &str, pair: u32, styles: &[u32]) -> String {
    let items: Vec<String> = (1..)
        .zip(styles)
        .map(|(number, style)| {
            format!(
                r#""item{number}": {{"segmentation": [[1.5, 2.0]], "scale": 3, "viewpoint": 2, "zoom_in": 1, "landmarks": [0, 0, 0],
                    "style": {style}, "bounding_box": [{number}, 2, 15, 900], "category_id": 1, "occlusion": 1,
                    "category_name": "short sleeve top"}}"#
            )
        })
        .collect();
    format!(r#"{{{}, "source": "{source}", "pair_id": {pair}}}"#, items.join(", "))
}

/// Items of style 0, several items in a photograph, and pairs numbered anew in each part.
pub fn deepfashion2() -> Tree {
    let mut tree = Tree::new("deepfashion2");
    for part in ["train", "validation"] {
        let mut number = 0;
        for pair in 1..=2 {
            for source in ["user", "shop"] {
                number += 1;
                tree.image(&format!("{part}/image/{number:06}.jpg"));
                tree.text(&format!("{part}/annos/{number:06}.json"), &annotation(source, pair, &[1, 0, 2]));
            }
        }
    }
    tree
}

/// Ids that are not in order, and a split for classification that is to be ignored.
pub fn cub() -> Tree {
    let mut tree = Tree::new("cub");
    let (mut images, mut labels, mut classes, mut ignored) = (String::new(), String::new(), String::new(), String::new());
    let mut id = 0;
    for class in [1, 2, 99, 100, 101, 200] {
        writeln!(classes, "{class} {class:03}.Sooty_Albatross").unwrap();
        for view in 0..2 {
            id += 1;
            let path = format!("{class:03}.Sooty_Albatross/Sooty_Albatross_{view:04}_{id}.jpg");
            tree.image(&format!("images/{path}"));
            writeln!(images, "{id} {path}").unwrap();
            labels.insert_str(0, &format!("{id} {class}\n"));
            writeln!(ignored, "{id} {view}").unwrap();
        }
    }
    for (name, text) in [("images", images), ("image_class_labels", labels), ("classes", classes), ("train_test_split", ignored)] {
        tree.text(&format!("{name}.txt"), &text);
    }
    tree
}

/// As a table, which does as well as the MATLAB file.
pub fn cars() -> Tree {
    let mut tree = Tree::new("cars");
    let mut rows = "class,test,relative_im_path\n".to_owned();
    for (index, class) in [1, 1, 2, 2, 97, 97, 98, 98, 99, 99, 196, 196].into_iter().enumerate() {
        let path = format!("car_ims/{:06}.jpg", index + 1);
        tree.image(&path);
        writeln!(rows, "{class},{},{path}", index % 2).unwrap();
    }
    tree.text("cars_annos.csv", &rows);
    tree
}

/// Image numbers with and without leading zeros.
pub fn vehicleid() -> Tree {
    let mut tree = Tree::new("vehicleid");
    tree.options = ",test=800";
    let list = |tree: &mut Tree, name: &str, vehicles: [u32; 4]| {
        let mut rows = String::new();
        for (index, vehicle) in vehicles.into_iter().flat_map(|vehicle| [vehicle; 2]).enumerate() {
            let image = vehicle * 10 + index as u32;
            tree.image(&format!("image/{image:07}.jpg"));
            if index % 2 == 0 {
                writeln!(rows, "{image:07} {vehicle}").unwrap();
            } else {
                writeln!(rows, "{image} {vehicle:05}").unwrap();
            }
        }
        tree.text(&format!("train_test_split/{name}.txt"), &rows);
    };
    list(&mut tree, "train_list", [5, 6, 7, 8]);
    list(&mut tree, "test_list_800", [20, 21, 22, 23]);
    tree
}
