//! What operators see: policy, plugins, tables, metrics, and where their routes are.

use super::*;

#[tokio::test]
async fn every_operation_of_the_document_has_a_route_and_its_scope() {
    let rig = rig().await;
    for operation in &openapi::OPERATIONS {
        let method = Method::from_bytes(operation.method.to_uppercase().as_bytes()).unwrap();
        let uri = operation.path.replace("{id}", "x").replace("{name}", "x");
        let answer = rig.call(method, &uri, "", &[], Vec::new()).await;
        let name = format!("{} {}: {}", operation.method, operation.path, answer.text);
        assert_ne!(answer.json["code"], "method_not_allowed", "{name}");
        assert!(!answer.text.contains("nothing is at"), "{name}");
        assert_eq!(answer.status == 401, !operation.scope.is_empty(), "{name}");
    }
}

#[tokio::test]
async fn an_account_beyond_its_throughput_is_told_to_wait() {
    let rig = rig_with(Surface::All, Some(1)).await;
    let mut last = rig.post("/v1/messages", SENDER, &hello()).await;
    for _ in 0..3 {
        last = rig.post("/v1/messages", SENDER, &hello()).await;
    }
    assert_eq!(
        (last.status, last.json["code"].as_str()),
        (429, Some("throttled")),
        "{}",
        last.text
    );
    assert!(last.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn a_policy_is_taken_whole_or_refused_with_the_place() {
    let rig = rig().await;
    let put = |body: &'static str| {
        rig.call(
            Method::PUT,
            "/v1/policy",
            ADMIN,
            &[],
            body.as_bytes().to_vec(),
        )
    };
    let answer = put("default_route = [\"north\"]").await;
    assert_eq!(
        (answer.status, answer.json["changed"].as_bool()),
        (200, Some(true)),
        "{}",
        answer.text
    );
    let set = answer.json["set"].as_str().unwrap().to_owned();
    let answer = put("{\"default_route\": [\"south\"]}").await;
    assert_eq!(
        (answer.status, answer.json["code"].as_str()),
        (422, Some("invalid_policy"))
    );
    assert_eq!(answer.json["errors"][0]["pointer"], "/default_route/0");
    let answer = put("defalt_route = []").await;
    assert!(
        answer.json["detail"]
            .as_str()
            .unwrap()
            .contains("defalt_route"),
        "{}",
        answer.text
    );
    let answer = put("[[plugin]]\nname = \"x\"\npath = \"missing.wasm\"").await;
    assert_eq!(
        answer.json["errors"][0]["pointer"], "/plugin/0/path",
        "{}",
        answer.text
    );
    let shown = rig.get("/v1/policy", ADMIN).await;
    assert_eq!(shown.json["id"], set);
    assert_eq!(shown.json["default_route"], json!(["north"]));
    assert_eq!(shown.json["policy"]["default_route"], json!(["north"]));
    let check = rig
        .call(
            Method::POST,
            "/v1/policy/check",
            ADMIN,
            &[],
            b"default_route = []".to_vec(),
        )
        .await;
    assert_eq!(
        (check.status, check.json["in_force"].as_bool()),
        (200, Some(false)),
        "{}",
        check.text
    );
    let history = rig.get("/v1/policy/history", ADMIN).await;
    assert!(
        history.json["items"][0]["by"]
            .as_str()
            .unwrap()
            .starts_with("api: acme"),
        "{}",
        history.text
    );
    let back = rig.post("/v1/policy/rollback", ADMIN, &Value::Null).await;
    assert_eq!(back.status, 409, "{}", back.text);
}

#[tokio::test]
async fn what_is_no_component_or_no_table_is_refused() {
    let rig = rig().await;
    let answer = rig
        .call(
            Method::POST,
            "/v1/plugins",
            ADMIN,
            &[],
            b"not wasm".to_vec(),
        )
        .await;
    assert_eq!(
        (answer.status, answer.json["code"].as_str()),
        (422, Some("invalid_plugin")),
        "{}",
        answer.text
    );
    let put = |name: &str, body: &'static str| {
        let uri = format!("/v1/tables/{name}");
        let rig = &rig;
        async move {
            rig.call(Method::PUT, &uri, ADMIN, &[], body.as_bytes().to_vec())
                .await
        }
    };
    let answer = put("rates", "44,uk\n33").await;
    assert_eq!(
        (answer.status, answer.json["code"].as_str()),
        (422, Some("invalid_table"))
    );
    assert!(answer.json["detail"].as_str().unwrap().contains("line 2"));
    let answer = put("rates", "44,uk\n33\tfr\n").await;
    assert_eq!(
        (answer.status, answer.json["rows"].as_u64()),
        (200, Some(2)),
        "{}",
        answer.text
    );
    assert_eq!(put("No%20Name", "44,uk").await.status, 400);
    assert_eq!(
        rig.get("/v1/tables", ADMIN).await.json["items"][0]["name"],
        "rates"
    );
}

#[tokio::test]
async fn dead_webhooks_that_are_not_there_are_not_found() {
    let rig = rig().await;
    assert_eq!(
        rig.get("/v1/webhooks/dead", ADMIN).await.json["items"],
        json!([])
    );
    let uri = format!("/v1/webhooks/evt_{}/redeliver", "0".repeat(32));
    assert_eq!(rig.post(&uri, ADMIN, &Value::Null).await.status, 404);
}

#[tokio::test]
async fn health_and_metrics_need_no_key() {
    let rig = rig().await;
    rig.submitted(&hello()).await;
    assert_eq!(rig.get("/healthz", "").await.json["status"], "ok");
    let ready = rig.get("/readyz", "").await;
    assert_eq!(
        (ready.status, ready.json["carriers_connected"].as_u64()),
        (200, Some(1))
    );
    let metrics = rig.get("/metrics", "").await.text;
    assert!(
        metrics.contains("heliograph_messages_accepted_total 1\n"),
        "{metrics}"
    );
    assert!(metrics.contains("heliograph_carrier_connected{carrier=\"north\"} 1\n"));
    assert!(metrics.ends_with("more 1\n"));
    assert!(!metrics.contains("447700900123") && !metrics.contains("hello"));
}

#[tokio::test]
async fn with_a_listener_of_its_own_administration_is_nowhere_else() {
    let public = rig_with(Surface::Public, None).await;
    assert_eq!(public.get("/v1/policy", ADMIN).await.status, 404);
    assert_eq!(public.get("/metrics", "").await.status, 404);
    public.submitted(&hello()).await;
    let admin = rig_with(Surface::Admin, None).await;
    assert_eq!(admin.get("/v1/policy", ADMIN).await.status, 200);
    assert_eq!(
        admin.post("/v1/messages", SENDER, &hello()).await.status,
        404
    );
}

#[tokio::test]
async fn a_rollback_brings_the_policy_before_back() {
    let rig = rig().await;
    let policy = &rig.api.pipeline.policy;
    let first = PolicySpec {
        default_route: vec!["north".to_owned()],
        ..PolicySpec::default()
    };
    let first = policy.apply(&first, None, "test").await.unwrap().set;
    policy
        .apply(&PolicySpec::default(), None, "test")
        .await
        .unwrap();
    let back = rig.post("/v1/policy/rollback", ADMIN, &Value::Null).await;
    assert_eq!(
        (back.status, back.json["set"].as_str()),
        (200, Some(&*first.to_string())),
        "{}",
        back.text
    );
    assert_eq!(
        StatusCode::OK.as_u16(),
        rig.get("/v1/policy/history", ADMIN).await.status
    );
}
