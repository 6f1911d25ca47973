//! Signatures of components: where they stand beside a file, and where they are kept beside what was
//! uploaded. Whether they are good is the plugin module's to say, whenever a component is loaded.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::plugin::{SIGNATURE_FILE_BYTES_MAX, Signatures};
use crate::store::{Store, StoreError};

const PREFIX: &str = "policy/signatures/";

/// `plugins/words.wasm` has its signatures in `plugins/words.wasm.sig`.
pub fn file_of(component: &Path) -> PathBuf {
    let mut name = component.as_os_str().to_owned();
    name.push(".sig");
    PathBuf::from(name)
}

/// The signatures beside a component's file; none where there is no such file. What cannot be read is
/// an error: it must not make a signed component an unsigned one.
pub fn beside(component: &Path) -> Result<Signatures, String> {
    let path = file_of(component);
    let failed = |why: String| format!("{}: {why}", path.display());
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Signatures::default());
        }
        Err(error) => return Err(failed(error.to_string())),
    };
    let mut text = String::new();
    file.take(SIGNATURE_FILE_BYTES_MAX as u64 + 1)
        .read_to_string(&mut text)
        .map_err(|e| failed(e.to_string()))?;
    Signatures::parse(&text).map_err(|e| failed(e.to_string()))
}

/// What is kept for the component whose digest is these hexadecimal digits.
pub(super) async fn kept(store: &Store, digest: &str) -> Result<Signatures, StoreError> {
    let stored = store.get_meta(&format!("{PREFIX}{digest}")).await?;
    let text = String::from_utf8(stored.unwrap_or_default()).unwrap_or_default();
    Signatures::parse(&text)
        .map_err(|e| StoreError::Corrupt(format!("signatures of {digest}: {e}")))
}

/// Keeps them, beside those that were kept before: a rollback or a restart needs them again.
pub(super) async fn keep(store: &Store, digest: &str, more: &Signatures) -> Result<(), StoreError> {
    let before = kept(store, digest).await?;
    let all = before
        .clone()
        .merged(more)
        .map_err(|e| StoreError::Limit(e.to_string()))?;
    if all == before {
        return Ok(());
    }
    let key = format!("{PREFIX}{digest}");
    store.put_meta(&key, all.text().into_bytes()).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::SecretKey;

    #[test]
    fn no_file_is_no_signature_and_a_damaged_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let component = folder.path().join("words.wasm");
        assert_eq!(beside(&component), Ok(Signatures::default()));

        let mut one = Signatures::default();
        one.add(SecretKey::new([1; 32], "ops").unwrap().sign(b"bytes"))
            .unwrap();
        let file = folder.path().join("words.wasm.sig");
        std::fs::write(&file, one.text()).unwrap();
        assert_eq!(beside(&component), Ok(one.clone()));

        std::fs::write(&file, &one.text()[..40]).unwrap();
        assert!(beside(&component).unwrap_err().contains("words.wasm.sig"));
        std::fs::write(&file, vec![b'#'; SIGNATURE_FILE_BYTES_MAX + 1]).unwrap();
        assert!(beside(&component).is_err());
        std::fs::write(&file, [0xff; 8]).unwrap();
        assert!(beside(&component).is_err());
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        assert!(beside(&component).is_err());
    }
}
