//! WIT 0.3 and nothing else: the generated bindings, domain values packed as far as a plugin may see
//! them (`pack`), and a plugin's answers raised to domain values (`raise`). The only place that knows
//! `heliograph:sms@0.3`; another version is another file beside it.

mod pack;
mod raise;

use wasmtime::component::{HasSelf, Instance, InstancePre, Linker};
use wasmtime::{AsContextMut, Store};

use self::bindings::exports::heliograph::sms as guest;
use self::bindings::heliograph::sms::{http, logging, state, tables, types};
use super::answer::{Raised, carrier_ids, reason};
use super::contract::{Capability, absent};
use super::host_calls::{CallState, HttpFailure, LogLevel};
use super::load::Manifest;
use super::view::Disclosure;
use super::{CallbackAnswer, CarrierView, HttpRequest, SubmitError};
use crate::domain::{
    Context, Enriched, Hook, Inbound, InboundAction, Message, RecipientProfile, Routing, Ruling,
    Verdict,
};
use pack::Call;
use raise::{actions, callback_answer, enriched, manifest, routing, ruling, submit_error, verdict};

#[allow(unsafe_code, non_camel_case_types, unused_variables, clippy::all)]
mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit/v0.3",
        world: "host",
        imports: { "heliograph:sms/http": async | trappable, default: trappable },
        exports: { default: async },
        require_store_data_send: true,
    });
}

// ---------------------------------------------------------------------------- exports and imports

/// Where a component keeps the hooks that it exports.
#[derive(Clone)]
pub(super) struct Exports {
    plugin: guest::plugin::GuestIndices,
    enrichment: Option<guest::enrichment::GuestIndices>,
    content_filter: Option<guest::content_filter::GuestIndices>,
    compliance_check: Option<guest::compliance_check::GuestIndices>,
    routing_policy: Option<guest::routing_policy::GuestIndices>,
    carrier_adapter: Option<guest::carrier_adapter::GuestIndices>,
    inbound_handler: Option<guest::inbound_handler::GuestIndices>,
}

/// The functions of one instance.
pub(super) struct Guest {
    plugin: guest::plugin::Guest,
    enrichment: Option<guest::enrichment::Guest>,
    content_filter: Option<guest::content_filter::Guest>,
    compliance_check: Option<guest::compliance_check::Guest>,
    routing_policy: Option<guest::routing_policy::Guest>,
    carrier_adapter: Option<guest::carrier_adapter::Guest>,
    inbound_handler: Option<guest::inbound_handler::Guest>,
}

impl Exports {
    /// Finds what `hooks` names; a hook that lacks a function of the contract is an error.
    pub fn find(pre: &InstancePre<CallState>, hooks: &[Hook]) -> wasmtime::Result<Exports> {
        let has = |hook| hooks.contains(&hook);
        Ok(Exports {
            plugin: guest::plugin::GuestIndices::new(pre)?,
            enrichment: has(Hook::Enrichment)
                .then(|| guest::enrichment::GuestIndices::new(pre))
                .transpose()?,
            content_filter: has(Hook::ContentFilter)
                .then(|| guest::content_filter::GuestIndices::new(pre))
                .transpose()?,
            compliance_check: has(Hook::ComplianceCheck)
                .then(|| guest::compliance_check::GuestIndices::new(pre))
                .transpose()?,
            routing_policy: has(Hook::RoutingPolicy)
                .then(|| guest::routing_policy::GuestIndices::new(pre))
                .transpose()?,
            carrier_adapter: has(Hook::CarrierAdapter)
                .then(|| guest::carrier_adapter::GuestIndices::new(pre))
                .transpose()?,
            inbound_handler: has(Hook::InboundHandler)
                .then(|| guest::inbound_handler::GuestIndices::new(pre))
                .transpose()?,
        })
    }

    /// Checks the types of the functions: some mismatches show only here.
    pub fn load(
        &self,
        store: &mut Store<CallState>,
        instance: &Instance,
    ) -> wasmtime::Result<Guest> {
        let mut store = store.as_context_mut();
        let enrich = self.enrichment.as_ref();
        let filter = self.content_filter.as_ref();
        let check = self.compliance_check.as_ref();
        let route = self.routing_policy.as_ref();
        let adapter = self.carrier_adapter.as_ref();
        let inbound = self.inbound_handler.as_ref();
        Ok(Guest {
            plugin: self.plugin.load(&mut store, instance)?,
            enrichment: enrich.map(|i| i.load(&mut store, instance)).transpose()?,
            content_filter: filter.map(|i| i.load(&mut store, instance)).transpose()?,
            compliance_check: check.map(|i| i.load(&mut store, instance)).transpose()?,
            routing_policy: route.map(|i| i.load(&mut store, instance)).transpose()?,
            carrier_adapter: adapter.map(|i| i.load(&mut store, instance)).transpose()?,
            inbound_handler: inbound.map(|i| i.load(&mut store, instance)).transpose()?,
        })
    }
}

/// Links what is granted and nothing else.
pub(super) fn link(linker: &mut Linker<CallState>, granted: &[Capability]) -> wasmtime::Result<()> {
    for capability in granted {
        match capability {
            Capability::Logging => logging::add_to_linker::<_, HasSelf<CallState>>(linker, |s| s)?,
            Capability::State => state::add_to_linker::<_, HasSelf<CallState>>(linker, |s| s)?,
            Capability::Tables => tables::add_to_linker::<_, HasSelf<CallState>>(linker, |s| s)?,
            Capability::Http => http::add_to_linker::<_, HasSelf<CallState>>(linker, |s| s)?,
        }
    }
    types::add_to_linker::<_, HasSelf<CallState>>(linker, |s| s)
}

impl types::Host for CallState {}

impl logging::Host for CallState {
    fn log(
        &mut self,
        level: logging::Level,
        message: String,
        fields: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        let level = match level {
            logging::Level::Debug => LogLevel::Debug,
            logging::Level::Info => LogLevel::Info,
            logging::Level::Warn => LogLevel::Warn,
            logging::Level::Error => LogLevel::Error,
        };
        Ok(self.log(level, &message, &fields)?)
    }
}

impl state::Host for CallState {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<Vec<u8>>> {
        Ok(self.state_get(&key)?)
    }

    fn set(
        &mut self,
        key: String,
        value: Vec<u8>,
        ttl_seconds: Option<u32>,
    ) -> wasmtime::Result<Result<(), String>> {
        Ok(self.state_set(&key, &value, ttl_seconds)?)
    }

    fn delete(&mut self, key: String) -> wasmtime::Result<()> {
        Ok(self.state_delete(&key)?)
    }

    fn increment(&mut self, key: String, by: i64, ttl_seconds: u32) -> wasmtime::Result<i64> {
        Ok(self.state_increment(&key, by, ttl_seconds)?)
    }
}

impl tables::Host for CallState {
    fn lookup(&mut self, table: String, key: String) -> wasmtime::Result<Option<String>> {
        Ok(self.table_lookup(&table, &key)?)
    }

    fn longest_prefix(
        &mut self,
        table: String,
        key: String,
    ) -> wasmtime::Result<Option<tables::Row>> {
        let found = self.table_longest_prefix(&table, &key)?;
        Ok(found.map(|(length, value)| tables::Row {
            // A key is far shorter: `table` bounds it.
            prefix: u32::try_from(length).unwrap_or(u32::MAX),
            value,
        }))
    }
}

impl http::Host for CallState {
    async fn send(
        &mut self,
        request: http::HttpRequest,
    ) -> wasmtime::Result<Result<http::HttpResponse, http::Failure>> {
        let request = HttpRequest {
            method: request.method,
            url: request.url,
            headers: request.headers,
            body: request.body,
        };
        Ok(match self.http_send(request).await? {
            Ok(r) => Ok(http::HttpResponse {
                status: r.status,
                headers: r.headers,
                body: r.body,
            }),
            Err(HttpFailure::Denied(why)) => Err(http::Failure::Denied(why)),
            Err(HttpFailure::Connect(why)) => Err(http::Failure::Connect(why)),
            Err(HttpFailure::Timeout) => Err(http::Failure::Timeout),
            Err(HttpFailure::TooLarge) => Err(http::Failure::TooLarge),
            Err(HttpFailure::Other(why)) => Err(http::Failure::Other(why)),
        })
    }
}

// ---------------------------------------------------------------------------- calls

impl Guest {
    pub async fn describe(&self, store: &mut Store<CallState>) -> Raised<Manifest> {
        Ok(manifest(self.plugin.call_describe(store).await?))
    }

    /// The inner error is the plugin's own word on why it cannot work with `config`.
    pub async fn configure(
        &self,
        store: &mut Store<CallState>,
        config: &str,
    ) -> wasmtime::Result<Result<(), String>> {
        let answer = self.plugin.call_configure(store, config).await?;
        Ok(answer.map_err(reason))
    }

    pub async fn enrich(
        &self,
        store: &mut Store<CallState>,
        message: &Message,
        disclosure: &Disclosure,
        context: &Context,
    ) -> Raised<Enriched> {
        let hook = self.enrichment.as_ref();
        let hook = hook.ok_or_else(|| absent(Hook::Enrichment))?;
        let call = of_message(message, disclosure, context);
        Ok(enriched(hook.call_enrich(store, &call).await?))
    }

    pub async fn inspect(
        &self,
        store: &mut Store<CallState>,
        message: &Message,
        disclosure: &Disclosure,
        context: &Context,
    ) -> Raised<Verdict> {
        let hook = self.content_filter.as_ref();
        let hook = hook.ok_or_else(|| absent(Hook::ContentFilter))?;
        let call = of_message(message, disclosure, context);
        Ok(verdict(hook.call_inspect(store, &call).await?))
    }

    pub async fn check(
        &self,
        store: &mut Store<CallState>,
        message: &Message,
        disclosure: &Disclosure,
        recipient: &RecipientProfile,
        context: &Context,
    ) -> Raised<Ruling> {
        let hook = self.compliance_check.as_ref();
        let hook = hook.ok_or_else(|| absent(Hook::ComplianceCheck))?;
        let mut call = Call::new();
        call.message(message, disclosure);
        call.recipient(recipient);
        call.context(context);
        Ok(ruling(hook.call_check(store, &call.packed()).await?))
    }

    pub async fn route(
        &self,
        store: &mut Store<CallState>,
        message: &Message,
        disclosure: &Disclosure,
        carriers: &[CarrierView],
        context: &Context,
    ) -> Raised<Routing> {
        let hook = self.routing_policy.as_ref();
        let hook = hook.ok_or_else(|| absent(Hook::RoutingPolicy))?;
        let mut call = Call::new();
        call.message(message, disclosure);
        call.carriers(carriers);
        call.context(context);
        let answer = hook.call_route(store, &call.packed()).await?;
        Ok(routing(answer, carriers))
    }

    pub async fn receive(
        &self,
        store: &mut Store<CallState>,
        inbound: &Inbound,
        disclosure: &Disclosure,
        context: &Context,
    ) -> Raised<Vec<InboundAction>> {
        let hook = self.inbound_handler.as_ref();
        let hook = hook.ok_or_else(|| absent(Hook::InboundHandler))?;
        let mut call = Call::new();
        call.inbound(inbound, disclosure);
        call.context(context);
        Ok(actions(hook.call_receive(store, &call.packed()).await?))
    }

    pub async fn submit(
        &self,
        store: &mut Store<CallState>,
        message: &Message,
        disclosure: &Disclosure,
        context: &Context,
    ) -> Raised<Result<Vec<String>, SubmitError>> {
        let hook = self.carrier_adapter.as_ref();
        let hook = hook.ok_or_else(|| absent(Hook::CarrierAdapter))?;
        let call = of_message(message, disclosure, context);
        Ok(match hook.call_submit(store, &call).await? {
            Ok(ids) => carrier_ids(ids).map(Ok),
            Err(error) => Ok(Err(submit_error(error))),
        })
    }

    pub async fn callback(
        &self,
        store: &mut Store<CallState>,
        request: &HttpRequest,
        context: &Context,
    ) -> Raised<Result<CallbackAnswer, String>> {
        let hook = self.carrier_adapter.as_ref();
        let hook = hook.ok_or_else(|| absent(Hook::CarrierAdapter))?;
        let mut call = Call::new();
        call.request(request);
        call.context(context);
        Ok(match hook.call_callback(store, &call.packed()).await? {
            Ok(answer) => callback_answer(answer).map(Ok),
            Err(why) => Ok(Err(reason(why))),
        })
    }
}

/// The call of a hook that is told of a message and nothing else.
fn of_message(message: &Message, disclosure: &Disclosure, context: &Context) -> Vec<u8> {
    let mut call = Call::new();
    call.message(message, disclosure);
    call.context(context);
    call.packed()
}
