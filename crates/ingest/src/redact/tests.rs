use super::*;

fn redactor() -> Redactor {
    Redactor::new(&[3; 32])
}

/// What the spans cover, with their rules.
fn found(text: &str) -> Vec<(String, &'static str)> {
    redactor().spans(text.as_bytes()).into_iter().map(|s| (text[s.start..s.end].to_owned(), s.rule)).collect()
}

#[test]
fn secrets_are_found_wherever_they_are_written() {
    for (text, secrets) in [
        (
            r#"{"Authorization":["Bearer abc.def"],"X-Github-Event":["push"]}"#,
            &[("Bearer abc.def", "authorization")][..],
        ),
        (r#"{"X-Secret-Token":["lab-hook-token"]}"#, &[("lab-hook-token", "token")]),
        (
            r#"{"X-Hub-Signature-256":["sha256=b49c"], "Cookie":["a=b","c=d"]}"#,
            &[("sha256=b49c", "signature"), ("a=b", "cookie"), ("c=d", "cookie")],
        ),
        ("authorization: Basic dXNlcjpwYXNz\r\nce-id: 1\r\n", &[("Basic dXNlcjpwYXNz", "authorization")]),
        ("curl -H 'PRIVATE-TOKEN: abcdef' https://git.example", &[("abcdef", "token")]),
        (
            r#"{"script":"curl -H \"Authorization: Bearer abc\" https://u:p%40ss@git.example/x\n"}"#,
            &[("Bearer abc", "authorization"), ("p%40ss", "url")],
        ),
        ("clone https://0123456789abcdef0123@git.example/x", &[("0123456789abcdef0123", "url")]),
        (r#"{"message":"[{\"key\":\"db_password\",\"value\":\"o\\\"k\",\"type\":1}]"}"#, &[(r#"o\\\"k"#, "password")]),
        (
            r#"{"params":[{"name":"git-token","value":"s3cr3t"},{"name":"url","value":"https://git.example"}]}"#,
            &[("s3cr3t", "token")],
        ),
        (r#"{"name":"apikey","type":"string","value":"s3cr3t"}"#, &[("s3cr3t", "api_key")]),
        (
            r#"[["Authorization", "Basic dTpw"], ["X-Secret-Token","a"], ["token","b"]]"#,
            &[("Basic dTpw", "authorization"), ("a", "token")],
        ),
        ("cut off \"password\":\"hunter", &[("hunter", "password")]),
        (r#"{"m":"cut off {\"token\":\"abc"}"#, &[("abc", "token")]),
        (r#"{ "clientSecret" : "a\"b" , "n": 1}"#, &[(r#"a\"b"#, "secret")]),
        ("GET /x?access_token=abc&sig=d%2Bf&page=2 HTTP/1.1", &[("abc", "token"), ("d%2Bf", "query")]),
        ("--password=hunter2 --user=bob", &[("hunter2", "password")]),
        ("level=info msg=\"token=\\\"abc def\\\" x\"", &[("abc def", "token")]),
        (
            "t eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4eHh4In0.c2ln-Z_ x",
            &[("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4eHh4In0.c2ln-Z_", "jwt")],
        ),
        (
            r#"{"k":"-----BEGIN RSA PRIVATE KEY-----\nMIIB+/==\n-----END RSA PRIVATE KEY-----\n","n":"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"}"#,
            &[(r"-----BEGIN RSA PRIVATE KEY-----\nMIIB+/==\n-----END RSA PRIVATE KEY-----", "private_key")],
        ),
        ("key AKIAIOSFODNN7EXAMPLE!", &[("AKIAIOSFODNN7EXAMPLE", "aws")]),
        (
            "ghp_0123456789abcdefghijABCDEFGHIJ012345 glpat-0123456789abcdefghij",
            &[("ghp_0123456789abcdefghijABCDEFGHIJ012345", "github"), ("glpat-0123456789abcdefghij", "gitlab")],
        ),
        ("hook xoxb-123456789012-abcdef", &[("xoxb-123456789012-abcdef", "slack")]),
    ] {
        let expected: Vec<_> = secrets.iter().map(|(secret, rule)| ((*secret).to_owned(), *rule)).collect();
        assert_eq!(found(text), expected, "{text}");
    }
}

#[test]
fn unusual_spellings_hide_nothing() {
    let github = "ghp_0123456789abcdefghijABCDEFGHIJ012345";
    for before in ["\\n", "\\t", "\\u000a", "%20", "%2F", "\\x22", "\\\\n"] {
        assert_eq!(found(&format!("a{before}{github}\"")), [(github.to_owned(), "github")], "{before}");
    }
    let jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4eHh4In0.c2ln";
    assert_eq!(found(&format!("auth\\n{jwt}")), [(jwt.to_owned(), "jwt")]);
    for (text, secret) in [
        (r"https://a.example/c?sv=1\u0026sig=s3cr3t\u0026x=1", "s3cr3t"),
        ("GET /x?t%6Fken=s3cr3t&b HTTP/1.1", "s3cr3t"),
        ("GET /x?pass=s3cr3t HTTP/1.1", "s3cr3t"),
        ("GET /cb?a=b&code=s3cr3t HTTP/1.1", "s3cr3t"),
        (r#"{"secretKey":"s3cr3t"}"#, "s3cr3t"),
        (r#"{"tokenValue" : "s3cr3t"}"#, "s3cr3t"),
        (r#"{"passwords":["s3cr3t"]}"#, "s3cr3t"),
        (r#"{"credentials":"s3cr3t"}"#, "s3cr3t"),
        (r#"{"name":"pwd","value":"s3cr3t"}"#, "s3cr3t"),
        (r#"{"name":"DB_PASS","value":"s3cr3t"}"#, "s3cr3t"),
        (r#"[{"value":"s3cr3t","name":"password"}]"#, "s3cr3t"),
        (r#"[{"value":"s3\"cr3t", "type" : "string", "name":"git-token"}]"#, r#"s3\"cr3t"#),
        (r#"{"m":"[{\"value\":\"s3cr3t\",\"key\":\"token\"}]"}"#, "s3cr3t"),
        (r#"{"passw\u006frd":"s3cr3t"}"#, "s3cr3t"),
        (r#"{"auths":{"r.example":{"auth":"s3cr3t"}}}"#, "s3cr3t"),
        ("run --password s3cr3t --user bob", "s3cr3t"),
        (r#"{"args":["--password","s3cr3t"]}"#, "s3cr3t"),
        (r#"{"m":"run --db-token \"s3cr3t\""}"#, "s3cr3t"),
        ("GET /?to=%2Fx%3Ftoken%3Ds3cr3t HTTP/1.1", "s3cr3t"),
        ("password: s3cr3t\n", "s3cr3t"),
        ("password = s3cr3t\n", "s3cr3t"),
        ("X-Auth-Token: s3cr3t\r\n", "s3cr3t"),
        ("got Basic Ym9iOnMzY3IzdA== from", "Ym9iOnMzY3IzdA=="),
        ("curl -u bob:s3cr3t https://h.example", "s3cr3t"),
        (r#"["curl","-u","bob:s3cr3t"]"#, "s3cr3t"),
        ("{'password': 's3 cr3t'}", "s3 cr3t"),
        ("key sk_live_0123456789abcdefgh.", "sk_live_0123456789abcdefgh"),
    ] {
        let spans: Vec<_> = found(text).into_iter().map(|(text, _)| text).collect();
        assert_eq!(spans, [secret], "{text}");
    }
}

#[test]
fn the_data_of_secret_objects_go_whatever_they_are_called() {
    for text in [
        r#"{"kind":"Secret","metadata":{"name":"n"},"data":{"a":"S1","b":"S2"},"type":"Opaque"}"#,
        r#"{"apiVersion":"v1", "data":{"a":"S1"}, "kind":"Secret","stringData":{"b":"S2"},"type":"Opaque"}"#,
        r#"{"items":[{"data":{"keep":"it"},"kind":"ConfigMap"},{"data":{"a":"S1","x":null,"b":"S2"},"kind": "Secret"}]}"#,
        r#"{"kind":"SecretList","items":[{"data":{"a":"S1"}},{"data":{"b":"S2"}}]}"#,
        r#"{"last-applied":"{\"data\":{\"a\":\"S1\",\"b\":\"S2\"},\"kind\":\"Secret\"}"}"#,
    ] {
        assert_eq!(found(text), [("S1".to_owned(), "secret"), ("S2".to_owned(), "secret")], "{text}");
    }
    let jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4eHh4In0.c2ln";
    let inside = format!(r#"{{"data":{{"a":"x {jwt} y"}},"kind":"Secret"}}"#);
    assert_eq!(found(&inside), [(format!("x {jwt} y"), "secret")], "the larger span stands");
}

#[test]
fn searches_across_objects_end() {
    let begin = std::time::Instant::now();
    let text = format!("{{{}", r#""kind":"Secret","#.repeat(100_000));
    assert_eq!(found(&text), []);
    assert!(begin.elapsed().as_secs() < 20, "every kind looked at the whole text");
}

#[test]
fn identifiers_and_messages_stay() {
    for text in [
        "spiffe://prod.example/ns/ci/sa/token-reader",
        r#"{"resource":"serviceaccounts","subresource":"token","name":"builder"}"#,
        r#"{"secretName":"regcred","tokenExpirationSeconds":3600,"secret":{"defaultMode":420},"automountServiceAccountToken":false}"#,
        r#"{"authentication.kubernetes.io/credential-id":["JTI=67f78fb3-80ae-4052-88c9-23a16e025a2e"]}"#,
        "images.example/a@sha256:71bd657f1fefda6f7fed4d86842fe81ff46384de2df6bb20c9be8bdaf20dc77c",
        "invalid bearer token: token has expired, Bearer token",
        "git clone ssh://git@git.example/x git@git.example:y https://alice@git.example/z https://git.example/a:b@c",
        "cert=-----BEGIN%20CERTIFICATE-----%0AMIIC%2B serial=0E1F4292977A598AE90BFF8ACCB5AAB3",
        r#"{"body_b64":"eyJBY2NlcHQtRW5jb2RpbmciOlsiaWRlbnRpdHkiXX0="}"#,
        r#"{"token":"","password":null,"message":"b4d0c0de9a8b7c6d5e4f30211203f4e5d6c7b8a9"}"#,
        "unfinished \"password\":\"",
        "asiaASIA ghp_short",
        r#"{"secretKeyRef":{"name":"db","key":"x"},"bypass":"no","compass=":1,"author":"bob","passed":"12","statusCode":"200"}"#,
        "docker run -u 1000:1000 x, Basic authentication failed, exit code=1, basic ",
        r#"{"ownerReferences":[{"kind":"Secret","name":"n"}],"data":{"keep":"it"},"kind":"ConfigMap"}"#,
        r#"[{"value":"main","name":"branch"},{"value":"x","name":"token-reader"}]"#,
        r#"{"m":["--token "],"k":"--token "}"#,
    ] {
        assert_eq!(found(text), [], "{text}");
        let (out, counts) = redactor().redact(text.as_bytes());
        assert!(matches!(out, Cow::Borrowed(_)) && counts.is_empty());
    }
}

#[test]
fn a_span_becomes_a_keyed_mark_and_json_stays_json() {
    let text = r#"{"password":"a\"b","again":{"password":"a\"b"},"url":"https://u:pw@h/"}"#;
    let (out, counts) = redactor().redact(text.as_bytes());
    let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
    let mark = json["password"].as_str().unwrap();
    assert!(mark.starts_with("[redacted:password:") && mark.len() == "[redacted:password:]".len() + 16, "{mark}");
    assert_eq!(json["again"]["password"], mark, "equal secrets have equal marks");
    assert_eq!(counts, [Redacted { rule: "password".into(), n: 2 }, Redacted { rule: "url".into(), n: 1 }]);
    let other = Redactor::new(&[4; 32]);
    assert_ne!(other.redact(text.as_bytes()).0, out, "the key decides the marks");
    let (twice, counts) = redactor().redact(&out);
    assert_eq!((twice, counts), (out.clone(), vec![]), "redacting again changes nothing");
    // A mark's own colons divide no user from a password; those behind it do.
    let user = "curl -u h?sig=[redacted:query:0123456789abcdef]";
    assert_eq!(found(user), []);
    assert_eq!(found(&format!("{user}:s3cr3t x")), [("s3cr3t".to_owned(), "password")]);
}

#[test]
fn a_quote_that_a_line_leaves_open_takes_no_other_line_along() {
    let lines = concat!(
        "first \"kept\"\n",
        "cut off {\"password\":\"s3cr3t\n",
        "a handshake failed, server: \"x\"\n",
        "\",\"name\":\"password\"}\n",
        "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\nlast"
    );
    let redactor = redactor();
    let spans = redactor.spans_of_lines(lines.as_bytes());
    let found: Vec<&str> = spans.iter().map(|span| &lines[span.start..span.end]).collect();
    assert_eq!(found, ["s3cr3t", "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----"]);
}

proptest::proptest! {
    /// Whatever arrives: spans are in order and inside, and what was valid JSON stays valid JSON.
    #[test]
    fn spans_are_in_order_and_json_stays_valid(parts in proptest::collection::vec(
        proptest::sample::select(vec!["\"", "\\\"", "\\\\", "{", "}", "[", "]", ":", ",", "token", "password", "=", "Authorization: ", "https://", "a:b@", "eyJhbGciOiJS", ".", "x", "\n", " ", "-----BEGIN RSA PRIVATE KEY-----", "\u{e9}", "name", "value", "kind", "Secret", "data", "--", "'", "\\u006f", "%6F", "?", " -u ", "basic "]), 0..40)) {
        let text = parts.concat();
        for text in [text.clone(), serde_json::json!({"password": text, "m": [text]}).to_string(), serde_json::json!({"m": serde_json::json!({"k": text, "token": text}).to_string()}).to_string()] {
            let mut last = 0;
            for span in redactor().spans(text.as_bytes()) {
                proptest::prop_assert!(span.start >= last && span.end > span.start && span.end <= text.len());
                last = span.end;
            }
            let (out, _) = redactor().redact(text.as_bytes());
            if serde_json::from_str::<serde_json::Value>(&text).is_ok() {
                proptest::prop_assert!(serde_json::from_slice::<serde_json::Value>(&out).is_ok(), "{text}");
            }
        }
    }
}
