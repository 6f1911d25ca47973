//! A system's clock for one process that this one sets as it likes, by libfaketime (Debian's `faketime`).
//! Only the wall clock is moved, as when somebody sets it: what measures durations goes on.

use std::path::{Path, PathBuf};

pub struct WallClock {
    library: PathBuf,
    offset: PathBuf,
}

impl WallClock {
    /// Right at first. An error says what is missing.
    pub async fn new(folder: &Path) -> Result<WallClock, String> {
        let clock = WallClock {
            library: library().ok_or("libfaketime is not installed (apt-get install faketime)")?,
            offset: folder.join("wall-clock"),
        };
        clock.set(1_000_000);
        let mut date = tokio::process::Command::new("date");
        let told = date.arg("+%s").envs(clock.environment()).output().await;
        let told = told.map_err(|e| format!("date: {e}"))?;
        let told = String::from_utf8_lossy(&told.stdout).trim().parse::<u64>();
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| d.as_secs());
        clock.set(0);
        match told {
            Ok(told) if told.abs_diff(now + 1_000_000) < 3_600 => Ok(clock),
            other => Err(format!("libfaketime moves no clock here ({other:?})")),
        }
    }

    /// What the process is to be started with.
    pub fn environment(&self) -> Vec<(String, String)> {
        [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.offset.display().to_string()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("NO_FAKE_STAT", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// `seconds` ahead of the true time from now on; behind it where negative.
    pub fn set(&self, seconds: i64) {
        let new = self.offset.with_extension("new");
        std::fs::write(&new, format!("{seconds:+}\n")).expect("a file");
        std::fs::rename(&new, &self.offset).expect("a file");
    }
}

fn library() -> Option<PathBuf> {
    let machine = std::env::consts::ARCH;
    let places = [
        format!("/usr/lib/{machine}-linux-gnu/faketime"),
        "/usr/lib/faketime".to_owned(),
        "/usr/lib64/faketime".to_owned(),
        "/usr/local/lib/faketime".to_owned(),
    ];
    places
        .iter()
        .map(|place| Path::new(place).join("libfaketimeMT.so.1"))
        .find(|path| path.exists())
}
