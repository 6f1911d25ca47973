//! `/openapi.json`: OpenAPI 3.1 out of the types' own schemas and a table of routes. Written once at
//! start.

use axum::body::Bytes;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::answer::{Detail, PreviewView, Summary};
use super::binds::BindView;
use super::http::List;
use super::problem::ProblemBody;
use super::reports::{
    CarrierJson, DeadView, InboundView, OptOutView, OrphanView, ThreadItemView, ThreadView,
};
use super::wire::{OptOutRequest, ReplacementRequest, SubmissionRequest};

/// One operation. `scope` is empty where no key is needed.
pub struct Operation {
    pub method: &'static str,
    pub path: &'static str,
    pub summary: &'static str,
    pub scope: &'static str,
    pub status: &'static str,
    request: Payload,
    answer: Payload,
}

/// What a body holds.
enum Payload {
    None,
    Json(fn(&mut SchemaGenerator) -> Value),
    /// JSON that is described where it is made.
    Object,
    Other(&'static str),
}

fn of<T: schemars::JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

fn submissions(generator: &mut SchemaGenerator) -> Value {
    let items = of::<SubmissionRequest>(generator);
    json!({ "type": "array", "minItems": 1, "maxItems": super::wire::BATCH_MAX, "items": items })
}

#[rustfmt::skip] // A table.
pub const OPERATIONS: [Operation; 51] = {
    use Payload::{Json, None, Object, Other};
    const fn op(method: &'static str, path: &'static str, scope: &'static str, status: &'static str, summary: &'static str, request: Payload, answer: Payload) -> Operation {
        Operation { method, path, summary, scope, status, request, answer }
    }
    [
        op("post", "/v1/messages", "send", "202", "Submit a message", Json(of::<SubmissionRequest>), Json(of::<Summary<'static>>)),
        op("get", "/v1/messages", "read", "200", "List messages, newest first", None, Json(of::<List<Summary<'static>>>)),
        op("post", "/v1/messages/preview", "send", "200", "Judge a submission and keep nothing", Json(of::<SubmissionRequest>), Json(of::<PreviewView<'static>>)),
        op("get", "/v1/messages/{id}", "read", "200", "Show a message and its trace", None, Json(of::<Detail<'static>>)),
        op("post", "/v1/messages/{id}/cancel", "send", "200", "Cancel a message that was not sent", None, Json(of::<Summary<'static>>)),
        op("post", "/v1/messages/{id}/replace", "send", "200", "Give a message another text or other times", Json(of::<ReplacementRequest>), Json(of::<Summary<'static>>)),
        op("post", "/v1/messages/{id}/release", "admin", "200", "Let a held message go", None, Json(of::<Summary<'static>>)),
        op("post", "/v1/batches", "send", "200", "Submit up to 1,000 messages", Json(submissions), Object),
        op("get", "/v1/inbound", "read", "200", "List mobile-originated messages, newest first", None, Json(of::<List<InboundView<'static>>>)),
        op("get", "/v1/threads", "read", "200", "List conversations by their last text, newest first", None, Json(of::<List<ThreadView<'static>>>)),
        op("get", "/v1/threads/{id}", "read", "200", "Show a conversation, newest first", None, Json(of::<List<ThreadItemView<'static>>>)),
        op("get", "/v1/numbers/{number}", "read", "200", "Tell what is known of a number", None, Json(of::<super::numbers::LookupView>)),
        op("delete", "/v1/numbers/{number}/data", "admin", "200", "Forget a number: one piece of the work, go on with `cursor`", None, Json(of::<super::numbers::ForgottenView>)),
        op("get", "/v1/carriers", "read", "200", "Show the carriers", None, Json(of::<List<CarrierJson>>)),
        op("get", "/v1/carriers/{id}/callback", "", "200", "A carrier's call-back", None, Other("*/*")),
        op("post", "/v1/carriers/{id}/callback", "", "200", "A carrier's call-back", Other("*/*"), Other("*/*")),
        op("get", "/v1/receipts/orphans", "admin", "200", "List receipts that wait for their message", None, Json(of::<List<OrphanView>>)),
        op("get", "/v1/webhooks/dead", "admin", "200", "List webhooks that were given up", None, Json(of::<List<DeadView>>)),
        op("post", "/v1/webhooks/{id}/redeliver", "admin", "202", "Deliver a dead webhook again", None, Object),
        op("post", "/v1/plugins", "admin", "201", "Check a component and keep it for a policy", Other("application/wasm"), Object),
        op("get", "/v1/plugins", "admin", "200", "List the components that were uploaded", None, Object),
        op("get", "/v1/plugins/{digest}", "admin", "200", "A component's octets", None, Other("application/wasm")),
        op("get", "/v1/policy", "admin", "200", "Show the policy in force", None, Object),
        op("put", "/v1/policy", "admin", "200", "Put a whole policy in force, or refuse it whole; TOML or JSON", Other("application/toml"), Object),
        op("post", "/v1/policy/check", "admin", "200", "Check a policy as PUT does, and put nothing in force", Other("application/toml"), Object),
        op("get", "/v1/audit", "admin", "200", "List administrative acts, newest first; each has the hash of the one before", None, Object),
        op("get", "/v1/binds", "admin", "200", "List the sessions of customers' ESMEs, the oldest first", None, Json(of::<List<BindView>>)),
        op("delete", "/v1/binds/{id}", "admin", "202", "Unbind a session; the client may bind again", None, Json(of::<BindView>)),
        op("get", "/v1/events", "admin", "200", "What happens to the server: server-sent events, or ?format=json", None, Object),
        op("get", "/v1/policy/history", "admin", "200", "List the policies that were in force, newest first", None, Object),
        op("post", "/v1/policy/rollback", "admin", "200", "Back to the policy before, or to ?set=ID", None, Object),
        op("post", "/v1/policy/replay", "admin", "200", "Run recorded decisions through a candidate policy and tell what would change", Object, Object),
        op("get", "/v1/policy/shadow", "admin", "200", "What the shadow would have decided otherwise", None, Object),
        op("put", "/v1/policy/shadow", "admin", "200", "Show a candidate policy live decisions; it changes nothing", Object, Object),
        op("delete", "/v1/policy/shadow", "admin", "200", "End the shadow", None, Object),
        op("get", "/v1/policy/canary", "admin", "200", "How the canary does", None, Object),
        op("put", "/v1/policy/canary", "admin", "200", "Let a candidate policy decide a share of the traffic", Object, Object),
        op("delete", "/v1/policy/canary", "admin", "200", "End the canary; the policy in force decides everything", None, Object),
        op("post", "/v1/policy/canary/promote", "admin", "200", "Put the canary in force for everybody", None, Object),
        op("get", "/v1/tables", "admin", "200", "List the tables that were uploaded", None, Object),
        op("get", "/v1/tables/{name}", "admin", "200", "A table's rows, by name or digest", None, Other("text/csv")),
        op("put", "/v1/tables/{name}", "admin", "200", "Upload a table; comma or tab separated", Other("text/csv"), Object),
        op("get", "/v1/opt-outs", "admin", "200", "List the opt-out registry", None, Json(of::<List<OptOutView>>)),
        op("put", "/v1/opt-outs", "admin", "200", "Opt a recipient out", Json(of::<OptOutRequest>), Object),
        op("delete", "/v1/opt-outs", "admin", "200", "Opt a recipient in again", Json(of::<OptOutRequest>), Object),
        op("get", "/healthz", "", "200", "Whether the process is alive", None, Object),
        op("get", "/readyz", "", "200", "Whether submissions are taken", None, Object),
        op("get", "/metrics", "", "200", "Figures in Prometheus' text format", None, Other("text/plain")),
        op("get", "/openapi.json", "", "200", "This document", None, Object),
        op("put", "/v1/carriers/{id}/callback", "", "200", "A carrier's call-back", Other("*/*"), Other("*/*")),
        op("delete", "/v1/carriers/{id}/callback", "", "200", "A carrier's call-back", None, Other("*/*")),
    ]
};

/// The document, as it is sent.
pub fn document() -> Bytes {
    let settings = SchemaSettings::draft2020_12().with(|s| {
        s.definitions_path = "/components/schemas".into();
        s.meta_schema = None;
    });
    let mut generator = SchemaGenerator::new(settings);
    let problem = of::<ProblemBody>(&mut generator);
    let mut paths: Map<String, Value> = Map::new();
    for operation in &OPERATIONS {
        let described = describe(operation, &mut generator, &problem);
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        if let Some(methods) = path.as_object_mut() {
            methods.insert(operation.method.to_owned(), described);
        }
    }
    let schemas = generator.take_definitions(true);
    let document = json!({
        "openapi": "3.1.0",
        "info": { "title": "Heliograph", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "key": { "type": "http", "scheme": "bearer" } },
        },
    });
    super::answer::json(&document).into()
}

fn describe(operation: &Operation, generator: &mut SchemaGenerator, problem: &Value) -> Value {
    let mut described = json!({
        "summary": operation.summary,
        "responses": {
            operation.status: { "description": "Done" },
            "default": {
                "description": "An error (RFC 9457)",
                "content": { "application/problem+json": { "schema": problem } },
            },
        },
    });
    if let Some(content) = content(&operation.answer, generator) {
        described["responses"][operation.status]["content"] = content;
    }
    if let Some(content) = content(&operation.request, generator) {
        described["requestBody"] = json!({ "required": true, "content": content });
    }
    if !operation.scope.is_empty() {
        described["security"] = json!([{ "key": [operation.scope] }]);
    }
    let mut parameters: Vec<Value> = Vec::new();
    for name in operation
        .path
        .split('/')
        .filter_map(|s| s.strip_prefix('{')?.strip_suffix('}'))
    {
        parameters.push(
            json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }),
        );
    }
    if operation.method == "post" && matches!(operation.path, "/v1/messages" | "/v1/batches") {
        let schema = json!({ "type": "string", "minLength": 1, "maxLength": 255 });
        parameters.push(json!({ "name": "Idempotency-Key", "in": "header", "schema": schema }));
    }
    if operation.method == "post" && operation.path == "/v1/plugins" {
        let schema = json!({ "type": "string", "pattern": "^[0-9a-f]{16}:[A-Za-z0-9+/]{86}==$" });
        let summary = "KEYID:BASE64, an Ed25519 signature over the body; may be repeated";
        parameters.push(json!({ "name": "X-Heliograph-Signature", "in": "header", "description": summary, "schema": schema }));
    }
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    described
}

fn content(payload: &Payload, generator: &mut SchemaGenerator) -> Option<Value> {
    match payload {
        Payload::None => None,
        Payload::Json(schema) => {
            Some(json!({ "application/json": { "schema": schema(generator) } }))
        }
        Payload::Object => Some(json!({ "application/json": { "schema": { "type": "object" } } })),
        Payload::Other(kind) => Some(json!({ *kind: {} })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere() {
        let document: Value = serde_json::from_slice(&document()).unwrap();
        let text = document.to_string();
        let mut found = 0;
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().unwrap_or_default();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
            found += 1;
        }
        assert!(found > 10, "{found}");
        assert_eq!(document["openapi"], "3.1.0");
        let schema = &document["components"]["schemas"]["SubmissionRequest"];
        assert_eq!(schema["required"], json!(["to", "from"]));
        assert_eq!(schema["additionalProperties"], false);
    }
}
