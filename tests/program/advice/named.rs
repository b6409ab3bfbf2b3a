//! Every flag that a text of the program names exists, and on the command that the text is about.

use clap::CommandFactory;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use xbm_fast::app::cli::Cli;

/// Rooms whose texts answer certain commands. Others may name what any command has.
const ROOMS: [(&str, &[&str]); 18] = [
    ("app/cli/data.rs", &["data"]),
    ("app/cli/pack.rs", &["pack"]),
    ("app/cli/eval.rs", &["eval"]),
    ("app/cli/embed.rs", &["embed"]),
    ("app/cli/index.rs", &["index"]),
    ("app/cli/search.rs", &["search"]),
    ("app/cli/weights.rs", &["weights"]),
    ("app/cli/study.rs", &["study"]),
    ("app/cli/train.rs", &["train"]),
    ("app/cli/doctor.rs", &["doctor"]),
    ("app/config", &["train"]),
    ("train", &["train"]),
    ("app/run/folder.rs", &["train"]),
    ("app/run/eval.rs", &["eval"]),
    ("app/run/embed.rs", &["embed"]),
    ("app/run/search.rs", &["search"]),
    ("app/data/loader.rs", &["train", "eval", "embed", "weights"]),
    ("app/data/packed/write.rs", &["pack"]),
];

/// Flags of other programs, and the file that speaks of them.
const FOREIGN: [(&str, &str); 6] = [
    ("device/cuda/probe.rs", "--gpus"),
    ("device/cuda/image.rs", "--define-macro"),
    ("device/cuda/image.rs", "--gpu-architecture"),
    ("device/cuda/image.rs", "--std"),
    ("device/cuda/image.rs", "--device-as-default-execution-space"),
    ("group/mod.rs", "--features"),
];

fn flags_of(command: &clap::Command) -> BTreeSet<String> {
    let named = command.get_arguments().filter_map(|argument| argument.get_long());
    let own = named.chain(["help", "version"]).map(|name| format!("--{name}"));
    own.chain(command.get_subcommands().flat_map(flags_of)).collect()
}

fn commands() -> Vec<(String, BTreeSet<String>)> {
    Cli::command().get_subcommands().map(|command| (command.get_name().to_owned(), flags_of(command))).collect()
}

fn has(command: &str, flag: &str) -> bool {
    commands().iter().any(|(name, flags)| name == command && flags.contains(flag))
}

/// The flags that a text names, each with the command before it where the text has one: "`xbm-fast data SPEC --decode`".
fn named(text: &str) -> Vec<(Option<String>, String)> {
    let mut found = Vec::new();
    for (number, part) in text.split('`').enumerate() {
        let command = if number % 2 == 1 { part.strip_prefix("xbm-fast ") } else { None };
        let command = command.and_then(|rest| rest.split_whitespace().next()).map(str::to_owned);
        for (place, _) in part.match_indices("--") {
            let before = part[..place].chars().next_back();
            let name: String =
                part[place + 2..].chars().take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '-').collect();
            let begins = before.is_none_or(|letter| !letter.is_alphanumeric() && letter != '-');
            if begins && name.starts_with(|letter: char| letter.is_ascii_lowercase()) {
                found.push((command.clone(), format!("--{}", name.trim_end_matches('-'))));
            }
        }
    }
    found
}

/// The string literals of Rust source, comments left out.
fn literals(source: &str) -> Vec<String> {
    let (mut found, mut rest) = (Vec::new(), source);
    while let Some(place) = rest.find(['"', '/', '\'', 'r']) {
        let (at, before) = (&rest[place..], rest[..place].chars().next_back());
        let skip = if at.starts_with("//") {
            at.find('\n').unwrap_or(at.len())
        } else if at.starts_with("'\"'") {
            3
        } else if at.starts_with("'\\\"'") {
            4
        } else if let Some((hashes, text)) = raw(at).filter(|_| before.is_none_or(|letter| !letter.is_alphanumeric())) {
            let end = format!("\"{}", "#".repeat(hashes));
            let len = text.find(&end).unwrap_or(text.len());
            found.push(text[..len].to_owned());
            at.len() - text.len() + len + end.len()
        } else if let Some(text) = at.strip_prefix('"') {
            let len = closing(text);
            found.push(text[..len].replace("\\\"", "\""));
            len + 2
        } else {
            1
        };
        rest = at.get(skip..).unwrap_or("");
    }
    found
}

/// Hashes and text from the first letter on, where a raw string begins.
fn raw(at: &str) -> Option<(usize, &str)> {
    let rest = at.strip_prefix('r')?;
    let text = rest.trim_start_matches('#');
    Some((rest.len() - text.len(), text.strip_prefix('"')?))
}

/// How far it is to the quote that ends a literal.
fn closing(text: &str) -> usize {
    let mut escaped = false;
    let ends = |(_, letter): &(usize, char)| {
        let ends = *letter == '"' && !escaped;
        escaped = *letter == '\\' && !escaped;
        ends
    };
    text.char_indices().find(ends).map_or(text.len(), |(place, _)| place)
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_flag_in_a_text_of_the_sources_exists_where_the_text_is_said() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut files, mut seen, mut wrong) = (Vec::new(), 0, Vec::new());
    sources(&root, &mut files);
    for file in files {
        let (name, text) = (file.strip_prefix(&root).unwrap().display().to_string(), std::fs::read_to_string(&file).unwrap());
        let room =
            ROOMS.iter().find(|(room, _)| name == *room || name.starts_with(&format!("{room}/")) || name == format!("{room}.rs"));
        for literal in literals(&text) {
            for (command, flag) in named(&literal) {
                seen += 1;
                let foreign = FOREIGN.contains(&(name.as_str(), flag.as_str()));
                let known = match (&command, room) {
                    (Some(command), _) => has(command, &flag),
                    (None, Some((_, answered))) => answered.iter().all(|command| has(command, &flag)),
                    (None, None) => commands().iter().any(|(_, flags)| flags.contains(&flag)),
                };
                if !foreign && !known {
                    wrong.push(format!("src/{name}: {flag} in \"{literal}\""));
                }
            }
        }
    }
    assert!(seen > 40, "{seen} flags were found: the search is broken");
    assert!(wrong.is_empty(), "no such flag:\n{}", wrong.join("\n"));
}

#[test]
fn every_flag_in_the_help_of_a_command_exists_there() {
    for mut command in Cli::command().get_subcommands().cloned().collect::<Vec<_>>() {
        let flags = flags_of(&command);
        let help = command.render_long_help().to_string();
        let missing: Vec<_> = named(&help).into_iter().filter(|(other, flag)| other.is_none() && !flags.contains(flag)).collect();
        assert!(missing.is_empty(), "{}: {missing:?}", command.get_name());
    }
}

#[test]
fn the_search_finds_flags_in_texts_and_only_there() {
    let source = r##"// "--comment"
        let a = "--one and `xbm-fast data SPEC --decode`"; let b = '"'; let c = r#"--two "quoted""#; let d = "esc \" --three";"##;
    let found: Vec<_> = literals(source).iter().flat_map(|text| named(text)).collect();
    let flag = |command: Option<&str>, name: &str| (command.map(str::to_owned), name.to_owned());
    assert_eq!(found, [flag(None, "--one"), flag(Some("data"), "--decode"), flag(None, "--two"), flag(None, "--three")]);
}
