//! Files of a run: whole or absent, resumable, and readable by TensorBoard.

use std::io::{Error as IoError, Write};
use std::path::Path;
use xbm_fast::app::runlog::{METRICS_FILE, MetricsLog, StepMetrics, Summary, read_metrics};
use xbm_fast::app::tensorboard::EventFile;
use xbm_fast::files::write_atomically;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn at_step(step: u64) -> StepMetrics {
    StepMetrics { step, loss: Some(step as f64 / 8.0), ..StepMetrics::default() }
}

#[test]
fn a_failed_write_leaves_what_was_there_and_no_temporary_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kept.txt");
    write_atomically(&path, |file| file.write_all(b"old")).unwrap();
    let error = write_atomically(&path, |file| {
        file.write_all(b"half of the new")?;
        Err(IoError::other("no space left"))
    });
    let message = error.unwrap_err().to_string();
    assert!(message.contains("kept.txt") && message.contains("no space left"), "{message}");
    assert_eq!(b"old".to_vec(), std::fs::read(&path).unwrap());
    write_atomically(&path, |file| file.write_all(b"new")).unwrap();
    assert_eq!(b"new".to_vec(), std::fs::read(&path).unwrap());
    assert_eq!(["kept.txt"], names(folder.path())[..]);
}

#[cfg(unix)]
#[test]
fn only_files_are_replaced() {
    use std::os::unix::fs::FileTypeExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let message = write_atomically(&path, |file| file.write_all(b"new")).unwrap_err().to_string();
    assert!(message.ends_with("found a device, a pipe or a socket"), "{message}");
    assert!(std::fs::metadata(&path).unwrap().file_type().is_socket());
    assert_eq!(["socket"], names(folder.path())[..]);
}

#[test]
fn a_missing_folder_is_named() {
    let message = write_atomically("no/such/folder/file", |_| Ok(())).unwrap_err().to_string();
    assert!(message.starts_with("no/such/folder/file: "), "{message}");
}

#[test]
fn a_logged_step_is_one_line_without_what_was_not_measured() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = MetricsLog::open(folder.path(), None).unwrap();
    log.log(&at_step(4)).unwrap();
    log.log(&StepMetrics { recall_at_1: Some(0.5), ..at_step(8) }).unwrap();
    let text = std::fs::read_to_string(folder.path().join(METRICS_FILE)).unwrap();
    assert_eq!("{\"step\":4,\"loss\":0.5}\n{\"step\":8,\"loss\":1.0,\"recall_at_1\":0.5}\n", text);
    assert_eq!(Some(0.5), read_metrics(folder.path()).unwrap()[1].recall_at_1);
}

#[test]
fn resuming_drops_later_steps_and_a_line_cut_by_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = MetricsLog::open(folder.path(), None).unwrap();
    (1..=5).for_each(|step| log.log(&at_step(step)).unwrap());
    let path = folder.path().join(METRICS_FILE);
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push_str("{\"step\":6,\"lo");
    std::fs::write(&path, text).unwrap();
    let mut log = MetricsLog::open(folder.path(), Some(3)).unwrap();
    log.log(&at_step(4)).unwrap();
    let steps: Vec<u64> = read_metrics(folder.path()).unwrap().iter().map(|metrics| metrics.step).collect();
    assert_eq!([1, 2, 3, 4], steps[..]);
}

#[test]
fn a_damaged_line_is_named_by_number() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(METRICS_FILE), "{\"step\":1}\nnot json\n{\"step\":2}\n").unwrap();
    let message = read_metrics(folder.path()).unwrap_err().to_string();
    assert!(message.contains("line 2"), "{message}");
}

#[test]
fn a_summary_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let summary = Summary { recall_at_1: Some(0.75), steps: 400, device: "cpu, 2 threads".into(), ..Summary::default() };
    summary.write(folder.path()).unwrap();
    let read = serde_json::from_slice(&std::fs::read(folder.path().join("summary.json")).unwrap()).unwrap();
    assert_eq!(summary, read);
}

/// The CRC-32C of RFC 3720, bit by bit.
fn checksum(data: &[u8]) -> u32 {
    !data.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82F6_3B78 } else { crc >> 1 })
    })
}

/// The data of the records of a TFRecord file, checksums checked.
fn records(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    let masked = |data: &[u8]| checksum(data).rotate_right(15).wrapping_add(0xA282_EAD8);
    while !bytes.is_empty() {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        assert_eq!(masked(&bytes[..8]), number(&bytes[8..12]));
        let data = &bytes[12..12 + length];
        assert_eq!(masked(data), number(&bytes[12 + length..16 + length]));
        records.push(data.to_vec());
        bytes = &bytes[16 + length..];
    }
    records
}

#[test]
fn an_event_file_holds_checksummed_scalars_and_a_resumed_one_says_from_where() {
    assert_eq!(0xE306_9283, checksum(b"123456789"), "the check value of the standard");
    let folder = tempfile::tempdir().unwrap();
    EventFile::create(folder.path(), Some(299)).unwrap().log(&at_step(300)).unwrap();
    let records = records(&std::fs::read(folder.path().join(&names(folder.path())[0])).unwrap());
    assert_eq!(3, records.len());
    // After the time (9 bytes): field 2 is the step, 300 as a varint; field 5 the summary with one value, tag and 32-bit number.
    assert_eq!(&records[0][11..], b"\x1a\x0dbrain.Event:2");
    assert_eq!(&records[1][9..], b"\x10\xac\x02\x3a\x02\x08\x01");
    let mut expected = b"\x10\xac\x02\x2a\x0d\x0a\x0b\x0a\x04loss\x15".to_vec();
    expected.extend(37.5f32.to_le_bytes());
    assert_eq!(&records[2][9..], expected);
}
