//! Guests for tests, written in core WebAssembly text and made components by the contract itself, so
//! that no test needs a Rust toolchain for WebAssembly. Each is harmless but for what its test changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::engine::{Engine, EngineLimits};
use super::{
    Host, HyperClient, MemoryState, PolicySet, PolicySpec, Resolver, SetError, Source, WitVersion,
};
use crate::clock::{Clock, Timestamp};
use crate::domain::text::Alphabet;
use crate::domain::{
    Address, Body, Context, Hook, Message, MessageId, Network, OnUnknown, Phase, Plan, State,
    TrafficClass,
};

/// A plugin. `answer` is the body of every hook: it leaves the address of the result on the stack.
/// [`RESULT`] is zeroed memory, which is `pass`, `allow`, no actions.
pub(super) struct Guest {
    pub hooks: Vec<Hook>,
    /// Core imports, out of the constants below.
    pub imports: &'static str,
    pub schema: String,
    /// Body of `configure`: leaves the address of a `result<_, string>` on the stack.
    pub configure: String,
    pub answer: String,
    /// More of the core module: globals, functions, data, a start function.
    pub more: String,
    /// Minimum and maximum of its memory, in pages.
    pub pages: &'static str,
    /// Version of the contract that it is built for; the texts here name 0.1.0.
    pub contract: WitVersion,
}

impl Default for Guest {
    fn default() -> Guest {
        Guest {
            hooks: vec![Hook::ContentFilter],
            imports: LOG,
            schema: r#"{"type": "object"}"#.into(),
            configure: RESULT.into(),
            answer: RESULT.into(),
            more: String::new(),
            pages: "4",
            contract: WitVersion::V0_1,
        }
    }
}

/// 256 zero octets.
pub(super) const RESULT: &str = "(i32.const 2048)";
/// Where a test's own data may stand, up to 16384.
pub(super) const FREE: u32 = 8192;

pub(super) const LOG: &str =
    r#"(import "heliograph:sms/logging@0.1.0" "log" (func $log (param i32 i32 i32 i32 i32)))"#;
pub(super) const INCREMENT: &str = r#"(import "heliograph:sms/state@0.1.0" "increment" (func $increment (param i32 i32 i64 i32) (result i64)))"#;
pub(super) const LONGEST_PREFIX: &str = r#"(import "heliograph:sms/tables@0.1.0" "longest-prefix" (func $longest (param i32 i32 i32 i32 i32)))"#;
pub(super) const SEND: &str = r#"(import "heliograph:sms/http@0.1.0" "send"
    (func $send (param i32 i32 i32 i32 i32 i32 i32 i32 i32)))"#;

/// A small engine: tests run many at once.
pub(super) fn engine() -> Engine {
    Engine::new(EngineLimits {
        instances: 16,
        ..EngineLimits::default()
    })
    .unwrap()
}

pub(super) fn build(guest: &Guest) -> Vec<u8> {
    let versioned = |text: String| text.replace("@0.1.0", &format!("@{}", guest.contract.name()));
    let mut module = wat::parse_str(versioned(core_module(guest))).unwrap();
    let mut resolve = wit_parser::Resolve::default();
    let contract = match guest.contract {
        WitVersion::V0_1 => include_str!("../../../wit/v0.1/sms.wit"),
        WitVersion::V0_2 => include_str!("../../../wit/v0.2/sms.wit"),
        WitVersion::V0_3 => include_str!("../../../wit/v0.3/sms.wit"),
    };
    resolve.push_source("sms.wit", contract).unwrap();
    resolve
        .push_source("wasi.wit", include_str!("wasi/test.wit"))
        .unwrap();
    let world = versioned(world(guest));
    let package = resolve.push_source("guest.wit", &world).unwrap();
    let world = resolve.select_world(&[package], Some("guest")).unwrap();
    let utf8 = wit_component::StringEncoding::UTF8;
    wit_component::embed_component_metadata(&mut module, &resolve, world, utf8).unwrap();
    let mut encoder = wit_component::ComponentEncoder::default();
    encoder
        .module(&module)
        .unwrap()
        .validate(true)
        .encode()
        .unwrap()
}

fn world(guest: &Guest) -> String {
    let exports: String = guest
        .hooks
        .iter()
        .map(|h| format!("export heliograph:sms/{}@0.1.0;\n", h.name()))
        .collect();
    // The core imports name the interfaces between quotes.
    let wasi: std::collections::BTreeSet<&str> =
        (guest.imports.split('"').filter(|s| s.starts_with("wasi:"))).collect();
    let wasi: String = wasi.iter().map(|i| format!("import {i};\n")).collect();
    format!(
        "package test:guest;
        world guest {{
            import heliograph:sms/logging@0.1.0;
            import heliograph:sms/state@0.1.0;
            import heliograph:sms/tables@0.1.0;
            import heliograph:sms/http@0.1.0;
            {wasi}
            export heliograph:sms/plugin@0.1.0;
            {exports}
        }}"
    )
}

fn core_module(guest: &Guest) -> String {
    let schema = guest.schema.replace('\\', "\\\\").replace('"', "\\\"");
    let strings = [
        (1024, 5),
        (1040, 5),
        (1056, 13),
        (4096, guest.schema.len() as u32),
    ];
    let manifest: String = strings
        .iter()
        .flat_map(|(at, len): &(u32, u32)| [at.to_le_bytes(), len.to_le_bytes()].concat())
        .map(|octet| format!("\\{octet:02x}"))
        .collect();
    let hooks: String = guest
        .hooks
        .iter()
        .map(|h| hook(*h, &guest.answer))
        .collect();
    format!(
        r#"(module
            {imports}
            (memory (export "memory") {pages})
            (global $next (mut i32) (i32.const 65536))
            (data (i32.const 1024) "guest")
            (data (i32.const 1040) "1.0.0")
            (data (i32.const 1056) "A test guest.")
            (data (i32.const 1200) "{manifest}")
            (data (i32.const 4096) "{schema}")
            (func (export "cabi_realloc") (param $old i32) (param $old_len i32) (param $align i32) (param $len i32)
                (result i32) (local $at i32)
                (local.set $at (i32.and
                    (i32.add (global.get $next) (i32.sub (local.get $align) (i32.const 1)))
                    (i32.sub (i32.const 0) (local.get $align))))
                (global.set $next (i32.add (local.get $at) (local.get $len)))
                (local.get $at))
            (func (export "heliograph:sms/plugin@0.1.0#describe") (result i32) (i32.const 1200))
            (func (export "heliograph:sms/plugin@0.1.0#configure") (param $config i32) (param $config_len i32)
                (result i32)
                {configure})
            {hooks}
            {more})"#,
        imports = guest.imports,
        pages = guest.pages,
        configure = guest.configure,
        more = guest.more,
    )
}

/// All parameters of a hook are in memory (there are more than 16), but for those of `callback`.
fn hook(hook: Hook, answer: &str) -> String {
    let function = |name: &str, params: &str| {
        format!(
            r#"(func (export "heliograph:sms/{}@0.1.0#{name}") (param $args i32) {params} (result i32)
                (local $n i32)
                (global.set $next (i32.const 65536))
                {answer})"#,
            hook.name()
        )
    };
    match hook {
        Hook::ContentFilter => function("inspect", ""),
        Hook::ComplianceCheck => function("check", ""),
        Hook::RoutingPolicy => function("route", ""),
        Hook::CarrierAdapter => {
            function("submit", "")
                + &function(
                    "callback",
                    "(param i32 i32 i32 i32 i32 i32 i32 i64 i64 i32)",
                )
        }
        Hook::InboundHandler => function("receive", ""),
        Hook::Enrichment => function("enrich", ""),
    }
}

/// What a test's policy names, kept in memory. Paths are names of `components` and `tables`.
#[derive(Default)]
pub(super) struct Shelf {
    pub components: BTreeMap<&'static str, Vec<u8>>,
    pub tables: BTreeMap<&'static str, &'static str>,
}

impl Resolver for Shelf {
    fn component(&self, source: &Source) -> Result<Vec<u8>, String> {
        match source {
            Source::Path(path) => self
                .components
                .get(path.as_str())
                .cloned()
                .ok_or(format!("{path}: no such file")),
            Source::Digest(wanted) => {
                let stored = self
                    .components
                    .values()
                    .find(|c| Sha256::digest(c)[..] == *wanted);
                stored.cloned().ok_or("is not stored".into())
            }
        }
    }

    fn table(&self, source: &Source) -> Result<Vec<u8>, String> {
        match source {
            Source::Path(path) => {
                let table = self
                    .tables
                    .get(path.as_str())
                    .ok_or(format!("{path}: no such file"))?;
                Ok(table.as_bytes().to_vec())
            }
            Source::Digest(_) => Err("is not stored".into()),
        }
    }

    fn secret(&self, reference: &str) -> Result<String, String> {
        reference
            .strip_prefix("env:")
            .map(str::to_lowercase)
            .ok_or("is not set".into())
    }
}

pub(super) fn host() -> Host {
    Host {
        engine: engine(),
        state: Arc::new(MemoryState::new(Clock::manual(Timestamp(1_000)))),
        http: Arc::new(HyperClient::new().unwrap()),
        pseudonym_key: [3; 32],
    }
}

/// A policy of one plugin, `guest.wasm`; `lines` are more of its entry.
pub(super) async fn set_of(guest: &Guest, lines: &str) -> Result<PolicySet, SetError> {
    let shelf = Shelf {
        components: BTreeMap::from([("guest.wasm", build(guest))]),
        tables: BTreeMap::from([("rates.csv", "44,uk\n447,uk mobile\n")]),
    };
    let toml = format!(
        "[tables.rates]\nfile = \"rates.csv\"\n[[plugin]]\nname = \"it\"\npath = \"guest.wasm\"\n{lines}"
    );
    let spec = PolicySpec::from_toml(&toml).unwrap();
    PolicySet::build(&spec, Arc::new(shelf), &host(), None).await
}

pub(super) fn message() -> Message {
    let at = Timestamp(1_000);
    Message {
        id: MessageId(7),
        account: "acme".into(),
        originator: Address::originator("Acme").unwrap(),
        recipient: Address::international("+447700900123").unwrap(),
        network: Network {
            country: Some(*b"GB"),
            ..Network::default()
        },
        class: TrafficClass::Transactional,
        body: Body::Text("x".repeat(160)),
        submitted_body: None,
        alphabet: Alphabet::Gsm7,
        segments: 1,
        accepted_at: at,
        send_at: at,
        expires_at: Timestamp(100_000),
        reference: String::new(),
        metadata: Vec::new(),
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

pub(super) fn context() -> Context {
    Context {
        now: Timestamp(1_000),
        random: 1,
        phase: Phase::Admission,
    }
}
