//! What is generated from the code and published: JSON Schemas and the reference of settings. `UPDATE_PUBLISHED=1
//! cargo test -p counterfoil --test it published` writes them anew; without it a stale file fails.

use std::{fmt::Write as _, fs, path::Path};

use schemars::{Schema, schema_for};
use serde_json::Value;

fn check(path: &str, wanted: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    if std::env::var_os("UPDATE_PUBLISHED").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, wanted).unwrap();
    }
    let present = fs::read_to_string(&path).unwrap_or_default();
    assert!(present == wanted, "{} is stale: UPDATE_PUBLISHED=1 writes it anew", path.display());
}

fn schema(path: &str, schema: &Schema) {
    check(path, &(serde_json::to_string_pretty(schema).unwrap() + "\n"));
}

#[test]
fn schemas_are_those_of_the_code() {
    schema("schemas/config.schema.json", &schema_for!(counterfoil::config::Config));
    schema("schemas/body.schema.json", &schema_for!(model::Body));
    schema("schemas/record.schema.json", &schema_for!(model::Record));
    schema("schemas/search.schema.json", &schema_for!(counterfoil::answer::SearchAnswer));
    schema("schemas/why.schema.json", &schema_for!(counterfoil::answer::WhyAnswer));
    schema("schemas/show.schema.json", &schema_for!(counterfoil::answer::ShowAnswer));
    schema("schemas/entry.schema.json", &schema_for!(counterfoil::answer::EntryAnswer));
    schema("schemas/record-answer.schema.json", &schema_for!(counterfoil::answer::RecordAnswer));
    schema("schemas/doctor.schema.json", &schema_for!(counterfoil::answer::DoctorAnswer));
    schema("schemas/problem.schema.json", &schema_for!(counterfoil::problem::Problem));
    schema("schemas/retention.schema.json", &schema_for!(counterfoil::retention::Plan));
    schema("schemas/verified.schema.json", &schema_for!(counterfoil::verify::Verified));
}

/// A table per section, in the order of the fields.
#[test]
fn the_reference_of_settings_is_current() {
    let schema = serde_json::to_value(schema_for!(counterfoil::config::Config)).unwrap();
    let defaults = serde_json::to_value(counterfoil::config::Config::default()).unwrap();
    let mut text = String::from(
        "# Configuration\n\nGenerated from the code. One TOML file (`--config FILE`); unknown names are errors. A setting's environment\n\
         variable is `COUNTERFOIL_` and its dotted name in capitals with `_`, as `COUNTERFOIL_INTAKE_LISTEN`; lists have none. Order: defaults,\n\
         file, environment, command line; `counterfoil config check` prints the effective values and where each came from.\n\
         Secrets are paths of files, never values.\n",
    );
    section(&mut text, "", &schema, &schema, &defaults);
    check("docs/configuration.md", &text);
}

fn resolve<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    let reference = schema.get("$ref").or_else(|| schema.pointer("/allOf/0/$ref"));
    match reference.and_then(Value::as_str) {
        Some(path) => root.pointer(path.trim_start_matches('#')).unwrap_or(schema),
        None => schema,
    }
}

fn sentence(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().replace('\n', " ")
}

fn section(out: &mut String, name: &str, schema: &Value, root: &Value, defaults: &Value) {
    let title = if name.is_empty() { "top level".to_owned() } else { name.to_owned() };
    let _ = write!(out, "\n## {title}\n\n{}\n\n| setting | default | meaning |\n|---|---|---|\n", sentence(schema));
    let mut below = Vec::new();
    for (key, field) in schema["properties"].as_object().into_iter().flatten() {
        let resolved = resolve(field, root);
        let default = &defaults[key];
        let words = if field["description"].is_string() { sentence(field) } else { sentence(resolved) };
        if let Some(items) = field.get("items") {
            let _ = writeln!(out, "| `[[{}{key}]]` | none | {words} |", prefix(name));
            below.push((format!("[[{}{key}]]", prefix(name)), resolve(items, root), &Value::Null));
        } else if resolved["properties"].is_object() {
            let _ = writeln!(out, "| `[{key}]` | | {words} |");
            below.push((format!("[{key}]"), resolved, default));
        } else {
            let default = if default.is_null() { "none".to_owned() } else { format!("`{default}`") };
            let _ = writeln!(out, "| `{key}` | {default} | {words} |");
        }
    }
    for (name, schema, defaults) in below {
        section(out, &name, schema, root, defaults);
    }
}

fn prefix(name: &str) -> String {
    let name = name.trim_matches(['[', ']']);
    if name.is_empty() { String::new() } else { format!("{name}.") }
}
