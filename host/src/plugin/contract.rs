//! The versions of the plugin contract that are served side by side, and the way from a call to the
//! version that its component speaks. Knows their names; what they look like is in one `contract_v*` each.

use std::sync::Arc;

use wasmtime::Store;
use wasmtime::component::{Instance, InstancePre, Linker};

use super::answer::Raised;
use super::host_calls::CallState;
use super::load::Manifest;
use super::player::{Player, raised};
use super::view::Disclosure;
use super::{
    CallbackAnswer, CarrierView, HttpRequest, SubmitError, contract_v0_1 as v0_1,
    contract_v0_2 as v0_2, contract_v0_3 as v0_3,
};
use crate::domain::{
    Context, Enriched, Hook, Inbound, InboundAction, Message, RecipientProfile, Routing, Ruling,
    Verdict,
};

pub(super) const PACKAGE: &str = "heliograph:sms";

/// A version of the contract. Below 1.0 the minor version is the contract (wit/README.md, rule 3):
/// a component of 0.1.7 is one of 0.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WitVersion {
    V0_1,
    V0_2,
    V0_3,
}

impl WitVersion {
    pub const ALL: [WitVersion; 3] = [WitVersion::V0_1, WitVersion::V0_2, WitVersion::V0_3];
    /// What plugins are written for today.
    pub const LATEST: WitVersion = WitVersion::V0_3;

    /// As it was published.
    pub fn name(self) -> &'static str {
        match self {
            WitVersion::V0_1 => "0.1.0",
            WitVersion::V0_2 => "0.2.0",
            WitVersion::V0_3 => "0.3.0",
        }
    }

    /// The contract that a component means which names `version`, if it is served.
    pub fn of(version: &str) -> Option<WitVersion> {
        let (contract, patch) = version.rsplit_once('.')?;
        if patch.is_empty() || !patch.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        WitVersion::ALL
            .into_iter()
            .find(|served| served.name().rsplit_once('.').map(|(c, _)| c) == Some(contract))
    }

    /// Whether this version has the interface of `hook`.
    pub fn has(self, hook: Hook) -> bool {
        match hook {
            Hook::Enrichment => self != WitVersion::V0_1,
            Hook::ContentFilter
            | Hook::ComplianceCheck
            | Hook::RoutingPolicy
            | Hook::CarrierAdapter
            | Hook::InboundHandler => true,
        }
    }

    /// All that are served, for people.
    pub fn served() -> String {
        let [earlier @ .., latest] = WitVersion::ALL.map(WitVersion::name);
        format!("{} and {latest}", earlier.join(", "))
    }
}

/// A capability that a component may import.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Capability {
    Logging,
    State,
    Tables,
    Http,
}

impl Capability {
    pub const ALL: [Capability; 4] = [
        Capability::Logging,
        Capability::State,
        Capability::Tables,
        Capability::Http,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Capability::Logging => "logging",
            Capability::State => "state",
            Capability::Tables => "tables",
            Capability::Http => "http",
        }
    }

    /// `types` is no capability: it has no functions.
    pub const FREE: &'static str = "types";
}

/// Links what is granted and nothing else.
pub(super) fn link(
    version: WitVersion,
    linker: &mut Linker<CallState>,
    granted: &[Capability],
) -> wasmtime::Result<()> {
    match version {
        WitVersion::V0_1 => v0_1::link(linker, granted),
        WitVersion::V0_2 => v0_2::link(linker, granted),
        WitVersion::V0_3 => v0_3::link(linker, granted),
    }
}

/// Where a component keeps the hooks that it exports.
#[derive(Clone)]
pub(super) enum Exports {
    V0_1(v0_1::Exports),
    V0_2(v0_2::Exports),
    V0_3(v0_3::Exports),
}

/// The functions of one instance.
pub(super) enum Guest {
    V0_1(v0_1::Guest),
    V0_2(v0_2::Guest),
    V0_3(v0_3::Guest),
    Played(Arc<dyn Player>),
}

impl Exports {
    /// Finds what `hooks` names; a hook that lacks a function of the contract is an error.
    pub fn find(
        version: WitVersion,
        pre: &InstancePre<CallState>,
        hooks: &[Hook],
    ) -> wasmtime::Result<Exports> {
        Ok(match version {
            WitVersion::V0_1 => Exports::V0_1(v0_1::Exports::find(pre, hooks)?),
            WitVersion::V0_2 => Exports::V0_2(v0_2::Exports::find(pre, hooks)?),
            WitVersion::V0_3 => Exports::V0_3(v0_3::Exports::find(pre, hooks)?),
        })
    }

    /// Checks the types of the functions: some mismatches show only here.
    pub fn load(
        &self,
        store: &mut Store<CallState>,
        instance: &Instance,
    ) -> wasmtime::Result<Guest> {
        Ok(match self {
            Exports::V0_1(exports) => Guest::V0_1(exports.load(store, instance)?),
            Exports::V0_2(exports) => Guest::V0_2(exports.load(store, instance)?),
            Exports::V0_3(exports) => Guest::V0_3(exports.load(store, instance)?),
        })
    }
}

/// What runs no code says nothing of itself.
const PLAYED: &str = "the plugin is played";

pub(super) fn absent(hook: Hook) -> wasmtime::Error {
    wasmtime::Error::msg(format!("the plugin does not export {}", hook.name()))
}

impl Guest {
    pub async fn describe(&self, store: &mut Store<CallState>) -> Raised<Manifest> {
        match self {
            Guest::V0_1(guest) => guest.describe(store).await,
            Guest::V0_2(guest) => guest.describe(store).await,
            Guest::V0_3(guest) => guest.describe(store).await,
            Guest::Played(_) => Err(wasmtime::Error::msg(PLAYED)),
        }
    }

    /// The inner error is the plugin's own word on why it cannot work with `config`.
    pub async fn configure(
        &self,
        store: &mut Store<CallState>,
        config: &str,
    ) -> wasmtime::Result<Result<(), String>> {
        match self {
            Guest::V0_1(guest) => guest.configure(store, config).await,
            Guest::V0_2(guest) => guest.configure(store, config).await,
            Guest::V0_3(guest) => guest.configure(store, config).await,
            Guest::Played(_) => Ok(Ok(())),
        }
    }

    pub async fn enrich(
        &self,
        store: &mut Store<CallState>,
        message: &Message,
        disclosure: &Disclosure,
        context: &Context,
    ) -> Raised<Enriched> {
        match self {
            Guest::V0_1(_) => Err(absent(Hook::Enrichment)),
            Guest::V0_2(guest) => guest.enrich(store, message, disclosure, context).await,
            Guest::V0_3(guest) => guest.enrich(store, message, disclosure, context).await,
            Guest::Played(player) => raised(player.enrich(message, context)).await,
        }
    }

    pub async fn inspect(
        &self,
        store: &mut Store<CallState>,
        message: &Message,
        disclosure: &Disclosure,
        context: &Context,
    ) -> Raised<Verdict> {
        match self {
            Guest::V0_1(guest) => guest.inspect(store, message, disclosure, context).await,
            Guest::V0_2(guest) => guest.inspect(store, message, disclosure, context).await,
            Guest::V0_3(guest) => guest.inspect(store, message, disclosure, context).await,
            Guest::Played(player) => raised(player.inspect(message, context)).await,
        }
    }

    pub async fn check(
        &self,
        store: &mut Store<CallState>,
        message: &Message,
        disclosure: &Disclosure,
        recipient: &RecipientProfile,
        context: &Context,
    ) -> Raised<Ruling> {
        match self {
            Guest::V0_1(guest) => {
                guest
                    .check(store, message, disclosure, recipient, context)
                    .await
            }
            Guest::V0_2(guest) => {
                guest
                    .check(store, message, disclosure, recipient, context)
                    .await
            }
            Guest::V0_3(guest) => {
                guest
                    .check(store, message, disclosure, recipient, context)
                    .await
            }
            Guest::Played(player) => raised(player.check(message, recipient, context)).await,
        }
    }

    pub async fn route(
        &self,
        store: &mut Store<CallState>,
        message: &Message,
        disclosure: &Disclosure,
        carriers: &[CarrierView],
        context: &Context,
    ) -> Raised<Routing> {
        match self {
            Guest::V0_1(guest) => {
                guest
                    .route(store, message, disclosure, carriers, context)
                    .await
            }
            Guest::V0_2(guest) => {
                guest
                    .route(store, message, disclosure, carriers, context)
                    .await
            }
            Guest::V0_3(guest) => {
                guest
                    .route(store, message, disclosure, carriers, context)
                    .await
            }
            Guest::Played(player) => raised(player.route(message, carriers, context)).await,
        }
    }

    pub async fn receive(
        &self,
        store: &mut Store<CallState>,
        inbound: &Inbound,
        disclosure: &Disclosure,
        context: &Context,
    ) -> Raised<Vec<InboundAction>> {
        match self {
            Guest::V0_1(guest) => guest.receive(store, inbound, disclosure, context).await,
            Guest::V0_2(guest) => guest.receive(store, inbound, disclosure, context).await,
            Guest::V0_3(guest) => guest.receive(store, inbound, disclosure, context).await,
            Guest::Played(player) => raised(player.receive(inbound, context)).await,
        }
    }

    pub async fn submit(
        &self,
        store: &mut Store<CallState>,
        message: &Message,
        disclosure: &Disclosure,
        context: &Context,
    ) -> Raised<Result<Vec<String>, SubmitError>> {
        match self {
            Guest::V0_1(guest) => guest.submit(store, message, disclosure, context).await,
            Guest::V0_2(guest) => guest.submit(store, message, disclosure, context).await,
            Guest::V0_3(guest) => guest.submit(store, message, disclosure, context).await,
            Guest::Played(_) => Err(absent(Hook::CarrierAdapter)),
        }
    }

    pub async fn callback(
        &self,
        store: &mut Store<CallState>,
        request: &HttpRequest,
        context: &Context,
    ) -> Raised<Result<CallbackAnswer, String>> {
        match self {
            Guest::V0_1(guest) => guest.callback(store, request, context).await,
            Guest::V0_2(guest) => guest.callback(store, request, context).await,
            Guest::V0_3(guest) => guest.callback(store, request, context).await,
            Guest::Played(_) => Err(absent(Hook::CarrierAdapter)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_release_is_its_minor_versions_contract() {
        assert_eq!(WitVersion::of("0.1.0"), Some(WitVersion::V0_1));
        assert_eq!(WitVersion::of("0.2.17"), Some(WitVersion::V0_2));
        for unserved in ["0.4.0", "1.0.0", "0.1", "0.2.0-rc", "0.2.", "", "0.20.0"] {
            assert_eq!(WitVersion::of(unserved), None, "{unserved}");
        }
    }
}
