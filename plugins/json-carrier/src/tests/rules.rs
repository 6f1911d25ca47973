//! What is refused at configuration, and by which words.

use super::*;

const URL: &str = "https://c.example/";

#[track_caller]
fn refused(cases: &[(Value, &str)]) {
    for (config, expect) in cases {
        let error = config_error(config.clone());
        assert!(
            error.contains(expect),
            "{config}\n  gave {error}\n  not  {expect}"
        );
    }
}

#[test]
fn errors_in_a_request_name_the_field_and_the_rule() {
    let with = |request: Value| json!({"request": request});
    refused(&[
        (json!({}), "missing field `request`"),
        (
            with(json!({"url": "c.example"})),
            "request.url: it must begin with https://",
        ),
        (
            with(json!({"url": "https://{to}.example/"})),
            "request.url: \"{to}.example\" is no host name",
        ),
        (
            with(json!({"url": "https://me:pw@c.example/"})),
            "request.url: \"me:pw@c.example\" is no host name",
        ),
        (
            with(json!({"url": "https://c.example/{text}"})),
            "request.url: {text} is free text",
        ),
        (
            with(json!({"url": "https://c.example/{secret:K}"})),
            "request.url: secrets may stand in the query",
        ),
        (
            with(json!({"url": "https://c.example/a b"})),
            "request.url: ' ' has no place in a URL",
        ),
        (
            with(json!({"url": URL, "method": "GET", "body": {"json": 1}})),
            "request.body: a GET has none",
        ),
        (
            with(json!({"url": URL, "headers": {"x": "{text}"}})),
            "request.headers.x: {text} is free text",
        ),
        (
            with(json!({"url": URL, "headers": {"x": "a\r\nb: c"}})),
            "request.headers.x: a header value is visible ASCII",
        ),
        (
            with(json!({"url": URL, "headers": {"Host": "x"}})),
            "request.headers.Host: this field is set by the host",
        ),
        (
            with(json!({"url": URL, "headers": {"a b": "x"}})),
            "request.headers.a b: this is no header name",
        ),
        (
            with(json!({"url": URL, "querry": {}})),
            "request.querry: unknown field",
        ),
    ]);
}

#[test]
fn errors_in_a_placeholder_name_the_field_and_the_rule() {
    let json = |body: Value| json!({"request": {"url": URL, "body": {"json": body}}});
    refused(&[
        (
            json(json!({"a": [{"b": "{txt}"}]})),
            "request.body.json/a/0/b: {txt} is no placeholder; there are to,",
        ),
        (
            json(json!("{text")),
            "request.body.json: a '{' is not closed",
        ),
        (
            json(json!("text}")),
            "request.body.json: a '}' closes nothing",
        ),
        (
            json(json!("{secret:a b}")),
            "request.body.json: {secret:a b}: a secret's name",
        ),
        (
            json(json!("{var.x}")),
            "request.body.json: {var.x}: variables has no \"x\"",
        ),
        (
            json(json!("{callback_url}")),
            "request.body.json: {callback_url}: callback.url is not set",
        ),
        (
            json(json!("{text:number}")),
            "request.body.json: {text} is never a number",
        ),
        (
            json(json!({"{text}": 1})),
            "request.body.json/{text}: placeholders belong into values",
        ),
    ]);
}

#[test]
fn errors_in_what_an_answer_means_name_the_field_and_the_rule() {
    let response = |response: Value| json!({"request": {"url": URL}, "response": response});
    refused(&[
        (
            response(json!({"success_status": []})),
            "response.success_status: give at least one",
        ),
        (
            response(json!({"success_status": ["2x"]})),
            "response.success_status: \"2x\" is no HTTP status",
        ),
        (
            response(json!({"id": {"json": "id"}})),
            "response.id: \"id\": a JSON Pointer begins with '/'",
        ),
        (
            response(json!({"errors": [{"kind": "permanent"}]})),
            "response.errors[0]: a rule without status and when",
        ),
        (
            response(json!({"errors": [{"status": ["9xx"], "kind": "permanent"}]})),
            "response.errors[0].status",
        ),
    ]);
}

#[test]
fn errors_in_a_call_back_name_the_field_and_the_rule() {
    let callback = |callback: Value| json!({"request": {"url": URL}, "callback": callback});
    refused(&[
        (
            callback(json!({"verify": {"at": {"header": "x"}, "sha256": "12"}})),
            "callback.verify.sha256: give 64 hexadecimal digits",
        ),
        (
            callback(json!({"verify": {"at": {"json": "/x"}, "sha256": "0".repeat(64)}})),
            "callback.verify.at: a secret stands in a header",
        ),
        (
            callback(json!({"answer": {"status": 302}})),
            "callback.answer.status: 302 is not 200 to 299",
        ),
        (
            callback(json!({
                "receipt": {"id": {"json": "/a"}, "status": {"json": "/b"}, "statuses": {}},
                "inbound": {"from": {"json": "/a"}, "to": {"json": "/b"}, "text": {"json": "/c"}}
            })),
            "callback.receipt.when: give it and inbound.when",
        ),
    ]);
}

#[test]
fn the_schema_describes_every_field() {
    let schema: Value = serde_json::from_str(&config_schema::<JsonCarrier>()).expect("JSON");
    let definitions = schema["$defs"].as_object().cloned().unwrap_or_default();
    let undescribed: Vec<String> = definitions
        .into_iter()
        .chain([("Config".to_owned(), schema.clone())])
        .flat_map(|(name, definition)| {
            let properties = definition["properties"]
                .as_object()
                .cloned()
                .unwrap_or_default();
            let bare = properties
                .into_iter()
                .filter(|(_, p)| p["description"].as_str().is_none_or(str::is_empty));
            bare.map(|(property, _)| format!("{name}.{property}"))
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(undescribed, Vec::<String>::new());
    assert_eq!(JsonCarrier::NAME, "json-carrier");
}
