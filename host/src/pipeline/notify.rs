//! The last step: what a client is owed over webhooks. Stored work with its own schedule, at least
//! once, signed by the rules of Standard Webhooks. One slow target never holds up another. What
//! the body says is JSON, and so belongs to the API: it comes in as a function.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::sync::{Semaphore, watch};

use super::{Pipeline, stopped};
use crate::clock::Timestamp;
use crate::domain::Message;
use crate::plugin::{HttpLimits, HttpRequest};
use crate::store::{InboundRecord, OutboxEntry, OutboxKind, OutboxTarget, WebhookOutcome};

/// What a webhook is about.
pub enum Subject<'a> {
    Message(&'a Message),
    Inbound(&'a InboundRecord),
}

/// Writes the JSON body of a webhook.
pub type Render = Arc<dyn Fn(&OutboxEntry, &Subject<'_>) -> Vec<u8> + Send + Sync>;

/// Waits between the attempts of one webhook; the last one repeats until it is given up.
const SCHEDULE: [Duration; 8] = [
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
    Duration::from_secs(300),
    Duration::from_secs(900),
    Duration::from_secs(3600),
    Duration::from_secs(3 * 3600),
    Duration::from_secs(6 * 3600),
];

/// Read of a target's answer at most: only its status counts.
const ANSWER_MAX: usize = 16 * 1024;

/// A webhook whose target is busy is looked at again after a second for each round of calls that is
/// put back already, and after this at most: a slow target with a long backlog costs little.
const BUSY_MAX_SECONDS: u64 = 60;

/// Delivers until `stop` turns true; calls under way are finished.
pub async fn run(pipeline: Arc<Pipeline>, render: Render, mut stop: watch::Receiver<bool>) {
    let limit = pipeline.limits.max_webhooks;
    let all = Arc::new(Semaphore::new(limit));
    let hosts = Arc::new(Hosts::default());
    loop {
        // A place first, then the work: what is claimed is delivered at once.
        let Ok(place) = all.clone().acquire_owned().await else {
            break;
        };
        let entries = tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            entries = pipeline.webhooks_due(all.available_permits().max(1)) => entries,
        };
        let mut place = Some(place);
        for entry in entries {
            let permit = match place.take() {
                Some(place) => place,
                None => match all.clone().acquire_owned().await {
                    Ok(permit) => permit,
                    Err(_) => return,
                },
            };
            let seat = match hosts.enter(url_of(&entry), pipeline.limits.max_webhooks_per_host) {
                Ok(seat) => seat,
                Err(wait) => {
                    let spread = wait.mul_f64(0.5 + pipeline.random_unit());
                    let later = pipeline.clock.now().plus(spread);
                    entry.settle(WebhookOutcome::Busy(later)).await;
                    continue;
                }
            };
            let (pipeline, render) = (pipeline.clone(), render.clone());
            tokio::spawn(async move {
                let outcome = pipeline.deliver(&entry, &render).await;
                entry.settle(outcome).await;
                drop((seat, permit));
            });
        }
    }
    let all_places = u32::try_from(limit).unwrap_or(u32::MAX);
    let _ = all.acquire_many(all_places).await;
}

impl Pipeline {
    async fn deliver(&self, entry: &OutboxEntry, render: &Render) -> WebhookOutcome {
        let body = match self.body_of(entry, render).await {
            Ok(Some(body)) => body,
            // Its message is gone, retention took it: there is nothing left to tell.
            Ok(None) => return WebhookOutcome::Done,
            Err(detail) => return self.later(entry, &detail),
        };
        let now = self.clock.now();
        let request = HttpRequest {
            method: "POST".to_owned(),
            url: url_of(entry).to_owned(),
            headers: self.headers(entry, now, &body),
            body,
        };
        let limits = HttpLimits {
            private: self.limits.webhooks_private,
            timeout: Duration::from_millis(self.limits.webhook_timeout_ms),
            max_response: ANSWER_MAX,
        };
        match self.webhooks.send(request, &limits).await {
            Ok(answer) if (200..300).contains(&answer.status) => WebhookOutcome::Done,
            // The target says that it will never take these.
            Ok(answer) if answer.status == 410 => WebhookOutcome::Dead,
            Ok(answer) => self.later(entry, &format!("HTTP {}", answer.status)),
            Err(failure) => self.later(entry, &failure.to_string()),
        }
    }

    async fn body_of(
        &self,
        entry: &OutboxEntry,
        render: &Render,
    ) -> Result<Option<Vec<u8>>, String> {
        match entry.kind {
            OutboxKind::Status(_) => {
                let message = self
                    .store
                    .find(entry.message)
                    .await
                    .map_err(|e| e.to_string())?;
                Ok(message.map(|m| render(entry, &Subject::Message(&m))))
            }
            OutboxKind::Inbound => {
                let inbound = self
                    .store
                    .find_inbound(entry.message)
                    .await
                    .map_err(|e| e.to_string())?;
                Ok(inbound.map(|i| render(entry, &Subject::Inbound(&i))))
            }
        }
    }

    fn headers(&self, entry: &OutboxEntry, now: Timestamp, body: &[u8]) -> Vec<(String, String)> {
        let id = webhook_id(entry.event);
        let seconds = (now.millis() / 1000).to_string();
        let mut headers = vec![
            ("content-type".to_owned(), "application/json".to_owned()),
            ("user-agent".to_owned(), "heliograph".to_owned()),
            ("webhook-id".to_owned(), id.clone()),
            ("webhook-timestamp".to_owned(), seconds.clone()),
        ];
        let secret = self
            .accounts
            .get(&entry.account)
            .and_then(|a| a.webhook_secret.as_ref());
        if let Some(secret) = secret {
            headers.push((
                "webhook-signature".to_owned(),
                sign(&secret.0, &id, &seconds, body),
            ));
        }
        headers
    }

    fn later(&self, entry: &OutboxEntry, detail: &str) -> WebhookOutcome {
        let now = self.clock.now();
        let given_up = entry
            .at
            .plus(Duration::from_secs(self.limits.webhook_give_up_seconds));
        let step = usize::try_from(entry.attempts)
            .unwrap_or(usize::MAX)
            .min(SCHEDULE.len() - 1);
        let wait = SCHEDULE[step].mul_f64(0.75 + self.random_unit() / 2.0);
        tracing::info!(event = %webhook_id(entry.event), attempts = entry.attempts + 1, detail, "a webhook was not taken");
        let at = now.plus(wait);
        if at > given_up {
            WebhookOutcome::Dead
        } else {
            WebhookOutcome::RetryAt(at)
        }
    }
}

/// Webhooks have a queue of their own in the store, so this is never empty.
fn url_of(entry: &OutboxEntry) -> &str {
    match &entry.target {
        OutboxTarget::Url(url) => url,
        OutboxTarget::Esme(_) => "",
    }
}

/// The `webhook-id`: stable over all attempts.
pub fn webhook_id(event: u128) -> String {
    format!("evt_{event:032x}")
}

/// `v1,` and the base64 of HMAC-SHA-256 over `id.timestamp.body` (Standard Webhooks).
pub fn sign(secret: &[u8], id: &str, seconds: &str, body: &[u8]) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else {
        return String::new();
    };
    for piece in [id.as_bytes(), b".", seconds.as_bytes(), b".", body] {
        mac.update(piece);
    }
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// Calls under way by host.
#[derive(Default)]
struct Hosts(parking_lot::Mutex<HashMap<String, Calls>>);

#[derive(Default)]
struct Calls {
    under_way: usize,
    /// Put back since a call last ended.
    put_back: usize,
}

/// A place at a host, given back when it is dropped.
struct Seat {
    hosts: Arc<Hosts>,
    host: String,
}

impl Hosts {
    /// The error is how long to wait.
    fn enter(self: &Arc<Hosts>, url: &str, max: usize) -> Result<Seat, Duration> {
        let host = url
            .split_once("://")
            .map_or(url, |(_, rest)| rest)
            .split(['/', '?', '#'])
            .next()
            .unwrap_or(url)
            .to_ascii_lowercase();
        let mut counts = self.0.lock();
        let calls = counts.entry(host.clone()).or_default();
        if calls.under_way >= max {
            calls.put_back += 1;
            let rounds = (calls.put_back / max.max(1)) as u64;
            return Err(Duration::from_secs((1 + rounds).min(BUSY_MAX_SECONDS)));
        }
        calls.under_way += 1;
        Ok(Seat {
            hosts: self.clone(),
            host,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.hosts.0.lock();
        if let Some(calls) = counts.get_mut(&self.host) {
            calls.under_way -= 1;
            calls.put_back = calls.put_back.saturating_sub(1);
            if calls.under_way == 0 {
                counts.remove(&self.host);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_one_of_the_standard() {
        // The example of the Standard Webhooks specification.
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = br#"{"test": 2432232314}"#;
        assert_eq!(
            sign(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn one_host_cannot_take_every_place() {
        let hosts = Arc::new(Hosts::default());
        let first = hosts.enter("https://a.example/x", 1);
        assert!(first.is_ok());
        let wait = hosts.enter("https://A.example/y", 1).err();
        let longer = hosts.enter("https://A.example/z", 1).err();
        assert!(wait < longer, "a longer backlog is looked at less often");
        assert!(hosts.enter("https://b.example/", 1).is_ok());
        drop(first);
        assert!(hosts.enter("https://a.example/x", 1).is_ok());
    }
}
