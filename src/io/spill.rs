//! A folder for what does not fit the memory: batches as compressed Arrow IPC, read back once.

use super::output::{Kind, cannot_write};
use crate::error::{Error, Problem, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::{FileReader, StreamReader};
use arrow::ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
use arrow::ipc::{CompressionType, MetadataVersion};
use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A folder that is made when it is first needed, and goes when this does.
#[derive(Debug)]
pub struct Spill {
    folder: PathBuf,
    files: AtomicU64,
    bytes: AtomicU64,
}

impl Spill {
    /// A place for spilled batches, which need not exist yet.
    pub fn new(folder: &Path) -> Self {
        Spill { folder: folder.to_path_buf(), files: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }

    /// Files written so far, and their bytes.
    pub fn written(&self) -> (u64, u64) {
        (self.files.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// Writes batches of one schema to a file of their own.
    pub fn write(&self, batches: &[RecordBatch]) -> Result<PathBuf> {
        self.write_file(|file| write(file, batches))
    }

    /// Writes batches to a file of their own, from which each can be read by its number.
    pub fn write_numbered(
        &self,
        schema: &SchemaRef,
        batches: impl Iterator<Item = std::result::Result<RecordBatch, ArrowError>>,
    ) -> Result<PathBuf> {
        self.write_file(|file| {
            let file = BufWriter::new(file);
            let mut writer = FileWriter::try_new_with_options(file, schema, options()?)?;
            batches.into_iter().try_for_each(|batch| writer.write(&batch?))?;
            writer.finish()?;
            into_file(writer.into_inner()?)
        })
    }

    /// Reads one of the batches of such a file, which stays.
    pub fn read_numbered(&self, path: &Path, number: usize) -> Result<RecordBatch> {
        let read = || -> std::result::Result<RecordBatch, ArrowError> {
            let mut reader = FileReader::try_new(BufReader::new(File::open(path)?), None)?;
            reader.set_index(number)?;
            reader.next().unwrap_or_else(|| Err(ArrowError::IpcError(format!("no batch {number}"))))
        };
        read().map_err(|e| gone(path, e.to_string()))
    }

    fn write_file(
        &self,
        write: impl FnOnce(File) -> std::result::Result<File, ArrowError>,
    ) -> Result<PathBuf> {
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join(format!("{number:06}.arrow"));
        let failed = |e: &std::io::Error| cannot_write(Kind::Answer, &path, e);
        fs::create_dir_all(&self.folder).map_err(|e| failed(&e))?;
        let file = File::create(&path).map_err(|e| failed(&e))?;
        let written = write(file).and_then(|file| Ok(file.metadata()?.len())).map_err(|e| match e {
            ArrowError::IoError(_, io) => failed(&io),
            other => failed(&std::io::Error::other(other.to_string())),
        })?;
        self.bytes.fetch_add(written, Ordering::Relaxed);
        Ok(path)
    }

    /// Reads a file back and removes it.
    pub fn read(&self, path: &Path) -> Result<Vec<RecordBatch>> {
        let failed = |e: String| gone(path, e);
        let file = File::open(path).map_err(|e| failed(e.to_string()))?;
        let reader = StreamReader::try_new(BufReader::new(file), None).map_err(|e| failed(e.to_string()))?;
        let batches = reader.collect::<std::result::Result<_, _>>().map_err(|e| failed(e.to_string()))?;
        self.remove(path)?;
        Ok(batches)
    }

    /// Removes a file unread.
    pub fn remove(&self, path: &Path) -> Result<()> {
        fs::remove_file(path).map_err(|e| gone(path, e.to_string()))
    }
}

fn gone(path: &Path, found: String) -> Error {
    Error::Output(Problem::new(
        path.display().to_string(),
        "what this run spilled there",
        found,
        "run again; nothing else may touch the folder while a run lasts",
    ))
}

fn write(file: File, batches: &[RecordBatch]) -> std::result::Result<File, ArrowError> {
    let Some(first) = batches.first() else { return Ok(file) };
    let file = BufWriter::new(file);
    let mut writer = StreamWriter::try_new_with_options(file, first.schema_ref(), options()?)?;
    for batch in batches {
        writer.write(batch)?;
    }
    writer.finish()?;
    into_file(writer.into_inner()?)
}

fn options() -> std::result::Result<IpcWriteOptions, ArrowError> {
    IpcWriteOptions::try_new(64, false, MetadataVersion::V5)?
        .try_with_compression(Some(CompressionType::LZ4_FRAME))
}

fn into_file(buffered: BufWriter<File>) -> std::result::Result<File, ArrowError> {
    buffered.into_inner().map_err(|e| ArrowError::from(e.into_error()))
}

impl Drop for Spill {
    fn drop(&mut self) {
        // It may never have been made, and what is left of it is swept with the folder that holds it.
        let _gone = fs::remove_dir_all(&self.folder);
    }
}
