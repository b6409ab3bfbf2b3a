//! Structs that kernels read and write are declared twice: in C++ beside the kernel, and in Rust beside its launch. Both texts are read
//! here. The same fields of the same types in the same order are the same layout, as the Rust side is `repr(C)` and `Pod`, which has no
//! padding of its own.

use super::files;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The fields of structs by their name: each field's name and type, in Rust's words.
type Structs = BTreeMap<String, Vec<(String, String)>>;

/// The public structs with `#[repr(C)]` that are `Pod`.
fn rust_structs(text: &str) -> Structs {
    let declarations = text.split("#[repr(C)]").skip(1).filter_map(|rest| rest.split_once('{'));
    let plain = declarations.filter(|(head, _)| head.contains("Pod"));
    plain.filter_map(|(head, rest)| Some((head.split_once("pub struct ")?.1, rest.split('}').next()?))).map(rust_struct).collect()
}

fn rust_struct((name, body): (&str, &str)) -> (String, Vec<(String, String)>) {
    let lines = body.lines().map(str::trim).filter(|line| !line.starts_with("//"));
    let field = |line: &str| {
        let (name, kind) = line.trim_start_matches("pub ").trim_end_matches(',').split_once(": ")?;
        Some((name.to_owned(), kind.to_owned()))
    };
    (name.trim().to_owned(), lines.filter_map(field).collect())
}

/// The text without comments.
fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The names of enums, which are 32 bits.
fn cpp_enums(text: &str) -> impl Iterator<Item = String> {
    let names = text.split("enum class ").skip(1).filter_map(|rest| rest.split_once(" : uint32_t"));
    names.map(|(name, _)| name.to_owned()).collect::<Vec<_>>().into_iter()
}

/// The structs that have fields only.
fn cpp_structs(text: &str, enums: &BTreeSet<String>) -> Structs {
    let bodies = text.split("\nstruct ").skip(1).filter_map(|rest| rest.split_once(" {\n"));
    let bodies = bodies.filter_map(|(name, rest)| Some((name, rest.split_once("\n};")?.0)));
    let plain = bodies.filter(|(_, body)| !body.contains(['(', '{']));
    plain.map(|(name, body)| (name.to_owned(), body.split(';').flat_map(|line| cpp_fields(line, enums)).collect())).collect()
}

/// The fields of one declaration, such as `float low, high`.
fn cpp_fields(declaration: &str, enums: &BTreeSet<String>) -> Vec<(String, String)> {
    let Some((kind, names)) = declaration.trim().trim_start_matches("const ").split_once(' ') else { return Vec::new() };
    let kind = match kind {
        pointer if pointer.ends_with('*') => "u64",
        "uint64_t" => "u64",
        "uint32_t" => "u32",
        "int32_t" => "i32",
        "float" => "f32",
        name if enums.contains(name) => "u32",
        name => name,
    };
    let field = |name: &str| match name.trim().trim_end_matches(']').split_once('[') {
        Some((name, len)) => (name.to_owned(), format!("[{kind}; {len}]")),
        None => (name.trim().to_owned(), kind.to_owned()),
    };
    names.split(',').map(field).collect()
}

/// Where the two sides of a struct first differ, in words.
fn difference(name: &str, rust: &Structs, cpp: &Structs) -> Option<String> {
    let (Some(rust), Some(cpp)) = (rust.get(name), cpp.get(name)) else {
        return Some(format!("{name}: in {} only", if rust.contains_key(name) { "Rust" } else { "C++" }));
    };
    let words = |field: Option<&(String, String)>| field.map_or("nothing".into(), |(name, kind)| format!("`{name}: {kind}`"));
    let at = (0..rust.len().max(cpp.len())).find(|&at| rust.get(at) != cpp.get(at))?;
    Some(format!("{name}, field {at}: {} in Rust, {} in C++", words(rust.get(at)), words(cpp.get(at))))
}

/// Every difference between the structs of the two texts: all that Rust has, and those of C++ that are arguments by their name.
fn differences(rust: &str, cpp: &str) -> Vec<String> {
    let cpp = without_comments(cpp);
    let (rust, cpp) = (rust_structs(rust), cpp_structs(&cpp, &cpp_enums(&cpp).collect()));
    let names: BTreeSet<&String> = rust.keys().chain(cpp.keys().filter(|name| name.ends_with("Params"))).collect();
    names.into_iter().filter_map(|name| difference(name, &rust, &cpp)).collect()
}

/// The text of all files with this ending, one after another.
fn text(folder: &str, ending: &str) -> String {
    let mut paths: Vec<PathBuf> = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder));
    paths.retain(|path| path.extension().is_some_and(|found| found.to_string_lossy().starts_with(ending)));
    paths.sort();
    paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

#[test]
fn every_argument_struct_has_the_same_fields_on_both_sides() {
    let (rust, cpp) = (text("src", "rs"), text("kernels", "cu"));
    assert_eq!(differences(&rust, &cpp), Vec::<String>::new());
    assert!(rust_structs(&rust).len() > 30, "the structs are found");
}

#[test]
fn a_field_that_is_swapped_added_or_of_another_type_is_named() {
    let (rust, cpp) = (text("src", "rs"), text("kernels", "cu"));
    for (from, to, expected) in [
        (
            "float beta1, beta2;\n  uint32_t padding;",
            "float beta2, beta1;\n  uint32_t padding;",
            "OptimizerBeginParams, field 4: `beta1: f32` in Rust, `beta2: f32` in C++",
        ),
        ("float row_max;", "uint32_t row_max;", "SideStatistics, field 2: `row_max: f32` in Rust, `row_max: u32` in C++"),
        (
            "uint32_t anchors, dim, splits, accumulate;",
            "uint32_t anchors, dim, splits, accumulate, more;",
            "CombineParams, field 11: `scale: f32` in Rust, `more: u32` in C++",
        ),
        ("struct PadParams {", "struct WidenParams {", "PadParams: in Rust only; WidenParams: in C++ only"),
    ] {
        assert_eq!(cpp.matches(from).count(), 1, "`{from}` occurs once");
        assert_eq!(differences(&rust, &cpp.replace(from, to)).join("; "), expected);
    }
}
