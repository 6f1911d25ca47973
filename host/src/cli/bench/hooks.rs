//! `heliograph bench --calls`: each bundled plugin's decision hook, called alone on one thread with its
//! tables and state granted. What is measured is the call and its border, nothing around them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use crate::clock::{Clock, Timestamp};
use crate::domain::text::Alphabet;
use crate::domain::{
    Address, Body, CarrierView, Context, Hook, Inbound, Message, MessageId, Network, OnUnknown,
    Phase, Plan, RecipientProfile, State, TrafficClass,
};
use crate::plugin::{
    Called, Engine, EngineLimits, Entry, Fault, Host, HyperClient, MemoryState, PolicySet,
    PolicySpec, Resolver, Source, Witness,
};

/// Calls before the first that counts.
const WARM_UP: u32 = 2_000;
/// One segment of GSM 7-bit text.
const TEXT: &str = "Your parcel arrives today between 14:00 and 16:00. Track it at https://example.com/t/4711 or reply STOP to hear no more from us.";
const NUMBER: &str = "+447700900123";

/// What the figures of one hook are.
#[derive(Clone, Debug, Serialize)]
pub struct HookFigures {
    pub hook: &'static str,
    pub version: String,
    pub p50_us: f64,
    pub p99_us: f64,
}

/// Measures every component of `folder`. One that cannot be measured is told on standard error.
pub async fn measure(folder: &Path, calls: u32) -> Result<BTreeMap<String, HookFigures>, String> {
    let host = Host {
        engine: Engine::new(EngineLimits::default()).map_err(|e| e.to_string())?,
        state: Arc::new(MemoryState::new(Clock::system())),
        http: Arc::new(HyperClient::new().map_err(|e| e.to_string())?),
        pseudonym_key: [0; 32],
    };
    let mut figures = BTreeMap::new();
    for path in components(folder)? {
        let name = path
            .file_stem()
            .map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        match measure_one(&host, &path, &name, calls).await {
            Ok(measured) => figures.extend(measured.map(|figures| (name, figures))),
            Err(why) => eprintln!("heliograph bench: {name}: {why}"),
        }
    }
    Ok(figures)
}

fn components(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let unread = |e: std::io::Error| format!("{}: {e}", folder.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unread)? {
        let path = entry.map_err(unread)?.path();
        if path.extension().is_some_and(|e| e == "wasm") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// None for a plugin that serves no decision hook.
async fn measure_one(
    host: &Host,
    path: &Path,
    name: &str,
    calls: u32,
) -> Result<Option<HookFigures>, String> {
    let spec = PolicySpec::from_toml(&policy(path, name)).map_err(|e| e.to_string())?;
    let set = PolicySet::build(&spec, Arc::new(Tables), host, None)
        .await
        .map_err(|e| e.to_string())?;
    let decisions = set.all().iter().find(|e| e.hook() != Hook::CarrierAdapter);
    let Some(entry) = decisions else {
        return Ok(None);
    };
    let mut nanos = Vec::with_capacity(usize::try_from(calls).unwrap_or(0));
    let (message, carriers) = (message(), carriers());
    for n in 0..WARM_UP.saturating_add(calls) {
        let took = call(entry, &message, &carriers).await;
        let took = took.map_err(|e| e.to_string())?;
        if n >= WARM_UP {
            nanos.push(took);
        }
    }
    nanos.sort_unstable();
    let at = |share: usize| {
        let place = nanos.len().saturating_sub(1) * share / 100;
        nanos.get(place).map_or(0.0, |n| f64::from(*n) / 1_000.0)
    };
    Ok(Some(HookFigures {
        hook: entry.hook().name(),
        version: entry.plugin().1.to_owned(),
        p50_us: at(50),
        p99_us: at(99),
    }))
}

/// Nanoseconds in the plugin and at its border, as its statistics count them.
async fn call(entry: &Entry, message: &Message, carriers: &[CarrierView]) -> Result<u32, Fault> {
    fn timed<T>((answer, nanos): Called<T>) -> Result<u32, Fault> {
        answer.map(|_| nanos)
    }
    let (context, mut witness) = (context(), Witness::absent());
    match entry.hook() {
        Hook::Enrichment => timed(entry.enrich(message, &context, &mut witness).await),
        Hook::ContentFilter => timed(entry.inspect(message, &context, &mut witness).await),
        Hook::ComplianceCheck => {
            let profile = RecipientProfile {
                utc_offset_minutes: Some(60),
                ..RecipientProfile::default()
            };
            let answer = entry.check(message, &profile, &context, &mut witness);
            timed(answer.await)
        }
        Hook::RoutingPolicy => {
            let answer = entry.route(message, carriers, &context, &mut witness);
            timed(answer.await)
        }
        Hook::InboundHandler => {
            let inbound = inbound(message);
            let answer = entry.receive(&inbound, &context, &mut witness);
            timed(answer.await)
        }
        Hook::CarrierAdapter => Ok(0),
    }
}

/// The plugin as a set of its own, with everything granted that a decision hook may have.
fn policy(path: &Path, name: &str) -> String {
    let path = path.display();
    let config = match name {
        "content-filter" => {
            r#"{ rules = [{ name = "words", kind = "words", words = ["casino", "free money", "lottery winner"], action = "refuse" }] }"#
        }
        "compliance-guard" => "{ daily_caps = { promotional = 5 } }",
        "least-cost-router" => r#"{ deck = "rates" }"#,
        "number-portability" => r#"{ ported = "ported", ranges = "networks" }"#,
        _ => "{}",
    };
    format!(
        r#"
[tables.rates]
file = "rates"
[tables.networks]
file = "networks"
[tables.ported]
file = "ported"
[[plugin]]
name = "it"
path = "{path}"
config = {config}
grants = {{ state = {{ bytes = 1048576 }}, tables = ["rates", "networks", "ported"] }}
"#
    )
}

/// Components from their files, tables from here, no secrets.
struct Tables;

impl Resolver for Tables {
    fn component(&self, source: &Source) -> Result<Vec<u8>, String> {
        match source {
            Source::Path(path) => std::fs::read(path).map_err(|e| format!("{path}: {e}")),
            Source::Digest(_) => Err("is not stored".to_owned()),
        }
    }

    fn table(&self, source: &Source) -> Result<Vec<u8>, String> {
        let rows = match source {
            Source::Path(name) if name == "rates" => {
                "1,north=5\n44,north=4200; south=4210; west=4400\n4477,north=4200; south=4210; west=4100\n"
            }
            Source::Path(name) if name == "networks" => "44,234-15\n447700,234-10;GB;O2 UK\n",
            Source::Path(_) => "447700900124,234-20\n",
            Source::Digest(_) => return Err("is not stored".to_owned()),
        };
        Ok(rows.as_bytes().to_vec())
    }

    fn secret(&self, _reference: &str) -> Result<String, String> {
        Err("is not set".to_owned())
    }
}

const NOON: Timestamp = Timestamp(1_781_524_800_000);

fn context() -> Context {
    Context {
        now: NOON,
        random: 0x9e37_79b9_7f4a_7c15,
        phase: Phase::Admission,
    }
}

fn carriers() -> Vec<CarrierView> {
    ["north", "south", "west"]
        .map(|id| CarrierView {
            id: id.into(),
            connected: true,
            queued: 3,
            in_flight: 2,
            headroom: 100.0,
            delivered_ratio: Some(0.95),
            p50_receipt_ms: Some(1_200),
            tags: Vec::new(),
        })
        .to_vec()
}

fn address(number: &str) -> Address {
    Address::originator(number).unwrap_or_else(|_| Address {
        ton: crate::domain::TypeOfNumber::Unknown,
        npi: crate::domain::NumberingPlan::Unknown,
        value: number.to_owned(),
    })
}

fn inbound(message: &Message) -> Inbound {
    Inbound {
        id: message.id,
        carrier: "north".into(),
        originator: message.recipient.clone(),
        recipient: address("60777"),
        body: Body::Text("HELP".to_owned()),
        received_at: NOON,
        opted_out: false,
    }
}

fn message() -> Message {
    Message {
        id: MessageId::new(NOON, 7),
        account: "acme".into(),
        originator: address("Acme"),
        recipient: address(NUMBER),
        network: Network {
            country: Some(*b"GB"),
            ..Network::default()
        },
        class: TrafficClass::Transactional,
        body: Body::Text(TEXT.to_owned()),
        submitted_body: None,
        alphabet: Alphabet::Gsm7,
        segments: 1,
        accepted_at: NOON,
        send_at: NOON,
        expires_at: Timestamp(NOON.0 + 86_400_000),
        reference: "order-4711".to_owned(),
        metadata: vec![("order".to_owned(), "4711".to_owned())],
        tlvs: Vec::new(),
        receipt_url: None,
        sm: crate::domain::SmParameters::default(),
        source: crate::domain::Source::Http,
        shift: crate::domain::text::ShiftTables::default(),
        on_unknown: OnUnknown::Resend,
        duplicate_risk: false,
        state: State::Queued,
        due: None,
        plan: Plan::default(),
        hop: 0,
        attempts: Vec::new(),
        parts: Vec::new(),
        failed: Vec::new(),
        decisions: Vec::new(),
        events: Vec::new(),
    }
}
