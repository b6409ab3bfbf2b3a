//! Ctrl-C, Ctrl-Break and a closed console, which all count as SIGINT.

const SIGINT: i32 = 2;

/// Calls `heard` with SIGINT's number each time.
pub(super) fn listen(mut heard: impl FnMut(i32) + Send + 'static) -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(move || heard(SIGINT))
}

/// Ends the program: what a second signal asks for.
pub(super) fn end(code: u8) -> ! {
    std::process::exit(i32::from(code))
}

/// What is said to the first signal.
pub(super) fn words(_: i32, unit: &str) -> String {
    format!("stopping after this {unit}; press Ctrl-C again to stop at once")
}
