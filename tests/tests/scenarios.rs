//! Every file of `scenarios/`: its entries give the records that it expects.

use std::{fs, path::Path};

use scenarios::{
    fold,
    scenario::{Scenario, check},
};

#[test]
fn scenario_files_give_what_they_expect() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 20, "{} scenarios", paths.len());
    let mut wrong = Vec::new();
    for path in &paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let scenario = Scenario::read(&fs::read_to_string(path).unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(!scenario.expect.is_empty(), "{name} expects nothing");
        let failed = check(&scenario, &fold(&scenario.entries));
        if !failed.is_empty() {
            wrong.push(format!("{name}\n{}", failed.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
