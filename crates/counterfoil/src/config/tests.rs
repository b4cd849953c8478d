use super::keep::{ClassRetention, Keep};
use super::*;

fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn later_layers_win_and_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("counterfoil.toml");
    std::fs::write(&path, "data = \"/var/a\"\n[api]\nmax_queries = 3\n").unwrap();
    let loaded = load_with(
        Some(&path),
        env(&[("COUNTERFOIL_DATA", "/var/b"), ("COUNTERFOIL_API_LISTEN", "127.0.0.1:1")]),
        vec![("--data", "data", Value::String("/var/c".into()))],
    )
    .unwrap();
    assert_eq!(loaded.config.data, PathBuf::from("/var/c"));
    assert_eq!(loaded.config.api.max_queries, 3);
    assert_eq!(loaded.config.api.listen.port(), 1);
    assert_eq!(loaded.origins["data"].1, Origin::Flag("--data"));
    assert_eq!(loaded.origins["api.max_queries"].1, Origin::File(path));
    assert_eq!(loaded.origins["intake.listen"].1, Origin::Default);
}

#[test]
fn mistakes_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("counterfoil.toml");
    std::fs::write(&path, "[intake]\nlissten = \"127.0.0.1:1\"\n").unwrap();
    let error = format!("{:#}", load_with(Some(&path), env(&[]), vec![]).unwrap_err());
    assert!(error.contains("lissten"), "{error}");
    let error = load_with(None, env(&[("COUNTERFOIL_DATTA", "x")]), vec![]).unwrap_err().to_string();
    assert!(error.contains("COUNTERFOIL_DATTA"), "{error}");
    let flags: Flags = vec![("--x", "intake.memory_bytes", Value::Integer(5))];
    let error = load_with(None, env(&[]), flags).unwrap_err().to_string();
    assert!(error.contains("intake.memory_bytes = 5"), "{error}");
}

#[test]
fn a_class_is_kept_for_its_default_unless_something_else_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("counterfoil.toml");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        load_with(Some(&path), env(&[]), vec![]).map(|loaded| loaded.config.retention)
    };
    let held = read("[retention.lines]\nhold = true\n").unwrap();
    assert_eq!(
        (held.lines, held.events.keep_days),
        (ClassRetention { keep_days: Keep::Days(7), hold: true }, Keep::Days(400))
    );
    let off = read("[retention]\nevents.keep_days = \"off\"\n").unwrap();
    assert_eq!((off.events.keep_days, off.lines.keep_days), (Keep::OFF, Keep::Days(7)));
    for bad in ["keep_days = 0", "keep_days = \"never\"", "keep_days = -1", "age = 3"] {
        let error = format!("{:#}", read(&format!("[retention.events]\n{bad}\n")).unwrap_err());
        assert!(error.contains("keep_days") || error.contains("age"), "{error}");
    }
}

#[test]
fn every_scalar_default_can_be_set_from_the_environment() {
    let defaults = Table::try_from(Config::default()).unwrap();
    leaves("", &defaults, &mut |name, _| {
        assert!(SETTINGS.contains(&name.as_str()), "{name} is missing in SETTINGS");
    });
}
