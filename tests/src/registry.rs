//! Registries to push to: a small one in this process that follows the OCI distribution specification
//! and can be told to lie, and the distribution's own where it is installed.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use crate::{eventually, free_address, http};

const TOKEN: &str = "a-token-of-the-registry";
/// Of no machine anywhere (RFC 5737).
const ELSEWHERE: &str = "192.0.2.1";

/// What it does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Every blob has one octet changed.
    Changed,
    /// Every blob has one octet more.
    Longer,
    /// Blobs are on another machine, without TLS.
    BlobsElsewhere,
    /// And so are tokens.
    TokensElsewhere,
    /// Its tokens cannot stand in a header.
    TwoLineToken,
}

#[derive(Default)]
struct State {
    blobs: HashMap<String, Bytes>,
    /// By tag and by digest.
    manifests: HashMap<String, Bytes>,
    uploads: usize,
    tokens: usize,
    redirects: usize,
    lie: Option<Lie>,
}

/// It asks for a token, wants blobs in one piece at an address of its own choice, and gives them from
/// somewhere else.
pub struct Registry {
    pub address: String,
    state: Arc<Mutex<State>>,
}

impl Registry {
    pub async fn start() -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        let name = address.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, name) = (shared.clone(), name.clone());
                let service = service_fn(move |request| {
                    let (state, name) = (state.clone(), name.clone());
                    async move { Ok::<_, hyper::Error>(answer(request, &state, &name).await) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        Registry { address, state }
    }

    pub fn tokens(&self) -> usize {
        self.state.lock().expect("the state").tokens
    }

    pub fn redirects(&self) -> usize {
        self.state.lock().expect("the state").redirects
    }

    /// From now on.
    pub fn tell(&self, lie: Lie) {
        self.state.lock().expect("the state").lie = Some(lie);
    }
}

async fn answer(
    request: Request<Incoming>,
    state: &Mutex<State>,
    name: &str,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(|b| b.to_bytes())
        .unwrap_or_default();
    let mut state = state.lock().expect("the state");
    let path = head.uri.path().to_owned();
    let query = head.uri.query().unwrap_or_default().to_owned();
    if path == "/token" {
        state.tokens += 1;
        let right = query.contains("service=here") && query.contains("repository%3Aacme%2Fwords");
        let token = match state.lie {
            Some(Lie::TwoLineToken) => "two\\nlines",
            Some(_) | None if right => TOKEN,
            Some(_) | None => "",
        };
        return reply(200, &[], format!("{{\"token\":\"{token}\"}}").into());
    }
    if let Some(digest) = path.strip_prefix("/storage/") {
        // Somewhere else's storage gets nobody's token.
        if head.headers.contains_key("authorization") {
            return reply(400, &[], Bytes::new());
        }
        let Some(blob) = state.blobs.get(digest) else {
            return reply(404, &[], Bytes::new());
        };
        let mut blob = blob.to_vec();
        match state.lie {
            Some(Lie::Changed) => blob[0] ^= 1,
            Some(Lie::Longer) => blob.push(0),
            Some(Lie::BlobsElsewhere | Lie::TokensElsewhere | Lie::TwoLineToken) | None => {}
        }
        return reply(200, &[], blob.into());
    }
    let known = head.headers.get("authorization").map(|v| v.as_bytes());
    if known != Some(format!("Bearer {TOKEN}").as_bytes()) {
        let realm = match state.lie {
            Some(Lie::TokensElsewhere) => ELSEWHERE,
            Some(_) | None => name,
        };
        let challenge = format!(
            "Bearer realm=\"http://{realm}/token\",service=\"here\",scope=\"repository:acme/words:pull,push\""
        );
        return reply(401, &[("www-authenticate", &challenge)], Bytes::new());
    }
    let Some(rest) = path.strip_prefix("/v2/acme/words/") else {
        return reply(404, &[], Bytes::new());
    };
    match (&head.method, rest.split_once('/')) {
        (&Method::POST, Some(("blobs", "uploads/"))) => {
            state.uploads += 1;
            let place = format!("/v2/acme/words/blobs/uploads/{}?state=x", state.uploads);
            reply(202, &[("location", &place)], Bytes::new())
        }
        (&Method::PUT, Some(("blobs", _))) => {
            let digest = query.split("digest=").nth(1).unwrap_or_default();
            let digest = digest.replace("%3A", ":");
            if digest != digest_of(&body) || !query.contains("state=x") {
                return reply(400, &[], Bytes::new());
            }
            let place = format!("/v2/acme/words/blobs/{digest}");
            state.blobs.insert(digest, body);
            reply(201, &[("location", &place)], Bytes::new())
        }
        (&Method::HEAD, Some(("blobs", digest))) => {
            let status = if state.blobs.contains_key(digest) {
                200
            } else {
                404
            };
            reply(status, &[], Bytes::new())
        }
        (&Method::GET, Some(("blobs", digest))) => {
            state.redirects += 1;
            // Another name, so another place to a client.
            let host = match state.lie {
                Some(Lie::BlobsElsewhere) => ELSEWHERE.to_owned(),
                Some(_) | None => name.replace("127.0.0.1", "localhost"),
            };
            let place = format!("http://{host}/storage/{digest}");
            reply(307, &[("location", &place)], Bytes::new())
        }
        (&Method::PUT, Some(("manifests", place))) => {
            let digest = digest_of(&body);
            if place.starts_with("sha256:") && place != digest {
                return reply(400, &[], Bytes::new());
            }
            state.manifests.insert(place.to_owned(), body.clone());
            state.manifests.insert(digest, body);
            reply(201, &[], Bytes::new())
        }
        (&Method::GET, Some(("manifests", place))) => match state.manifests.get(place) {
            Some(manifest) => reply(200, &[], manifest.clone()),
            None => {
                let told = "{\"errors\":[{\"code\":\"MANIFEST_UNKNOWN\",\"message\":\"unknown\"}]}";
                reply(404, &[], told.into())
            }
        },
        _ => reply(405, &[], Bytes::new()),
    }
}

fn reply(status: u16, headers: &[(&str, &str)], body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(Full::new(body)).expect("an answer")
}

fn digest_of(bytes: &[u8]) -> String {
    let hex = Sha256::digest(bytes);
    hex.iter().fold("sha256:".to_owned(), |text, octet| {
        format!("{text}{octet:02x}")
    })
}

/// The registry of the CNCF's Distribution project, as Debian's package `docker-registry` has it.
pub struct DockerRegistry {
    pub address: String,
    _process: Child,
    _folder: TempDir,
}

impl DockerRegistry {
    /// None where it is not installed.
    pub async fn start() -> Option<DockerRegistry> {
        let program = PathBuf::from("/usr/bin/docker-registry");
        if !program.exists() {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let address = free_address().await;
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n",
            folder.path().join("data").display()
        );
        let file = folder.path().join("config.yml");
        std::fs::write(&file, config).expect("a configuration");
        let process = Command::new(program)
            .arg("serve")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("a registry");
        eventually("the registry answers", async || {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let answer = http(&address, "GET", "/v2/", None, &[]).await;
            answer.is_ok_and(|(status, ..)| status == 200).then_some(())
        })
        .await;
        Some(DockerRegistry {
            address,
            _process: process,
            _folder: folder,
        })
    }
}
