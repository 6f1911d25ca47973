//! The API's client for all commands that talk to a running server: where it is, with which key, what
//! its errors mean for a person and for an exit code.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::tls::ClientSettings;

/// Where `heliograph demo` leaves its key.
const DEMO_KEY_FILE: &str = "demo/api-key";
const ANSWER_OCTETS_MAX: usize = 64 << 20;
const TIMEOUT: Duration = Duration::from_secs(130);

/// Which server, and as whom.
#[derive(Clone, Debug, clap::Args)]
pub struct Target {
    /// The server's address
    #[arg(
        long,
        env = "HELIOGRAPH_URL",
        default_value = "http://127.0.0.1:8080",
        value_name = "URL"
    )]
    pub url: String,
    /// PEM of the authorities that an https server is trusted by; without it, the public ones
    #[arg(long, env = "HELIOGRAPH_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The API key; without one, what demo/api-key holds
    #[arg(
        long,
        env = "HELIOGRAPH_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    pub key: Option<String>,
    /// Print the server's JSON
    #[arg(long)]
    pub json: bool,
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// The command line's fault: exit code 2.
    Usage(String),
    /// Exit code 1.
    Failed(String),
    /// The server's answer (RFC 9457).
    Refused(Value),
}

impl Failure {
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Usage(_) => ExitCode::from(2),
            Failure::Failed(_) | Failure::Refused(_) => ExitCode::FAILURE,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = match self {
            Failure::Usage(why) | Failure::Failed(why) => return f.write_str(why),
            Failure::Refused(problem) => problem,
        };
        let text = |name: &str| problem[name].as_str().unwrap_or_default();
        write!(f, "{}: {}", text("code"), text("detail"))?;
        let errors = problem["errors"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        if errors.len() > 1 {
            for error in errors {
                let part = |name: &str| error[name].as_str().unwrap_or_default();
                write!(f, "\n  {}: {}", part("pointer"), part("detail"))?;
            }
        }
        for upgrade in upgrades(errors) {
            f.write_str(&upgrade_text(upgrade))?;
        }
        match text("message_id") {
            "" => Ok(()),
            id => write!(f, "\n  heliograph message trace {id}"),
        }
    }
}

/// One an entry: each of its capabilities that is not granted carries the same.
fn upgrades(errors: &[Value]) -> Vec<&Value> {
    let mut found: Vec<&Value> = Vec::new();
    for upgrade in errors.iter().map(|e| &e["upgrade"]) {
        if upgrade.is_object() && !found.contains(&upgrade) {
            found.push(upgrade);
        }
    }
    found
}

fn upgrade_text(upgrade: &Value) -> String {
    let list = |value: &Value| -> String {
        let names = value.as_array().map(Vec::as_slice).unwrap_or_default();
        let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
        match names.is_empty() {
            true => "nothing".to_owned(),
            false => names.join(", "),
        }
    };
    let build = |build: &Value| {
        format!(
            "{}  {}  imports {}",
            build["version"].as_str().unwrap_or_default(),
            build["digest"].as_str().unwrap_or_default(),
            list(&build["imports"])
        )
    };
    format!(
        "\n  {}\n    in force     {}\n    new          {}\n    wants more   {}\n    granted      {}\n    not granted  {}",
        upgrade["entry"].as_str().unwrap_or_default(),
        build(&upgrade["from"]),
        build(&upgrade["to"]),
        list(&upgrade["wants_more"]),
        list(&upgrade["granted"]),
        list(&upgrade["not_granted"]),
    )
}

/// A connection to one server.
pub struct Client {
    base: String,
    key: String,
    http: HyperClient<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Client {
    pub fn new(target: &Target) -> Result<Client, Failure> {
        let base = target.url.trim_end_matches('/').to_owned();
        let parsed: Result<Uri, _> = base.parse();
        if !parsed.is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https"))) {
            return Err(Failure::Usage(format!(
                "--url {base} is no http:// or https:// address"
            )));
        }
        let key = match &target.key {
            Some(key) => key.clone(),
            None => std::fs::read_to_string(DEMO_KEY_FILE).map_err(|_| {
                let why = format!("no API key: give --key, set HELIOGRAPH_KEY, or start `heliograph demo` here (it writes {DEMO_KEY_FILE})");
                Failure::Usage(why)
            })?,
        };
        let key = key.trim().to_owned();
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Failure::Usage(
                "the API key is not one word of visible ASCII characters".to_owned(),
            ));
        }
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(trust(target)?)
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Client {
            base,
            key,
            http: HyperClient::builder(TokioExecutor::new()).build(connector),
        })
    }

    pub async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::GET, path, &[], Bytes::new()).await
    }

    /// The answer's octets, whatever they are.
    pub async fn bytes(&self, path: &str) -> Result<Bytes, Failure> {
        let (status, body) = self.exchange(Method::GET, path, &[], Bytes::new()).await?;
        if status.is_success() {
            return Ok(body);
        }
        match answer(status, &body) {
            Ok(_) => Err(Failure::Failed(format!("{}: answered {status}", self.base))),
            Err(failure) => Err(failure),
        }
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.call(
            Method::POST,
            path,
            &[("content-type", "application/json")],
            body.to_string().into(),
        )
        .await
    }

    /// The answer's JSON where the status says that it was done.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Value, Failure> {
        let (status, body) = self.exchange(method, path, headers, body).await?;
        answer(status, &body).map_err(|e| match e {
            Failure::Failed(why) => Failure::Failed(format!("{}: {why}", self.base)),
            Failure::Usage(_) | Failure::Refused(_) => e,
        })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let failed = |why: String| Failure::Failed(format!("{}: {why}", self.base));
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.key));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(body))
            .map_err(|e| Failure::Usage(e.to_string()))?;
        let exchange = async {
            let response = self
                .http
                .request(request)
                .await
                .map_err(|e| failed(reason(&e)))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_OCTETS_MAX).collect();
            let body = body.await.map_err(|e| failed(e.to_string()))?.to_bytes();
            Ok((status, body))
        };
        tokio::time::timeout(TIMEOUT, exchange)
            .await
            .unwrap_or_else(|_| {
                Err(failed(format!(
                    "no answer within {} seconds",
                    TIMEOUT.as_secs()
                )))
            })
    }
}

fn trust(target: &Target) -> Result<rustls::ClientConfig, Failure> {
    let usage =
        |path: &PathBuf, why: String| Failure::Usage(format!("--ca {}: {why}", path.display()));
    let ca = match &target.ca {
        None => None,
        Some(path) => Some(std::fs::read(path).map_err(|e| usage(path, e.to_string()))?),
    };
    let settings = ClientSettings {
        ca,
        ..ClientSettings::default()
    };
    settings.config().map_err(|e| match &target.ca {
        Some(path) => usage(path, e.rule),
        None => Failure::Failed(format!("TLS cannot be used on this machine: {e}")),
    })
}

/// What follows `?`, each value escaped (RFC 3986, 2.1).
pub fn query(pairs: &[(&str, Option<String>)]) -> String {
    let mut out = String::new();
    for (name, value) in pairs {
        let Some(value) = value else { continue };
        out.push(if out.is_empty() { '?' } else { '&' });
        out.push_str(name);
        out.push('=');
        out.push_str(&escaped(value));
    }
    out
}

/// One step of a path or one value of a query.
pub fn escaped(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut out, octet| {
        if octet.is_ascii_alphanumeric() || b"-_.~".contains(&octet) {
            out.push(char::from(octet));
        } else {
            let _ = write!(out, "%{octet:02X}");
        }
        out
    })
}

fn answer(status: StatusCode, body: &[u8]) -> Result<Value, Failure> {
    let json: Option<Value> = serde_json::from_slice(body).ok();
    match json {
        Some(json) if status.is_success() => Ok(json),
        Some(json) if json.get("code").is_some() => Err(Failure::Refused(json)),
        _ => Err(Failure::Failed(format!(
            "answered {status}, which is no answer of a Heliograph server"
        ))),
    }
}

/// The innermost cause says most: `Connection refused`.
pub fn reason(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_escaped_in_a_query() {
        let pairs = [
            ("to", Some("+44 7".to_owned())),
            ("from", None),
            ("class", Some("otp".to_owned())),
        ];
        assert_eq!(query(&pairs), "?to=%2B44%207&class=otp");
        assert_eq!(query(&[]), "");
        assert_eq!(escaped("a/b?é"), "a%2Fb%3F%C3%A9");
    }

    #[test]
    fn a_refusal_is_told_with_every_rule_and_where_to_look() {
        let problem = json!({
            "code": "invalid_request", "detail": "2 fields break a rule", "message_id": "0a",
            "errors": [{ "pointer": "/to", "detail": "is empty" }, { "pointer": "/from", "detail": "is empty" }],
        });
        let Err(failure) = answer(StatusCode::BAD_REQUEST, problem.to_string().as_bytes()) else {
            panic!("accepted")
        };
        assert_eq!(
            failure.to_string(),
            "invalid_request: 2 fields break a rule\n  /to: is empty\n  /from: is empty\n  heliograph message trace 0a"
        );
    }

    #[test]
    fn an_upgrade_that_wants_more_is_told_once_an_entry() {
        let upgrade = json!({
            "entry": "words",
            "from": { "version": "1.0.0", "digest": "sha256:aa", "imports": ["logging"] },
            "to": { "version": "2.0.0", "digest": "sha256:bb", "imports": ["http", "logging", "state"] },
            "wants_more": ["http", "state"], "granted": ["logging"], "not_granted": ["http", "state"],
        });
        let error =
            |at: &str| json!({ "pointer": at, "detail": "is not granted", "upgrade": upgrade });
        let problem = json!({
            "code": "invalid_policy", "detail": "2 fields break a rule",
            "errors": [error("/plugin/0/grants/http"), error("/plugin/0/grants/state")],
        });
        let told = Failure::Refused(problem).to_string();
        assert_eq!(
            told.matches("in force     1.0.0  sha256:aa  imports logging")
                .count(),
            1
        );
        for part in [
            "\n  words\n",
            "wants more   http, state",
            "granted      logging",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }

    #[test]
    fn what_is_no_answer_of_ours_is_said_to_be_none() {
        for (status, body) in [
            (StatusCode::OK, "<html>"),
            (StatusCode::NOT_FOUND, "{}"),
            (StatusCode::BAD_GATEWAY, ""),
        ] {
            assert!(
                matches!(answer(status, body.as_bytes()), Err(Failure::Failed(_))),
                "{body}"
            );
        }
    }

    #[test]
    fn a_bad_address_is_a_matter_of_usage() {
        let target = |url: &str| Target {
            url: url.to_owned(),
            ca: None,
            key: Some("k".to_owned()),
            json: false,
        };
        for url in ["ftp://x", "127.0.0.1:8080", ""] {
            assert!(
                matches!(Client::new(&target(url)), Err(Failure::Usage(_))),
                "{url}"
            );
        }
        assert!(Client::new(&target("http://127.0.0.1:8080/")).is_ok());
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_named() {
        let free = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let target = Target {
            url: format!("http://{free}"),
            ca: None,
            key: Some("k".to_owned()),
            json: false,
        };
        let failure = Client::new(&target)
            .unwrap()
            .get("/healthz")
            .await
            .unwrap_err();
        assert!(failure.to_string().contains(&free.to_string()), "{failure}");
        assert!(failure.to_string().contains("refused"), "{failure}");
    }
}
