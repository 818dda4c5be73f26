//! Writes reports that nobody measured, to look at: `page [DIRECTORY]`.

use std::path::PathBuf;
use std::process::ExitCode;

use highwater_bench_report::warnings::{self, Seen};
use highwater_bench_report::{made_up, table};

fn main() -> ExitCode {
    let chosen = std::env::args_os().nth(1).map(PathBuf::from);
    let directory = chosen.unwrap_or_else(|| std::env::temp_dir().join("highwater-bench-page"));
    let mut poor = made_up::ladder();
    poor.client.clock_source = "hpet".to_string();
    poor.runs[5].client_cpu_share = 0.97;
    poor.warnings = warnings::all(&poor, Seen::default());
    for (name, report) in [("single", made_up::single()), ("ladder", poor)] {
        println!("{}", table::summary(&report));
        match report.write_to(&directory.join(name)) {
            Ok(files) => files.iter().for_each(|file| println!("{}", file.display())),
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
