use std::fmt;

use bytes::Bytes;
use http::Uri;
use serde_json::json;

use super::{PREVIEW, Task, request::shortened};
use steadfast::InvalidConfig;
use steadfast_webhook::{self as webhook, escape};

/// A notification to people that a task waits: a message to a webhook, in the format of Slack, Mattermost, Rocket.Chat
/// and Discord's `/slack`.
#[derive(Clone)]
pub struct Notify {
    pub(super) url: Uri,
    preview: bool,
    link: Option<String>,
}

impl Notify {
    /// Creates a notification to a webhook that takes Slack's messages.
    ///
    /// # Errors
    ///
    /// Returns an error if this is no `http://` or `https://` URL with a host. The error does not repeat the URL.
    pub fn slack(url: &str) -> Result<Self, InvalidConfig> {
        Ok(Self { url: webhook::address(url, "url")?, preview: true, link: None })
    }

    /// Sets whether the message shows the beginning of the request: up to 200 characters. Default: yes.
    #[must_use]
    pub fn preview(mut self, shown: bool) -> Self {
        self.preview = shown;
        self
    }

    /// Adds a link to the page where people answer the task; `{task_id}` stands for its id. Default: none.
    #[must_use]
    pub fn link(mut self, link: impl Into<String>) -> Self {
        self.link = Some(link.into());
        self
    }

    pub(super) fn body(&self, task: &Task) -> Bytes {
        let id = task.id.to_string();
        let feature = match &task.feature {
            Some(feature) => format!(" of `{}`", plain(feature, 60)),
            None => String::new(),
        };
        let reason = plain(&task.reason, 60);
        let mut text = format!("*Handoff:* a request{feature} waits for a person ({reason}): `{id}`");
        if self.preview {
            let preview = plain(&task.request.preview(PREVIEW), PREVIEW);
            if !preview.is_empty() {
                text.push_str("\n>");
                text.push_str(&preview);
            }
        }
        if let Some(link) = &self.link {
            text.push_str(&format!("\n<{}|Answer it>", link.replace("{task_id}", &id)));
        }
        json!({ "text": text }).to_string().into()
    }
}

/// Returns a caller's text for a message: on one line, and without mentions.
fn plain(text: &str, characters: usize) -> String {
    // A zero-width space separates the sign from the name; it counts as a character too.
    escape(&shortened(&text.replace('@', "@\u{200b}"), characters))
}

impl fmt::Debug for Notify {
    /// Shows only the host: the address can contain a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notify").field("host", &self.url.host()).field("preview", &self.preview).finish_non_exhaustive()
    }
}
