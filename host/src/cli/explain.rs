//! `heliograph explain`: a policy decides one message on this machine, without a server, and says why.
//! State begins empty, the carriers are as told, and nothing is sent or stored.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use super::client::Failure;
use super::send::{print, text};
use crate::api::parse_time;
use crate::clock::{Clock, Timestamp};
use crate::domain::text as sms;
use crate::domain::{
    AccountId, Address, Body, CarrierId, CarrierView, Context, Facts, HookCall, Message, MessageId,
    OnUnknown, Outcome, Phase, Plan, RecipientProfile, State, TrafficClass,
};
use crate::pipeline::judge::judge;
use crate::pipeline::numbers::Numbers;
use crate::plugin::{
    Engine, EngineLimits, Host, HyperClient, MemoryState, PolicySet, PolicySpec, Resolver, Source,
    Witness,
};

const VALIDITY_MS: u64 = 72 * 3_600_000;

/// Decide one message by a policy file and say why, without a server
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  heliograph explain --to +447700900123 --text Hello --policy policy.toml --carriers north,south"
)]
pub struct Args {
    /// The recipient, E.164
    #[arg(long)]
    pub to: String,
    /// The originator
    #[arg(long, default_value = "Heliograph")]
    pub from: String,
    #[arg(long)]
    pub text: String,
    /// otp, transactional, promotional or alert
    #[arg(long, default_value = "transactional")]
    pub class: String,
    #[arg(long, default_value = "default")]
    pub account: String,
    /// The policy, TOML; its paths are relative to it
    #[arg(long, default_value = "policy.toml", value_name = "FILE")]
    pub policy: PathBuf,
    /// The carriers, in order; those of the policy's default route where none are given
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    pub carriers: Vec<String>,
    /// Carriers that are not connected
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    pub down: Vec<String>,
    /// The time to decide for, RFC 3339; now where none is given
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// Messages that the recipient got in the last 24 hours
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub sent_last_day: u32,
    /// The recipient asked for no more messages
    #[arg(long)]
    pub opted_out: bool,
    /// KEY=VALUE of the message's metadata
    #[arg(long, value_name = "KEY=VALUE")]
    pub metadata: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

pub async fn run(args: Args) -> Result<(), Failure> {
    let read = std::fs::read_to_string(&args.policy);
    let toml = read.map_err(|e| Failure::Failed(format!("{}: {e}", args.policy.display())))?;
    let spec = PolicySpec::from_toml(&toml)
        .map_err(|e| Failure::Failed(format!("{}: {e}", args.policy.display())))?;
    let base = args.policy.parent().unwrap_or(Path::new(""));
    let set = build(&spec, base).await?;
    let (mut message, facts) = question(&args, &spec)?;
    let mut judgement = judge(&set, &mut message, &facts, &mut Witness::absent()).await;
    if facts.profile.opted_out {
        judgement.opt_out();
    }
    let answer = answer(&set, &message, &facts, &judgement.outcome, &judgement.calls);
    print(&answer, args.json, words);
    Ok(())
}

async fn build(spec: &PolicySpec, base: &Path) -> Result<PolicySet, Failure> {
    let engine = Engine::new(EngineLimits {
        instances: 64,
        ..EngineLimits::default()
    });
    let host = Host {
        engine: engine.map_err(|e| Failure::Failed(e.to_string()))?,
        state: Arc::new(MemoryState::new(Clock::system())),
        http: Arc::new(HyperClient::new().map_err(Failure::Failed)?),
        pseudonym_key: [0; 32],
    };
    let folder = Arc::new(Folder(base.to_owned()));
    PolicySet::build(spec, folder, &host, None)
        .await
        .map_err(|e| Failure::Failed(e.to_string()))
}

/// What a policy names, as files beside it.
struct Folder(PathBuf);

impl Folder {
    fn read(&self, source: &Source) -> Result<Vec<u8>, String> {
        match source {
            Source::Path(path) => {
                let path = self.0.join(path);
                std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))
            }
            Source::Digest(_) => Err(
                "is named by digest, which a server knows and a file does not: `heliograph policy export` makes files of it"
                    .to_owned(),
            ),
        }
    }
}

impl Resolver for Folder {
    fn component(&self, source: &Source) -> Result<Vec<u8>, String> {
        self.read(source)
    }

    fn table(&self, source: &Source) -> Result<Vec<u8>, String> {
        self.read(source)
    }

    /// No decision reads one, and this machine need not have them.
    fn secret(&self, _reference: &str) -> Result<String, String> {
        Ok("-".to_owned())
    }
}

/// The message and the moment that the command line describes.
fn question(args: &Args, spec: &PolicySpec) -> Result<(Message, Facts), Failure> {
    let usage = |field: &str, why: String| Failure::Usage(format!("--{field}: {why}"));
    let recipient = Address::international(&args.to).map_err(|e| usage("to", e.to_string()))?;
    let originator = Address::originator(&args.from).map_err(|e| usage("from", e.to_string()))?;
    let class = TrafficClass::from_name(&args.class).ok_or_else(|| {
        usage(
            "class",
            "is otp, transactional, promotional or alert".into(),
        )
    })?;
    let body = Body::Text(args.text.clone());
    let plan = sms::plan(&body).map_err(|e| usage("text", e.to_string()))?;
    let now = match &args.at {
        Some(at) => parse_time(at).map_err(|why| usage("at", why))?,
        None => Clock::system().now(),
    };
    let metadata = args.metadata.iter().map(|pair| {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| usage("metadata", format!("{pair:?} is no KEY=VALUE")))?;
        Ok((key.to_owned(), value.to_owned()))
    });
    let metadata: Vec<_> = metadata.collect::<Result<_, Failure>>()?;
    let numbers = Numbers::new(std::collections::BTreeMap::<String, String>::new())
        .map_err(|e| Failure::Failed(format!("{:?} is no time zone", e.0)))?;
    let network = numbers.network(&recipient);
    let offset = numbers.utc_offset_minutes(&recipient, &network, now);
    let names = if args.carriers.is_empty() {
        &spec.default_route
    } else {
        &args.carriers
    };
    if names.is_empty() {
        let why = "the policy names no default_route, so the carriers are to be named";
        return Err(usage("carriers", why.into()));
    }
    if let Some(unknown) = args.down.iter().find(|d| !names.contains(d)) {
        return Err(usage("down", format!("{unknown} is none of the carriers")));
    }
    let view = |name: &String| CarrierView {
        id: CarrierId::from(name.as_str()),
        connected: !args.down.contains(name),
        queued: 0,
        in_flight: 0,
        headroom: 1_000.0,
        delivered_ratio: None,
        p50_receipt_ms: None,
        tags: Vec::new(),
    };
    let facts = Facts {
        context: Context {
            now,
            random: 0,
            phase: Phase::Preview,
        },
        profile: RecipientProfile {
            opted_out: args.opted_out,
            utc_offset_minutes: offset,
            sent_last_day: args.sent_last_day,
        },
        carriers: Arc::new(names.iter().map(view).collect()),
        released: false,
        exempt: false,
    };
    let message = Message {
        id: MessageId::new(now, 0),
        account: AccountId::from(args.account.as_str()),
        originator,
        recipient,
        network,
        class,
        body,
        submitted_body: None,
        alphabet: plan.alphabet,
        segments: plan.segments,
        accepted_at: now,
        send_at: now,
        expires_at: Timestamp(now.millis().saturating_add(VALIDITY_MS)),
        reference: String::new(),
        metadata,
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
    };
    Ok((message, facts))
}

fn answer(
    set: &PolicySet,
    message: &Message,
    facts: &Facts,
    outcome: &Outcome,
    calls: &[HookCall],
) -> Value {
    let calls: Vec<Value> = calls
        .iter()
        .map(|call| {
            let entry = set.all().iter().find(|e| e.index() == call.entry);
            let (plugin, version) = entry.map_or(("", ""), |e| e.plugin());
            json!({
                "entry": entry.map_or("host", |e| e.name()),
                "plugin": plugin,
                "version": version,
                "outcome": call.outcome.name(),
                "why": call.why,
                "micros": f64::from(call.nanos) / 1_000.0,
            })
        })
        .collect();
    let hops: Vec<Value> = match outcome {
        Outcome::Send => message.plan.hops.iter().map(hop_view).collect(),
        _ => Vec::new(),
    };
    let why = match outcome {
        Outcome::Send => message.plan.reason.clone(),
        Outcome::Refuse(refusal) => format!("{}: {}", refusal.code, refusal.reason),
        Outcome::OptedOut => "the recipient asked for no more messages".to_owned(),
        Outcome::Hold(why) | Outcome::Drop(why) | Outcome::Unavailable(why) => why.clone(),
        Outcome::Defer { reason, .. } => reason.clone(),
    };
    let changed = message.submitted_body.is_some();
    json!({
        "set": set.id().to_string(),
        "outcome": outcome.name(),
        "why": why,
        "until": match outcome { Outcome::Defer { until, .. } => Some(time(*until)), _ => None },
        "hops": hops,
        "country": message.network.country.map(|c| String::from_utf8_lossy(&c).into_owned()),
        "local_time_offset_minutes": facts.profile.utc_offset_minutes,
        "segments": message.segments,
        "text": changed.then(|| match &message.body { Body::Text(text) => text.clone(), Body::Binary { .. } => String::new() }),
        "calls": calls,
    })
}

fn hop_view(hop: &crate::domain::Hop) -> Value {
    json!({
        "carrier": hop.carrier.as_str(),
        "originator": hop.originator.as_ref().map(|o| o.value.as_str()),
        "price_micros": hop.price_micros,
    })
}

fn time(at: Timestamp) -> String {
    i64::try_from(at.millis())
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| "beyond all calendars".to_owned(), |t| t.to_string())
}

fn words(answer: &Value) -> String {
    let list = |name: &str| answer[name].as_array().cloned().unwrap_or_default();
    let mut out = format!("policy set {}", text(answer, "set"));
    for call in list("calls") {
        let who = format!("{} {}", text(&call, "entry"), text(&call, "version"));
        let micros = call["micros"].as_f64().unwrap_or_default();
        out.push_str(&format!(
            "\n  {who:<28} {:<8} {micros:>7.1} µs  {}",
            text(&call, "outcome"),
            text(&call, "why"),
        ));
    }
    if let Some(changed) = answer["text"].as_str() {
        out.push_str(&format!("\n  the text becomes: {}", changed.escape_debug()));
    }
    let hops: Vec<String> = list("hops")
        .iter()
        .map(|hop| {
            let price = hop["price_micros"].as_f64();
            let price = price.map_or(String::new(), |p| format!(" at {:.5}", p / 1e6));
            format!("{}{price}", text(hop, "carrier"))
        })
        .collect();
    let until = match answer["until"].as_str() {
        Some(until) => format!(" until {until}"),
        None => String::new(),
    };
    out.push_str(&format!(
        "\n=> {}{until}{}{}  ({} segments)",
        text(answer, "outcome"),
        if hops.is_empty() { "" } else { " to " },
        hops.join(", then "),
        answer["segments"],
    ));
    if !text(answer, "why").is_empty() {
        out.push_str(&format!("\n   {}", text(answer, "why")));
    }
    out
}
