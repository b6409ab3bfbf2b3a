//! A picture or a page that cannot be made never costs the result: that is printed and written, and the failure is told beside it.


use crate::drive::scene::{EMBED, EVAL, SEARCH, Scene, WEIGHTS};
use crate::drive::{assert_says, run_until, succeed, train};
use std::fs;
use std::process::{Command, Output, Stdio};
use xbm_fast::app::runlog::Summary;

/// What a command prints where no file can hold anything, as on a full disk.
fn on_a_full_disk(command: &Command) -> Output {
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$0\" \"$@\""]).arg(command.get_program()).args(command.get_args());
    shell.output().unwrap()
}

#[test]
fn results_are_printed_where_their_pages_cannot_be_written() {
    let scene = Scene::new();
    scene.run(&format!("{EMBED} @photos.npy"));
    for (words, result) in [
        (format!("{SEARCH} @page.html"), "images/1-2.png"),
        (format!("{SEARCH} @page.html --json"), "\"hits\""),
        (format!("{EVAL} @scores.csv"), "Recall@1"),
        (format!("{EVAL} @scores.csv --json"), "map_at_r"),
        (format!("{WEIGHTS} @curves.svg"), "similarity\t"),
    ] {
        let output = on_a_full_disk(&scene.command(&words));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{words}: {said}");
        assert_says(&String::from_utf8(output.stdout).unwrap(), &[result]);
        assert_says(&said, &["error: ", "too large"]);
    }
}

#[test]
fn a_run_whose_report_cannot_be_written_has_its_summary_and_says_so() {
    let scene = Scene::empty();
    let out = scene.path("run");
    let mut command = train(&out, &["--steps=30", "--log-every=1", "--json"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = run_until(command, &out, 2);
    fs::create_dir_all(out.join("report.html/in the way")).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_says(&said, &["Recall@1", "the run is whole", "report.html", "--resume"]);
    let summary: Summary = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(Summary::read(&out).unwrap(), summary);
    // The advice of the message.
    fs::remove_dir_all(out.join("report.html")).unwrap();
    let mut command = crate::drive::resume(&out);
    command.stderr(Stdio::null());
    succeed(command);
    assert!(out.join("report.html").is_file());
}
