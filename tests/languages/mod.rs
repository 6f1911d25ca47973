//! The same router in Rust, C, Python and JavaScript (on two engines): all decide the shared cases the same,
//! give the same answer again, and route live messages. `make languages` builds them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use heliograph::clock::{Clock, Timestamp};
use heliograph::domain::text::Alphabet;
use heliograph::domain::{
    Address, Body, CarrierId, Context, Hook, Message, MessageId, Network, OnUnknown, Phase,
    Plan as Route, Routing, State, TrafficClass,
};
use heliograph::plugin::{
    CarrierView, CodeCache, Engine, EngineLimits, Host, HyperClient, MemoryState, PolicySet,
    PolicySpec, Resolver, Source, Witness,
};
use heliograph_tests::{CarrierSpec, Plan, Rig, binary, sms};
use serde_json::{Value, json};

const LANGUAGES: [&str; 5] = ["rust", "c", "python", "javascript", "javascript-quickjs"];
/// Compiling an interpreter takes tens of seconds on a busy machine.
const COMPILED_WITHIN: Duration = Duration::from_secs(400);
const CALLS_MEASURED: usize = 300;

fn folder() -> PathBuf {
    let folder = binary()
        .ancestors()
        .nth(2)
        .expect("target")
        .join("languages");
    for language in LANGUAGES {
        let file = folder.join(format!("{language}.wasm"));
        assert!(
            file.exists(),
            "{} is not built: run `make languages`",
            file.display()
        );
    }
    folder
}

/// Components by path, and nothing else.
struct Files;

impl Resolver for Files {
    fn component(&self, source: &Source) -> Result<Vec<u8>, String> {
        match source {
            Source::Path(path) => std::fs::read(path).map_err(|e| format!("{path}: {e}")),
            Source::Digest(_) => Err("no digest is in these policies".into()),
        }
    }

    fn table(&self, _: &Source) -> Result<Vec<u8>, String> {
        Err("no table is in these policies".into())
    }

    fn secret(&self, _: &str) -> Result<String, String> {
        Err("no secret is in these policies".into())
    }
}

/// Compiled code is kept between runs: it changes only with the component.
fn host() -> Host {
    let engine = Engine::new(EngineLimits {
        instances: 64,
        cache: Some(CodeCache {
            folder: folder().join("compiled"),
            key: [7; 32],
            octets_max: 1 << 30,
        }),
        ..EngineLimits::default()
    });
    Host {
        engine: engine.expect("an engine"),
        state: Arc::new(MemoryState::new(Clock::system())),
        http: Arc::new(HyperClient::new().expect("a client")),
        pseudonym_key: [3; 32],
    }
}

/// A case: its fields, and those of `defaults.json` where it has none.
fn cases() -> Vec<(String, Value)> {
    let folder = PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../plugin-sdk/languages/cases"
    ));
    let read = |file: PathBuf| -> Value {
        let text = std::fs::read(&file).expect("a case");
        serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
    };
    let defaults = read(folder.join("defaults.json"));
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(&folder).expect("the cases").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.ends_with(".json") || name == "defaults.json" {
            continue;
        }
        let mut case = defaults.clone();
        for (key, value) in read(entry.path()).as_object().expect("an object") {
            case[key] = value.clone();
        }
        cases.push((name, case));
    }
    cases.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(cases.len() >= 8, "cases are missing");
    cases
}

fn message(case: &Value) -> Message {
    let text = |name: &str| case["message"][name].as_str().expect("text").to_owned();
    let at = Timestamp(1_781_524_800_000);
    Message {
        id: MessageId(7),
        account: "acme".into(),
        originator: Address::originator("Acme").expect("an originator"),
        recipient: Address::international(&text("to")).expect("a recipient"),
        network: Network::default(),
        class: TrafficClass::Transactional,
        alphabet: Alphabet::of(&text("text")),
        body: Body::Text(text("text")),
        submitted_body: None,
        segments: 1,
        accepted_at: at,
        send_at: at,
        expires_at: Timestamp(at.millis() + 3_600_000),
        reference: String::new(),
        metadata: Vec::new(),
        tlvs: Vec::new(),
        receipt_url: None,
        sm: heliograph::domain::SmParameters::default(),
        source: heliograph::domain::Source::Http,
        shift: heliograph::domain::text::ShiftTables::default(),
        on_unknown: OnUnknown::Resend,
        duplicate_risk: false,
        state: State::Queued,
        due: None,
        plan: Route::default(),
        hop: 0,
        attempts: Vec::new(),
        parts: Vec::new(),
        failed: Vec::new(),
        decisions: Vec::new(),
        events: Vec::new(),
    }
}

fn carriers(case: &Value) -> Vec<CarrierView> {
    let view = |carrier: &Value| CarrierView {
        id: CarrierId::from(carrier["id"].as_str().expect("an id")),
        connected: carrier["connected"].as_bool().expect("a flag"),
        queued: 0,
        in_flight: 0,
        headroom: 100.0,
        delivered_ratio: Some(0.5),
        p50_receipt_ms: None,
        tags: vec!["direct".into()],
    };
    case["carriers"]
        .as_array()
        .expect("carriers")
        .iter()
        .map(view)
        .collect()
}

fn told(routing: Routing) -> Value {
    match routing {
        Routing::Send(plan) => {
            let hop = |id: &CarrierId| json!({ "carrier": id.as_str() });
            let hops: Vec<Value> = plan.hops.iter().map(|h| hop(&h.carrier)).collect();
            json!({ "outcome": "send", "hops": hops, "reason": plan.reason })
        }
        Routing::Pass => json!({ "outcome": "pass" }),
        Routing::Defer { .. } | Routing::Refuse(_) => panic!("{routing:?}"),
    }
}

async fn router(host: &Host, language: &str, config: &Value, limits: &Value) -> PolicySet {
    let file = folder().join(format!("{language}.wasm"));
    let policy = json!({ "plugin": [{
        "name": "router", "path": file, "config": config, "limits": limits,
    }] });
    let spec = PolicySpec::from_json(policy.to_string().as_bytes()).expect("a policy");
    PolicySet::build(&spec, Arc::new(Files), host, None)
        .await
        .unwrap_or_else(|e| panic!("{language}: {e}"))
}

const CONTEXT: Context = Context {
    now: Timestamp(1_781_524_800_000),
    random: 42,
    phase: Phase::Admission,
};

#[tokio::test(flavor = "multi_thread")]
async fn every_language_decides_the_same() {
    let host = host();
    for language in LANGUAGES {
        for (name, case) in cases() {
            let set = router(&host, language, &case["config"], &case["limits"]).await;
            let entry = set.entries(Hook::RoutingPolicy).next().expect("a router");
            let (message, carriers) = (message(&case), carriers(&case));
            // Twice: an instance that was used decides as a new one does.
            for _ in 0..2 {
                let answer = entry
                    .route(&message, &carriers, &CONTEXT, &mut Witness::absent())
                    .await
                    .0;
                let answer = answer.unwrap_or_else(|e| panic!("{language}, {name}: {e}"));
                assert_eq!(told(answer), case["expect"], "{language}, {name}");
            }
        }
    }
}

/// Shown with `--nocapture`; the guide has the figures.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_each_language_stays_within_its_bounds() {
    let host = host();
    let (_, case) = cases().swap_remove(0);
    let (message, carriers) = (message(&case), carriers(&case));
    for language in LANGUAGES {
        let started = Instant::now();
        let set = router(&host, language, &case["config"], &case["limits"]).await;
        let built = started.elapsed();
        let entry = set.entries(Hook::RoutingPolicy).next().expect("a router");
        let mut nanos = Vec::new();
        for _ in 0..CALLS_MEASURED {
            let (answer, took) = entry
                .route(&message, &carriers, &CONTEXT, &mut Witness::absent())
                .await;
            assert!(answer.is_ok(), "{language}: {answer:?}");
            nanos.push(took);
        }
        nanos.sort_unstable();
        let stats = entry.stats();
        println!(
            "{language:20} set {built:>12.1?}  p50 {:>8} ns  p99 {:>8} ns  memory {:>6} KiB",
            nanos[CALLS_MEASURED / 2],
            nanos[CALLS_MEASURED * 99 / 100],
            stats.memory_high_water_bytes / 1024
        );
        assert_eq!(
            stats.instances_made, 0,
            "{language}: the warm instance answers all"
        );
    }
}

#[tokio::test]
async fn every_language_routes_live_messages() {
    let files = LANGUAGES.map(|language| {
        let name = format!("{language}.wasm");
        let bytes = std::fs::read(folder().join(&name)).expect("a component");
        (name, bytes)
    });
    let rig = Rig::start(Plan {
        simulators: vec![Default::default(), Default::default()],
        // Nobody listens there.
        carriers: vec![CarrierSpec {
            id: "down".into(),
            address: "127.0.0.1:9".into(),
            extra: String::new(),
        }],
        files: files.into(),
        ..Plan::default()
    })
    .await;
    for language in LANGUAGES {
        rig.write_policy(&format!(
            r#"
            [[plugin]]
            name = "{language}"
            path = "{{dir}}/{language}.wasm"
            limits = {{ deadline_ms = 5000, configure_ms = 10000, memory_mib = 32 }}
            [plugin.config]
            otherwise = ["sim1"]
            routes = {{ 44 = ["down", "sim1"], 4477 = ["sim0", "sim1"] }}
            "#
        ));
        in_force(&rig, language).await;
        for (to, carrier, reason) in [
            ("+447700900123", "sim0", "prefix 4477: sim0, sim1"),
            (
                "+442079460000",
                "sim1",
                "prefix 44: sim1; not connected: down",
            ),
            ("+33612345678", "sim1", "otherwise: sim1"),
        ] {
            let id = rig.submit(sms(to, "hello")).await;
            let message = rig.wait_for(&id, "delivered").await;
            assert_eq!(
                message["attempts"][0]["carrier"], carrier,
                "{language}: {message:#}"
            );
            assert!(
                message.to_string().contains(reason),
                "{language}: {message:#}"
            );
        }
    }
}

async fn in_force(rig: &Rig, name: &str) {
    let end = Instant::now() + COMPILED_WITHIN;
    loop {
        let (status, policy) = rig.admin("GET", "/v1/policy", None).await;
        if status == 200 && policy["policy"]["plugin"][0]["name"] == name {
            return;
        }
        if Instant::now() > end {
            rig.fail(&format!("{name} is not in force: {policy:#}"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
