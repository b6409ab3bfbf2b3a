//! SIGINT, SIGTERM and SIGHUP.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::process::{Command, Stdio};

/// With the names that `kill` knows them by.
const SIGNALS: [(i32, &str); 3] = [(SIGINT, "INT"), (SIGTERM, "TERM"), (SIGHUP, "HUP")];

/// Calls `heard` with the number of each signal, but for those that are ignored now.
pub(super) fn listen(mut heard: impl FnMut(i32) + Send + 'static) -> io::Result<()> {
    let heeded: Vec<i32> =
        SIGNALS.into_iter().filter(|&(number, name)| !is_ignored(number, name)).map(|(number, _)| number).collect();
    let mut signals = Signals::new(heeded)?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || signals.forever().for_each(&mut heard))?;
    Ok(())
}

/// Ends the program without another word: what a second signal asks for.
pub(super) fn end(code: u8) -> ! {
    signal_hook::low_level::exit(i32::from(code))
}

/// What is said to the first signal.
pub(super) fn words(signal: i32, unit: &str) -> String {
    match signal {
        SIGINT => format!("stopping after this {unit}; press Ctrl-C again to stop at once"),
        SIGHUP => format!("the terminal has closed (SIGHUP); stopping after this {unit}"),
        _ => format!("asked to stop (SIGTERM); stopping after this {unit}; a second SIGTERM stops at once"),
    }
}

fn is_ignored(number: i32, name: &str) -> bool {
    match std::fs::read_to_string("/proc/self/status") {
        Ok(status) => is_ignored_by(&status, number),
        Err(_) => a_child_survives(name),
    }
}

/// By Linux's description of the process: `SigIgn` is a mask in hexadecimal, with signal 1 in its lowest bit.
fn is_ignored_by(status: &str, number: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (number - 1) & 1 == 1
}

/// By a shell that sends itself the signal: what a process ignores its children ignore too, and a shell may not change it.
fn a_child_survives(name: &str) -> bool {
    let mut shell = Command::new("/bin/sh");
    let child = shell.args(["-c", &format!("kill -{name} $$; exit 0")]).stdin(Stdio::null()).stdout(Stdio::null());
    child.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_mask() {
        let status = "Name:\txbm-fast\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000004002\n";
        assert!(is_ignored_by(status, SIGHUP));
        assert!(!is_ignored_by(status, SIGINT) && !is_ignored_by(status, SIGTERM));
        assert!(!is_ignored_by("no mask here", SIGHUP));
    }

    #[test]
    fn a_shell_and_the_mask_agree_on_what_is_ignored() {
        for (number, name) in SIGNALS {
            assert_eq!(is_ignored(number, name), a_child_survives(name), "{name}");
        }
    }
}
