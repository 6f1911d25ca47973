//! The API over the real pipeline, store and policy: what clients see, answer by answer.

mod admin;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::carrier::{BoxFuture, Carrier, CarrierStatus, Handed, Outgoing, SendOutcome};
use crate::clock::{Clock, Timestamp};
use crate::domain::text::TextWish;
use crate::domain::{AccountId, TrafficClass};
use crate::pipeline::numbers::Numbers;
use crate::pipeline::{Account, Accounts, Carriers, Limits, Policy};
use crate::plugin::{Engine, EngineLimits, Host, HyperClient, MemoryState, PolicySpec};
use crate::store::{self, Store};

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const SENDER: &str = "hg_sender_sender_sender";
const OTHER: &str = "hg_other_other_other_other";
const ADMIN: &str = "hg_admin_admin_admin_admin";

/// A carrier that is never asked: nothing is dispatched here.
struct Idle(CarrierId);

impl Carrier for Idle {
    fn id(&self) -> &CarrierId {
        &self.0
    }

    fn tags(&self) -> &[String] {
        &[]
    }

    fn status(&self) -> CarrierStatus {
        CarrierStatus {
            connected: true,
            in_flight: 0,
            headroom: 10.0,
        }
    }

    fn ready(&self) -> BoxFuture<'_, usize> {
        Box::pin(std::future::pending())
    }

    fn down(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn send<'a>(&'a self, _: Outgoing<'a>) -> BoxFuture<'a, Handed> {
        Box::pin(async { SendOutcome::Unavailable.into() })
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

struct Rig {
    router: Router,
    api: Arc<Api>,
    _folder: tempfile::TempDir,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    json: Value,
    text: String,
}

fn account(id: &str, throughput: Option<u32>) -> Account {
    Account {
        id: AccountId::from(id),
        default_class: TrafficClass::Transactional,
        receipt_url: None,
        inbound_url: None,
        inbound_esme: None,
        webhook_secret: None,
        numbers: Vec::new(),
        throughput,
        text: TextWish::default(),
        silent: false,
    }
}

async fn rig() -> Rig {
    rig_with(Surface::All, None).await
}

async fn rig_with(surface: Surface, throughput: Option<u32>) -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(NOW);
    let mut options = store::Options::new(folder.path().join("data"));
    options.free_octets_min = 0;
    options.sync = false;
    let opening = clock.clone();
    let store = tokio::task::spawn_blocking(move || Store::open(options, opening))
        .await
        .unwrap()
        .unwrap();
    let http = Arc::new(HyperClient::new().unwrap());
    let host = Host {
        engine: Engine::new(EngineLimits::default()).unwrap(),
        state: Arc::new(MemoryState::new(clock.clone())),
        http: http.clone(),
        pseudonym_key: [0; 32],
    };
    let policy = Policy::open(
        host,
        store.clone(),
        clock.clone(),
        ["north".to_owned()],
        folder.path().to_owned(),
    );
    let policy = policy.await.unwrap();
    let north: Arc<dyn Carrier> = Arc::new(Idle(CarrierId::from("north")));
    let accounts = Accounts::new([account("acme", throughput), account("other", None)]);
    let key = |secret: &str, account: &str, scopes: &[Scope]| KeySpec {
        secret: secret.to_owned(),
        account: AccountId::from(account),
        scopes: scopes.to_vec(),
    };
    let keys = [
        key(SENDER, "acme", &[Scope::Send, Scope::Read]),
        key(OTHER, "other", &[Scope::Send, Scope::Read]),
        key(ADMIN, "acme", &[Scope::Admin]),
    ];
    let keys = Keys::new(keys, &accounts).unwrap();
    let pipeline = Pipeline::new(crate::pipeline::Parts {
        carriers: Carriers::new(vec![north], store.clone(), clock.clone()),
        store,
        policy,
        accounts,
        numbers: Numbers::new(BTreeMap::new()).unwrap(),
        clock,
        limits: Limits::default(),
        recorder: None,
        seed: 1,
        webhooks: http,
    });
    let api = Api::new(Parts {
        audit: None,
        pipeline,
        keys,
        callbacks: HashMap::new(),
        more_metrics: Arc::new(|page| page.push_str("more 1\n")),
        esmes: Arc::default(),
    });
    Rig {
        router: router(&api, surface),
        api,
        _folder: folder,
    }
}

impl Rig {
    async fn call(
        &self,
        method: Method,
        uri: &str,
        key: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Answer {
        let mut request = axum::http::Request::builder().method(method).uri(uri);
        if !key.is_empty() {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self
            .router
            .clone()
            .oneshot(request.body(Body::from(body)).unwrap())
            .await
            .unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            json: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
            text: String::from_utf8_lossy(&bytes).into_owned(),
        }
    }

    async fn get(&self, uri: &str, key: &str) -> Answer {
        self.call(Method::GET, uri, key, &[], Vec::new()).await
    }

    async fn post(&self, uri: &str, key: &str, body: &Value) -> Answer {
        self.call(Method::POST, uri, key, &[], body.to_string().into_bytes())
            .await
    }

    async fn submitted(&self, body: &Value) -> String {
        let answer = self.post("/v1/messages", SENDER, body).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        answer.json["id"].as_str().unwrap().to_owned()
    }
}

fn hello() -> Value {
    json!({ "to": "+447700900123", "from": "Acme", "text": "hello", "reference": "r1" })
}

#[tokio::test]
async fn a_submission_is_accepted_and_can_be_shown_with_its_trace() {
    let rig = rig().await;
    let mut body = hello();
    body["to"] = json!("+33612345678");
    let answer = rig.post("/v1/messages", SENDER, &body).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    assert_eq!(answer.json["status"], "queued");
    assert_eq!(answer.json["segments"], 1);
    assert_eq!(answer.json["expires_at"], "2027-01-18T08:00:00.000Z");
    let shown = rig
        .get(
            &format!("/v1/messages/{}", answer.json["id"].as_str().unwrap()),
            SENDER,
        )
        .await;
    assert_eq!(shown.json["text"], "hello");
    assert_eq!(shown.json["country"], "FR");
    assert_eq!(shown.json["route"]["hops"][0]["carrier"], "north");
    assert_eq!(shown.json["decisions"][0]["calls"][0]["name"], "host");
    assert_eq!(shown.json["events"][0]["reason"], "accepted");
}

#[tokio::test]
async fn requests_without_a_good_key_or_scope_are_refused() {
    let rig = rig().await;
    let answer = rig.post("/v1/messages", "", &hello()).await;
    assert_eq!(
        (answer.status, answer.json["code"].as_str()),
        (401, Some("unauthorized"))
    );
    assert!(answer.headers.contains_key("www-authenticate"));
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    let answer = rig
        .post("/v1/messages", "hg_wrong_wrong_wrong", &hello())
        .await;
    assert_eq!(answer.status, 401);
    let answer = rig.get("/v1/policy", SENDER).await;
    assert_eq!(
        (answer.status, answer.json["code"].as_str()),
        (403, Some("forbidden"))
    );
    assert!(answer.json["detail"].as_str().unwrap().contains("`admin`"));
}

#[tokio::test]
async fn bad_input_names_its_place_and_is_not_accepted() {
    let rig = rig().await;
    let answer = rig
        .post(
            "/v1/messages",
            SENDER,
            &json!({ "to": "x", "from": "Acme", "txet": "a" }),
        )
        .await;
    assert_eq!(
        (answer.status, answer.json["code"].as_str()),
        (400, Some("invalid_request"))
    );
    assert_eq!(answer.json["errors"][0]["pointer"], "/txet");
    let answer = rig
        .call(
            Method::POST,
            "/v1/messages",
            SENDER,
            &[],
            b"{\"to\":".to_vec(),
        )
        .await;
    assert_eq!(
        (answer.status, answer.json["code"].as_str()),
        (400, Some("invalid_json"))
    );
    let answer = rig
        .call(
            Method::POST,
            "/v1/messages",
            SENDER,
            &[],
            vec![b' '; (256 << 10) + 1],
        )
        .await;
    assert_eq!(
        (answer.status, answer.json["code"].as_str()),
        (413, Some("body_too_large"))
    );
    let gzip = [("content-encoding", "gzip")];
    let answer = rig
        .call(Method::POST, "/v1/messages", SENDER, &gzip, b"x".to_vec())
        .await;
    assert_eq!(answer.status, 415);
    let cases = [
        (json!("x".repeat(1531)), "text", "/text"),
        (json!("2028-01-01T00:00:00Z"), "send_at", "/send_at"),
        (json!(604_801), "validity_seconds", "/validity_seconds"),
    ];
    for (value, field, pointer) in cases {
        let mut body = hello();
        body[field] = value;
        let answer = rig.post("/v1/messages", SENDER, &body).await;
        assert_eq!(
            answer.json["errors"][0]["pointer"], pointer,
            "{}",
            answer.text
        );
    }
    let list = rig.get("/v1/messages", SENDER).await;
    assert_eq!(list.json["items"], json!([]));
}

#[tokio::test]
async fn a_path_or_method_that_is_not_there_is_a_problem_too() {
    let rig = rig().await;
    let answer = rig.get("/v1/nothing", SENDER).await;
    assert_eq!(
        (answer.status, answer.json["code"].as_str()),
        (404, Some("not_found"))
    );
    let answer = rig
        .call(Method::DELETE, "/v1/messages", SENDER, &[], Vec::new())
        .await;
    assert_eq!(
        (answer.status, answer.json["code"].as_str()),
        (405, Some("method_not_allowed"))
    );
}

#[tokio::test]
async fn another_accounts_message_is_as_if_it_did_not_exist() {
    let rig = rig().await;
    let id = rig.submitted(&hello()).await;
    let foreign = rig.get(&format!("/v1/messages/{id}"), OTHER).await;
    let missing = rig
        .get(&format!("/v1/messages/{}", "0".repeat(32)), OTHER)
        .await;
    assert_eq!((foreign.status, &foreign.text), (404, &missing.text));
    let malformed = rig.get("/v1/messages/x", OTHER).await;
    assert_eq!(malformed.text, missing.text);
    let answer = rig
        .post(&format!("/v1/messages/{id}/cancel"), OTHER, &Value::Null)
        .await;
    assert_eq!(answer.text, missing.text);
    assert_eq!(
        rig.get("/v1/messages", OTHER).await.json["items"],
        json!([])
    );
    assert_eq!(
        rig.get("/v1/messages?account=acme", OTHER).await.status,
        403
    );
}

#[tokio::test]
async fn the_same_idempotency_key_gets_the_same_answer() {
    let rig = rig().await;
    let header = [("idempotency-key", "order-1")];
    let body = hello().to_string().into_bytes();
    let first = rig
        .call(Method::POST, "/v1/messages", SENDER, &header, body.clone())
        .await;
    assert!(!first.headers.contains_key("idempotency-replayed"));
    let again = rig
        .call(Method::POST, "/v1/messages", SENDER, &header, body)
        .await;
    assert_eq!((again.status, &again.text), (202, &first.text));
    assert_eq!(again.headers["idempotency-replayed"], "true");
    let other = rig
        .call(
            Method::POST,
            "/v1/messages",
            SENDER,
            &header,
            b"{\"to\":\"+447700900124\",\"from\":\"a\",\"text\":\"b\"}".to_vec(),
        )
        .await;
    assert_eq!(
        (other.status, other.json["code"].as_str()),
        (422, Some("idempotency_mismatch"))
    );
    let list = rig.get("/v1/messages", SENDER).await;
    assert_eq!(list.json["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn an_opted_out_recipient_is_refused_by_name_and_again_when_replayed() {
    let rig = rig().await;
    let wish = json!({ "recipient": "+447700900123", "scope": "account" });
    let answer = rig
        .call(
            Method::PUT,
            "/v1/opt-outs",
            ADMIN,
            &[],
            wish.to_string().into_bytes(),
        )
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let header = [("idempotency-key", "k")];
    for _ in 0..2 {
        let answer = rig
            .call(
                Method::POST,
                "/v1/messages",
                SENDER,
                &header,
                hello().to_string().into_bytes(),
            )
            .await;
        assert_eq!(
            (answer.status, answer.json["code"].as_str()),
            (422, Some("opted_out")),
            "{}",
            answer.text
        );
        let id = answer.json["message_id"].as_str().unwrap();
        let shown = rig.get(&format!("/v1/messages/{id}"), SENDER).await;
        assert_eq!(shown.json["status"], "rejected");
    }
    let listed = rig.get("/v1/opt-outs", ADMIN).await;
    assert_eq!(listed.json["items"][0]["recipient"], "+447700900123");
    let answer = rig
        .call(
            Method::DELETE,
            "/v1/opt-outs",
            ADMIN,
            &[],
            wish.to_string().into_bytes(),
        )
        .await;
    assert_eq!(answer.json["opted_out"], false);
    rig.submitted(&hello()).await;
}

#[tokio::test]
async fn a_preview_tells_and_keeps_nothing() {
    let rig = rig().await;
    let mut body = hello();
    body["text"] = json!("é".repeat(70) + "€");
    let answer = rig.post("/v1/messages/preview", SENDER, &body).await;
    assert_eq!(
        (answer.status, answer.json["outcome"].as_str()),
        (200, Some("send")),
        "{}",
        answer.text
    );
    assert_eq!(answer.json["segments"], 1);
    assert_eq!(answer.json["route"]["hops"][0]["carrier"], "north");
    assert_eq!(
        rig.get("/v1/messages", SENDER).await.json["items"],
        json!([])
    );
}

#[tokio::test]
async fn a_list_is_filtered_and_paged_to_its_end() {
    let rig = rig().await;
    for i in 0..5 {
        let mut body = hello();
        body["to"] = json!(format!("+4477009001{:02}", i));
        body["class"] = json!(if i == 0 { "otp" } else { "alert" });
        rig.submitted(&body).await;
    }
    let mut seen = Vec::new();
    let mut uri = "/v1/messages?limit=2&class=alert".to_owned();
    loop {
        let page = rig.get(&uri, SENDER).await;
        assert_eq!(page.status, 200, "{}", page.text);
        let items = page.json["items"].as_array().unwrap();
        assert!(items.len() <= 2);
        seen.extend(items.iter().map(|i| i["to"].as_str().unwrap().to_owned()));
        match page.json["next_cursor"].as_str() {
            Some(cursor) => uri = format!("/v1/messages?limit=2&class=alert&cursor={cursor}"),
            None => break,
        }
    }
    seen.sort();
    assert_eq!(
        seen,
        [
            "+447700900101",
            "+447700900102",
            "+447700900103",
            "+447700900104"
        ]
    );
    let one = rig
        .get(
            "/v1/messages?to=%2B447700900100&status=queued&since=2027-01-15T08:00:00Z",
            SENDER,
        )
        .await;
    assert_eq!(one.json["items"].as_array().map(Vec::len), Some(1));
    for bad in [
        "status=gone",
        "to=x",
        "class=x",
        "since=now",
        "limit=0",
        "cursor=!",
        "colour=red",
    ] {
        let answer = rig.get(&format!("/v1/messages?{bad}"), SENDER).await;
        assert_eq!(
            (answer.status, answer.json["code"].as_str()),
            (400, Some("invalid_parameter")),
            "{bad}"
        );
    }
}

#[tokio::test]
async fn what_was_not_sent_can_be_canceled_once_and_for_all() {
    let rig = rig().await;
    let mut body = hello();
    body["send_at"] = json!("2027-01-16T08:00:00Z");
    let id = rig.submitted(&body).await;
    let uri = format!("/v1/messages/{id}/cancel");
    for _ in 0..2 {
        let answer = rig.post(&uri, SENDER, &Value::Null).await;
        assert_eq!(
            (answer.status, answer.json["status"].as_str()),
            (200, Some("canceled")),
            "{}",
            answer.text
        );
    }
    let release = rig
        .post(&format!("/v1/messages/{id}/release"), ADMIN, &Value::Null)
        .await;
    assert_eq!(
        (release.status, release.json["code"].as_str()),
        (409, Some("conflict"))
    );
    assert!(
        release.json["detail"]
            .as_str()
            .unwrap()
            .contains("canceled")
    );
}

#[tokio::test]
async fn a_held_message_is_released_by_an_administrator() {
    let rig = rig().await;
    let id = rig.submitted(&hello()).await;
    let held = rig.api.pipeline.store.update(id.parse().unwrap(), |m| {
        m.enter(
            NOW,
            crate::domain::State::Held,
            crate::domain::Reason::HeldByPolicy,
            "looks odd",
        )
    });
    assert_eq!(held.await, Ok(true));
    let uri = format!("/v1/messages/{id}/release");
    assert_eq!(rig.post(&uri, SENDER, &Value::Null).await.status, 403);
    let answer = rig.post(&uri, ADMIN, &Value::Null).await;
    assert_eq!(
        (answer.status, answer.json["reason"].as_str()),
        (200, Some("released_by_operator"))
    );
}

#[tokio::test]
async fn each_submission_of_a_batch_has_its_own_result() {
    let rig = rig().await;
    let batch = json!([hello(), { "to": "x" }, hello()]);
    let header = [("idempotency-key", "b1")];
    let first = rig
        .call(
            Method::POST,
            "/v1/batches",
            SENDER,
            &header,
            batch.to_string().into_bytes(),
        )
        .await;
    assert_eq!(first.status, 200, "{}", first.text);
    let results = first.json["results"].as_array().unwrap();
    let statuses: Vec<_> = results.iter().map(|r| r["status"].as_u64()).collect();
    assert_eq!(statuses, [Some(202), Some(400), Some(202)]);
    assert_eq!(results[1]["problem"]["code"], "invalid_request");
    let again = rig
        .call(
            Method::POST,
            "/v1/batches",
            SENDER,
            &header,
            batch.to_string().into_bytes(),
        )
        .await;
    assert_eq!(again.text, first.text);
    assert_eq!(
        rig.post("/v1/batches", SENDER, &json!([])).await.status,
        400
    );
    assert_eq!(
        rig.post("/v1/batches", SENDER, &json!({})).await.status,
        400
    );
    assert_eq!(
        rig.post("/v1/batches", SENDER, &json!(vec![1; 1001]))
            .await
            .status,
        400
    );
}
