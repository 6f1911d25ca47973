//! Where what a policy names comes from: files beside it, or what was uploaded under its digest; with
//! their signatures, and the secrets that grants refer to. And where plugins keep their state.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;

use super::policy::hex;
use super::signatures;
use crate::plugin::{
    PreviousSpec, Resolver, Signatures, Source, StateError, StateStore, digest_text,
};
use crate::store::{Store, StoreError};

/// Reads what a policy names: files relative to it, or what was uploaded under its digest.
pub(super) struct Files {
    pub(super) base: PathBuf,
    pub(super) store: Store,
    /// Resolvers are called on threads that may block.
    pub(super) runtime: tokio::runtime::Handle,
    /// Paths as the policy has them, with what was read.
    pub(super) read: Mutex<Vec<(String, Vec<u8>)>>,
    /// Signatures that were read, by the digest of their component.
    pub(super) signed: Mutex<Vec<(String, Signatures)>>,
    /// A larger component is not read.
    pub(super) component_octets_max: usize,
    /// The versions before that were filled in, by entry.
    pub(super) previous: Mutex<BTreeMap<String, PreviousSpec>>,
}

impl Files {
    /// Keeps the signatures that stood beside files, because the policy is kept by digests.
    pub(super) async fn keep_signatures(&self) -> Result<(), StoreError> {
        let signed = std::mem::take(&mut *self.signed.lock());
        for (digest, given) in signed {
            signatures::keep(&self.store, &digest, &given).await?;
        }
        Ok(())
    }

    fn bytes(&self, source: &Source, max: usize) -> Result<Vec<u8>, String> {
        match source {
            Source::Path(path) => {
                let full = self.base.join(path);
                let bytes =
                    read_file(&full, max).map_err(|e| format!("{}: {e}", full.display()))?;
                self.read.lock().push((path.clone(), bytes.clone()));
                Ok(bytes)
            }
            Source::Digest(digest) => self
                .runtime
                .block_on(self.store.get_blob(&hex(digest)))
                .map_err(|e| e.to_string())?
                .ok_or_else(|| format!("{} was never uploaded here", digest_text(digest))),
        }
    }
}

/// A policy's table in a file, as large as one that is uploaded.
const TABLE_BYTES_MAX: usize = 64 << 20;

/// A file that is one, and no larger than it may be: neither a device without end nor a pipe that
/// nobody writes to.
fn read_file(path: &Path, max: usize) -> Result<Vec<u8>, String> {
    use std::io::Read as _;
    let metadata = std::fs::metadata(path).map_err(|e| e.to_string())?;
    if !metadata.is_file() {
        return Err("is no file".to_owned());
    }
    let too_large = |bytes| format!("has {bytes} bytes, which is more than {max}");
    if metadata.len() > max as u64 {
        return Err(too_large(metadata.len()));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    file.take(max as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| e.to_string())?;
    if bytes.len() > max {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}

impl Resolver for Files {
    fn component(&self, source: &Source) -> Result<Vec<u8>, String> {
        self.bytes(source, self.component_octets_max)
    }

    fn table(&self, source: &Source) -> Result<Vec<u8>, String> {
        self.bytes(source, TABLE_BYTES_MAX)
    }

    fn signatures(&self, source: &Source, digest: &[u8; 32]) -> Result<Signatures, String> {
        let name = hex(digest);
        let kept = self
            .runtime
            .block_on(signatures::kept(&self.store, &name))
            .map_err(|e| e.to_string())?;
        let beside = match source {
            Source::Path(path) => signatures::beside(&self.base.join(path))?,
            Source::Digest(_) => return Ok(kept),
        };
        let all = kept.merged(&beside).map_err(|e| e.to_string())?;
        if !beside.is_empty() {
            self.signed.lock().push((name, beside));
        }
        Ok(all)
    }

    fn secret(&self, reference: &str) -> Result<String, String> {
        match reference.split_once(':') {
            Some(("env", name)) => {
                std::env::var(name).map_err(|_| format!("environment variable {name} is not set"))
            }
            Some(("file", path)) => {
                let full = self.base.join(path);
                std::fs::read_to_string(&full)
                    .map(|text| text.trim_end().to_owned())
                    .map_err(|e| format!("{}: {e}", full.display()))
            }
            _ => Err("a secret is given as env:NAME or file:PATH".to_owned()),
        }
    }
}

/// The plugins' persistent state, in the store.
pub struct PluginState(pub Store);

impl StateStore for PluginState {
    fn get(&self, owner: &str, key: &str) -> Option<Vec<u8>> {
        self.0.state_get(owner, key)
    }

    fn set(
        &self,
        owner: &str,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        quota: u64,
    ) -> Result<(), StateError> {
        let set = self
            .0
            .state_set(owner, key, value.to_vec(), ttl, octets(quota));
        set.map_err(|e| state_error(e, quota))
    }

    fn delete(&self, owner: &str, key: &str) {
        self.0.state_delete(owner, key);
    }

    fn used(&self, owner: &str) -> Option<u64> {
        Some(self.0.state_used(owner) as u64)
    }

    fn count(&self, owner: &str, key: &str) -> i64 {
        let value = self.0.state_get(owner, key);
        value
            .and_then(|v| <[u8; 8]>::try_from(v).ok())
            .map_or(0, i64::from_le_bytes)
    }

    fn increment(
        &self,
        owner: &str,
        key: &str,
        by: i64,
        ttl: Duration,
        quota: u64,
    ) -> Result<i64, StateError> {
        let new = self
            .0
            .state_increment(owner, key, by, Some(ttl), octets(quota));
        new.map_err(|e| state_error(e, quota))
    }
}

fn octets(quota: u64) -> usize {
    usize::try_from(quota).unwrap_or(usize::MAX)
}

fn state_error(error: StoreError, quota: u64) -> StateError {
    match error {
        StoreError::Limit(_) => StateError::Quota { bytes: quota },
        other => StateError::Store(other.to_string()),
    }
}
