//! The manifest beside the database: what the store said of itself when it was last synced. sled
//! can open a damaged file as a healthy, emptier one; the manifest is what notices.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use super::types::StoreError;

/// Of the whole directory. Raised when an older release must not open it.
const FORMAT: u64 = 1;
const NAME: &str = "manifest";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    /// The last commit known to be durable.
    pub sequence: u64,
    pub accepted: u64,
    /// Written by an orderly shutdown.
    pub clean: bool,
}

impl Manifest {
    /// `None` where the directory never held a store.
    pub fn read(directory: &Path) -> Result<Option<Manifest>, StoreError> {
        let path = directory.join(NAME);
        match fs::read_to_string(&path) {
            Ok(text) => Manifest::parse(&text).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::Io(format!("{}: {error}", path.display()))),
        }
    }

    pub fn write(&self, directory: &Path) -> std::io::Result<()> {
        let partial = directory.join("manifest.partial");
        let mut file = File::create(&partial)?;
        file.write_all(self.to_text().as_bytes())?;
        file.sync_all()?;
        fs::rename(&partial, directory.join(NAME))?;
        File::open(directory)?.sync_all()
    }

    /// Whether what was found can be what this manifest speaks of.
    pub fn check(&self, sequence: u64, advice: &str) -> Result<(), StoreError> {
        if sequence < self.sequence {
            return Err(StoreError::Lost(format!(
                "its manifest knows commit {} ({} messages accepted), the database ends at commit {sequence}. {advice}",
                self.sequence, self.accepted
            )));
        }
        Ok(())
    }

    fn to_text(self) -> String {
        let body = format!(
            "heliograph store\nformat {FORMAT}\nsequence {}\naccepted {}\nclean {}\n",
            self.sequence, self.accepted, self.clean
        );
        format!("{body}crc {:08x}\n", crc32fast::hash(body.as_bytes()))
    }

    fn parse(text: &str) -> Result<Manifest, StoreError> {
        let bad = || StoreError::Corrupt("its manifest cannot be read".into());
        let mut format = None;
        let mut manifest = Manifest {
            sequence: 0,
            accepted: 0,
            clean: false,
        };
        for line in text.lines().skip(1) {
            let (name, value) = line.split_once(' ').ok_or_else(bad)?;
            match name {
                "format" => format = value.parse().ok(),
                "sequence" => manifest.sequence = value.parse().map_err(|_| bad())?,
                "accepted" => manifest.accepted = value.parse().map_err(|_| bad())?,
                "clean" => manifest.clean = value == "true",
                _ => {}
            }
        }
        match format {
            Some(FORMAT) => {}
            Some(other) => {
                return Err(StoreError::Format(format!(
                    "the directory has format {other}, this release reads format {FORMAT}: run the release that wrote it"
                )));
            }
            None => return Err(bad()),
        }
        let body_end = text.rfind("crc ").ok_or_else(bad)?;
        let sum = text[body_end + 4..].trim_end();
        if sum != format!("{:08x}", crc32fast::hash(&text.as_bytes()[..body_end])) {
            return Err(bad());
        }
        Ok(manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: Manifest = Manifest {
        sequence: 7,
        accepted: 3,
        clean: true,
    };

    #[test]
    fn a_manifest_comes_back() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Manifest::read(directory.path()), Ok(None));
        MANIFEST.write(directory.path()).unwrap();
        assert_eq!(Manifest::read(directory.path()), Ok(Some(MANIFEST)));
    }

    #[test]
    fn a_changed_manifest_is_noticed() {
        let text = MANIFEST.to_text().replace("sequence 7", "sequence 0");
        assert!(matches!(
            Manifest::parse(&text),
            Err(StoreError::Corrupt(_))
        ));
    }

    #[test]
    fn a_newer_format_is_named() {
        let text = MANIFEST.to_text().replace("format 1", "format 2");
        assert!(
            matches!(Manifest::parse(&text), Err(StoreError::Format(why)) if why.contains("format 2"))
        );
    }

    #[test]
    fn a_database_that_ends_earlier_is_refused() {
        assert!(matches!(MANIFEST.check(6, ""), Err(StoreError::Lost(_))));
        assert_eq!(MANIFEST.check(7, ""), Ok(()));
    }
}
