//! The certificates that our own listeners show: read at the start, and again when their files change
//! or on SIGHUP. One that is no good leaves the one before in use.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Notify;

use super::watched::{SETTLE, Stamp, Watch, first_stamp, stamp};
use super::{StartError, failed};
use crate::tls::{Acceptor, Identity};

/// A certificate with its key, and the handshakes that are done with it.
#[derive(Clone)]
pub struct Certificate {
    /// `http`, `smpp`, or a carrier's `outbind`.
    section: Arc<str>,
    certificate: PathBuf,
    key: PathBuf,
    acceptor: Acceptor,
    /// Of both files, before they were read for the first time.
    opened: [Stamp; 2],
}

impl Certificate {
    /// `client_ca`: the authorities that must have signed the clients' certificates.
    pub fn open(
        section: &str,
        certificate: &Option<PathBuf>,
        key: &Option<PathBuf>,
        client_ca: Option<&Path>,
        base: &Path,
    ) -> Result<Certificate, StartError> {
        let path = |name: &str, path: &Option<PathBuf>| match path {
            // Event paths are absolute.
            Some(path) => {
                let path = base.join(path);
                Ok(std::path::absolute(&path).unwrap_or(path))
            }
            None => Err(failed(
                &format!("{section}.{name}"),
                "is needed to listen with TLS",
            )),
        };
        let (certificate, key) = (path("certificate", certificate)?, path("key", key)?);
        let client_ca = match client_ca {
            Some(path) => Some(read(section, "client_ca", &base.join(path))?),
            None => None,
        };
        let opened = [first_stamp(&certificate), first_stamp(&key)];
        let acceptor = Acceptor::new(identity(section, &certificate, &key)?, client_ca.as_deref());
        Ok(Certificate {
            section: section.into(),
            certificate,
            key,
            acceptor: acceptor.map_err(|e| failed(section, e))?,
            opened,
        })
    }

    pub fn acceptor(&self) -> Acceptor {
        self.acceptor.clone()
    }

    /// From the next handshake on.
    fn reload(&self) -> Result<(), StartError> {
        let identity = identity(&self.section, &self.certificate, &self.key)?;
        let replaced = self.acceptor.replace(identity);
        replaced.map_err(|e| failed(&self.section, e))
    }

    async fn stamps(&self) -> [Stamp; 2] {
        [stamp(&self.certificate).await, stamp(&self.key).await]
    }
}

fn identity(section: &str, certificate: &Path, key: &Path) -> Result<Identity, StartError> {
    let certificate = read(section, "certificate", certificate)?;
    let key = read(section, "key", key)?;
    Identity::from_pem(&certificate, &key).map_err(|e| failed(section, e))
}

fn read(section: &str, name: &str, path: &Path) -> Result<Vec<u8>, StartError> {
    std::fs::read(path).map_err(|e| {
        failed(
            &format!("{section}.{name}"),
            format!("{}: {e}", path.display()),
        )
    })
}

/// Reads a certificate again whenever its files have changed, and all of them whenever that is `asked`.
pub async fn keep(certificates: Vec<Certificate>, asked: Arc<Notify>) {
    let changed = Arc::new(Notify::new());
    let mut watch = Watch::new("a certificate", changed.clone());
    let mut seen: Vec<[Stamp; 2]> = certificates.iter().map(|c| c.opened).collect();
    loop {
        let files = certificates.iter().flat_map(|c| [&c.certificate, &c.key]);
        if watch.folders(files.filter_map(|path| path.parent())) {
            // What changed between the reading and the watching has raised no event.
            changed.notify_one();
        }
        let asked = tokio::select! {
            () = asked.notified() => true,
            () = changed.notified() => false,
        };
        tokio::time::sleep(SETTLE).await;
        // Stamps before contents: what changes in between is seen as a change.
        let now = stamps(&certificates).await;
        for (i, certificate) in certificates.iter().enumerate() {
            if asked || now[i] != seen[i] {
                read_again(certificate.clone()).await;
            }
        }
        seen = now;
    }
}

async fn stamps(certificates: &[Certificate]) -> Vec<[Stamp; 2]> {
    let mut stamps = Vec::with_capacity(certificates.len());
    for certificate in certificates {
        stamps.push(certificate.stamps().await);
    }
    stamps
}

async fn read_again(certificate: Certificate) {
    let section = certificate.section.clone();
    // Its files may be on a slow disk, and this thread serves.
    let read = tokio::task::spawn_blocking(move || certificate.reload()).await;
    match read.unwrap_or_else(|e| Err(failed(&section, e))) {
        Ok(()) => tracing::info!(listener = &*section, "the certificate was read again"),
        Err(error) => {
            tracing::error!(%error, listener = &*section, "the certificate stays the one before")
        }
    }
}
