//! What a machine has for the GPU backend, in lines to read and to attach to a report.

use crate::device::cuda::kernel;
use crate::device::cuda::libraries::Library;
use crate::device::cuda::{Probe, version_words};
use crate::device::{cublaslt, cudnn};
use serde::{Deserialize, Serialize};
use std::fs;

/// What was found, as lines of a label and a text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine(pub Vec<(String, String)>);

impl Machine {
    /// Of what a probe found: driver, devices, libraries, kernels.
    pub fn of(probe: &Probe) -> Self {
        let mut lines = Self::default();
        match &probe.driver {
            Ok(version) => {
                let module = kernel_module().map_or_else(String::new, |text| format!(" ({text})"));
                lines.add("driver", format!("CUDA {}{module}", version_words(*version)));
            }
            Err(reason) => lines.add("driver", format!("none: {reason}")),
        }
        for (number, device) in probe.devices.iter().enumerate() {
            let (major, minor) = (device.capability / 10, device.capability % 10);
            let gigabytes = device.memory as f64 / f64::from(1 << 30);
            let text = format!("{}, compute capability {major}.{minor}, {gigabytes:.1} GiB", device.name);
            lines.add(&format!("device {number}"), text);
        }
        for found in &probe.libraries {
            let name = found.library.name();
            let Some(path) = &found.path else {
                lines.add(name, format!("not found; {}", found.library.advice()));
                continue;
            };
            let version = version(found.library).map_or_else(String::new, |text| format!(", {text}"));
            lines.add(name, format!("{}{version}", without_home(&path.display().to_string())));
        }
        lines.add("kernels", kernels());
        lines
    }

    fn add(&mut self, label: &str, text: String) {
        self.0.push((label.to_owned(), text));
    }
}

/// The operating system and its processor.
pub fn system() -> String {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (release, kernel) = (text("/etc/os-release"), text("/proc/sys/kernel/osrelease"));
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).map(|name| name.trim_matches('"'));
    let parts = [name.unwrap_or(std::env::consts::OS), kernel.trim(), std::env::consts::ARCH];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

/// The version of the driver's kernel module, as it reports it.
pub fn kernel_module() -> Option<String> {
    let text = fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    let line = text.lines().next()?;
    let version = line.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit()) && word.contains('.'));
    version.map(|version| format!("module {version}"))
}

fn version(library: Library) -> Option<String> {
    match library {
        Library::Cudnn => match cudnn::version() {
            Ok(version) => Some(format!("version {}.{}.{}", version / 10_000, version / 100 % 100, version % 100)),
            Err(reason) => Some(reason.to_string()),
        },
        Library::CublasLt => cublaslt::version().map(|version| format!("version {version}")),
        Library::Nvrtc => kernel::compiler_version().map(|(major, minor)| format!("version {major}.{minor}")),
    }
}

fn kernels() -> String {
    let count = kernel::stems().len();
    match kernel::compiled_for() {
        Some(architectures) => format!("{count} files, compiled by nvcc for {architectures}"),
        None => format!("{count} files, compiled by NVRTC for the device at first use (this build found no nvcc)"),
    }
}

/// A path that does not tell whose it is.
fn without_home(path: &str) -> String {
    match std::env::var("HOME").ok().filter(|home| home.len() > 1).and_then(|home| path.strip_prefix(&home).map(str::to_owned)) {
        Some(rest) if rest.starts_with('/') => format!("~{rest}"),
        _ => path.to_owned(),
    }
}
