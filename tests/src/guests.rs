//! Plugins for scenarios, written in core WebAssembly text and made components by the contract itself,
//! so that no scenario needs a toolchain. Each is harmless but for what its scenario changes.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The contract that guests are written for here. This release serves it beside later ones.
pub const CONTRACT: &str = include_str!("../../wit/v0.1/sms.wit");
pub const CONTRACT_0_2: &str = include_str!("../../wit/v0.2/sms.wit");
/// The latest contract.
pub const CONTRACT_0_3: &str = include_str!("../../wit/v0.3/sms.wit");

/// Address of 256 zero octets: `pass` of a content filter, `allow`, an empty list, `ok`.
pub const ZERO: u32 = 2048;
/// Address of an octet 3: `pass` of a routing policy.
pub const ROUTE_PASS: u32 = 2400;
/// Where a scenario's own data may stand, up to 16384.
pub const FREE: u32 = 8192;

/// Ends the text of a filter that does `then` where the message's text begins with the octet that
/// its configuration names, as in `{"on":"!"}`, and leaves `otherwise` on the stack.
///
/// The arguments are a tuple in memory that begins with the message; by the canonical ABI its body
/// stands at 80: case, pointer of the text, length.
pub fn on_mark(then: &str, otherwise: u32) -> String {
    format!(
        "(if (i32.eq (i32.load8_u (i32.load offset=84 (local.get $args))) (global.get $mark))
            (then {then}))
         (i32.const {otherwise})"
    )
}

/// `{"on":"!"}`: the octet at 7 is the mark.
pub const KEEP_MARK: &str =
    "(global.set $mark (i32.load8_u offset=7 (local.get $config))) (i32.const 2048)";
const MARK: &str = "(global $mark (mut i32) (i32.const 0))";

/// A plugin: what it imports and answers, as core WebAssembly.
pub struct Guest {
    /// Hook, its function, and that function's body: leaves the address of the result on the stack.
    pub hooks: Vec<(&'static str, &'static str, String)>,
    /// Core imports.
    pub imports: &'static str,
    pub schema: &'static str,
    /// Body of `configure`: leaves the address of a `result<_, string>` on the stack.
    pub configure: String,
    /// Octets at [`FREE`].
    pub data: Vec<u8>,
    /// Version of the contract that it was built for.
    pub contract: &'static str,
    /// More of the core module: globals, functions, tables, a start function.
    pub more: String,
    /// Its memory, in pages: the least, and the most where there is one.
    pub memory: &'static str,
    /// Runs at the beginning of `cabi_realloc`, with its parameters `$old $old_len $align $len`.
    pub realloc: String,
    /// Body of `describe`: leaves the address of the manifest on the stack.
    pub describe: String,
}

/// Where the manifest stands that says what is true.
pub const MANIFEST: u32 = 1200;

impl Default for Guest {
    fn default() -> Guest {
        Guest {
            hooks: vec![("content-filter", "inspect", format!("(i32.const {ZERO})"))],
            imports: "",
            schema: r#"{"type": "object"}"#,
            configure: format!("(i32.const {ZERO})"),
            data: Vec::new(),
            contract: "0.1.0",
            more: String::new(),
            memory: "4",
            realloc: String::new(),
            describe: format!("(i32.const {MANIFEST})"),
        }
    }
}

/// Little-endian words, as records lie in memory.
pub fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

impl Guest {
    /// The component.
    pub fn build(&self) -> Vec<u8> {
        let versioned = |text: &str| text.replace("@0.1.0", &format!("@{}", self.contract));
        let contract = match self.contract {
            "0.2.0" => CONTRACT_0_2,
            _ => CONTRACT,
        };
        let mut module = wat::parse_str(versioned(&self.module())).expect("a core module");
        let mut resolve = Resolve::default();
        resolve
            .push_source("sms.wit", &versioned(contract))
            .expect("the contract");
        let package = resolve
            .push_source("guest.wit", &versioned(&self.world()))
            .expect("the guest's world");
        let world = resolve
            .select_world(&[package], Some("guest"))
            .expect("the world");
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
            .expect("metadata");
        let mut encoder = ComponentEncoder::default();
        encoder
            .module(&module)
            .expect("a module of the world")
            .validate(true)
            .encode()
            .expect("a component")
    }

    fn world(&self) -> String {
        let hooks: BTreeSet<&str> = self.hooks.iter().map(|(hook, _, _)| *hook).collect();
        let mut exports = String::new();
        for hook in hooks {
            let _ = writeln!(exports, "export heliograph:sms/{hook}@0.1.0;");
        }
        format!(
            "package test:guest;
            world guest {{
                import heliograph:sms/logging@0.1.0;
                import heliograph:sms/state@0.1.0;
                import heliograph:sms/tables@0.1.0;
                import heliograph:sms/http@0.1.0;
                export heliograph:sms/plugin@0.1.0;
                {exports}
            }}"
        )
    }

    fn module(&self) -> String {
        let length = |text: &str| u32::try_from(text.len()).expect("a short text");
        let manifest = words(&[1024, 5, 1040, 5, 1056, 13, 4096, length(self.schema)]);
        let mut hooks = String::new();
        for (hook, function, body) in &self.hooks {
            // All parameters of a hook are in memory (there are more than 16), but for a call-back's.
            let more = match *function {
                "callback" => "(param i32 i32 i32 i32 i32 i32 i32 i64 i64 i32)",
                _ => "",
            };
            let _ = write!(
                hooks,
                r#"(func (export "heliograph:sms/{hook}@0.1.0#{function}") (param $args i32) {more} (result i32)
                    (local $n i32) (local $m i32)
                    (global.set $next (i32.const 65536))
                    {body})"#
            );
        }
        format!(
            r#"(module
                {imports}
                (memory (export "memory") {memory})
                (global $next (mut i32) (i32.const 65536))
                {MARK}
                (data (i32.const 1024) "guest")
                (data (i32.const 1040) "1.0.0")
                (data (i32.const 1056) "A test guest.")
                (data (i32.const {MANIFEST}) "{manifest}")
                (data (i32.const {ROUTE_PASS}) "\03")
                (data (i32.const 4096) "{schema}")
                (data (i32.const {FREE}) "{data}")
                (func (export "cabi_realloc") (param $old i32) (param $old_len i32) (param $align i32) (param $len i32)
                    (result i32) (local $at i32)
                    {realloc}
                    (local.set $at (i32.and
                        (i32.add (global.get $next) (i32.sub (local.get $align) (i32.const 1)))
                        (i32.sub (i32.const 0) (local.get $align))))
                    (global.set $next (i32.add (local.get $at) (local.get $len)))
                    (local.get $at))
                (func (export "heliograph:sms/plugin@0.1.0#describe") (result i32) {describe})
                (func (export "heliograph:sms/plugin@0.1.0#configure") (param $config i32) (param $config_len i32)
                    (result i32)
                    {configure})
                {hooks}
                {more})"#,
            imports = self.imports,
            memory = self.memory,
            realloc = self.realloc,
            describe = self.describe,
            more = self.more,
            manifest = escaped(&manifest),
            schema = escaped(self.schema.as_bytes()),
            data = escaped(&self.data),
            configure = self.configure,
        )
    }
}

fn escaped(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut out, octet| {
        let _ = write!(out, "\\{octet:02x}");
        out
    })
}
