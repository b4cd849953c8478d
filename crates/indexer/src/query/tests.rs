use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

/// A query as the parser understood it, with every group written out.
fn written(node: &Node) -> String {
    let join = |nodes: &[Node], word: &str| format!("({})", nodes.iter().map(written).collect::<Vec<_>>().join(word));
    match node {
        Node::All => "everything".into(),
        Node::And(nodes) => join(nodes, " AND "),
        Node::Or(nodes) => join(nodes, " OR "),
        Node::Not(node) => format!("NOT {}", written(node)),
        Node::Clause(clause) => {
            let names: Vec<&str> = clause.fields.iter().map(|field| field.name()).collect();
            let end = |end: &End, included: &str, excluded: &str| match end {
                End::Open => "…".to_owned(),
                End::Included(value) => format!("{included}{value:?}"),
                End::Excluded(value) => format!("{excluded}{value:?}"),
            };
            let test = match &clause.test {
                Test::Value(value) => format!("= {value:?}"),
                Test::Pattern(pieces) => format!("~ {pieces:?}"),
                Test::Range(low, high) => format!("in {} {}", end(low, ">=", ">"), end(high, "<=", "<")),
                Test::Exists => "exists".into(),
            };
            format!("<{} {test} @{}..{}>", names.join("|"), clause.at.start, clause.at.end)
        }
    }
}

#[test]
fn what_is_meant() {
    let mut table = String::new();
    for query in [
        "",
        "  ",
        "*",
        "gateway",
        "type:handshake.failed from:gateway",
        "a OR b AND c",
        "a b OR c",
        "NOT a b",
        "-a !b +c",
        "a && b || c",
        "(a OR b) cause:(undetermined OR refused_by_caller)",
        r#"summary:"refused by caller""#,
        r#"missing:"a \"b\" \\ c""#,
        "#48213",
        "entry:[10 TO 20]",
        "entry:{10 TO 20]",
        "count:[* TO 5}",
        "count:>=3",
        "count:<3",
        "time:>2026-11-23T15:20:59Z",
        r#"time:["2026-11-23" TO *]"#,
        "run:shop-ci/check*",
        "pod:?-1**",
        "_exists_:cause",
        "cause:*",
        "identity:spiffe://example.org/ns/shop/sa/gateway",
        "spiffe://example.org/ns/shop/sa/gateway",
        "sha256:505ff876",
        "10.0.9.4:8443",
        r"a\:b\*c\ d",
        "run : x",
        "or and not TOP ORANGE ANDY",
        "run:(a -b)",
        "commit:(3b1f0c9d OR 9e8d7c6)",
        "from:(a to:b)",
        "vcs.ref.head.revision:3b1f0c9d",
        "@timestamp:[2026-11-23 TO 2026-11-24]",
        "café OR 日本",
    ] {
        let read = parse(query).map_or_else(|error| format!("WRONG {error}"), |node| written(&node));
        let _ = writeln!(table, "{query}\n    {read}");
    }
    insta::assert_snapshot!(table);
}

#[test]
fn what_is_wrong_and_where() {
    let mut table = String::new();
    for query in [
        "comit:3b1f",
        "état comit:3b1f",
        "head:3b1f",
        "telepathy:strong",
        "_exists_:caus",
        "run:",
        "(run: )",
        "(a OR b",
        "a)",
        ")",
        "()",
        "a OR",
        "OR a",
        "AND",
        "NOT",
        "a AND OR b",
        r#"summary:"never closed"#,
        "count:[1 TO",
        "count:[1 TO 2",
        "count:[1, 2]",
        "count:[ TO 2]",
        "[1 TO 2]",
        "count:>=",
        "gateway~2",
        "gateway^3",
        "a\\",
        "#x",
        "#12x",
        "]",
    ] {
        let error = parse(query).expect_err(query);
        let at = error.at.map_or(String::new(), |at| format!(" [{}..{}]", at.start, at.end));
        let _ = writeln!(table, "{query}\n    {error}{at}");
    }
    insta::assert_snapshot!(table);
}

#[test]
fn limits_are_said() {
    let long = "a".repeat(MAX_LENGTH + 1);
    let deep = "(".repeat(MAX_DEPTH + 1);
    let many = "a ".repeat(MAX_CLAUSES + 1);
    for (query, what) in [(long, "at most 4096"), (deep, "deeper than 32"), (many, "more than 256")] {
        let error = parse(&query).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
    assert!(parse(&"a ".repeat(MAX_CLAUSES)).is_ok());
    assert!(parse(&format!("{}a{}", "(".repeat(MAX_DEPTH - 1), ")".repeat(MAX_DEPTH - 1))).is_ok());
}

/// Text made of what the language is made of: finds more than arbitrary characters do.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("(").boxed(),
        Just(")").boxed(),
        Just("[").boxed(),
        Just("}").boxed(),
        Just("\"").boxed(),
        Just("\\").boxed(),
        Just(" ").boxed(),
        Just(" TO ").boxed(),
        Just(" OR ").boxed(),
        Just("NOT ").boxed(),
        Just("-").boxed(),
        Just("#").boxed(),
        Just("run:").boxed(),
        Just("count:>=").boxed(),
        Just("*").boxed(),
        Just("?").boxed(),
        Just("é").boxed(),
        Just("1").boxed(),
        Just("_exists_:").boxed(),
        Just("time:").boxed(),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

#[test]
fn a_place_ends_behind_a_character() {
    let error = parse("run:[a é").unwrap_err();
    assert_eq!(error.at, Some(Span { start: 7, end: 9 }), "{error}");
}

proptest! {
    #[test]
    fn no_text_panics_and_every_place_is_in_it(query in prop_oneof![pieces(), any::<String>()]) {
        if let Err(QueryError { at: Some(at), column, .. }) = parse(&query) {
            prop_assert!(at.start <= query.len() && at.end <= query.len());
            prop_assert!(query.is_char_boundary(at.start) && query.is_char_boundary(at.end));
            prop_assert!(column >= 1);
        }
    }

    #[test]
    fn a_quoted_value_is_read_back_as_it_was(value in any::<String>()) {
        let query = format!("run:{}", quote(&value));
        match parse(&query) {
            Ok(Node::Clause(Clause { test: Test::Value(read), .. })) => prop_assert_eq!(read, value),
            other => prop_assert!(false, "{:?}", other),
        }
    }
}
