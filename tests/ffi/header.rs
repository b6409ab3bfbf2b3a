//! `include/xbm_fast.h` says what `src/ffi` says: the Rust declarations are written in C here and compared, token by token.

use std::collections::BTreeSet;

const HEADER: &str = include_str!("../../include/xbm_fast.h");
const FUNCTIONS: &str = concat!(include_str!("../../src/ffi/mod.rs"), include_str!("../../src/ffi/retrieval.rs"));
const TYPES: &str = concat!(include_str!("../../src/ffi/types.rs"), include_str!("../../src/ffi/retrieval.rs"));
const STATUS: &str = include_str!("../../src/ffi/status.rs");

/// Words and marks with one space between them.
fn tokens(text: &str) -> String {
    let mut spaced = String::new();
    for c in text.chars() {
        if c.is_alphanumeric() || c == '_' || c.is_whitespace() { spaced.push(c) } else { spaced.extend([' ', c, ' ']) }
    }
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `NotFinite` as `not_finite`.
fn snake(name: &str) -> String {
    let upper = |(index, c): (usize, char)| [(index > 0 && c.is_uppercase()).then_some('_'), Some(c.to_ascii_lowercase())];
    name.chars().enumerate().flat_map(upper).flatten().collect()
}

/// A Rust type, and the name declared with it, in C.
fn declared(rust: &str, name: &str) -> String {
    if let Some(inner) = rust.strip_prefix("*const ") {
        return declared(inner, &format!("*{name}")).replacen("", "const ", 1);
    }
    if let Some(inner) = rust.strip_prefix("*mut ") {
        return declared(inner, &format!("*{name}"));
    }
    let plain = match rust {
        "u8" => "uint8_t",
        "u32" => "uint32_t",
        "i32" => "int32_t",
        "usize" => "size_t",
        "f32" => "float",
        "f64" => "double",
        "c_char" => "char",
        "c_void" => "void",
        "Status" => "xbm_status",
        own if own.starts_with("Xbm") => return format!("{} {name}", snake(own)),
        other => panic!("no C type known for `{other}`"),
    };
    format!("{plain} {name}")
}

/// `name: Type` in C.
fn declared_pair(pair: &str) -> String {
    let (name, rust) = pair.split_once(':').unwrap();
    declared(rust.trim(), name.trim())
}

fn rust_functions() -> BTreeSet<String> {
    let signatures = FUNCTIONS.split("extern \"C\" fn ").skip(1).map(|rest| rest.split_once(" {\n").unwrap().0);
    let in_c = |signature: &str| {
        let (name, rest) = signature.split_once('(').unwrap();
        let (arguments, result) = rest.split_once(')').unwrap();
        let arguments: Vec<_> = arguments.split(',').filter(|one| !one.trim().is_empty()).map(declared_pair).collect();
        let arguments = if arguments.is_empty() { "void".to_owned() } else { arguments.join(", ") };
        tokens(&format!("{}({arguments})", declared(result.trim().strip_prefix("-> ").unwrap(), name)))
    };
    signatures.map(in_c).collect()
}

fn rust_structures() -> BTreeSet<String> {
    let structures = TYPES.split("#[repr(C)]\n#[derive(Clone, Copy, Debug)]\npub struct ").skip(1);
    let in_c = |text: &str| {
        let (name, rest) = text.split_once(" {\n").unwrap();
        let fields = rest.split_once("\n}").unwrap().0.lines().filter_map(|line| line.trim().strip_prefix("pub "));
        let fields: String = fields.map(|field| format!("{};", declared_pair(field.trim_end_matches(',')))).collect();
        tokens(&format!("{} {{ {fields} }}", snake(name)))
    };
    structures.map(in_c).collect()
}

fn rust_constants() -> BTreeSet<String> {
    let constants = TYPES.lines().filter_map(|line| line.strip_prefix("pub const "));
    let constants = constants.map(|line| {
        let (name, rest) = line.split_once(": ").unwrap();
        format!("{name} {}", rest.split_once(" = ").unwrap().1.trim_end_matches(';'))
    });
    let codes = STATUS.split_once("pub enum Status {").unwrap().1.split_once("\n}").unwrap().0;
    let codes = codes.lines().filter_map(|line| line.trim().trim_end_matches(',').split_once(" = "));
    let codes = codes.map(|(name, value)| match name {
        "Ok" => format!("XBM_OK {value}"),
        other => format!("XBM_ERROR_{} {value}", snake(other).to_uppercase()),
    });
    constants.chain(codes).collect()
}

/// The header without comments.
fn header() -> String {
    let parts = HEADER.split("/*").enumerate();
    parts.map(|(index, part)| if index == 0 { part } else { part.split_once("*/").unwrap().1 }).collect()
}

/// Every statement of the header that is no preprocessor line, structures whole.
fn statements() -> Vec<String> {
    let lines: Vec<String> = header().lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    let text = lines.join("\n").replace("extern \"C\" {", "").replace("\n}\n", "\n");
    let (mut statements, mut depth) = (vec![String::new()], 0);
    for c in text.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ';' if depth == 0 => {
                statements.push(String::new());
                continue;
            }
            _ => {}
        }
        statements.last_mut().unwrap().push(c);
    }
    statements.iter().map(|statement| tokens(statement)).filter(|statement| !statement.is_empty()).collect()
}

#[test]
fn functions_are_declared_as_they_are_defined() {
    let is_function = |statement: &String| !statement.starts_with("typedef");
    let declared: BTreeSet<String> = statements().into_iter().filter(is_function).collect();
    assert!(declared.len() >= 16, "the header's functions were not found: {declared:?}");
    assert_eq!(declared, rust_functions());
}

#[test]
fn structures_have_the_fields_they_are_defined_with() {
    let bodies = statements().into_iter().filter_map(|statement| {
        let rest = statement.strip_prefix("typedef struct ")?.to_owned();
        let name = rest.split(' ').next()?.to_owned();
        rest.strip_suffix(&format!(" }} {name}")).map(|body| format!("{body} }}"))
    });
    let declared: BTreeSet<String> = bodies.collect();
    assert!(declared.len() >= 6, "the header's structures were not found: {declared:?}");
    assert_eq!(declared, rust_structures());
}

#[test]
fn constants_have_the_values_they_are_defined_with() {
    let defined: BTreeSet<String> = header()
        .lines()
        .filter_map(|line| line.strip_prefix("#define "))
        .filter(|line| *line != "XBM_FAST_H")
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert!(defined.len() >= 18, "the header's constants were not found: {defined:?}");
    assert_eq!(defined, rust_constants());
}
