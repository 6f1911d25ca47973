//! A coverage-guided fuzzer for one target: keeps what reaches code that nothing before it reached,
//! changes it, and tries again until the time is up or the rule is broken. Sees by SanitizerCoverage
//! (`coverage.rs`), which `rustc.sh` compiles into our own crates; needs nothing but a stable compiler.
//!
//!     fuzz TARGET SECONDS KEEP_FOLDER CORPUS_FOLDER...
//!     fuzz TARGET --least LEAST_FOLDER CORPUS_FOLDER...

mod coverage;
mod mutate;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use coverage::Coverage;
use mutate::Mutator;

/// Of one run; a rule that takes longer is broken.
const RUN_MAX: Duration = Duration::from_secs(5);
/// Octets of an input.
const INPUT_MAX: usize = 4096;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let usage = "fuzz TARGET SECONDS KEEP_FOLDER CORPUS_FOLDER...";
    let [name, mode, folder, corpora @ ..] = arguments.as_slice() else {
        eprintln!("{usage}");
        return ExitCode::from(2);
    };
    let Some(rule) = heliograph_tests::fuzz::target(name) else {
        eprintln!("there is no target {name:?}");
        return ExitCode::from(2);
    };
    if !coverage::is_there() {
        eprintln!("built without coverage: use run.sh");
        return ExitCode::from(2);
    }
    let folder = PathBuf::from(folder);
    let mut inputs = Vec::new();
    for corpus in corpora {
        inputs.extend(read_all(Path::new(corpus)));
    }
    // The small ones first: they are read by people, and cheap to change.
    inputs.sort_by_key(Vec::len);
    let mut fuzzer = Fuzzer {
        rule,
        coverage: Coverage::new(),
        kept: Vec::new(),
        runs: 0,
        keep: folder.clone(),
    };
    if mode == "--least" {
        return fuzzer.least(inputs);
    }
    let Ok(seconds) = mode.parse() else {
        eprintln!("{usage}");
        return ExitCode::from(2);
    };
    inputs.extend(read_all(&folder));
    fuzzer.run(inputs, Duration::from_secs(seconds))
}

struct Fuzzer {
    rule: fn(&[u8]),
    coverage: Coverage,
    kept: Vec<Vec<u8>>,
    runs: u64,
    keep: PathBuf,
}

impl Fuzzer {
    /// Runs the rule; whether it reached something new. The input that broke it as an error.
    fn try_one(&mut self, input: &[u8]) -> Result<bool, PathBuf> {
        self.runs += 1;
        coverage::clear();
        let start = Instant::now();
        let held = catch_unwind(AssertUnwindSafe(|| (self.rule)(input))).is_ok();
        if !held || start.elapsed() > RUN_MAX {
            let file = self.write("broken-", input);
            if held {
                eprintln!("took {:?}", start.elapsed());
            }
            return Err(file);
        }
        Ok(self.coverage.is_new())
    }

    fn run(&mut self, inputs: Vec<Vec<u8>>, time: Duration) -> ExitCode {
        let end = Instant::now() + time;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let seed = now.unwrap_or_default().as_nanos() as u64;
        eprintln!("seed {seed}");
        let mut mutator = Mutator::new(seed);
        for input in inputs.into_iter().chain([Vec::new()]) {
            match self.try_one(&input) {
                Ok(true) => self.kept.push(input),
                Ok(false) => {}
                Err(file) => return broken(&file),
            }
        }
        while Instant::now() < end {
            let Some(base) = mutator.choose(&self.kept).cloned() else {
                eprintln!("nothing reaches anything");
                return ExitCode::FAILURE;
            };
            // What the base compares shows what it nearly was: it is run once for that.
            coverage::clear();
            let held = catch_unwind(AssertUnwindSafe(|| (self.rule)(&base)));
            debug_assert!(held.is_ok());
            let compared = coverage::compared();
            for _ in 0..64 {
                let other = mutator.choose(&self.kept).cloned().unwrap_or_default();
                let mut input = mutator.change(&base, &other, &compared);
                input.truncate(INPUT_MAX);
                match self.try_one(&input) {
                    Ok(true) => {
                        self.write("", &input);
                        self.kept.push(input);
                    }
                    Ok(false) => {}
                    Err(file) => return broken(&file),
                }
            }
        }
        println!(
            "{} runs, {} kept, {} edges",
            self.runs,
            self.kept.len(),
            self.coverage.edges()
        );
        ExitCode::SUCCESS
    }

    /// Writes those inputs that together reach everything that all reach.
    fn least(&mut self, inputs: Vec<Vec<u8>>) -> ExitCode {
        for input in inputs {
            match self.try_one(&input) {
                Ok(true) => {
                    self.write("", &input);
                }
                Ok(false) => {}
                Err(file) => return broken(&file),
            }
        }
        println!("{} inputs reach {} edges", self.runs, self.coverage.edges());
        ExitCode::SUCCESS
    }

    /// Named by its content (FNV-1a), so that the same input is one file.
    fn write(&self, prefix: &str, input: &[u8]) -> PathBuf {
        let hash = input.iter().fold(0xCBF2_9CE4_8422_2325_u64, |hash, b| {
            (hash ^ u64::from(*b)).wrapping_mul(0x0100_0000_01B3)
        });
        let file = self.keep.join(format!("{prefix}{hash:016x}"));
        if let Err(error) = std::fs::write(&file, input) {
            eprintln!("{}: {error}", file.display());
        }
        file
    }
}

fn broken(file: &Path) -> ExitCode {
    eprintln!("the rule is broken by {}", file.display());
    ExitCode::FAILURE
}

fn read_all(folder: &Path) -> Vec<Vec<u8>> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    files.sort();
    let good = files.iter().filter(|f| {
        let name = f.file_name().and_then(|n| n.to_str());
        !name.is_some_and(|n| n.starts_with("broken-"))
    });
    good.filter_map(|f| std::fs::read(f).ok()).collect()
}
