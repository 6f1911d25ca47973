//! A registry, by the OCI distribution specification: tokens, blobs in one piece, manifests. As much of
//! it as one component needs, over the HTTP client that is here anyway; what comes back is bounded, and
//! hashed by whoever asked.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use super::artifact::{self, Artifact, Blob, Fetched, MANIFEST_BYTES_MAX, MANIFEST_TYPE};
use super::challenge::Challenge;
use super::failed;
use super::reference::{Place, Reference, is_this_machine};
use crate::cli::client::{escaped, reason};
use crate::cli::plugin::PluginError;

/// Credentials; without both, the registry is asked as anybody.
const USER: &str = "HELIOGRAPH_REGISTRY_USER";
const PASSWORD: &str = "HELIOGRAPH_REGISTRY_PASSWORD";
/// One request and its answer.
const TIMEOUT: Duration = Duration::from_secs(120);
const REDIRECTS_MAX: usize = 4;
/// Answers that are neither manifests nor blobs.
const ANSWER_BYTES_MAX: usize = 64 << 10;

pub struct Registry {
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    credentials: Option<String>,
    plain_http: bool,
    host: String,
    repository: String,
    tag: Option<String>,
    name: String,
}

/// What a registry said.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// One request, which may have to be made twice: without a token and with one.
struct Ask<'a> {
    method: Method,
    url: String,
    headers: &'a [(&'a str, &'a str)],
    body: Bytes,
    max: usize,
}

impl Registry {
    pub fn new(reference: &Reference) -> Result<Registry, PluginError> {
        let Place::Registry {
            host,
            repository,
            plain_http,
        } = &reference.place
        else {
            return Err(PluginError::Usage("a registry was expected".to_owned()));
        };
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())
            .map_err(|e| failed(host, e))?
            .https_or_http()
            .enable_http1()
            .build();
        let credentials = match (std::env::var(USER), std::env::var(PASSWORD)) {
            (Ok(user), Ok(password)) => Some(STANDARD.encode(format!("{user}:{password}"))),
            _ => None,
        };
        Ok(Registry {
            http: Client::builder(TokioExecutor::new()).build(connector),
            credentials,
            plain_http: *plain_http,
            host: host.clone(),
            repository: repository.clone(),
            tag: reference.tag.clone(),
            name: format!("{host}/{repository}"),
        })
    }

    /// Blobs first, the manifest last, under its tag where there is one.
    pub async fn push(&self, artifact: &Artifact) -> Result<(), PluginError> {
        let mut token = None;
        for blob in [&artifact.layer, &artifact.config] {
            self.push_blob(blob, &mut token).await?;
        }
        let place = self.tag.as_deref().unwrap_or(&artifact.digest);
        let ask = Ask {
            method: Method::PUT,
            url: self.url(&format!("manifests/{place}")),
            headers: &[("content-type", MANIFEST_TYPE)],
            body: artifact.manifest.clone().into(),
            max: ANSWER_BYTES_MAX,
        };
        let answer = self.ask(ask, &mut token).await?;
        self.expect(&answer, &[StatusCode::CREATED])
    }

    async fn push_blob(&self, blob: &Blob, token: &mut Option<String>) -> Result<(), PluginError> {
        let ask = |method, url, body: Bytes| Ask {
            method,
            url,
            headers: &[("content-type", "application/octet-stream")],
            body,
            max: ANSWER_BYTES_MAX,
        };
        let there = self.url(&format!("blobs/{}", blob.digest));
        let known = self
            .ask(ask(Method::HEAD, there, Bytes::new()), token)
            .await?;
        if known.status == StatusCode::OK {
            return Ok(());
        }
        let begin = ask(Method::POST, self.url("blobs/uploads/"), Bytes::new());
        let begun = self.ask(begin, token).await?;
        self.expect(&begun, &[StatusCode::ACCEPTED])?;
        let location = self.location(&begun)?;
        let joint = if location.contains('?') { '&' } else { '?' };
        let url = format!("{location}{joint}digest={}", escaped(&blob.digest));
        let put = ask(Method::PUT, url, blob.bytes.clone().into());
        let done = self.ask(put, token).await?;
        self.expect(&done, &[StatusCode::CREATED])
    }

    pub async fn pull(&self, reference: &Reference) -> Result<Fetched, PluginError> {
        let Some(place) = reference.digest.as_ref().or(self.tag.as_ref()) else {
            let why = "name a :TAG or a @sha256: digest to pull";
            return Err(PluginError::Usage(format!("{}: {why}", self.name)));
        };
        let mut token = None;
        let get = |path: String, max: usize| Ask {
            method: Method::GET,
            url: self.url(&path),
            headers: &[("accept", MANIFEST_TYPE)],
            body: Bytes::new(),
            max,
        };
        let ask = get(format!("manifests/{place}"), MANIFEST_BYTES_MAX);
        let manifest = self.ask(ask, &mut token).await?;
        self.expect(&manifest, &[StatusCode::OK])?;
        let digest = artifact::digest_of(&manifest.body);
        if let Some(wanted) = &reference.digest {
            artifact::same(&self.name, wanted, &manifest.body)?;
        }
        let (layer, signatures) = artifact::read_manifest(&self.name, &manifest.body)?;
        // What was announced, and no octet more.
        let max = usize::try_from(layer.size).unwrap_or(usize::MAX);
        let ask = get(format!("blobs/{}", layer.digest), max.max(ANSWER_BYTES_MAX));
        let blob = self.ask(ask, &mut token).await?;
        self.expect(&blob, &[StatusCode::OK])?;
        artifact::same(&self.name, &layer.digest, &blob.body)?;
        Ok(Fetched {
            digest,
            component: layer.digest,
            bytes: blob.body.to_vec(),
            signatures,
        })
    }

    fn url(&self, path: &str) -> String {
        let scheme = if self.plain_http { "http" } else { "https" };
        format!("{scheme}://{}/v2/{}/{path}", self.host, self.repository)
    }

    /// Asks; where the registry wants to know who asks, fetches a token and asks again.
    async fn ask(&self, ask: Ask<'_>, token: &mut Option<String>) -> Result<Answer, PluginError> {
        let answer = self.follow(&ask, token.as_deref()).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let challenge = answer.headers.get(header::WWW_AUTHENTICATE);
        let challenge = challenge.and_then(|v| v.to_str().ok()).unwrap_or_default();
        let granted = match (Challenge::parse(challenge), &self.credentials) {
            (Some(Challenge::Basic), Some(credentials)) => format!("Basic {credentials}"),
            (Some(Challenge::Bearer { realm, query }), _) => {
                format!("Bearer {}", self.token(&realm, &query).await?)
            }
            (Some(Challenge::Basic) | None, _) => {
                let why = format!("refuses access; {USER} and {PASSWORD} give credentials");
                return Err(failed(&self.name, why));
            }
        };
        let answer = self.follow(&ask, Some(&granted)).await?;
        *token = Some(granted);
        Ok(answer)
    }

    async fn token(&self, realm: &str, query: &str) -> Result<String, PluginError> {
        let joint = if realm.contains('?') { '&' } else { '?' };
        let url = format!("{realm}{joint}{query}");
        let parsed = self.allowed(&url)?;
        let basic = self.credentials.as_ref().map(|c| format!("Basic {c}"));
        let ask = Ask {
            method: Method::GET,
            url,
            headers: &[],
            body: Bytes::new(),
            max: ANSWER_BYTES_MAX,
        };
        let answer = self.once(&ask, &parsed, basic.as_deref()).await?;
        let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let token = json["token"].as_str().or(json["access_token"].as_str());
        match token {
            Some(token) if answer.status.is_success() => Ok(token.to_owned()),
            _ => {
                let why = format!(
                    "gives no token ({}); {USER} and {PASSWORD} give credentials",
                    answer.status
                );
                Err(failed(&self.name, why))
            }
        }
    }

    /// Blobs may be somewhere else; what authorises us at the registry goes nowhere else.
    async fn follow(&self, ask: &Ask<'_>, granted: Option<&str>) -> Result<Answer, PluginError> {
        let mut url = ask.url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let parsed = self.allowed(&url)?;
            let ours = parsed.authority().is_some_and(|a| a.as_str() == self.host);
            let answer = self.once(ask, &parsed, granted.filter(|_| ours)).await?;
            let moved = answer.status.is_redirection() && answer.status != StatusCode::NOT_MODIFIED;
            if !moved || ask.method != Method::GET {
                return Ok(answer);
            }
            url = self.location(&answer)?;
        }
        Err(failed(
            &self.name,
            format!("redirects more than {REDIRECTS_MAX} times"),
        ))
    }

    async fn once(
        &self,
        ask: &Ask<'_>,
        url: &Uri,
        granted: Option<&str>,
    ) -> Result<Answer, PluginError> {
        let mut request = Request::builder()
            .method(ask.method.clone())
            .uri(url)
            .header(
                header::USER_AGENT,
                concat!("heliograph/", env!("CARGO_PKG_VERSION")),
            );
        for (name, value) in ask.headers {
            request = request.header(*name, *value);
        }
        if let Some(granted) = granted {
            request = request.header(header::AUTHORIZATION, granted);
        }
        let request = request
            .body(Full::new(ask.body.clone()))
            .map_err(|e| failed(&self.name, e))?;
        let exchange = async {
            let response = self.http.request(request).await;
            let response = response.map_err(|e| failed(&self.name, self.unreachable(&e)))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ask.max).collect().await;
            let body = body.map_err(|e| failed(&self.name, e))?.to_bytes();
            Ok(Answer {
                status: head.status,
                headers: head.headers,
                body,
            })
        };
        match tokio::time::timeout(TIMEOUT, exchange).await {
            Ok(answer) => answer,
            Err(_) => {
                let seconds = TIMEOUT.as_secs();
                Err(failed(
                    &self.name,
                    format!("no answer within {seconds} seconds"),
                ))
            }
        }
    }

    fn unreachable(&self, error: &dyn std::error::Error) -> String {
        let why = reason(error);
        match !self.plain_http && is_this_machine(&self.host) {
            true => format!("{why} (a registry of this machine without TLS needs --plain-http)"),
            false => why,
        }
    }

    /// Without TLS, this machine alone is spoken to, and only where that was asked for.
    fn allowed(&self, url: &str) -> Result<Uri, PluginError> {
        let parsed: Option<Uri> = url.parse().ok();
        let good = |uri: &Uri| match (uri.scheme_str(), uri.authority()) {
            (Some("https"), Some(_)) => true,
            (Some("http"), Some(at)) => self.plain_http && is_this_machine(at.as_str()),
            _ => false,
        };
        parsed.filter(good).ok_or_else(|| {
            let url: String = url.chars().take(200).collect();
            failed(
                &self.name,
                format!("leads to {url:?}, which is no https address"),
            )
        })
    }

    /// Where an answer leads; relative to the registry.
    fn location(&self, answer: &Answer) -> Result<String, PluginError> {
        let location = answer.headers.get(header::LOCATION);
        let location = location.and_then(|l| l.to_str().ok()).ok_or_else(|| {
            failed(
                &self.name,
                format!("answered {} and no place", answer.status),
            )
        })?;
        Ok(match location.starts_with('/') {
            true => {
                let scheme = if self.plain_http { "http" } else { "https" };
                format!("{scheme}://{}{location}", self.host)
            }
            false => location.to_owned(),
        })
    }

    fn expect(&self, answer: &Answer, wanted: &[StatusCode]) -> Result<(), PluginError> {
        if wanted.contains(&answer.status) {
            return Ok(());
        }
        let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let said = &json["errors"][0];
        let part = |name: &str| -> String {
            let text = said[name].as_str().unwrap_or_default();
            text.chars().filter(|c| !c.is_control()).take(200).collect()
        };
        let why = match part("code").is_empty() {
            true => format!("answered {}", answer.status),
            false => format!(
                "answered {}: {} {}",
                answer.status,
                part("code"),
                part("message")
            ),
        };
        Err(failed(&self.name, why))
    }
}
