//! Signatures made by the providers' own libraries (PyPI twilio 9.13.0, vonage-http-client, PyJWT) and
//! by Python's hmac; every one of them is refused again with one thing changed.

use proptest::prelude::*;

use super::*;

/// 2026-06-15T12:00:00Z
const NOW: Timestamp = Timestamp(1_781_524_800_000);

fn verification(scheme: Scheme, secret: &str) -> Verification {
    Verification {
        scheme,
        secrets: vec![b"an old one".to_vec(), secret.as_bytes().to_vec()],
        url: "https://sms.example.com/v1/carriers/twilio/callback".to_owned(),
        tolerance: Duration::from_secs(300),
    }
}

fn request(query: &str, headers: &[(&str, &str)], body: &str) -> HttpRequest {
    HttpRequest {
        method: "POST".to_owned(),
        url: format!("/v1/carriers/x/callback{query}"),
        headers: headers
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect(),
        body: body.as_bytes().to_vec(),
    }
}

const FORM: (&str, &str) = (
    "content-type",
    "application/x-www-form-urlencoded; charset=UTF-8",
);

#[test]
fn twilios_own_example() {
    let twilio = Verification {
        url: "https://mycompany.com/myapp.php".to_owned(),
        ..verification(Scheme::Twilio, "12345")
    };
    let signature = ("X-Twilio-Signature", "RSOYDt4T1cUTdK1PDd93/VVr8B8=");
    let body = "CallSid=CA1234567890ABCDE&Digits=1234&From=%2B14158675309&To=%2B18005551212&Caller=%2B14158675309";
    let call =
        |query: &str, body: &str| twilio.verify(&request(query, &[FORM, signature], body), NOW);
    assert_eq!(call("?foo=1&bar=2", body), Ok(()));
    let wrong = Err("X-Twilio-Signature is wrong");
    assert_eq!(call("?foo=1&bar=3", body), wrong);
    assert_eq!(call("", body), wrong);
    assert_eq!(call("?foo=1&bar=2", &body.replace("1234&", "1235&")), wrong);
    assert_eq!(call("?foo=1&bar=2", &format!("{body}&More=1")), wrong);
    let unsigned = request("?foo=1&bar=2", &[FORM], body);
    assert_eq!(twilio.verify(&unsigned, NOW), Err("no X-Twilio-Signature"));
    let twice = request("?foo=1&bar=2", &[FORM, signature, signature], body);
    assert_eq!(twilio.verify(&twice, NOW), Err("no X-Twilio-Signature"));
    let other = verification(Scheme::Twilio, "12346");
    let call = request("?foo=1&bar=2", &[FORM, signature], body);
    assert_eq!(other.verify(&call, NOW), wrong);
}

#[test]
fn a_twilio_call_back_with_and_without_the_port() {
    let signature = ("x-twilio-signature", "OnxycNx/IYf6M5YQ25eCyHK+f7E=");
    let body = "Body=a+b%26c%3D%C3%A9%2B&MessageSid=SM1&MessageStatus=delivered";
    let call = request("", &[FORM, signature], body);
    let mut twilio = verification(Scheme::Twilio, "12345");
    assert_eq!(twilio.verify(&call, NOW), Ok(()));
    twilio.url = twilio.url.replace(".com/", ".com:443/");
    assert_eq!(twilio.verify(&call, NOW), Ok(()));
    twilio.url = twilio.url.replace(":443/", ":8443/");
    assert!(twilio.verify(&call, NOW).is_err());
}

#[test]
fn twilio_covers_json_by_its_hash() {
    let query = "?bodySHA256=f9d86028c6e0d64e225186f96acb69338b2c59764df79162107f5c4bb34d1310";
    let headers = [
        ("content-type", "application/json"),
        ("x-twilio-signature", "9bJPjoo1OVMxIfr7WYEHAabPGeg="),
    ];
    let twilio = verification(Scheme::Twilio, "12345");
    let call = |query, body| twilio.verify(&request(query, &headers, body), NOW);
    assert_eq!(call(query, "{\"a\": 1}"), Ok(()));
    assert_eq!(
        call(query, "{\"a\": 2}"),
        Err("bodySHA256 is not the body's")
    );
    assert_eq!(
        call("", "{\"a\": 1}"),
        Err("a body that is no form, and no bodySHA256")
    );
}

const RECEIPT: &str = "msisdn=447700900123&to=Acme&messageId=0A0000000123ABCD1&status=delivered&err-code=0&client-ref=a%26b%3Dc&price=0.03330000&timestamp=1781524800&nonce=x1";

#[test]
fn vonages_signatures_in_query_form_and_json() {
    use VonageMethod::{Md5, Md5Hash, Sha1, Sha256, Sha512};
    for (method, sig) in [
        (Md5, "d1b0b18e819e2aa7e565cdc427c5eb84"),
        (Md5Hash, "c65b42581da46333b10a87a04d15ea1a"),
        (Sha1, "218f6a2c8abb55b13eeb2a2609cf520a17c0a761"),
        (
            Sha256,
            "CE475F692BD4807DB17C3218878D0DCCE26665C81935AD95D8C4696E3D19ABB9",
        ),
        (
            Sha512,
            "7a6a9e5a714608a87be464daab7285069b3b94085f1020e38876d9ae0ba44c6cd669ea8f7dca7d0f183fc7e4750d02f4cbcda0dff3a991bac33286e784a204b9",
        ),
    ] {
        let vonage = verification(Scheme::Vonage(method), "s3cret-of-vonage");
        let signed = format!("{RECEIPT}&sig={sig}");
        let query = request(&format!("?{signed}"), &[], "");
        assert_eq!(vonage.verify(&query, NOW), Ok(()), "{method:?}");
        assert_eq!(
            vonage.verify(&request("", &[FORM], &signed), NOW),
            Ok(()),
            "{method:?}"
        );
        let json = format!(
            r#"{{"msisdn": "447700900123", "to": "Acme", "messageId": "0A0000000123ABCD1", "status": "delivered", "err-code": 0, "client-ref": "a&b=c", "price": "0.03330000", "timestamp": 1781524800, "nonce": "x1", "sig": "{sig}"}}"#
        );
        assert_eq!(
            vonage.verify(&request("", &[], &json), NOW),
            Ok(()),
            "{method:?}"
        );
        let failed = signed.replace("delivered", "failed");
        assert_eq!(
            vonage.verify(&request("", &[FORM], &failed), NOW),
            Err("sig is wrong")
        );
        let more = request(&format!("?{signed}"), &[FORM], "status=failed");
        assert_eq!(vonage.verify(&more, NOW), Err("sig is wrong"));
        let later = Timestamp(NOW.millis() + 301_000);
        let old = Err("it was signed too long ago, or in the future");
        assert_eq!(vonage.verify(&query, later), old, "{method:?}");
        let two = request(&format!("?{signed}&sig={sig}"), &[], "");
        assert_eq!(vonage.verify(&two, NOW), Err("sig stands twice"));
        assert_eq!(
            vonage.verify(&request(&format!("?{RECEIPT}"), &[], ""), NOW),
            Err("no sig")
        );
    }
}

const TOKEN: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpYXQiOjE3ODE1MjQ4MDAsImp0aSI6ImoiLCJpc3MiOiJWb25hZ2UiLCJwYXlsb2FkX2hhc2giOiIzMDQxN2UxM2VlMTE2NmEyNjlhMDI4NTQ4NWFjMmM5NWE3YTkyYzQ3YTJiYTVkMTkzMjgzMzc3ZWQzY2I3ZWZmIn0.hq__bpBNIKD7qQyu_Y8cM40180L82CFM04ydWG2wu5o";
const UNSIGNED_TOKEN: &str = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJpYXQiOjE3ODE1MjQ4MDAsInBheWxvYWRfaGFzaCI6IjMwNDE3ZTEzZWUxMTY2YTI2OWEwMjg1NDg1YWMyYzk1YTdhOTJjNDdhMmJhNWQxOTMyODMzNzdlZDNjYjdlZmYifQ.";
const PAYLOAD: &str = r#"{"message_uuid":"A","status":"delivered"}"#;

#[test]
fn a_json_web_token_covers_its_body() {
    let jwt = verification(Scheme::Jwt, "s3cret-of-vonage-s3cret-of-vonage");
    let call = |token: &str, body, now| {
        let value = format!("Bearer {token}");
        jwt.verify(&request("", &[("Authorization", &value)], body), now)
    };
    assert_eq!(call(TOKEN, PAYLOAD, NOW), Ok(()));
    assert_eq!(
        call(TOKEN, "{}", NOW),
        Err("the token's payload_hash is not the body's")
    );
    let later = Timestamp(NOW.millis() + 301_000);
    assert!(call(TOKEN, PAYLOAD, later).is_err());
    assert_eq!(
        call(UNSIGNED_TOKEN, PAYLOAD, NOW),
        Err("the token's signature is wrong")
    );
    assert_eq!(call("a.b", PAYLOAD, NOW), Err("no JSON Web Token"));
    assert_eq!(call("", PAYLOAD, NOW), Err("no bearer token"));
    assert_eq!(
        jwt.verify(&request("", &[], PAYLOAD), NOW),
        Err("no bearer token")
    );
}

fn hmac_scheme(signed: &str, encoding: SignatureEncoding, prefix: &str) -> Scheme {
    Scheme::Hmac(HmacScheme {
        header: "x-signature".to_owned(),
        algorithm: Algorithm::Sha256,
        encoding,
        prefix: prefix.to_owned(),
        signed: Piece::parse(signed).unwrap(),
        timestamp: Some("x-timestamp".to_owned()),
    })
}

#[test]
fn an_hmac_over_what_the_operator_describes() {
    let hex = "sha256=c8fc45cd7c217abba143a9ae38d5feddea72d8c8ae18f9e796be12b19d1e6647";
    let base64 = "/dFqgxz1sS2F2KOoehUdDoJ9mBv+1lTBxI87rUnfJ7E=";
    for (scheme, signature) in [
        (
            hmac_scheme("{timestamp}.{body}", SignatureEncoding::Hex, "sha256="),
            hex,
        ),
        (
            hmac_scheme(
                "{body}.{header:X-Nonce}.{timestamp}",
                SignatureEncoding::Base64,
                "",
            ),
            base64,
        ),
    ] {
        let hmac = verification(scheme, "key");
        let headers = [
            ("x-signature", signature),
            ("X-Timestamp", "1781524800"),
            ("X-Nonce", "n1"),
        ];
        assert_eq!(hmac.verify(&request("", &headers, PAYLOAD), NOW), Ok(()));
        let wrong = Err("the signature is wrong");
        assert_eq!(hmac.verify(&request("", &headers, "{}"), NOW), wrong);
        let moved = [headers[0], ("x-timestamp", "1781524801"), headers[2]];
        assert_eq!(hmac.verify(&request("", &moved, PAYLOAD), NOW), wrong);
        let bare = [headers[0], headers[2]];
        assert_eq!(
            hmac.verify(&request("", &bare, PAYLOAD), NOW),
            Err("no timestamp header")
        );
    }
}

#[test]
fn what_is_signed_is_checked_when_it_is_read() {
    for (signed, rule) in [
        ("{timestamp}", "has no {body}"),
        ("{body", "not closed"),
        ("{boddy}", "{boddy} is none of"),
        ("{body}{header:}", "{header:} is none of"),
    ] {
        let error = Piece::parse(signed).unwrap_err();
        assert!(error.contains(rule), "{signed}: {error}");
    }
}

#[test]
fn shared_secrets_and_passwords() {
    let shared = |place| verification(Scheme::Shared(place), "s3cret");
    let field = shared(Place::Field("token".to_owned()));
    let header = shared(Place::Header("x-token".to_owned()));
    assert_eq!(
        field.verify(&request("?token=s3cret", &[], ""), NOW),
        Ok(())
    );
    assert_eq!(
        field.verify(&request("", &[FORM], "a=1&token=s3cret"), NOW),
        Ok(())
    );
    assert_eq!(
        field.verify(&request("?token=an+old+one", &[], ""), NOW),
        Ok(())
    );
    assert_eq!(
        header.verify(&request("", &[("X-Token", "s3cret")], ""), NOW),
        Ok(())
    );
    for query in [
        "?token=",
        "?token=S3cret",
        "?token=s3cret%00",
        "?token=wrong&token=s3cret",
    ] {
        assert_eq!(
            field.verify(&request(query, &[], ""), NOW),
            Err("the secret is wrong"),
            "{query}"
        );
    }
    assert_eq!(
        field.verify(&request("", &[], "token=s3cret"), NOW),
        Err("no secret")
    );
    let basic = verification(Scheme::Basic, "infobip:s3cret");
    let call = |value: &str| basic.verify(&request("", &[("authorization", value)], ""), NOW);
    assert_eq!(call("Basic aW5mb2JpcDpzM2NyZXQ="), Ok(()));
    assert_eq!(call("basic aW5mb2JpcDpzM2NyZXQ="), Ok(()));
    assert!(call("Basic aW5mb2JpcDo=").is_err());
    assert!(call("Basic").is_err());
}

#[test]
fn no_secret_is_printed() {
    let text = format!("{:?}", verification(Scheme::Basic, "hunter2"));
    assert!(!text.contains("hunter2") && !text.contains("104"), "{text}");
}

proptest! {
    #[test]
    fn nothing_panics_and_nothing_unsigned_passes(
        query in "\\PC{0,40}",
        name in prop::sample::select(vec!["authorization", "x-signature", "x-twilio-signature", "x-timestamp"]),
        value in "\\PC{0,60}",
        body in proptest::collection::vec(any::<u8>(), 0..60),
        form in any::<bool>(),
    ) {
        let kind = if form { FORM.1 } else { "application/json" };
        let mut call = request(&format!("?{query}"), &[("content-type", kind), (name, &value)], "");
        call.body = body;
        for scheme in [
            Scheme::Twilio,
            Scheme::Vonage(VonageMethod::Md5Hash),
            Scheme::Jwt,
            hmac_scheme("{url}{method}{body}", SignatureEncoding::Hex, ""),
            Scheme::Shared(Place::Field("token".to_owned())),
            Scheme::Basic,
        ] {
            prop_assert!(verification(scheme, "0123456789abcdef").verify(&call, NOW).is_err());
        }
    }
}
