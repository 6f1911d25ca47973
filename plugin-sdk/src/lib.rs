//! Write Heliograph plugins in Rust: one trait and one macro per hook, typed configuration, capabilities as
//! functions, and a fake host so that a plugin's logic runs under native `cargo test`.
//! The crate knows the plugin contract (`wit/v0.3/sms.wit`) and nothing of the host behind it.
//!
//! ```ignore
//! use heliograph_plugin::{Context, ContentFilter, Message, Plugin, Verdict};
//!
//! struct NoLinks { allowed: Vec<String> }
//!
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! #[serde(deny_unknown_fields)]
//! struct Config { #[serde(default)] allowed: Vec<String> }
//!
//! impl Plugin for NoLinks {
//!     type Config = Config;
//!     const NAME: &'static str = "no-links";
//!     const VERSION: &'static str = env!("CARGO_PKG_VERSION");
//!     const SUMMARY: &'static str = "Refuses links to hosts that are not listed.";
//!     fn new(config: Config) -> Result<Self, String> { Ok(Self { allowed: config.allowed }) }
//! }
//!
//! impl ContentFilter for NoLinks {
//!     fn inspect(&self, message: &Message, _context: &Context) -> Verdict { /* ... */ Verdict::Pass }
//! }
//!
//! heliograph_plugin::export!(NoLinks: ContentFilter);
//! ```

#[cfg(test)]
extern crate self as heliograph_plugin;

#[cfg(any(all(target_family = "wasm", feature = "allocator"), test))]
mod allocator;
mod bindings;
mod glue;
pub mod http;
pub mod log;
mod packed;
mod place;
mod reason;
mod short;
pub mod state;
pub mod tables;
#[cfg(test)]
mod template;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
mod types;

pub use glue::{config_schema, configure};
pub use reason::Reason;
pub use types::*;

/// Components have no threads; whoever wants another allocator does without the feature.
#[cfg(all(
    target_family = "wasm",
    not(target_feature = "atomics"),
    feature = "allocator"
))]
#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator::new();

/// What every plugin is, whichever hooks it serves. Implemented once per plugin.
pub trait Plugin: Sized + 'static {
    /// The configuration. Its JSON Schema is derived from the type and published with the plugin;
    /// the host validates against it before `new` is called.
    type Config: serde::de::DeserializeOwned + schemars::JsonSchema;

    /// Lower case with hyphens, as in `least-cost-router`.
    const NAME: &'static str;
    /// Semantic version, usually `env!("CARGO_PKG_VERSION")`.
    const VERSION: &'static str;
    /// One sentence for a person choosing plugins.
    const SUMMARY: &'static str;
    /// The schema of `Config` as text, `Some(include_str!("../schema.json"))`: the code that would derive it
    /// when the host asks is up to half of a component. A test that [`export!`] adds holds the file against
    /// the type; `HELIOGRAPH_UPDATE_SCHEMA=1 cargo test` writes it.
    const SCHEMA: Option<&'static str> = None;

    /// Makes the plugin ready to decide. Called once per instance: compile patterns and build tables here,
    /// so that a hook call only looks things up. An error keeps the policy set from being activated.
    fn new(config: Self::Config) -> Result<Self, String>;
}

/// Finds out more about a message, for the hooks after it: the network that it goes to, labels. Runs first.
pub trait Enrichment: Plugin {
    fn enrich(&self, message: &Message, context: &Context) -> Enriched;
}

/// Looks at the content. Runs after the enrichments.
pub trait ContentFilter: Plugin {
    fn inspect(&self, message: &Message, context: &Context) -> Verdict;
}

/// Checks the law and the contract. Runs after the filters, on what they left.
pub trait ComplianceCheck: Plugin {
    fn check(&self, message: &Message, recipient: &RecipientProfile, context: &Context) -> Ruling;
}

/// Chooses carriers. Runs last, and again at every attempt under a new policy set.
pub trait RoutingPolicy: Plugin {
    fn route(&self, message: &Message, carriers: &[Carrier], context: &Context) -> Routing;
}

/// Speaks to a carrier that has no SMPP.
pub trait CarrierAdapter: Plugin {
    /// Hands one message to the carrier. Returns the carrier's message ids: one for the message, or one for
    /// each segment in order.
    fn submit(&self, message: &Message, context: &Context) -> Result<Vec<String>, SubmitError>;
    /// Turns a carrier's HTTP call-back into events and the answer it expects. An error answers 400 and is
    /// logged; nothing is recorded.
    fn callback(&self, request: &HttpRequest, context: &Context) -> Result<CallbackAnswer, String>;
}

/// Answers mobile-originated messages.
pub trait InboundHandler: Plugin {
    fn receive(&self, inbound: &Inbound, context: &Context) -> Vec<Action>;
}

/// Makes a type the plugin of this component, serving the named hooks:
/// `export!(MyFilter: ContentFilter)` or `export!(Guard: ContentFilter + ComplianceCheck)`.
/// Once per crate. Natively it only checks that the type implements the hooks.
#[macro_export]
macro_rules! export {
    ($plugin:ty : $first:ident $(+ $hook:ident)*) => {
        $crate::__export!($plugin: $first $($hook)*);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($plugin:ty : $($hook:ident)+) => {
        $(const _: fn() = {
            fn serves<P: $crate::$hook>() {}
            serves::<$plugin>
        };)+

        #[cfg(all(test, not(target_family = "wasm")))]
        #[test]
        fn the_schema_is_that_of_the_configuration() {
            $crate::testing::check_schema::<$plugin>(env!("CARGO_MANIFEST_DIR"));
        }

        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code)]
        const _: () = {
            ::std::thread_local! {
                static PLUGIN: ::std::cell::OnceCell<$plugin> = const { ::std::cell::OnceCell::new() };
            }
            impl $crate::__private::Slot for $plugin {
                fn with<R>(use_slot: impl FnOnce(&::std::cell::OnceCell<Self>) -> R) -> R {
                    PLUGIN.with(use_slot)
                }
            }
            type Exported = $crate::__private::Glue<$plugin>;
            $crate::__private::plugin::export_plugin!(Exported with_types_in $crate::__private::plugin);
            $($crate::__export_hook!($hook Exported);)+
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export_hook {
    (Enrichment $exported:ident) => {
        $crate::__private::enrichment::export_enrichment!($exported with_types_in $crate::__private::enrichment);
    };
    (ContentFilter $exported:ident) => {
        $crate::__private::content_filter::export_content_filter!($exported with_types_in $crate::__private::content_filter);
    };
    (ComplianceCheck $exported:ident) => {
        $crate::__private::compliance_check::export_compliance_check!($exported with_types_in $crate::__private::compliance_check);
    };
    (RoutingPolicy $exported:ident) => {
        $crate::__private::routing_policy::export_routing_policy!($exported with_types_in $crate::__private::routing_policy);
    };
    (CarrierAdapter $exported:ident) => {
        $crate::__private::carrier_adapter::export_carrier_adapter!($exported with_types_in $crate::__private::carrier_adapter);
    };
    (InboundHandler $exported:ident) => {
        $crate::__private::inbound_handler::export_inbound_handler!($exported with_types_in $crate::__private::inbound_handler);
    };
}

/// What the macros expand to names; no part of the interface.
#[doc(hidden)]
pub mod __private {
    pub use crate::bindings::{
        carrier_adapter, compliance_check, content_filter, enrichment, inbound_handler, plugin,
        routing_policy,
    };
    pub use crate::glue::{Glue, Slot};
}
