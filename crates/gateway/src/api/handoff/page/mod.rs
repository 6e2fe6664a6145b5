//! `GET /handoff`: the reviewers' page. It calls the paths beside it, with the key that the reviewer enters.

use std::sync::LazyLock;

use axum::Router;

use crate::api::html::Html;

const MARKUP: &str = include_str!("index.html");
const STYLE: &str = concat!(include_str!("../../observe/page/page.css"), include_str!("handoff.css"));
const SCRIPT: &str = concat!(
    include_str!("../../observe/page/dom.js"),
    include_str!("../../observe/page/keyed.js"),
    include_str!("handoff.js"),
);

static PAGE: LazyLock<Html> = LazyLock::new(|| Html::of(MARKUP, STYLE, SCRIPT));

pub(super) fn router() -> Router {
    Html::router("/handoff", &PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::html::assert_sound;

    #[test]
    fn the_policy_covers_all_that_the_page_has() {
        assert_sound(&PAGE, MARKUP, STYLE, SCRIPT);
    }
}
