//! The page of faults names tests that are there.

use std::fs;
use std::path::Path;

fn sources(folder: &Path, all: &mut String) {
    for entry in fs::read_dir(folder).expect("a folder of this crate").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push_str(&fs::read_to_string(path).expect("text"));
        }
    }
}

#[test]
fn every_test_that_the_page_of_faults_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("src/faults.rs")).expect("the page");
    let mut all = String::new();
    sources(&root.join("src"), &mut all);
    sources(&root.join("tests"), &mut all);
    let names: Vec<&str> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| name.contains("::") && !name.contains("crate::"))
        .filter_map(|path| path.rsplit("::").next())
        .collect();
    assert!(names.len() > 40, "{names:?}");
    for name in names {
        assert!(
            all.contains(&format!("fn {name}(")),
            "the page of faults names {name}"
        );
    }
}
