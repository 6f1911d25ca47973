//! The HTTP API. This file owns what handlers share and which route leads where; `edge` owns sockets,
//! `auth` keys, `wire` and `answer` the JSON, `problem` the errors. What a message goes through is the
//! pipeline's business.

mod admin;
pub mod answer;
mod audit;
pub mod auth;
mod binds;
pub mod edge;
pub mod esme;
mod events;
mod http;
pub mod json;
mod messages;
mod metrics;
mod numbers;
mod openapi;
pub mod problem;
mod public;
mod replace;
pub mod reports;
mod returns;
mod trial;
pub mod wire;

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderValue, header, request};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, delete, get, post, put};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

pub use auth::{KeyError, KeySpec, Keys, Scope, key_of};
pub use edge::EdgeLimits;
pub use wire::{rfc3339 as time_text, timestamp as parse_time};

use auth::Caller;
use edge::EdgeStats;
use problem::{Code, Problem};

use crate::carrier::adapter::AdapterCarrier;
use crate::domain::{CarrierId, MessageId};
use crate::pipeline::Pipeline;
use crate::pipeline::notify::{Render, Subject};
use crate::store::AuditLog;
use crate::tls::Acceptor;

/// Large uploads that are held in memory at once.
const UPLOADS_MAX: usize = 2;

/// What the API needs to answer.
pub struct Parts {
    pub pipeline: Arc<Pipeline>,
    pub keys: Keys,
    /// Carriers that call back.
    pub callbacks: HashMap<CarrierId, Arc<AdapterCarrier>>,
    /// Further lines for `/metrics`, in the text format: what only the caller can count.
    pub more_metrics: MoreMetrics,
    /// Customers' ESMEs.
    pub esmes: Arc<esme::Binds>,
    /// Where administrative acts are noted.
    pub audit: Option<AuditLog>,
}

pub type MoreMetrics = Arc<dyn Fn(&mut String) + Send + Sync>;

/// The state of all handlers. One per server.
pub struct Api {
    pipeline: Arc<Pipeline>,
    keys: Keys,
    callbacks: HashMap<CarrierId, Arc<AdapterCarrier>>,
    more_metrics: MoreMetrics,
    esmes: Arc<esme::Binds>,
    audit: Option<AuditLog>,
    requests: wire::Requests,
    uploads: Semaphore,
    /// Places for event streams.
    streams: Arc<Semaphore>,
    /// True where the server stops: what would not end by itself ends then.
    stopping: watch::Sender<bool>,
    edge: Arc<EdgeStats>,
    stats: metrics::HttpStats,
    openapi: Bytes,
    started: Instant,
}

/// Which routes a listener has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// All, where no listener of its own is configured for administration.
    All,
    Public,
    Admin,
}

impl Api {
    pub fn new(parts: Parts) -> Arc<Api> {
        Arc::new(Api {
            pipeline: parts.pipeline,
            keys: parts.keys,
            callbacks: parts.callbacks,
            more_metrics: parts.more_metrics,
            esmes: parts.esmes,
            audit: parts.audit,
            requests: wire::Requests::default(),
            uploads: Semaphore::new(UPLOADS_MAX),
            streams: Arc::new(Semaphore::new(events::STREAMS_MAX)),
            stopping: watch::channel(false).0,
            edge: Arc::default(),
            stats: metrics::HttpStats::default(),
            openapi: openapi::document(),
            started: Instant::now(),
        })
    }

    /// The caller behind a request, who must hold `scope`.
    fn authorize(&self, parts: &request::Parts, scope: Scope) -> Result<&Caller, Problem> {
        let caller = self
            .keys
            .authenticate(&parts.headers, http::peer(parts), Instant::now())?;
        caller.require(scope)?;
        Ok(caller)
    }
}

/// Serves one listener until `stop` turns true, then lets what is under way finish. Where a listener
/// of its own serves `Surface::Admin`, the other one is `Surface::Public`.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Acceptor>,
    api: Arc<Api>,
    surface: Surface,
    limits: EdgeLimits,
    stop: watch::Receiver<bool>,
) {
    let stats = api.edge.clone();
    let mut stopped = stop.clone();
    let ends_streams = async {
        // An error is a caller that is gone, and stopped with it.
        let _ = stopped.wait_for(|stop| *stop).await;
        api.stopping.send_replace(true);
    };
    let served = edge::serve(listener, tls, router(&api, surface), limits, stats, stop);
    tokio::join!(served, ends_streams);
}

/// Writes the bodies of webhooks: the pipeline's `notify` takes it.
pub fn webhook_render() -> Render {
    Arc::new(|entry, subject| match subject {
        Subject::Message(message) => reports::status_webhook(entry, message),
        Subject::Inbound(record) => reports::inbound_webhook(entry, record),
    })
}

/// All routes of a surface.
pub fn router(api: &Arc<Api>, surface: Surface) -> Router {
    let mut router = Router::new()
        .route("/healthz", get(on(api, public::health)))
        .route("/readyz", get(on(api, public::ready)))
        .route("/openapi.json", get(on(api, public::openapi)));
    if surface != Surface::Admin {
        router = public_routes(api, router);
    }
    if surface != Surface::Public {
        router = admin_routes(api, router);
    }
    router
        .fallback(on(api, public::no_route))
        .method_not_allowed_fallback(on(api, public::no_method))
}

fn public_routes(api: &Arc<Api>, router: Router) -> Router {
    router
        .route(
            "/v1/messages",
            post(on(api, messages::submit)).get(on(api, messages::list)),
        )
        .route("/v1/messages/preview", post(on(api, messages::preview)))
        .route("/v1/messages/{id}", get(on(api, messages::show)))
        .route("/v1/messages/{id}/cancel", post(on(api, messages::cancel)))
        .route("/v1/messages/{id}/replace", post(on(api, replace::replace)))
        .route("/v1/batches", post(on(api, messages::batch)))
        .route("/v1/inbound", get(on(api, returns::inbound)))
        .route("/v1/threads", get(on(api, returns::threads)))
        .route("/v1/threads/{id}", get(on(api, returns::thread)))
        .route("/v1/numbers/{number}", get(on(api, numbers::lookup)))
        .route("/v1/carriers", get(on(api, public::carriers)))
        .route("/v1/carriers/{id}/callback", any(on(api, public::callback)))
}

fn admin_routes(api: &Arc<Api>, router: Router) -> Router {
    router
        .route(
            "/v1/messages/{id}/release",
            post(act(api, "message.release", messages::release)),
        )
        .route("/v1/webhooks/dead", get(on(api, admin::dead_webhooks)))
        .route(
            "/v1/webhooks/{id}/redeliver",
            post(act(api, "webhook.redeliver", admin::redeliver)),
        )
        .route(
            "/v1/plugins",
            post(act(api, "plugin.stage", admin::stage)).get(on(api, admin::plugins)),
        )
        .route("/v1/plugins/{digest}", get(on(api, admin::component)))
        .route(
            "/v1/policy",
            get(on(api, admin::policy)).put(act(api, "policy.apply", admin::apply)),
        )
        .route("/v1/policy/check", post(on(api, admin::check)))
        .route("/v1/policy/history", get(on(api, admin::history)))
        .route(
            "/v1/policy/rollback",
            post(act(api, "policy.rollback", admin::rollback)),
        )
        .route("/v1/policy/replay", post(on(api, trial::replay)))
        .route(
            "/v1/policy/shadow",
            get(on(api, trial::shadow))
                .put(act(api, "shadow.start", trial::start_shadow))
                .delete(act(api, "shadow.stop", trial::stop_shadow)),
        )
        .route(
            "/v1/policy/canary",
            get(on(api, trial::canary))
                .put(act(api, "canary.start", trial::start_canary))
                .delete(act(api, "canary.abort", trial::abort_canary)),
        )
        .route(
            "/v1/policy/canary/promote",
            post(act(api, "canary.promote", trial::promote_canary)),
        )
        .route(
            "/v1/numbers/{number}/data",
            delete(act(api, "number.forget", numbers::forget)),
        )
        .route("/v1/binds", get(on(api, binds::list)))
        .route(
            "/v1/binds/{id}",
            delete(act(api, "bind.unbind", binds::unbind)),
        )
        .route("/v1/audit", get(on(api, audit::list)))
        .route("/v1/receipts/orphans", get(on(api, returns::orphans)))
        .route("/v1/events", get(on(api, events::events)))
        .route("/v1/tables", get(on(api, admin::tables)))
        .route(
            "/v1/tables/{name}",
            put(act(api, "table.put", admin::put_table)).get(on(api, admin::table)),
        )
        .route(
            "/v1/opt-outs",
            get(on(api, admin::opt_outs))
                .put(act(api, "opt_out.set", admin::opt_out))
                .delete(act(api, "opt_out.clear", admin::opt_in)),
        )
        .route("/metrics", get(on(api, public::metrics)))
}

/// An axum handler out of one of ours. Counts what it answered.
fn on<F>(
    api: &Arc<Api>,
    run: fn(Arc<Api>, Request) -> F,
) -> impl FnOnce(Request) -> std::pin::Pin<Box<dyn Future<Output = Response> + Send>>
+ Clone
+ Send
+ Sync
+ 'static
where
    F: Future<Output = Result<Response, Problem>> + Send + 'static,
{
    let api = api.clone();
    move |request: Request| {
        Box::pin(async move {
            let response = match run(api.clone(), request).await {
                Ok(response) => response,
                Err(problem) => problem.into_response(),
            };
            api.stats.answered(response.status());
            as_told(response)
        })
    }
}

/// The same of an administrative act, which is noted in the audit log under a stable name.
fn act<F>(
    api: &Arc<Api>,
    action: &'static str,
    run: fn(Arc<Api>, Request) -> F,
) -> impl FnOnce(Request) -> std::pin::Pin<Box<dyn Future<Output = Response> + Send>>
+ Clone
+ Send
+ Sync
+ 'static
where
    F: Future<Output = Result<Response, Problem>> + Send + 'static,
{
    let api = api.clone();
    move |request: Request| {
        Box::pin(async move {
            let response = audit::noted(api.clone(), action, request, run).await;
            api.stats.answered(response.status());
            as_told(response)
        })
    }
}

/// A browser that is shown an answer takes it for what it is said to be: a text in it is no page and no script.
fn as_told(mut response: Response) -> Response {
    let no_guess = HeaderValue::from_static("nosniff");
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, no_guess);
    response
}

/// Runs work to its end even where its client goes away in the middle.
async fn detached<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Problem> {
    tokio::spawn(work).await.map_err(|error| {
        tracing::error!(%error, "a request's work ended early");
        Problem::new(
            Code::Internal,
            "the request could not be finished; this is our fault",
        )
    })
}

/// The id of a path such as `/v1/messages/{id}/cancel`: its third step.
fn id_in(parts: &request::Parts) -> Result<MessageId, Problem> {
    step_in(parts)
        .parse()
        .map_err(|_| Problem::not_found("message"))
}

fn step_in(parts: &request::Parts) -> &str {
    parts.uri.path().split('/').nth(3).unwrap_or_default()
}

#[cfg(test)]
mod tests;
