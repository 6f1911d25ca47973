//! Numbers as clients write them, where they live by the operator's tables, and tables that are
//! replaced under a running server.

use heliograph_tests::{KEY, Plan, READ_KEY, Rig, eventually, sms};
use serde_json::json;

const NETWORKS: &str =
    "prefix,country,mcc,mnc,operator\n44,GB,,,\n447700,GB,234,10,O2\n447400,GB,234,30,EE\n";
const PORTED: &str = "number\tmcc\tmnc\n447700900123\t234\t30\n";

async fn start(numbers: &str) -> Rig {
    Rig::start(Plan {
        config_extra: format!("[numbers]\n{numbers}"),
        files: vec![
            ("networks.csv".to_owned(), NETWORKS.into()),
            ("ported.tsv".to_owned(), PORTED.into()),
        ],
        ..Plan::default()
    })
    .await
}

const TABLES: &str = "networks = \"networks.csv\"\nported = \"ported.tsv\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn national_forms_are_read_in_the_region_that_was_asked_for() {
    let rig = start("default_region = \"GB\"").await;
    let to = async |to: &str, region: Option<&str>| {
        let mut body = sms(to, "hello");
        if let Some(region) = region {
            body["region"] = json!(region);
        }
        let (status, answer) = rig.call("POST", "/v1/messages", Some(body)).await;
        let text = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_owned();
        match status {
            202 => Ok(text(&answer["to"])),
            _ => Err(format!(
                "{} {}",
                text(&answer["errors"][0]["pointer"]),
                text(&answer["errors"][0]["detail"])
            )),
        }
    };
    assert_eq!(
        to("07700 900123", None).await.as_deref(),
        Ok("+447700900123")
    );
    assert_eq!(
        to("00 33 6 12 34 56 78", None).await.as_deref(),
        Ok("+33612345678")
    );
    assert_eq!(
        to("(202) 555-0143", Some("US")).await.as_deref(),
        Ok("+12025550143")
    );
    assert_eq!(
        to("06 12 34 56 78", Some("FR")).await.as_deref(),
        Ok("+33612345678")
    );
    for (number, region, told) in [
        (
            "+4477009001",
            None,
            "/to has 8 digits after the country code; numbers of GB have 7, 9 or 10",
        ),
        (
            "+44 20 7946 0123 ext. 5",
            None,
            "/to has the extension \"ext. 5\"",
        ),
        ("60777", None, "/to has 5 digits, as a short code"),
        ("+447700900123", Some("ZZ"), "/region \"ZZ\" is no region"),
    ] {
        let error = to(number, region).await.expect_err(number);
        assert!(error.starts_with(told), "{number}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_tells_its_network_and_who_said_so() {
    let rig = start(TABLES).await;
    let ported = rig.submit(sms("+447700900123", "hello")).await;
    let range = rig.submit(sms("+447400123456", "hello")).await;
    let plan = rig.submit(sms("+33612345678", "hello")).await;
    for (id, network, words) in [
        (
            ported,
            json!({ "country": "GB", "mcc": 234, "mnc": 30, "ported": true, "source": "portability" }),
            "GB 234-30, ported (portability)",
        ),
        (
            range,
            json!({ "country": "GB", "mcc": 234, "mnc": 30, "ported": false, "source": "networks" }),
            "GB 234-30 (networks)",
        ),
        (
            plan,
            json!({ "country": "FR", "mcc": null, "mnc": null, "ported": false, "source": "numbering_plan" }),
            "FR (numbering_plan)",
        ),
    ] {
        assert_eq!(rig.message(&id).await["network"], network);
        let url = format!("http://{}", rig.address);
        let (code, out, err) = rig
            .run(&["message", "trace", &id, "--url", &url, "--key", KEY])
            .await;
        assert_eq!(code, Some(0), "{err}");
        assert!(out.contains(&format!("network {words}")), "{out}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_is_looked_up_by_api_and_by_command() {
    let rig = start(&format!("{TABLES}default_region = \"GB\"")).await;
    let (status, found) = rig
        .call_as(READ_KEY, "GET", "/v1/numbers/+447700900123", None)
        .await;
    assert_eq!(status, 200, "{found}");
    assert_eq!(found["operator"], "EE");
    assert_eq!(
        (&found["mcc_mnc"], &found["range_mcc_mnc"]),
        (&json!("234-30"), &json!("234-10"))
    );
    assert_eq!(
        (&found["possible"], &found["valid"]),
        (&json!(true), &json!(false))
    );
    let (_, mobile) = rig.call("GET", "/v1/numbers/07400%20123456", None).await;
    assert_eq!(
        (&mobile["number"], &mobile["kind"]),
        (&json!("+447400123456"), &json!("mobile"))
    );
    let (_, abroad) = rig
        .call("GET", "/v1/numbers/0612345678?region=FR", None)
        .await;
    assert_eq!(abroad["number"], "+33612345678");
    let (status, problem) = rig.call("GET", "/v1/numbers/hello", None).await;
    assert_eq!(
        (status, &problem["code"]),
        (400, &json!("invalid_parameter"))
    );
    let nobody = rig
        .try_call("GET", "/v1/numbers/+447700900123", None, &[])
        .await;
    assert_eq!(nobody.expect("an answer").0, 401);

    let url = format!("http://{}", rig.address);
    let lookup = [
        "numbers",
        "lookup",
        "+447700900123",
        "--url",
        &url,
        "--key",
        KEY,
    ];
    let (code, out, err) = rig.run(&lookup).await;
    assert_eq!(code, Some(0), "{err}");
    assert!(
        out.contains("network GB 234-30, ported (portability)")
            && out.contains("first given to 234-10"),
        "{out}"
    );
    let check = [
        "numbers",
        "check",
        "--networks",
        "networks.csv",
        "--ported",
        "ported.tsv",
        "--json",
    ];
    let (code, out, err) = rig.run(&check).await;
    assert_eq!(code, Some(0), "{err}");
    assert!(
        out.contains("\"rows\": 3") && out.contains("\"rows\": 1"),
        "{out}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_table_comes_into_force_and_a_bad_one_does_not() {
    let rig = start(TABLES).await;
    let mnc = async || {
        rig.call("GET", "/v1/numbers/+447700900123", None).await.1["network"]["mnc"].clone()
    };
    let write = |text: &str| {
        let new = rig.dir.path().join("ported.new");
        std::fs::write(&new, text).expect("the table");
        std::fs::rename(new, rig.dir.path().join("ported.tsv")).expect("the table");
    };
    let refusals = async || {
        let answer = heliograph_tests::http(&rig.address, "GET", "/metrics", None, &[]).await;
        let (_, _, metrics) = answer.expect("metrics");
        let metrics = String::from_utf8_lossy(&metrics).into_owned();
        metrics
            .contains("heliograph_number_reloads_total{result=\"refused\"} 1")
            .then_some(())
    };
    assert_eq!(mnc().await, 30);
    write("447700900123\t234\t20\n");
    eventually("the new table is in force", async || {
        (mnc().await == 20).then_some(())
    })
    .await;
    write("447700900123\t234\t15\n447700900124\t234\n");
    eventually("the bad table is refused", refusals).await;
    assert_eq!(mnc().await, 20);
    assert!(
        rig.log().contains("line 2: has no mcc and mnc"),
        "{}",
        rig.log()
    );
    write("447700900124\t234\t15\n");
    eventually("the number is where its range is", async || {
        (mnc().await == 10).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_of_numbers_is_refused_at_the_start() {
    let rig = start("").await;
    let config = std::fs::read_to_string(rig.config_path()).expect("the configuration");
    for (numbers, rule) in [
        (
            "default_region = \"UK\"",
            "numbers.default_region: \"UK\" is no region",
        ),
        (
            "refuse_kinds = [\"premium\"]",
            "numbers.refuse_kinds: \"premium\" is none of",
        ),
        ("networks = \"missing.csv\"", "missing.csv: No such file"),
    ] {
        let text = config.replace("[numbers]\n", &format!("[numbers]\n{numbers}\n"));
        std::fs::write(rig.dir.path().join("bad.toml"), text).expect("a configuration");
        let (code, _, err) = rig.run(&["check", "--config", "bad.toml"]).await;
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains(rule), "{numbers}: {err}");
    }
}
