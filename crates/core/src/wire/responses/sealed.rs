//! The token of a reasoning item: its id and its encrypted content, which go back to the provider together.

/// Joins an item's id and its encrypted content to the text of an [`Opaque`](crate::chat::Opaque) token.
pub fn join(id: &str, encrypted: &str) -> String {
    format!("{id}:{encrypted}")
}

/// Returns the id of the item, and its encrypted content.
pub fn split(token: &str) -> (&str, &str) {
    token.split_once(':').unwrap_or(("", token))
}
