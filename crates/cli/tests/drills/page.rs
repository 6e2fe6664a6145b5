use std::fs;

use crate::common::{Folder, steadfast};

const SCENARIO: &str = "\
name: short
about: Five minutes of errors.
lasts: 15m
faults:
  - { from: 5m, to: 10m, fault: unavailable }
";

/// Two models, of which the first has a name that nobody should have.
const CONFIG: &str = "\
tiers:
  - { name: '<script>alert(1)</script>\"', provider: simulated }
  - { name: backup, provider: simulated }
";

#[test]
fn the_report_is_also_a_page_for_a_browser() {
    let folder = Folder::new("page");
    let scenario = folder.file("short.yaml", SCENARIO);
    let config = folder.file("steadfast.yaml", CONFIG);
    let page = folder.file("page.html", "");
    let arguments =
        ["drill", scenario.to_str().unwrap(), "--config", config.to_str().unwrap(), "--html", page.to_str().unwrap()];
    let ran = steadfast(arguments, &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.out.contains("short: Five minutes"), "the table is there too: {}", ran.out);
    let text = fs::read_to_string(&page).unwrap();
    for said in
        ["<!doctype html>", "No target missed in one scenario", "Five minutes of errors.", "class=\"fault\"", "backup"]
    {
        assert!(text.contains(said), "{said} is missing");
    }
    assert!(!text.contains("<script") && text.contains("&lt;script&gt;alert(1)"));

    // A target that is missed is in it as well.
    let missed = steadfast(arguments.into_iter().chain(["--slo", "degraded=0", "--slo", "p50=1ms"]), &[]);
    assert_eq!(missed.code, Some(1), "{}", missed.err);
    assert!(fs::read_to_string(&page).unwrap().contains("missed p50=1ms"));
}

#[test]
fn a_page_that_cannot_be_written_is_said_plainly() {
    let folder = Folder::new("no-page");
    let scenario = folder.file("short.yaml", SCENARIO);
    let ran = steadfast(["drill", scenario.to_str().unwrap(), "--html", "/dev/null/page.html"], &[]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("cannot write /dev/null/page.html"), "{}", ran.err);
}
