//! Compares the results of the other programs with their targets. `cargo bench` runs the programs in the order of their
//! names, and this one last.

mod common;

use std::fs;

use common::table::{HEADINGS, folder, print};

fn main() {
    let mut rows = Vec::new();
    let mut files: Vec<_> =
        fs::read_dir(folder()).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.sort();
    for file in files {
        let program = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for line in fs::read_to_string(&file).unwrap_or_default().lines() {
            let cells: Vec<_> = line.split('\t').map(str::to_owned).collect();
            let Ok([figure, ours, bare, ratio, target, verdict]) = <[String; 6]>::try_from(cells) else {
                continue;
            };
            if !target.is_empty() {
                rows.push([format!("{program}: {figure}"), ours, bare, ratio, target, verdict]);
            }
        }
        // A later run that leaves a program out must not show the rows of this run.
        let _ = fs::remove_file(file);
    }
    println!("\nsummary\n");
    print(&HEADINGS.map(str::to_owned), &rows);
    let missed = rows.iter().filter(|row| row[5] == "MISSED").count();
    println!("\n{} targets, {missed} missed", rows.len());
}
