//! A report as files in a directory.
//!
//! Owns their names: `report.json`, `report.html` and one `.hgrm` for each run and series. Files of
//! an earlier report in the same directory are written over; others are left alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::model::{DecodeError, Report};
use crate::{hgrm, html};

/// Why a report could not be written.
#[derive(Debug, Error)]
pub enum WriteError {
    #[error("cannot make the directory {path}: {source}", path = path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("cannot write {path}: {source}", path = path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("cannot write {path} as JSON: {source}", path = path.display())]
    Json {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("cannot make {path}: {source}", path = path.display())]
    Histogram { path: PathBuf, source: DecodeError },
}

impl Report {
    /// Writes everything into a directory, which is made where it is missing, and tells the files.
    ///
    /// # Errors
    /// When a directory or file cannot be made, or a histogram's text cannot be read; each names
    /// the path.
    pub fn write_to(&self, directory: &Path) -> Result<Vec<PathBuf>, WriteError> {
        fs::create_dir_all(directory).map_err(|source| WriteError::Directory {
            path: directory.to_path_buf(),
            source,
        })?;
        let mut written = Vec::new();
        let path = directory.join("report.json");
        let mut json = serde_json::to_string_pretty(self).map_err(|source| WriteError::Json {
            path: path.clone(),
            source,
        })?;
        json.push('\n');
        written.push(write(path, &json)?);
        for (name, run, series) in self.distributions() {
            let path = directory.join(name);
            let decoded = self.runs[run].series[series].latency.decode();
            let histogram = decoded.map_err(|source| WriteError::Histogram {
                path: path.clone(),
                source,
            })?;
            written.push(write(path, &hgrm::text(&histogram))?);
        }
        written.push(write(directory.join("report.html"), &html::page(self))?);
        Ok(written)
    }

    /// A file name for each distribution, no two alike, with its run and series by place.
    fn distributions(&self) -> Vec<(String, usize, usize)> {
        let mut names: Vec<(String, usize, usize)> = Vec::new();
        for (run_at, run) in self.runs.iter().enumerate() {
            for (series_at, series) in run.series.iter().enumerate() {
                let stem = plain(&format!("{} {}", run.label, series.name));
                let taken = |name: &String| names.iter().any(|(other, ..)| other == name);
                let first = format!("{stem}.hgrm");
                let name = if taken(&first) {
                    format!("{stem}-{}-{}.hgrm", run_at + 1, series_at + 1)
                } else {
                    first
                };
                names.push((name, run_at, series_at));
            }
        }
        names
    }
}

fn write(path: PathBuf, text: &str) -> Result<PathBuf, WriteError> {
    match fs::write(&path, text) {
        Ok(()) => Ok(path),
        Err(source) => Err(WriteError::File { path, source }),
    }
}

/// Longest stem of a file name, in characters: file systems take 255 bytes.
const STEM_CHARS_MAX: usize = 80;

/// A label as part of a file name: letters and digits, what is between them a hyphen. A separator of
/// thousands is dropped, so that 50,000/s is 50000-s.
fn plain(label: &str) -> String {
    let mut name = String::new();
    for letter in label.replace(',', "").chars().take(STEM_CHARS_MAX) {
        if letter.is_ascii_alphanumeric() || letter == '.' && !name.is_empty() {
            name.push(letter.to_ascii_lowercase());
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    name.truncate(name.trim_end_matches(['-', '.']).len());
    if name.is_empty() {
        name.push_str("run");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up;

    /// A directory of this test only, removed at its end.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Directory {
            let name = format!("highwater-bench-report-{}-{name}", std::process::id());
            Directory(std::env::temp_dir().join(name))
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_report_is_written_and_its_json_read_back() {
        let directory = Directory::new("whole");
        let report = made_up::ladder();
        let written = report
            .write_to(&directory.0.join("deep"))
            .expect("a place for temporaries");
        let names: Vec<String> = written
            .iter()
            .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect();
        assert_eq!(names.len(), 2 + 12);
        assert_eq!(names[0], "report.json");
        assert!(
            names.contains(&"80000-s-end-to-end.hgrm".to_string()),
            "{names:?}"
        );
        let json = fs::read_to_string(&written[0]).expect("it was written");
        let read: Report = serde_json::from_str(&json).expect("own JSON");
        assert_eq!(read.runs.len(), report.runs.len());
        assert_eq!(
            read.runs[5].series[1].latency.histogram,
            report.runs[5].series[1].latency.histogram
        );
        let page = fs::read_to_string(&written[13]).expect("it was written");
        assert!(page.starts_with("<!DOCTYPE html>"));
    }

    #[test]
    fn errors_name_the_path() {
        let directory = Directory::new("taken");
        fs::write(&directory.0, "a file").expect("a place for temporaries");
        let error = made_up::single()
            .write_to(&directory.0)
            .expect_err("a file is there");
        let text = error.to_string();
        let _ = fs::remove_file(&directory.0);
        assert!(text.contains("highwater-bench-report-"), "{text}");

        let directory = Directory::new("damaged");
        let mut report = made_up::single();
        report.runs[0].series[1].latency.histogram = "?".to_string();
        let text = report
            .write_to(&directory.0)
            .expect_err("no histogram")
            .to_string();
        assert!(text.contains("50000-s-end-to-end.hgrm"), "{text}");
        assert!(text.contains("not base64"), "{text}");
    }

    #[test]
    fn labels_never_leave_the_directory_and_never_collide() {
        assert_eq!(plain("50,000/s produce"), "50000-s-produce");
        assert_eq!(plain("../../etc/passwd"), "etc-passwd");
        assert_eq!(plain("???"), "run");
        assert!(plain(&"x".repeat(500)).len() <= STEM_CHARS_MAX);
        let mut report = made_up::ladder();
        for run in &mut report.runs {
            run.label = "same".to_string();
        }
        let mut names: Vec<String> = report.distributions().into_iter().map(|d| d.0).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 12);
    }
}
