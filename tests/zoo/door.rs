//! Inhabitants that never get in: refused at the upload, or with the policy that names them, by a
//! server that goes on serving. Some are only large, and get in: nothing of theirs is anybody else's.

use std::process::Stdio;

use heliograph_tests::guests::{FREE, Guest, MANIFEST, ZERO, words};
use heliograph_tests::{ADMIN_KEY, Plan, bearer, binary};
use tokio::io::AsyncWriteExt;

use super::{Zoo, good, text};

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("WebAssembly text")
}

fn component(text: &str) -> Vec<u8> {
    wat(&format!("(component {text})"))
}

/// Native code as wasmtime's own compiler makes it.
async fn native(component: &[u8]) -> Vec<u8> {
    let mut child = tokio::process::Command::new(binary())
        .args(["plugin", "compile-child"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the compiler");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(component).await.expect("read");
    drop(stdin);
    let output = child.wait_with_output().await.expect("it ends");
    assert!(output.status.success() && !output.stdout.is_empty());
    output.stdout
}

/// A component of our contract with another describe, schema, memory or start function.
fn guest(change: impl FnOnce(&mut Guest)) -> Vec<u8> {
    let mut guest = Guest::default();
    change(&mut guest);
    guest.build()
}

fn with_schema(schema: String) -> Vec<u8> {
    // Told by `describe` from another place: the usual one has room for 4 KiB.
    let manifest = words(&[1024, 5, 1040, 5, 1056, 13, FREE + 32, schema.len() as u32]);
    guest(|g| {
        g.data = [manifest, schema.into_bytes()].concat();
        g.describe = format!("(i32.const {FREE})");
    })
}

/// A schema that is written in a line and takes for ever.
fn doubling() -> String {
    let defs: Vec<String> = (0..12)
        .map(|n| {
            let next = vec![format!(r##"{{"$ref":"#/$defs/d{}"}}"##, n + 1); 6];
            format!(r#""d{n}":{{"allOf":[{}]}}"#, next.join(","))
        })
        .collect();
    format!(
        r##"{{"$ref":"#/$defs/d0","$defs":{{{},"d12":{{"minProperties":1}}}}}}"##,
        defs.join(",")
    )
}

/// What is uploaded, and words of the answer.
async fn refused_at_upload() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let importing = |name: &str| component(&format!(r#"(import "{name}" (instance))"#));
    let exporting = |version: &str, hook: &str| {
        component(&format!(
            r#"(instance $i) (export "heliograph:sms/plugin@{version}" (instance $i)) {hook}"#
        ))
    };
    let module = |text: &str| component(&format!("(core module {text})"));
    let hook = r#"(export "heliograph:sms/content-filter@0.1.0" (instance $i))"#;
    let wrong_type = component(
        r#"(type $t u32) (instance $i (export "describe" (type $t))) (instance $e)
           (export "heliograph:sms/plugin@0.1.0" (instance $i))
           (export "heliograph:sms/content-filter@0.1.0" (instance $e))"#,
    );
    let nested_instances = component(&format!(
        "(core module $m) {}",
        "(core instance (instantiate $m))".repeat(5_000)
    ));
    let start = |body: &str| {
        guest(|g| g.more = format!("(func $begin (local $n i32) {body}) (start $begin)"))
    };
    vec![
        ("empty", Vec::new(), "is empty"),
        (
            "core-module",
            b"\0asm\x01\0\0\0".to_vec(),
            "core WebAssembly module",
        ),
        ("component-in-text", b"(component)".to_vec(), "is text"),
        (
            "elf",
            [b"\x7fELF\x02\x01\x01".to_vec(), vec![0; 64]].concat(),
            "native code",
        ),
        ("cwasm", native(&good().build()).await, "native code"),
        ("garbage", vec![0xff; 4096], "is not WebAssembly"),
        (
            "torn-component",
            good().build()[..2_000].to_vec(),
            "not a valid component",
        ),
        ("no-world", component(""), "does not export"),
        ("no-hook", exporting("0.1.0", ""), "no hook"),
        (
            "wrong-version",
            exporting("0.9.0", hook),
            "wants heliograph:sms@0.9.0",
        ),
        ("wrong-export", exporting("0.1.0", hook), "describe"),
        ("wrong-export-type", wrong_type, ""),
        (
            "imports-wasi-http",
            importing("wasi:http/outgoing-handler@0.2.0"),
            "wasi:http/outgoing-handler",
        ),
        (
            "imports-another-wasi",
            importing("wasi:filesystem/types@0.3.0"),
            "WASI 0.2 and no other",
        ),
        (
            "imports-another",
            importing("acme:db/query@1.0.0"),
            "acme:db/query",
        ),
        (
            "unknown-capability",
            importing("heliograph:sms/secrets@0.1.0"),
            "secrets",
        ),
        (
            "functions-50000",
            module(&"(func)".repeat(50_000)),
            "40000 functions (plugins.max_functions)",
        ),
        (
            "one-huge-function",
            module(&format!("(func {})", "nop ".repeat(600_000))),
            "524288 bytes",
        ),
        ("instances-5000", nested_instances, ""),
        (
            "modules-200",
            component(&"(core module)".repeat(200)),
            "128 modules",
        ),
        (
            "memory64",
            exporting("0.1.0", &format!("{hook} (core module (memory i64 1))")),
            "not a valid component",
        ),
        (
            "two-memories",
            exporting(
                "0.1.0",
                &format!("{hook} (core module (memory 1) (memory 1))"),
            ),
            "",
        ),
        ("memory-of-4-gib", guest(|g| g.memory = "65536"), "memory"),
        (
            "table-of-100-million",
            guest(|g| g.more = "(table 100000000 funcref)".into()),
            "",
        ),
        ("start-loops", start("(loop $l (br $l))"), "1000"),
        ("start-traps", start("(unreachable)"), "trapped"),
        (
            "start-eats-memory",
            start(
                "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)",
            ),
            "memory",
        ),
        (
            "describe-traps",
            guest(|g| g.describe = "(unreachable)".into()),
            "trapped",
        ),
        (
            "describe-10-mib",
            guest(|g| {
                g.memory = "200";
                g.data = words(&[1024, 5, 1040, 5, 1056, 13, 65_536, 10 << 20]);
                g.describe = format!("(i32.const {FREE})");
            }),
            "describe itself",
        ),
        (
            "describe-with-escapes",
            guest(|g| {
                g.data = [
                    words(&[FREE + 32, 5, 1040, 5, 1056, 13, 4096, 2]),
                    b"\x1b[31m".to_vec(),
                ]
                .concat();
                g.data.splice(32..32, []);
                g.describe = format!("(i32.const {FREE})");
            }),
            "manifest.name",
        ),
        (
            "schema-of-itself",
            with_schema(r##"{"$ref":"#"}"##.into()),
            "leads back to itself",
        ),
        (
            "schema-that-doubles",
            with_schema(doubling()),
            "written out",
        ),
        (
            "schema-from-elsewhere",
            with_schema(r#"{"$ref":"http://169.254.169.254/latest"}"#.into()),
            "no place",
        ),
        (
            "pattern-of-a-gigabyte",
            with_schema(r#"{"pattern":"((a{1000}){1000}){1000}"}"#.into()),
            "schema",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_come_in_is_called_what_it_is() {
    let zoo = Zoo::open(Plan::default()).await;
    for (name, bytes, words) in refused_at_upload().await {
        let (status, problem) = zoo.upload(&bytes).await;
        // An empty body is refused before it is looked at.
        let expected = if name == "empty" {
            400..=422
        } else {
            422..=422
        };
        assert!(expected.contains(&status), "{name}: {status} {problem}");
        let said = problem.to_string();
        assert!(name == "empty" || said.contains(words), "{name}: {problem}");
        assert!(!said.contains('\u{1b}'), "{name}: {problem}");
    }
    // Refused by its length: the rest may find nobody who reads it.
    let headers = [
        ("authorization", &*bearer(ADMIN_KEY)),
        ("content-type", "application/wasm"),
    ];
    let large = Some(vec![0; (32 << 20) + 1]);
    let answer = zoo
        .rig
        .try_call("POST", "/v1/plugins", large, &headers)
        .await;
    assert!(
        answer.as_ref().map_or(true, |(status, _)| *status == 413),
        "{answer:?}"
    );
    let staged = zoo.rig.items("/v1/plugins").await;
    assert!(staged.is_empty(), "{staged:?}");
    zoo.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_active_keeps_the_policy_from_changing() {
    let zoo = Zoo::open(Plan::default()).await;
    let short = "limits = { configure_ms = 100 }";
    let configure = |body: &str| guest(|g| g.configure = body.to_owned());
    let grow =
        "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)";
    let calling = guest(|g| {
        g.imports = r#"(import "heliograph:sms/http@0.1.0" "send"
            (func $send (param i32 i32 i32 i32 i32 i32 i32 i32 i32)))"#;
    });
    let cases = [
        (
            "configure-loops",
            configure("(loop $l (br $l)) (unreachable)"),
            short,
            "configure failed",
        ),
        (
            "realloc-loops",
            guest(|g| g.realloc = "(loop $l (br $l))".into()),
            short,
            "configure failed",
        ),
        (
            "configure-eats-memory",
            configure(grow),
            "",
            "limits.memory_mib",
        ),
        ("configure-traps", configure("(unreachable)"), "", "trapped"),
        ("wants-http", calling, "", "http, which is not granted"),
        (
            "begins-too-large",
            guest(|g| g.memory = "40"),
            "limits = { memory_mib = 1 }",
            "memory",
        ),
        (
            "opens-compliance",
            good().build(),
            "fail = \"open\"",
            "allow_open_compliance",
        ),
    ];
    for (name, bytes, lines, words) in cases {
        let why = zoo.turned_away(name, &bytes, lines).await;
        assert!(why.contains(words), "{name}: {why}");
    }
    // A file of 200 MB takes no memory, and a device without end no time.
    let large = zoo.rig.dir.path().join("large.wasm");
    let file = std::fs::File::create(&large).expect("a file");
    file.set_len(200_000_000).expect("a sparse file");
    for (path, words) in [
        ("{dir}/large.wasm", "200000000 bytes"),
        ("/dev/zero", "is no file"),
        ("{dir}", "is no file"),
    ] {
        let policy = format!("[[plugin]]\nname = \"it\"\npath = \"{path}\"\n");
        let (status, problem) = zoo.rig.put_policy(&policy).await;
        assert_eq!(status, 422, "{problem}");
        assert!(
            text(&problem["errors"][0]["detail"]).contains(words),
            "{problem}"
        );
    }
    zoo.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_only_large_comes_in_and_costs_nobody() {
    let mut zoo = Zoo::open(Plan::default()).await;
    let many =
        "(func (param i32) (result i32) (i32.mul (local.get 0) (i32.const 3)))".repeat(15_000);
    let blocks = format!("(func {}{})", "(block ".repeat(5_000), ")".repeat(5_000));
    let evil = with_schema(r#"{"properties":{"a":{"pattern":"^(a+)+$"}}}"#.into());
    let backtracking = format!("config = {{ a = \"{}!\" }}", "a".repeat(30_000));
    for (name, bytes) in [
        ("functions-15000", guest(|g| g.more = many)),
        ("blocks-5000", guest(|g| g.more = blocks)),
    ] {
        let (status, answer) = zoo.upload(&bytes).await;
        assert_eq!(status, 201, "{name}: {answer}");
        zoo.let_in(name, &bytes, "").await;
        let id = zoo
            .rig
            .submit(heliograph_tests::sms(
                super::HANDSET,
                &format!("behind {name}"),
            ))
            .await;
        zoo.rig.wait_for(&id, "delivered").await;
        zoo.owed.push(id);
    }
    let why = zoo.turned_away("evil-pattern", &evil, &backtracking).await;
    assert!(why.starts_with("/plugin/3/config/a"), "{why}");
    assert_eq!((MANIFEST, ZERO), (1200, 2048));
    zoo.close().await;
}
