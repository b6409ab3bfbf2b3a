//! Compiles the emulator, the stand-in driver and every kernels/**/*.cu with the host's C++ compiler.
//!
//! Without a compiler nothing is built and the tests that need the software GPU are skipped with a message;
//! `XBM_REQUIRE_SOFTWARE_GPU=1` makes that an error. `XBM_SOFTWARE_GPU=race` or `asan` instruments the kernels.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Wno-unknown-pragmas", "-Wno-unused-variable"];

struct Compiler {
    program: String,
    out: PathBuf,
    includes: Vec<String>,
}

impl Compiler {
    fn run(&self, arguments: &[String]) {
        let output = Command::new(&self.program).args(arguments).output().expect("the compiler starts");
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} {}\n{words}", self.program, arguments.join(" "));
    }

    /// Compiles the sources side by side and returns the objects.
    fn objects(&self, sources: &[PathBuf], label: &str, flags: &[&str]) -> Vec<PathBuf> {
        // Two folders may hold sources of one name.
        let object = |source: &Path| {
            let name = |part: Option<&OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
            let folder = source.parent().and_then(Path::file_name);
            self.out.join(format!("{label}-{}-{}.o", name(folder), name(source.file_stem())))
        };
        std::thread::scope(|scope| {
            for source in sources {
                scope.spawn(move || {
                    let mut arguments: Vec<String> =
                        ["-std=c++17", "-O2", "-g1", "-fPIC", "-fvisibility=hidden"].map(String::from).into();
                    arguments.extend(WARNINGS.iter().chain(flags).map(|flag| (*flag).to_owned()));
                    arguments.extend(self.includes.iter().map(|folder| format!("-I{folder}")));
                    arguments.extend(["-x", "c++", "-c"].map(String::from));
                    arguments.extend([source.display().to_string(), "-o".into(), object(source).display().to_string()]);
                    self.run(&arguments);
                });
            }
        });
        sources.iter().map(|source| object(source)).collect()
    }

    /// Links a shared library of that file name; it finds its siblings beside itself.
    fn library(&self, name: &str, objects: &[PathBuf], flags: &[&str]) {
        self.library_as(name, name, objects, flags);
    }

    fn library_as(&self, file: &str, name: &str, objects: &[PathBuf], flags: &[&str]) {
        let mut arguments = vec!["-shared".to_owned(), format!("-Wl,-soname,{name}"), "-Wl,-rpath,$ORIGIN".into()];
        arguments.extend(objects.iter().map(|path| path.display().to_string()));
        arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        arguments.extend(["-o".into(), self.out.join(file).display().to_string()]);
        self.run(&arguments);
    }
}

fn sources(folder: &Path, extension: &str) -> Vec<PathBuf> {
    println!("cargo:rerun-if-changed={}", folder.display());
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut found: Vec<PathBuf> =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == extension)).collect();
    found.sort();
    found
}

/// The kernels of a folder and of those in it.
fn kernel_sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = sources(folder, "cu");
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let folders = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    found.extend(folders.flat_map(|folder| kernel_sources(&folder)));
    found
}

fn main() {
    println!("cargo:rustc-check-cfg=cfg(no_compiler)");
    for name in ["CXX", "XBM_SOFTWARE_GPU", "XBM_REQUIRE_SOFTWARE_GPU"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap());
    let kernels = here.join("../../kernels").canonicalize().expect("the kernels are two folders up");
    let program = env::var("CXX").unwrap_or_else(|_| "g++".into());
    let usable = cfg!(target_os = "linux") && Command::new(&program).arg("--version").output().is_ok_and(|o| o.status.success());
    if !usable {
        let reason = format!("no C++ compiler ({program}): the CUDA kernels are not tested");
        assert!(env::var_os("XBM_REQUIRE_SOFTWARE_GPU").is_none(), "{reason}");
        println!("cargo:warning={reason}; install g++ to run them on the software GPU");
        println!("cargo:rustc-cfg=no_compiler");
        return;
    }
    let folder = |name: &str| here.join(name).display().to_string();
    let compiler = Compiler {
        program,
        out: PathBuf::from(env::var_os("OUT_DIR").unwrap()),
        includes: vec![folder("emulator"), folder("driver"), kernels.display().to_string()],
    };
    println!("cargo:rustc-env=SOFTWARE_GPU_DIR={}", compiler.out.display());
    println!("cargo:rustc-env=SOFTWARE_GPU_CXX={}", compiler.program);
    println!("cargo:rustc-env=SOFTWARE_GPU_INCLUDES={}", compiler.includes.join(":"));
    build(&compiler, &here, &kernels);
}

fn build(compiler: &Compiler, here: &Path, kernels: &Path) {
    let mut driver = sources(&here.join("emulator"), "cpp");
    driver.extend(sources(&here.join("driver"), "cpp"));
    // The kernels call the emulator through the driver library, hence visible symbols.
    let objects = compiler.objects(&driver, "driver", &["-fvisibility=default"]);
    compiler.library("libcuda.so.1", &objects, &["-Wl,-z,nodelete", "-Wl,--no-undefined", "-ldl"]);
    let cuda = compiler.out.join("libcuda.so.1").display().to_string();
    let nvrtc = compiler.objects(&sources(&here.join("nvrtc"), "cpp"), "nvrtc", &[]);
    compiler.library("libnvrtc.so.13", &nvrtc, &["-Wl,--no-undefined", &cuda]);
    // Their work goes into the driver's streams. Plain loops over neighbours: worth the compiler's vector instructions.
    for (folder, library) in [("cudnn", "libcudnn.so.9"), ("cublaslt", "libcublasLt.so.13")] {
        let objects = compiler.objects(&sources(&here.join(folder), "cpp"), folder, &["-O3"]);
        compiler.library(library, &objects, &["-Wl,--no-undefined", &cuda]);
    }
    let old = compiler.objects(&sources(&here.join("old"), "cpp"), "old", &[]);
    fs::create_dir_all(compiler.out.join("old")).expect("a folder beside the libraries");
    compiler.library_as("old/libcuda.so.1", "libcuda.so.1", &old, &[]);
    // cudarc tries the unversioned names first: empty libraries that depend on the versioned ones answer to them.
    for name in ["libcuda.so.1", "libnvrtc.so.13", "libcudnn.so.9", "libcublasLt.so.13"] {
        let versioned = compiler.out.join(name).display().to_string();
        let (unversioned, _) = name.split_once(".so.").expect("a version");
        compiler.library(&format!("{unversioned}.so"), &[], &["-Wl,--no-as-needed", &versioned]);
    }

    let mut flags = vec!["-Wno-unused-parameter"];
    let mut link = vec![cuda.as_str()];
    match env::var("XBM_SOFTWARE_GPU").as_deref() {
        Ok("race") => flags.extend(["-fsanitize=thread", "--param", "tsan-instrument-func-entry-exit=0"]),
        Ok("asan") => {
            flags.extend(["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"]);
            link.extend(["-fsanitize=address,undefined"]);
        }
        Ok("plain") | Err(_) => {}
        Ok(other) => panic!("XBM_SOFTWARE_GPU is plain, race or asan, not {other}"),
    }
    let mut all = kernel_sources(kernels);
    all.extend(sources(&here.join("probes"), "cu"));
    let objects = compiler.objects(&all, "kernel", &flags);
    compiler.library("libkernels.so", &objects, &link);
}
