//! Native code that is kept between runs, under a MAC, and how much of it: beyond its limit, what was used longest
//! ago goes, but nothing that is in use. Knows files, not what is in them.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use wasmtime::component::Component;

use super::child::ARTEFACT_BYTES_MAX;
use super::engine::{CodeCache, Engine};
use super::load::digest_text;
use crate::clock;

const TAG_BYTES: usize = 32;
const SUFFIX: &str = "native";
/// A file that is being written, or was when the server ended.
const UNFINISHED: &str = "part";

/// Native code of another version of wasmtime, of other settings or for another machine has another name.
pub(super) fn file_name(engine: &Engine, digest: &[u8; 32]) -> String {
    let mut hasher = std::hash::DefaultHasher::new();
    engine
        .wasm()
        .precompile_compatibility_hash()
        .hash(&mut hasher);
    let digest = digest_text(digest);
    let hex = digest.trim_start_matches("sha256:");
    format!("{hex}-{:016x}.{SUFFIX}", hasher.finish())
}

/// The tag covers the file's name, so that one component's code cannot stand for another's.
fn tag(cache: &CodeCache, path: &Path, artefact: &[u8]) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(&cache.key).ok()?;
    mac.update(path.file_name()?.as_encoded_bytes());
    mac.update(artefact);
    Some(mac)
}

/// Native code that this server kept.
pub(super) fn find(cache: &CodeCache, path: &Path) -> Option<Vec<u8>> {
    let file = File::open(path).ok()?;
    let mut bytes = Vec::new();
    (&file)
        .take((TAG_BYTES + ARTEFACT_BYTES_MAX) as u64)
        .read_to_end(&mut bytes)
        .ok()?;
    let (written, artefact) = bytes.split_at_checked(TAG_BYTES)?;
    if tag(cache, path, artefact)?.verify_slice(written).is_err() {
        tracing::warn!(file = %path.display(), "compiled plugin is not ours and was not used");
        return None;
    }
    // On a file system that takes no times it goes a little early.
    let _ = clock::touch(&file);
    Some(bytes.split_off(TAG_BYTES))
}

/// `in_use`: names of the files that are not to go for this one.
pub(super) fn keep(
    cache: &CodeCache,
    path: &Path,
    component: &Component,
    in_use: &HashSet<String>,
) -> Result<(), String> {
    let artefact = component.serialize().map_err(|e| format!("{e:#}"))?;
    let mac = tag(cache, path, &artefact).ok_or("no MAC")?;
    let text = |e: io::Error| format!("{}: {e}", path.display());
    std::fs::create_dir_all(&cache.folder).map_err(text)?;
    let unfinished = path.with_extension(format!("{}.{UNFINISHED}", std::process::id()));
    let mut file = File::create(&unfinished).map_err(text)?;
    file.write_all(&mac.finalize().into_bytes()).map_err(text)?;
    file.write_all(&artefact).map_err(text)?;
    drop(file);
    std::fs::rename(&unfinished, path).map_err(text)?;
    let is_kept = |name: &OsString| {
        Some(name.as_os_str()) == path.file_name()
            || name.to_str().is_some_and(|n| in_use.contains(n))
    };
    prune(&cache.folder, cache.octets_max, is_kept).map_err(text)
}

/// Removes what was used longest ago, and what a server that ended had not finished.
fn prune(folder: &Path, octets_max: u64, is_kept: impl Fn(&OsString) -> bool) -> io::Result<()> {
    let mine = format!("{}.{UNFINISHED}", std::process::id());
    let (mut total, mut spare) = (0, Vec::new());
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let (name, found) = (entry.file_name(), entry.metadata()?);
        let text = name.to_string_lossy();
        if text.ends_with(UNFINISHED) && !text.ends_with(&mine) {
            std::fs::remove_file(entry.path())?;
        } else if found.is_file() && text.ends_with(SUFFIX) {
            total += found.len();
            if !is_kept(&name) {
                spare.push((found.modified()?, found.len(), entry.path()));
            }
        }
    }
    spare.sort();
    for (_, octets, path) in spare {
        if total <= octets_max {
            break;
        }
        std::fs::remove_file(path)?;
        total -= octets;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn what_was_used_longest_ago_goes_and_nothing_that_is_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (n, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
            let path = path(&format!("{name}.native"));
            std::fs::write(&path, [0; 100]).unwrap();
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(n as u64);
            File::open(&path).unwrap().set_modified(at).unwrap();
        }
        std::fs::write(path("e.1.part"), "half").unwrap();
        std::fs::write(path("of somebody else"), [0; 1_000]).unwrap();
        // The second is read, and so is the newest.
        clock::touch(&File::open(path("b.native")).unwrap()).unwrap();
        let left = |octets_max| {
            prune(folder.path(), octets_max, |name| name == "a.native").unwrap();
            let names = std::fs::read_dir(folder.path()).unwrap();
            let names = names.map(|e| e.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<String> = names.collect();
            names.sort();
            names
        };
        let all = [
            "a.native",
            "b.native",
            "c.native",
            "d.native",
            "of somebody else",
        ];
        assert_eq!(left(400), all);
        assert_eq!(
            left(399),
            ["a.native", "b.native", "d.native", "of somebody else"]
        );
        assert_eq!(left(200), ["a.native", "b.native", "of somebody else"]);
        assert_eq!(left(0), ["a.native", "of somebody else"]);
    }
}
