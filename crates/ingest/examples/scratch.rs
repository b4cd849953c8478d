use std::io::Read;
fn main() {
    let mut args = std::env::args().skip(1);
    let kind = args.next().unwrap();
    let persons = ingest::persons::Persons::new([1; 32]);
    let source = model::SourceId {
        cluster: "default".into(),
        kind: model::identity::SourceKind::CloudEvents,
        name: "t".into(),
        instance: String::new(),
    };
    let declared = Default::default();
    let context = ingest::Context {
        source: &source,
        declared: &declared,
        zone: chrono_tz::UTC,
        observed_at: model::Time(0),
        persons: &persons,
    };
    let redactor = ingest::redact::Redactor::new(&[2; 32]);
    for file in args {
        let mut bytes = std::fs::read(&file).unwrap();
        if file.ends_with(".gz") {
            let mut o = vec![];
            flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut o).unwrap();
            bytes = o;
        }
        if kind == "redact" {
            for s in redactor.spans(&bytes) {
                println!("{file} {} {:?}", s.rule, String::from_utf8_lossy(&bytes[s.start..s.end]));
            }
            continue;
        }
        if kind == "redact-ce" {
            println!("{file} {:?}", ingest::cloudevents::redact(&bytes, &redactor).1);
            continue;
        }
        for line in bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            let mut out = vec![];
            let mut p = vec![];
            let outcome = match kind.as_str() {
                "ce" => ingest::cloudevents::parse(line, &context, &mut out, &mut p),
                "audit" => ingest::k8s_audit::parse(line, &context, &mut out, &mut p),
                "objects" => ingest::k8s_objects::parse(line, &context, &mut out),
                _ => panic!(),
            };
            println!("# {outcome:?} {} {:?}", line.len(), p);
            for d in out {
                let t = serde_json::to_string(&d.fact).unwrap();
                println!("{} {:?} {}", t.len(), d.cut, t);
                let b: model::Fact = serde_json::from_str(&t).unwrap();
                assert_eq!(b, d.fact);
            }
        }
    }
}
