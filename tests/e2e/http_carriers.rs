//! The four example configurations of the json-carrier, word for word but for the providers' addresses
//! and secrets, against stand-ins of the providers: sending, receipts, texts from handsets, failures,
//! and call-backs that are not the provider's.

use heliograph_tests::{Plan, Rig, eventually, sms};
use serde_json::{Value, json};

use super::providers::{
    Manners, Provider, Reply, Seen, call_back, infobip, kannel, twilio, vonage,
};

const HANDSET: &str = "+447700900123";
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// A server with one carrier: an example whose provider is the stand-in.
async fn start(example: &str, manners: Manners, secrets: &[(&str, &str)]) -> (Rig, Provider) {
    let provider = Provider::start(manners).await;
    let read = |file: &str| {
        let path = format!(
            "{}/../plugins/json-carrier/examples/{example}/{file}",
            env!("CARGO_MANIFEST_DIR")
        );
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
    };
    let mut policy =
        read("policy.toml").replace("\"json-carrier.wasm\"", "\"{plugins}/json-carrier.wasm\"");
    for host in [
        "api.twilio.example",
        "rest.vonage.example",
        "account.infobip.example",
    ] {
        policy = policy
            .replace(&format!("https://{host}"), &provider.origin())
            .replace(
                &format!("[\"{host}:443\"]"),
                &format!("[\"{}\"], private = true", provider.origin()),
            );
    }
    policy = policy
        .replace("http://127.0.0.1:13013", &provider.origin())
        .replace("timeout_ms = 10000", "timeout_ms = 1000");
    assert!(policy.contains(&provider.origin()), "{policy}");
    let mut config = read("heliograph.toml");
    let mut files = Vec::new();
    for (name, secret) in secrets {
        policy = policy.replace(&format!("\"env:{name}\""), &format!("\"file:{name}\""));
        config = config.replace(&format!("\"env:{name}\""), &format!("\"file:{name}\""));
        files.push(((*name).to_owned(), secret.as_bytes().to_vec()));
    }
    assert!(
        !policy.contains("env:") && !config.contains("env:"),
        "{policy}{config}"
    );
    let rig = Rig::start(Plan {
        simulators: Vec::new(),
        policy: format!("default_route = [\"{example}\"]\n{policy}"),
        config_extra: config,
        files,
        ..Plan::default()
    })
    .await;
    (rig, provider)
}

async fn twilio_rig() -> (Rig, Provider) {
    let basic = twilio::basic();
    let secrets = [
        ("TWILIO_BASIC", &*basic),
        ("TWILIO_AUTH_TOKEN", twilio::TOKEN),
    ];
    start("twilio", twilio::manners, &secrets).await
}

/// The address in the example's configuration, which Twilio signs.
const TWILIO_URL: &str = "https://sms.example.com/v1/carriers/twilio/callback";

/// A call-back as Twilio makes it; `token` signs it.
async fn from_twilio(rig: &Rig, token: &str, fields: &[(&str, &str)]) -> (u16, String) {
    let (body, signature) = twilio::signed(TWILIO_URL, token, fields);
    let headers = [FORM, ("x-twilio-signature", signature.as_str())];
    call_back(rig, "POST", "/v1/carriers/twilio/callback", &headers, &body).await
}

/// How the first attempt ended.
fn attempt(message: &Value) -> &str {
    nth_attempt(message, 0)
}

fn nth_attempt(message: &Value, n: usize) -> &str {
    message["attempts"][n]["outcome"]
        .as_str()
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn twilio_like_sending_receipts_and_texts() {
    let (rig, provider) = twilio_rig().await;
    let id = rig.submit(sms(HANDSET, "50% off & more €")).await;
    rig.wait_for(&id, "enroute").await;
    let request: Seen = provider.seen().remove(0);
    assert_eq!(request.field("To"), HANDSET);
    assert_eq!(request.field("Body"), "50% off & more €");
    assert_eq!(request.field("StatusCallback"), TWILIO_URL);
    assert_eq!(
        request.header("authorization"),
        format!("Basic {}", twilio::basic())
    );

    let sid = twilio::sid(0);
    let status = |status| {
        [
            ("MessageSid", sid.as_str()),
            ("MessageStatus", status),
            ("To", HANDSET),
        ]
    };
    assert_eq!(
        from_twilio(&rig, twilio::TOKEN, &status("sent")).await.0,
        200
    );
    let answer = from_twilio(&rig, twilio::TOKEN, &status("delivered")).await;
    assert_eq!(answer, (200, "<Response/>".to_owned()));
    let message = rig.wait_for(&id, "delivered").await;
    // Again, as providers do when our answer got lost, and late in another order.
    assert_eq!(
        from_twilio(&rig, twilio::TOKEN, &status("delivered"))
            .await
            .0,
        200
    );
    assert_eq!(
        from_twilio(&rig, twilio::TOKEN, &status("sent")).await.0,
        200
    );
    let later = rig.message(&id).await;
    assert_eq!(later["status"], "delivered");
    assert_eq!(later["receipts"], message["receipts"]);

    let text = [
        ("MessageSid", "SM9"),
        ("From", HANDSET),
        ("To", "+447700900999"),
        ("Body", "STOP it"),
    ];
    assert_eq!(from_twilio(&rig, twilio::TOKEN, &text).await.0, 200);
    // Again, because our answer got lost: it is the same text.
    assert_eq!(from_twilio(&rig, twilio::TOKEN, &text).await.0, 200);
    let stored = eventually("the text arrives", async || {
        rig.items("/v1/inbound").await.pop()
    })
    .await;
    assert_eq!(rig.items("/v1/inbound").await.len(), 1);
    assert_eq!(
        (&stored["text"], &stored["from"]),
        (&json!("STOP it"), &json!(HANDSET))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn twilio_like_call_backs_of_strangers_change_nothing() {
    let (rig, _provider) = twilio_rig().await;
    let id = rig.submit(sms(HANDSET, "hello")).await;
    rig.wait_for(&id, "enroute").await;
    let sid = twilio::sid(0);
    let fields = [("MessageSid", sid.as_str()), ("MessageStatus", "delivered")];
    assert_eq!(
        from_twilio(&rig, "another token of 32 characters..", &fields)
            .await
            .0,
        403
    );
    let (body, signature) = twilio::signed(TWILIO_URL, twilio::TOKEN, &fields);
    let post = async |headers: &[(&str, &str)], body: &str| {
        call_back(&rig, "POST", "/v1/carriers/twilio/callback", headers, body).await
    };
    let signed = [FORM, ("x-twilio-signature", signature.as_str())];
    let (status, problem) = post(&signed, &body.replace("delivered", "failed")).await;
    assert_eq!(status, 403);
    assert!(problem.contains("callback_not_verified"), "{problem}");
    assert_eq!(post(&signed[..1], &body).await.0, 403);
    assert_eq!(
        post(&[FORM, ("x-twilio-signature", "!")], &body).await.0,
        403
    );
    assert_eq!(
        post(&[("content-type", "application/json"), signed[1]], &body)
            .await
            .0,
        403
    );
    let other_path = call_back(
        &rig,
        "POST",
        "/v1/carriers/twilio/callback?a=1",
        &signed,
        &body,
    )
    .await;
    assert_eq!(other_path.0, 403, "the query is signed too");
    assert_eq!(rig.message(&id).await["status"], "enroute");
    let (_, _, metrics) = heliograph_tests::http(&rig.address, "GET", "/metrics", None, &[])
        .await
        .expect("metrics");
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    let line = "heliograph_callbacks_total{carrier=\"twilio\",result=\"not_verified\"} 6";
    assert!(metrics.contains(line), "{metrics}");
    assert_eq!(post(&signed, &body).await.0, 200);
    rig.wait_for(&id, "delivered").await;
    assert!(
        !rig.log().contains(twilio::TOKEN),
        "the secret is in the log"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn twilio_like_failures() {
    let (rig, provider) = twilio_rig().await;
    for (to, code) in [
        ("+447700921211", "not a valid phone number"),
        ("+447700921610", "unsubscribed"),
    ] {
        let id = rig.submit(sms(to, "hello")).await;
        let message = rig.wait_for(&id, "rejected").await;
        assert_eq!(attempt(&message), "permanent_failure");
        let told = message["events"].to_string();
        assert!(
            told.contains(code) && told.contains("HTTP 400"),
            "{message:#}"
        );
    }
    provider.instead([Reply::Answer {
        status: 429,
        headers: vec![("retry-after", "1".to_owned())],
        body: json!({ "code": 20429, "message": "Too Many Requests", "status": 429 }).to_string(),
    }]);
    let id = rig.submit(sms(HANDSET, "again")).await;
    let message = rig.wait_for(&id, "enroute").await;
    assert_eq!(attempt(&message), "throttled");
    assert_eq!(nth_attempt(&message, 1), "sent");

    let location = vec![("location", "http://127.0.0.1:1/".to_owned())];
    let redirect = Reply::Answer {
        status: 307,
        headers: location,
        body: String::new(),
    };
    for reply in [Reply::text(503, "<html>"), redirect] {
        provider.instead([reply]);
        let id = rig.submit(sms(HANDSET, "later")).await;
        let message = eventually("an attempt", async || {
            let message = rig.message(&id).await;
            message["attempts"][0].is_object().then_some(message)
        })
        .await;
        assert_eq!(attempt(&message), "temporary_failure", "{message:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_of_a_request_without_a_whole_answer_is_unknown_and_not_guessed() {
    let (rig, provider) = twilio_rig().await;
    let broken = "{\"sid\": \"SM";
    for (name, reply) in [
        ("no answer in time", Reply::Silence),
        ("an answer cut off", Reply::CutOff(broken.to_owned())),
        ("no HTTP", Reply::Garbage),
        ("malformed JSON", Reply::text(201, broken)),
        ("no id", Reply::json(201, &json!({ "status": "queued" }))),
    ] {
        provider.instead([reply]);
        let mut body = sms(HANDSET, name);
        body["on_unknown"] = json!("hold");
        let id = rig.submit(body).await;
        let message = rig.wait_for(&id, "submit_unknown").await;
        assert_eq!(attempt(&message), "timed_out", "{name}: {message:#}");
    }
    assert_eq!(provider.seen().len(), 5, "nothing was sent twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn vonage_like_parts_receipts_and_failures() {
    let secrets = [
        ("VONAGE_KEY", vonage::KEY),
        ("VONAGE_SECRET", vonage::SECRET),
        ("VONAGE_SIGNATURE_SECRET", vonage::SIGNATURE_SECRET),
    ];
    let (rig, provider) = start("vonage", vonage::manners, &secrets).await;
    let id = rig.submit(sms(HANDSET, &"x".repeat(200))).await;
    let message = rig.wait_for(&id, "enroute").await;
    let request: Value = serde_json::from_str(&provider.seen()[0].body).expect("JSON");
    assert_eq!(
        (&request["type"], &request["client-ref"]),
        (&json!("text"), &json!(id))
    );
    assert_eq!(
        message["receipts"].as_array().map(Vec::len),
        Some(2),
        "an id for each part"
    );

    let now = || {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970")
            .as_secs()
    };
    let post = async |body: &str| {
        let json = [("content-type", "application/json")];
        call_back(&rig, "POST", "/v1/carriers/vonage/callback", &json, body)
            .await
            .0
    };
    let receipt =
        |part, status, at| vonage::signed(vonage::receipt(&vonage::id(0, part), status), at);
    assert_eq!(post(&receipt(1, "delivered", now())).await, 200);
    assert_eq!(
        rig.message(&id).await["status"],
        "enroute",
        "a part is missing"
    );
    assert_eq!(
        post(&receipt(0, "delivered", now() - 3_600)).await,
        403,
        "an old call-back played again"
    );
    assert_eq!(
        post(&receipt(0, "failed", now()).replace("failed", "delivered")).await,
        403,
        "changed on the way"
    );
    assert_eq!(post("{}").await, 403);
    assert_eq!(post(&receipt(0, "delivered", now())).await, 200);
    rig.wait_for(&id, "delivered").await;

    let barred = rig.submit(sms("+447700900007", "hello")).await;
    let message = rig.wait_for(&barred, "rejected").await;
    assert_eq!(attempt(&message), "permanent_failure");
    provider.instead([Reply::json(
        200,
        &json!({ "message-count": "1", "messages": [{ "status": "1", "error-text": "Throttled, balance 3.14159265" }] }),
    )]);
    let throttled = rig.submit(sms(HANDSET, "again")).await;
    let message = rig.wait_for(&throttled, "enroute").await;
    assert_eq!(
        (attempt(&message), nth_attempt(&message, 1)),
        ("throttled", "sent")
    );
    assert!(
        !rig.log().contains("3.14159265") && !rig.log().contains("0.0333"),
        "prices in the log"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn infobip_like_batches_of_reports() {
    let secrets = [
        ("INFOBIP_KEY", infobip::KEY),
        ("INFOBIP_WEBHOOK_LOGIN", infobip::LOGIN),
    ];
    let (rig, provider) = start("infobip", infobip::manners, &secrets).await;
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(rig.submit(sms(HANDSET, &format!("message {n}"))).await);
    }
    rig.wait_for_all(&ids, "enroute").await;
    assert_eq!(provider.seen().len(), 3);
    let login = infobip::authorization();
    let post = async |authorization: &str, body: &Value| {
        let headers = [
            ("content-type", "application/json"),
            ("authorization", authorization),
        ];
        call_back(
            &rig,
            "POST",
            "/v1/carriers/infobip/callback",
            &headers,
            &body.to_string(),
        )
        .await
        .0
    };
    let batch = json!({ "results": [
        infobip::report(&ids[0], "DELIVERED", "NO_ERROR"),
        { "status": { "groupName": "DELIVERED" } },
        infobip::report(&ids[1], "UNDELIVERABLE", "EC_ABSENT_SUBSCRIBER"),
        { "from": "447700900123", "to": "60777", "text": "", "receivedAt": "2026-06-15T12:00:00Z" },
    ] });
    assert_eq!(post("Basic aW5mb2JpcDp3cm9uZw==", &batch).await, 403);
    assert_eq!(rig.message(&ids[0]).await["status"], "enroute");
    assert_eq!(post(&login, &batch).await, 200);
    rig.wait_for(&ids[0], "delivered").await;
    let failed = rig.wait_for(&ids[1], "undeliverable").await;
    assert_eq!(failed["receipts"][0]["error"], "EC_ABSENT_SUBSCRIBER");
    assert_eq!(rig.message(&ids[2]).await["status"], "enroute");
    assert_eq!(rig.items("/v1/inbound").await.len(), 1);

    let forbidden = rig.submit(sms("+447700900006", "hello")).await;
    rig.wait_for(&forbidden, "rejected").await;
    let poor = rig.submit(sms("+447700900005", "hello")).await;
    let message = eventually("an attempt", async || {
        let message = rig.message(&poor).await;
        message["attempts"][0].is_object().then_some(message)
    })
    .await;
    assert_eq!(attempt(&message), "temporary_failure");
    assert!(
        !format!("{message}{}", rig.log()).contains("EUR 0.0125"),
        "a balance is told"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn kannel_like_get() {
    let secrets = [
        ("KANNEL_PASSWORD", kannel::PASSWORD),
        ("KANNEL_CALLBACK_TOKEN", kannel::TOKEN),
    ];
    let (rig, provider) = start("kannel", kannel::manners, &secrets).await;
    let id = rig
        .submit(sms(HANDSET, "a b&c=d#é{secret:KANNEL_PASSWORD}"))
        .await;
    let message = rig.wait_for(&id, "enroute").await;
    let request = provider.seen().remove(0);
    assert_eq!(request.field("text"), "a b&c=d#é{secret:KANNEL_PASSWORD}");
    assert_eq!(request.field("password"), kannel::PASSWORD);
    assert_eq!(
        message["receipts"][0]["carrier_message_id"],
        json!(id),
        "ours is theirs"
    );
    let target = kannel::receipt(&request, 1);
    let get = async |target: &str| call_back(&rig, "GET", target, &[], "").await.0;
    assert_eq!(get(&target.replace(kannel::TOKEN, "another")).await, 403);
    assert_eq!(
        get(target.split("&token").next().expect("a target")).await,
        403
    );
    assert_eq!(get(&kannel::receipt(&request, 8)).await, 200);
    assert_eq!(rig.message(&id).await["status"], "enroute");
    assert_eq!(get(&target).await, 200);
    rig.wait_for(&id, "delivered").await;

    provider.instead([Reply::text(503, "Temporal failure, try again later.")]);
    let id = rig.submit(sms(HANDSET, "again")).await;
    let message = eventually("an attempt", async || {
        let message = rig.message(&id).await;
        message["attempts"][0].is_object().then_some(message)
    })
    .await;
    assert_eq!(attempt(&message), "throttled");
}

/// A text from a handset as Vonage tells of it, signed at `seconds`.
fn vonage_text(id: &str, seconds: u64) -> String {
    let fields = vec![
        ("msisdn", "447700900123".to_owned()),
        ("to", "60777".to_owned()),
        ("messageId", id.to_owned()),
        ("text", "hello".to_owned()),
        ("type", "text".to_owned()),
    ];
    vonage::signed(fields, seconds)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_a_provider_tells_of_again_is_stored_once_signed_anew_and_after_a_restart() {
    let secrets = [
        ("VONAGE_KEY", vonage::KEY),
        ("VONAGE_SECRET", vonage::SECRET),
        ("VONAGE_SIGNATURE_SECRET", vonage::SIGNATURE_SECRET),
    ];
    let (mut rig, _provider) = start("vonage", vonage::manners, &secrets).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.expect("after 1970").as_secs();
    let json = [("content-type", "application/json")];
    let post = async |rig: &Rig, body: &str| {
        let answer = call_back(rig, "POST", "/v1/carriers/vonage/callback", &json, body).await;
        assert_eq!(answer.0, 200);
    };
    post(&rig, &vonage_text("A1", now)).await;
    post(&rig, &vonage_text("A1", now + 30)).await;
    rig.kill().await;
    rig.launch().await;
    post(&rig, &vonage_text("A1", now + 60)).await;
    // The same words under another id are another text.
    post(&rig, &vonage_text("A2", now + 60)).await;
    assert_eq!(rig.items("/v1/inbound").await.len(), 2);
    let repeated = rig
        .metric(&["heliograph_inbound_total", "\"repeated\""])
        .await;
    assert_eq!(repeated, 1.0, "since the restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_batch_that_comes_again_what_is_new_is_stored() {
    let secrets = [
        ("INFOBIP_KEY", infobip::KEY),
        ("INFOBIP_WEBHOOK_LOGIN", infobip::LOGIN),
    ];
    let (rig, _provider) = start("infobip", infobip::manners, &secrets).await;
    let text = |id: &str| {
        json!({
            "messageId": id, "from": "447700900123", "to": "60777", "text": "hello",
            "receivedAt": "2026-06-15T12:00:00Z",
        })
    };
    let headers = [
        ("content-type", "application/json"),
        ("authorization", &*infobip::authorization()),
    ];
    for (ids, stored) in [(&["1", "2"][..], 2), (&["1", "2"], 2), (&["2", "3"], 3)] {
        let results: Vec<Value> = ids.iter().map(|id| text(id)).collect();
        let body = json!({ "results": results }).to_string();
        let answer = call_back(
            &rig,
            "POST",
            "/v1/carriers/infobip/callback",
            &headers,
            &body,
        );
        assert_eq!(answer.await.0, 200);
        assert_eq!(rig.items("/v1/inbound").await.len(), stored);
    }
}
