//! The tables that the programs print, and the rows that they leave for the summary.

use std::fs;
use std::path::PathBuf;

/// Where each program leaves its rows for the summary.
pub fn folder() -> PathBuf {
    option_env!("CARGO_TARGET_TMPDIR").map_or_else(std::env::temp_dir, PathBuf::from).join("figures")
}

#[derive(Clone, Copy)]
pub enum Target {
    AtMost(f64),
    AtLeast(f64),
}

pub const HEADINGS: [&str; 6] = ["figure", "tautline", "bare", "ratio", "target", ""];

/// The figures of one program.
pub struct Table {
    program: &'static str,
    rows: Vec<[String; 6]>,
}

impl Table {
    pub fn new(program: &'static str) -> Self {
        Self { program, rows: Vec::new() }
    }

    /// Adds a figure of ours next to that of bare tungstenite. `ratio` is judged.
    pub fn compare(
        &mut self,
        figure: &str,
        (ours, bare): (f64, f64),
        unit: impl Fn(f64) -> String,
        target: Option<Target>,
    ) {
        self.push(figure, unit(ours), unit(bare), Some(ours / bare), target);
    }

    /// Adds a figure of ours alone, and judges it.
    pub fn own(&mut self, figure: &str, ours: f64, unit: impl Fn(f64) -> String, target: Option<Target>) {
        let goal = target.map(|target| match target {
            Target::AtMost(most) => format!("≤ {}", unit(most)),
            Target::AtLeast(least) => format!("≥ {}", unit(least)),
        });
        let verdict = target.map_or("", |target| target.verdict(ours));
        self.rows.push([figure, &unit(ours), "", "", &goal.unwrap_or_default(), verdict].map(str::to_owned));
        self.announce();
    }

    /// Adds a figure of bare tungstenite that takes too long to be measured more than once, or something that needs a
    /// note.
    pub fn note(&mut self, figure: &str, ours: &str, bare: &str, note: &str) {
        self.rows.push([figure, ours, bare, "", note, ""].map(str::to_owned));
        self.announce();
    }

    pub fn push(
        &mut self,
        figure: &str,
        ours: String,
        bare: String,
        ratio: Option<f64>,
        target: Option<Target>,
    ) {
        let goal = target.map_or_else(String::new, |target| target.goal("x"));
        let verdict = ratio.zip(target).map_or("", |(ratio, target)| target.verdict(ratio));
        let ratio = ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}x"));
        self.rows.push([figure.into(), ours, bare, ratio, goal, verdict.into()]);
        self.announce();
    }

    /// Prints the table to the standard output, and writes the rows for the summary.
    pub fn print(&self) {
        println!("\n{}\n", self.program);
        print(&HEADINGS.map(str::to_owned), &self.rows);
        let rows: Vec<_> = self.rows.iter().map(|row| row.join("\t")).collect();
        let _ = fs::create_dir_all(folder());
        let _ = fs::write(folder().join(self.program), rows.join("\n"));
    }

    /// Shows that the program is making progress.
    fn announce(&self) {
        eprintln!("{}: {}", self.program, self.rows[self.rows.len() - 1][0]);
    }
}

impl Target {
    pub fn goal(self, unit: &str) -> String {
        match self {
            Self::AtMost(most) => format!("≤ {most}{unit}"),
            Self::AtLeast(least) => format!("≥ {least}{unit}"),
        }
    }

    pub fn verdict(self, figure: f64) -> &'static str {
        let met = match self {
            Self::AtMost(most) => figure <= most,
            Self::AtLeast(least) => figure >= least,
        };
        if met { "met" } else { "MISSED" }
    }
}

/// Prints columns as wide as their widest cell. The first is left-aligned.
pub fn print<const N: usize>(headings: &[String; N], rows: &[[String; N]]) {
    let all = || std::iter::once(headings).chain(rows);
    let width = |column: usize| all().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    for row in all() {
        let cells = row.iter().zip(widths).enumerate();
        let cells = cells.map(
            |(n, (cell, width))| {
                if n == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            },
        );
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

pub fn seconds(seconds: f64) -> String {
    match seconds {
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 1e-3 => format!("{:.2} ms", s * 1e3),
        s => format!("{:.1} µs", s * 1e6),
    }
}

pub fn per_second(rate: f64) -> String {
    if rate >= 1e6 { format!("{:.2} M/s", rate / 1e6) } else { format!("{:.0} k/s", rate / 1e3) }
}

pub fn megabytes(rate: f64) -> String {
    format!("{:.0} MB/s", rate / 1e6)
}

pub fn plain(figure: f64) -> String {
    format!("{figure:.2}")
}

pub fn kibibytes(bytes: f64) -> String {
    format!("{:.1} KiB", bytes / 1024.0)
}
