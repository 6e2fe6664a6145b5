use super::rules::table;

#[test]
fn the_table_in_the_documentation_is_the_table_in_the_code() {
    let (documented, table) = (include_str!("translate.md"), table());
    assert!(documented.ends_with(&table), "translate.md must end with:\n{table}");
}
