//! `GET /spend`: the page of those who pay. It asks for the summary, with the key that an administrator enters.

use std::sync::LazyLock;

use axum::Router;

use crate::api::html::Html;

const MARKUP: &str = include_str!("index.html");
const STYLE: &str = include_str!("../../observe/page/page.css");
const SCRIPT: &str = concat!(
    include_str!("../../observe/page/dom.js"),
    include_str!("../../observe/page/keyed.js"),
    include_str!("../../observe/page/plots.js"),
    include_str!("spend.js"),
);

static PAGE: LazyLock<Html> = LazyLock::new(|| Html::of(MARKUP, STYLE, SCRIPT));

pub(super) fn router() -> Router {
    Html::router("/spend", &PAGE)
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
