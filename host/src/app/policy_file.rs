//! The policy file: read at the start, watched, read again on SIGHUP. Owns when it is read and what of
//! it is watched; what a policy is and whether it is good is the pipeline's and the plugins' business.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Notify;

use super::watched::{SETTLE, Stamp, Watch, stamp};
use crate::pipeline::policy::PolicyError;
use crate::pipeline::{Policy, signatures};
use crate::plugin::{PolicySpec, Problem};

/// The file, and how it and the files that it names were when they were last read.
pub struct PolicyFile {
    path: PathBuf,
    seen: Vec<(PathBuf, Stamp)>,
}

impl PolicyFile {
    pub fn new(path: &Path) -> PolicyFile {
        PolicyFile {
            // Event paths are absolute, and a bare file name has no folder to watch.
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            seen: Vec::new(),
        }
    }

    pub fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// What the policy's paths are relative to.
    pub fn folder(&self) -> Option<&Path> {
        self.path.parent()
    }

    pub async fn read(&mut self) -> Result<PolicySpec, PolicyError> {
        // Stamps before contents: what changes in between is seen as a change.
        self.seen = vec![(self.path.clone(), stamp(&self.path).await)];
        let text = tokio::fs::read_to_string(&self.path).await.map_err(|e| {
            PolicyError::Refused(vec![Problem {
                pointer: String::new(),
                entry: None,
                detail: format!("{}: {e}", self.path.display()),
                upgrade: None,
            }])
        })?;
        let spec = PolicySpec::from_toml(&text).map_err(PolicyError::Spec)?;
        let base = self.folder().unwrap_or(Path::new("/")).to_owned();
        let plugins = spec.plugins.iter().flat_map(|p| {
            let previous = p.previous.as_ref().and_then(|v| v.path.as_ref());
            p.path.iter().chain(previous)
        });
        let plugins: Vec<PathBuf> = plugins.map(|path| base.join(path)).collect();
        let signatures: Vec<PathBuf> = plugins.iter().map(|p| signatures::file_of(p)).collect();
        let tables = spec.tables.values().filter_map(|t| t.file.as_ref());
        let tables: Vec<PathBuf> = tables.map(|path| base.join(path)).collect();
        for path in plugins.into_iter().chain(signatures).chain(tables) {
            let stamp = stamp(&path).await;
            self.seen.push((path, stamp));
        }
        Ok(spec)
    }

    /// Reads and activates; a bad file is refused whole and changes nothing.
    pub async fn apply(&mut self, policy: &Policy) -> Result<(), PolicyError> {
        let spec = self.read().await?;
        policy.apply(&spec, self.folder(), "file").await?;
        Ok(())
    }

    async fn has_changed(&self) -> bool {
        for (path, seen) in &self.seen {
            if stamp(path).await != *seen {
                return true;
            }
        }
        false
    }

    /// Folders of the policy file and of what it names: editors replace files, so the files
    /// themselves cannot be watched.
    fn folders(&self) -> impl Iterator<Item = &Path> {
        self.seen.iter().filter_map(|(path, _)| path.parent())
    }
}

/// Applies the file whenever it, or a file that it names, has changed, and whenever it is `asked` to.
/// Whatever else happens in their folders is no reason: a policy that came over the API since then
/// stays in force.
pub async fn keep(policy: Policy, mut file: PolicyFile, asked: Arc<Notify>) {
    let changed = Arc::new(Notify::new());
    let mut watch = Watch::new("the policy file", changed.clone());
    loop {
        if watch.folders(file.folders()) {
            // What changed between the reading and the watching has raised no event.
            changed.notify_one();
        }
        let asked = tokio::select! {
            () = asked.notified() => true,
            () = changed.notified() => false,
        };
        tokio::time::sleep(SETTLE).await;
        if !asked && !file.has_changed().await {
            continue;
        }
        if let Err(error) = file.apply(&policy).await {
            tracing::error!(file = file.name(), %error, "the policy file is refused; the running policy stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_of_the_file_or_of_what_it_names_is_seen_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("policy.toml", "[tables.rates]\nfile = \"rates.csv\"\n");
        write("rates.csv", "44,1\n");
        let mut file = PolicyFile::new(&folder.path().join("policy.toml"));
        file.read().await.unwrap();
        assert!(!file.has_changed().await);
        write("server.log", "a line");
        assert!(!file.has_changed().await);
        write("rates.csv", "44,1\n33,2\n");
        assert!(file.has_changed().await);
        file.read().await.unwrap();
        assert!(!file.has_changed().await);
        std::fs::remove_file(folder.path().join("policy.toml")).unwrap();
        assert!(file.has_changed().await);
        assert!(file.read().await.is_err());
        assert!(!file.has_changed().await);
    }

    #[test]
    fn a_bare_file_name_has_a_folder() {
        let file = PolicyFile::new(Path::new("policy.toml"));
        assert_eq!(
            file.folder().map(Path::to_owned),
            std::env::current_dir().ok()
        );
    }
}
