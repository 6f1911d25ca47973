//! Files beside the database, named by the digest of their content: components and uploaded tables,
//! too large for sled. Durable before `put` returns, never half there.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::types::StoreError;

/// What one blob may hold.
pub(super) const BLOB_OCTETS_MAX: usize = 64 << 20;

pub(super) fn put(directory: &Path, digest: &str, bytes: &[u8]) -> Result<(), StoreError> {
    let path = path(directory, digest)?;
    if bytes.len() > BLOB_OCTETS_MAX {
        return Err(StoreError::Limit(format!(
            "a blob has at most {BLOB_OCTETS_MAX} octets, this one {}",
            bytes.len()
        )));
    }
    if path.exists() {
        return Ok(());
    }
    let write = || -> std::io::Result<()> {
        let created = !directory.exists();
        fs::create_dir_all(directory)?;
        let partial = path.with_extension("partial");
        let mut file = File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, &path)?;
        File::open(directory)?.sync_all()?;
        match directory.parent() {
            Some(parent) if created => File::open(parent)?.sync_all(),
            _ => Ok(()),
        }
    };
    write().map_err(|e| StoreError::Io(format!("{}: {e}", path.display())))
}

pub(super) fn get(directory: &Path, digest: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let path = path(directory, digest)?;
    let mut file = match File::open(&path) {
        Ok(file) => file.take(BLOB_OCTETS_MAX as u64),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::Io(format!("{}: {error}", path.display()))),
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)
        .map_err(|e| StoreError::Io(format!("{}: {e}", path.display())))?;
    Ok(Some(bytes))
}

pub(super) fn delete(directory: &Path, digest: &str) -> Result<(), StoreError> {
    let path = path(directory, digest)?;
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::Io(format!("{}: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

/// Digests, sorted.
pub(super) fn list(directory: &Path) -> Result<Vec<String>, StoreError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StoreError::Io(format!("{}: {error}", directory.display()))),
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut digests: Vec<String> = names.filter(|name| is_digest(name)).collect();
    digests.sort();
    Ok(digests)
}

fn is_digest(text: &str) -> bool {
    (32..=128).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The digest is a file name: nothing else may be one.
fn path(directory: &Path, digest: &str) -> Result<PathBuf, StoreError> {
    if !is_digest(digest) {
        return Err(StoreError::Limit(
            "a blob's digest is 32 to 128 lower-case hexadecimal digits".into(),
        ));
    }
    Ok(directory.join(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn blobs_come_back_and_are_listed() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = directory.path().join("blobs");
        assert_eq!(list(&blobs), Ok(Vec::new()));
        put(&blobs, DIGEST, b"component").unwrap();
        assert_eq!(get(&blobs, DIGEST), Ok(Some(b"component".to_vec())));
        assert_eq!(list(&blobs), Ok(vec![DIGEST.to_owned()]));
        delete(&blobs, DIGEST).unwrap();
        assert_eq!(get(&blobs, DIGEST), Ok(None));
    }

    #[test]
    fn a_name_that_is_no_digest_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["../../etc/passwd", "", "ABCDEF0123456789abcdef0123456789"] {
            assert!(matches!(
                put(directory.path(), name, b"x"),
                Err(StoreError::Limit(_))
            ));
        }
    }
}
