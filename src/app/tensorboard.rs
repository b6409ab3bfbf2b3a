//! Scalars as a TensorBoard event file.
//!
//! The file is a sequence of TFRecords (length as u64, its checksum, the data, its checksum; little-endian; checksums are CRC-32C,
//! rotated and offset) whose data are `Event` messages of TensorFlow's `event.proto`, of which this needs five fields.

use crate::app::runlog::StepMetrics;
use crate::error::{Error, Result};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Added to a rotated checksum by the TFRecord format.
const CHECKSUM_MASK: u32 = 0xA282_EAD8;
/// `SessionLog.START`: tells TensorBoard to forget the events of earlier files from this step on.
const SESSION_START: u64 = 1;

/// Writes an event file.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Opens a new event file in `folder`. For a run resumed after `resume_step`, what earlier files say about later steps no longer
    /// counts.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(folder: &Path, resume_step: Option<u64>) -> Result<Self> {
        let time = wall_time();
        let path = folder.join(format!("events.out.tfevents.{:020}.{}", (time * 1e6) as u64, std::process::id()));
        let file = File::create(&path).map_err(Error::io(&path))?;
        let mut events = Self { path, file };
        let mut version = event(time, 0);
        bytes_field(&mut version, 3, b"brain.Event:2");
        events.record(&version)?;
        if let Some(step) = resume_step {
            let mut start = event(time, step + 1);
            let mut session = Vec::new();
            integer_field(&mut session, 1, SESSION_START);
            bytes_field(&mut start, 7, &session);
            events.record(&start)?;
        }
        Ok(events)
    }

    /// Appends the scalars of a step.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn log(&mut self, metrics: &StepMetrics) -> Result<()> {
        let mut summary = Vec::new();
        for (name, scalar) in metrics.scalars() {
            let mut value = Vec::new();
            bytes_field(&mut value, 1, name.as_bytes());
            key(&mut value, 2, 5);
            value.extend((scalar as f32).to_le_bytes());
            bytes_field(&mut summary, 1, &value);
        }
        let mut event = event(wall_time(), metrics.step);
        bytes_field(&mut event, 5, &summary);
        self.record(&event)
    }

    fn record(&mut self, data: &[u8]) -> Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        let mut record = length.to_vec();
        record.extend(masked_checksum(&length).to_le_bytes());
        record.extend(data);
        record.extend(masked_checksum(data).to_le_bytes());
        self.file.write_all(&record).map_err(Error::io(&self.path))
    }
}

fn masked_checksum(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(CHECKSUM_MASK)
}

fn wall_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// An `Event` with its time and step.
fn event(time: f64, step: u64) -> Vec<u8> {
    let mut event = Vec::new();
    key(&mut event, 1, 1);
    event.extend(time.to_le_bytes());
    integer_field(&mut event, 2, step);
    event
}

/// Field number and wire type (0 integer, 1 64-bit, 2 bytes, 5 32-bit) of a protocol buffer.
fn key(message: &mut Vec<u8>, field: u64, wire_type: u64) {
    varint(message, field << 3 | wire_type);
}

fn integer_field(message: &mut Vec<u8>, field: u64, value: u64) {
    key(message, field, 0);
    varint(message, value);
}

fn bytes_field(message: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    key(message, field, 2);
    varint(message, bytes.len() as u64);
    message.extend(bytes);
}

fn varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}
