//! A registry, by oci-client: which artifact, with which credentials, over which connections. What comes
//! back is hashed before it is used. The component is read into room of the size that its manifest says;
//! oci-client reads manifests and refusals whole, so time is what bounds those.

use std::io::{Cursor, ErrorKind};
use std::time::Duration;

use axum::http::HeaderValue;
use oci_client::client::{Certificate, CertificateEncoding, Client, ClientConfig, ClientProtocol};
use oci_client::errors::{DigestError, OciDistributionError};
use oci_client::manifest::OCI_IMAGE_MEDIA_TYPE;
use oci_client::secrets::RegistryAuth;
use oci_client::{Reference as Name, RegistryOperation};

use super::artifact::{self, Artifact, Fetched, MANIFEST_BYTES_MAX};
use super::failed;
use super::reference::{Reference, is_this_machine};
use crate::cli::client::reason;
use crate::cli::plugin::PluginError;

/// Credentials; without both, the registry is asked as anybody.
const USER: &str = "HELIOGRAPH_REGISTRY_USER";
const PASSWORD: &str = "HELIOGRAPH_REGISTRY_PASSWORD";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Between two pieces of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// One push or pull.
const TIMEOUT: Duration = Duration::from_secs(300);
/// What a registry says may be this long in an error of ours.
const SAID_CHARS_MAX: usize = 300;
/// Every connection without TLS is to go by this proxy, and nobody listens at port 0: wherever a
/// registry sends us for tokens, uploads or blobs, it is https. The environment's proxies are not asked.
const NO_PLAIN_HTTP: &str = "http://127.0.0.1:0";
const NO_PLAIN_HTTP_ADDRESS: &str = " 127.0.0.1:0,";
/// With --plain-http, these are excepted.
const THIS_MACHINE: &str = "localhost,127.0.0.0/8,::1";

#[derive(Clone)]
pub struct Registry {
    client: Client,
    auth: RegistryAuth,
    name: Name,
    plain_http: bool,
}

impl Registry {
    pub fn new(name: &Name, plain_http: bool) -> Result<Registry, PluginError> {
        // Where it is installed already, it is the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
        let config = ClientConfig {
            protocol: match plain_http {
                true => ClientProtocol::Http,
                false => ClientProtocol::Https,
            },
            use_monolithic_push: true,
            // As everywhere in Heliograph, whatever the machine trusts.
            tls_certs_only: roots
                .map(|root| Certificate {
                    encoding: CertificateEncoding::Der,
                    data: root.to_vec(),
                })
                .collect(),
            platform_resolver: None,
            read_timeout: Some(READ_TIMEOUT),
            connect_timeout: Some(CONNECT_TIMEOUT),
            user_agent: concat!("heliograph/", env!("CARGO_PKG_VERSION")),
            http_proxy: Some(NO_PLAIN_HTTP.to_owned()),
            no_proxy: plain_http.then(|| THIS_MACHINE.to_owned()),
            ..ClientConfig::default()
        };
        let auth = match (std::env::var(USER), std::env::var(PASSWORD)) {
            (Ok(user), Ok(password)) => RegistryAuth::Basic(user, password),
            _ => RegistryAuth::Anonymous,
        };
        Ok(Registry {
            client: Client::try_from(config).map_err(|e| failed(name.registry(), reason(&e)))?,
            auth,
            name: name.clone(),
            plain_http,
        })
    }

    /// Blobs first, the manifest last, under its tag where there is one.
    pub async fn push(&self, artifact: Artifact, tag: Option<String>) -> Result<(), PluginError> {
        let this = self.clone();
        self.contained(async move {
            this.authorize(RegistryOperation::Push).await?;
            for blob in [artifact.layer, artifact.config] {
                let digest = blob.digest.as_ref();
                // Where this cannot be told, it is pushed again.
                if !matches!(this.client.blob_exists(&this.name, digest).await, Ok(true)) {
                    let pushed = this.client.push_blob(&this.name, blob.bytes, digest).await;
                    pushed.map_err(|e| this.refused(&e))?;
                }
            }
            // The place is the same for both; oci-client wants it as a tag where no Location is answered.
            let place = tag.unwrap_or_else(|| artifact.manifest.digest.to_string());
            let place = this.at(place);
            let kind = HeaderValue::from_static(OCI_IMAGE_MEDIA_TYPE);
            let manifest = artifact.manifest.bytes;
            let pushed = this.client.push_manifest_raw(&place, manifest, kind).await;
            pushed.map(drop).map_err(|e| this.refused(&e))
        })
        .await
    }

    pub async fn pull(&self, reference: &Reference) -> Result<Fetched, PluginError> {
        let place = match (&reference.digest, &reference.tag) {
            (Some(digest), _) => self.name.clone_with_digest(digest.to_string()),
            (None, Some(tag)) => self.at(tag.clone()),
            (None, None) => {
                let why = "name a :TAG or a @sha256: digest to pull";
                return Err(PluginError::Usage(format!("{}: {why}", self.title())));
            }
        };
        let (this, wanted) = (self.clone(), reference.digest.clone());
        self.contained(async move {
            let name = this.title();
            this.authorize(RegistryOperation::Pull).await?;
            let accepted = [OCI_IMAGE_MEDIA_TYPE];
            let manifest = this.client.pull_manifest_raw(&place, &this.auth, &accepted);
            let (manifest, _) = manifest.await.map_err(|e| this.refused(&e))?;
            if manifest.len() > MANIFEST_BYTES_MAX {
                let why = format!("its manifest has more than {MANIFEST_BYTES_MAX} octets");
                return Err(failed(&name, why));
            }
            let digest = artifact::digest_of(&manifest);
            if let Some(wanted) = &wanted {
                artifact::same(&name, wanted, &manifest)?;
            }
            let (layer, signatures) = artifact::read_manifest(&name, &manifest)?;
            // What was announced, and no octet more.
            let size = usize::try_from(layer.size()).unwrap_or(usize::MAX);
            let mut bytes = vec![0; size];
            let mut room = Cursor::new(&mut bytes[..]);
            let blob = layer.digest().as_ref();
            let pulled = this.client.pull_blob(&this.name, blob, &mut room).await;
            pulled.map_err(|e| this.refused(&e))?;
            artifact::same(&name, layer.digest(), &bytes)?;
            Ok(Fetched {
                digest,
                component: layer.digest().clone(),
                bytes,
                signatures,
            })
        })
        .await
    }

    /// Here oci-client says why there is no token; later it goes on without one.
    async fn authorize(&self, operation: RegistryOperation) -> Result<(), PluginError> {
        let token = self.client.auth(&self.name, &self.auth, operation).await;
        token.map(drop).map_err(|e| self.refused(&e))
    }

    /// As a task of its own, for a limited time: oci-client trusts a registry's tokens and addresses to
    /// be well written, and where they are not, that is an error and no panic of ours.
    async fn contained<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, PluginError>> + Send + 'static,
    ) -> Result<T, PluginError> {
        match tokio::spawn(tokio::time::timeout(TIMEOUT, work)).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) => {
                let why = format!("not done within {} seconds", TIMEOUT.as_secs());
                Err(failed(&self.title(), why))
            }
            Err(_) => Err(failed(&self.title(), "answers as no registry does")),
        }
    }

    fn at(&self, place: String) -> Name {
        let (host, repository) = (self.name.registry(), self.name.repository());
        Name::with_tag(host.to_owned(), repository.to_owned(), place)
    }

    fn title(&self) -> String {
        format!("{}/{}", self.name.registry(), self.name.repository())
    }

    fn refused(&self, error: &OciDistributionError) -> PluginError {
        let credentials = format!("{USER} and {PASSWORD} give credentials");
        let why = match error {
            OciDistributionError::DigestError(DigestError::VerificationError {
                expected,
                actual,
            }) => artifact::changed(expected, actual),
            OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::ServerError {
                code: 401 | 403, ..
            } => format!("refuses access; {credentials}"),
            OciDistributionError::AuthenticationFailure(said) => {
                format!("gives no token ({}); {credentials}", shortened(said))
            }
            OciDistributionError::RegistryError { envelope, .. } => {
                let first = envelope.errors.first();
                let said = first.map(|e| format!("{:?}: {}", e.code, e.message));
                format!("answered {}", shortened(&said.unwrap_or_default()))
            }
            OciDistributionError::ServerError { code, message, .. } => {
                format!("answered {code}: {}", shortened(message))
            }
            OciDistributionError::IoError(error) if error.kind() == ErrorKind::WriteZero => {
                "gives a component larger than its manifest says".to_owned()
            }
            // Which address it was stands in no public field; only these words hang on it.
            OciDistributionError::RequestError(error)
                if format!("{error:?}").contains(NO_PLAIN_HTTP_ADDRESS) =>
            {
                "leads to an address that is no https address".to_owned()
            }
            OciDistributionError::RequestError(error)
                if !self.plain_http && is_this_machine(self.name.registry()) =>
            {
                let why = reason(error);
                format!("{why} (a registry of this machine without TLS needs --plain-http)")
            }
            // The rest says what a registry's answer was not.
            _ => shortened(&reason(error)),
        };
        failed(&self.title(), why)
    }
}

/// What a registry said, fit for a terminal.
fn shortened(text: &str) -> String {
    let shown = text.chars().filter(|c| !c.is_control());
    shown.take(SAID_CHARS_MAX).collect()
}
