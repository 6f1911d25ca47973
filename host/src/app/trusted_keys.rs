//! The keys of `plugins.trusted_keys`: read from their files or taken as they stand. What is signed by
//! them, and what becomes of what is not, is the plugin module's business.

use std::io::Read as _;
use std::path::Path;

use super::{StartError, failed};
use crate::config::PluginsSection;
use crate::plugin::{PublicKey, SIGNATURE_FILE_BYTES_MAX, Trust};

pub fn trust(section: &PluginsSection, base: &Path) -> Result<Trust, StartError> {
    let mut keys = Vec::new();
    for (n, named) in section.trusted_keys.iter().enumerate() {
        let at = format!("plugins.trusted_keys[{n}]");
        let text = match named.strip_prefix("file:") {
            Some(path) => {
                read(&base.join(path)).map_err(|e| failed(&format!("{at}: {path}"), e))?
            }
            None => named.clone(),
        };
        keys.extend(PublicKey::parse_all(&text).map_err(|e| failed(&at, e))?);
    }
    Trust::new(keys, section.require_signature).map_err(|e| failed("plugins.trusted_keys", e))
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(SIGNATURE_FILE_BYTES_MAX as u64)
        .read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::{SecretKey, Signatures};

    #[test]
    fn keys_come_from_files_and_from_the_configuration_itself() {
        let folder = tempfile::tempdir().unwrap();
        let (ops, dev) = (
            SecretKey::new([1; 32], "ops").unwrap(),
            SecretKey::new([2; 32], "dev").unwrap(),
        );
        std::fs::write(folder.path().join("ops.pub"), ops.public().line()).unwrap();
        let mut section = PluginsSection {
            trusted_keys: vec!["file:ops.pub".to_owned(), dev.public().line()],
            require_signature: true,
            ..PluginsSection::default()
        };
        let trusted = trust(&section, folder.path()).unwrap();
        for key in [&ops, &dev] {
            let mut given = Signatures::default();
            given.add(key.sign(b"bytes")).unwrap();
            assert!(trusted.check(b"bytes", &given).is_ok());
        }
        section.trusted_keys[0] = "file:gone.pub".to_owned();
        let why = trust(&section, folder.path()).unwrap_err().0;
        assert!(
            why.starts_with("plugins.trusted_keys[0]: gone.pub"),
            "{why}"
        );
        section.trusted_keys[0] = "ops".to_owned();
        assert!(trust(&section, folder.path()).is_err());
    }
}
