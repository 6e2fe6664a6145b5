use std::{env, fs, path::PathBuf};

use steadfast_stack::Config;

fn published() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join("steadfast.schema.json")
}

/// `STEADFAST_REWRITE_SCHEMA=1 cargo test --features config --test config` writes it anew.
#[test]
fn the_published_schema_is_that_of_the_code() {
    let text = format!("{:#}\n", Config::json_schema());
    if env::var_os("STEADFAST_REWRITE_SCHEMA").is_some() {
        fs::write(published(), &text).unwrap();
    }
    assert!(fs::read_to_string(published()).is_ok_and(|file| file == text), "rewrite steadfast.schema.json");
}

mod validated {
    use std::{fs, path::Path};

    use serde_json::Value;
    use steadfast_stack::Config;

    use crate::config::folder;

    fn value(path: &Path) -> Option<Value> {
        let text = fs::read_to_string(path).ok()?;
        match path.extension()?.to_str()? {
            "toml" => toml::from_str(&text).ok(),
            _ => serde_saphyr::from_str(&text).ok(),
        }
    }

    #[test]
    fn what_is_read_is_valid_by_the_schema() {
        let schema = jsonschema::validator_for(&Config::json_schema()).unwrap();
        let mut files: Vec<_> = fs::read_dir(folder("good")).unwrap().map(|file| file.unwrap().path()).collect();
        let examples = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join("examples");
        files.extend(["steadfast.yaml", "ladder.yaml"].map(|name| examples.join(name)));
        assert!(files.len() >= 5);
        for file in files {
            // `null` blocks are YAML's empty ones, which an editor marks.
            let value = value(&file).unwrap();
            let problems: Vec<String> =
                schema.iter_errors(&value).map(|error| format!("{} {error}", error.instance_path())).collect();
            assert!(problems.is_empty() || file.ends_with("anchors.yaml"), "{}: {problems:#?}", file.display());
        }
    }

    /// What an editor marks in the broken files: all that is of the file's form, and not of what its names mean.
    #[test]
    fn an_editor_marks_what_is_wrong_in_form() {
        let schema = jsonschema::validator_for(&Config::json_schema()).unwrap();
        for file in [
            "unknown_key.yaml",
            "unknown_key.toml",
            "wrong_type.yaml",
            "wrong_type.json",
            "number_for_a_name.yaml",
            "bare_number_of_time.yaml",
            "wrong_unit.yaml",
            "list_for_a_block.yaml",
            "negative_number.json",
            "unknown_provider.yaml",
            "unknown_api.yaml",
            "unknown_commit_point.yaml",
            "missing_provider.yaml",
            "missing_name.toml",
            "unknown_kind_of_a_route.yaml",
            "unknown_kind_in_on_error.yaml",
            "unknown_period.json",
            "webhook_of_another_scheme.json",
            "rule_of_neither.yaml",
            "level_out_of_range.yaml",
            "share_over_one.yaml",
            "negative_rate.yaml",
            "no_attempt.yaml",
            "key_in_a_timeout.yaml",
            "literal_key.yaml",
            "literal_key.toml",
        ] {
            let value = value(&folder("broken").join(file)).unwrap();
            assert!(!schema.is_valid(&value), "{file}");
        }
    }
}
