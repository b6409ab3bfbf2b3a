//! Programs in C that compile without a warning, link, run and leave nothing behind. Where no C compiler is at hand they are skipped.
#![cfg(unix)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The folder of this test, which cargo puts the library in too.
fn library_folder() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().to_owned()
}

fn is_there(compiler: &str) -> bool {
    let there = Command::new(compiler).arg("--version").output().is_ok_and(|output| output.status.success());
    if !there {
        eprintln!("skipped: no `{compiler}` on this machine");
    }
    there
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{}{words}", output.status, String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Compiles and runs a source file of this repository in a folder of its own.
fn run(source: &str) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let (program, library) = (folder.path().join("program"), library_folder());
    is_there("cc").then(|| {
        let mut compile = Command::new("cc");
        compile.args(["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1"]);
        compile.arg(format!("-I{ROOT}/include")).arg(Path::new(ROOT).join(source)).arg("-o").arg(&program);
        compile.arg("-L").arg(&library).args(["-lxbm_fast", "-lm"]).arg(format!("-Wl,-rpath,{}", library.display()));
        succeeded(&compile.output().unwrap());
        // Cargo's search path, which comes before the program's own, may lead to a library of an earlier build.
        succeeded(&Command::new(&program).current_dir(folder.path()).env_remove("LD_LIBRARY_PATH").output().unwrap())
    })
}

#[test]
fn a_c_program_agrees_with_its_own_plain_loops() {
    if let Some(output) = run("tests/ffi/interface.c") {
        assert!(output.ends_with("all as expected\n"), "{output}");
    }
}

#[test]
fn the_c_example_learns() {
    let Some(output) = run("examples/c/memory_loop.c") else { return };
    let recall = |line: &str| line.rsplit_once("Recall@1 ").and_then(|(_, number)| number.parse::<f64>().ok());
    let recalls: Vec<f64> = output.lines().filter_map(recall).collect();
    assert!(recalls.len() >= 2 && recalls[recalls.len() - 1] > recalls[0], "{output}");
}

#[test]
fn the_header_is_cplusplus_too() {
    if is_there("c++") {
        let flags = ["-fsyntax-only", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-x", "c++"];
        succeeded(&Command::new("c++").args(flags).arg(Path::new(ROOT).join("include/xbm_fast.h")).output().unwrap());
    }
}
