//! The demonstration's webhook target: checks every signature as a client would, and counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::net::TcpListener;

use crate::pipeline::notify::sign;

/// Both ends of the demonstration know it.
pub const SECRET: &str = "whsec_aGVsaW9ncmFwaC1kZW1vLXdlYmhvb2stc2VjcmV0";

#[derive(Default)]
struct Counts {
    verified: AtomicUsize,
    forged: AtomicUsize,
}

/// A running target.
pub struct Webhooks {
    url: String,
    counts: Arc<Counts>,
}

impl Webhooks {
    pub async fn start() -> Result<Webhooks, String> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .map_err(|e| e.to_string())?;
        let address = listener.local_addr().map_err(|e| e.to_string())?;
        let counts = Arc::new(Counts::default());
        let router = Router::new()
            .route("/webhooks", post(take))
            .with_state(counts.clone());
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::warn!(%error, "the demonstration's webhook target ended");
            }
        });
        Ok(Webhooks {
            url: format!("http://{address}/webhooks"),
            counts,
        })
    }

    pub fn url(&self) -> String {
        self.url.clone()
    }

    pub fn verified(&self) -> usize {
        self.counts.verified.load(Ordering::Relaxed)
    }

    pub fn forged(&self) -> usize {
        self.counts.forged.load(Ordering::Relaxed)
    }
}

async fn take(State(counts): State<Arc<Counts>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = |name: &str| {
        headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
    };
    let key = SECRET
        .strip_prefix("whsec_")
        .and_then(|s| STANDARD.decode(s).ok());
    let expected = sign(
        &key.unwrap_or_default(),
        header("webhook-id"),
        header("webhook-timestamp"),
        &body,
    );
    if header("webhook-signature") == expected {
        counts.verified.fetch_add(1, Ordering::Relaxed);
        StatusCode::NO_CONTENT
    } else {
        counts.forged.fetch_add(1, Ordering::Relaxed);
        StatusCode::UNAUTHORIZED
    }
}
