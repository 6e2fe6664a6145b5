use std::fmt;

use bytes::Bytes;
use http::Uri;
use serde_json::json;

use super::{PREVIEW, Task, request::shortened};
use crate::{
    InvalidConfig,
    webhook::{self, escaped},
};

/// How people are told that a task waits for them: by a message to a webhook, in the form that Slack, Mattermost,
/// Rocket.Chat and Discord's `/slack` take.
#[derive(Clone)]
pub struct Notify {
    pub(super) url: Uri,
    preview: bool,
    link: Option<String>,
}

impl Notify {
    /// A webhook that takes Slack's messages.
    ///
    /// # Errors
    ///
    /// When it is no `http://` or `https://` URL with a host. The error does not repeat it.
    pub fn slack(url: &str) -> Result<Self, InvalidConfig> {
        Ok(Self { url: webhook::address(url, "url")?, preview: true, link: None })
    }

    /// Whether the message shows the beginning of what was asked: up to 200 characters. Default: yes.
    #[must_use]
    pub fn preview(mut self, shown: bool) -> Self {
        self.preview = shown;
        self
    }

    /// Adds a link to where the task is answered; `{task_id}` stands for its id. Default: none.
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

/// A caller's words in a message: they call nobody, and stand on one line.
fn plain(text: &str, characters: usize) -> String {
    // Between the sign and the name stands a space of no width, which takes its place too.
    escaped(&shortened(&text.replace('@', "@\u{200b}"), characters))
}

impl fmt::Debug for Notify {
    /// The address can hold a key, so that only its host is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notify").field("host", &self.url.host()).field("preview", &self.preview).finish_non_exhaustive()
    }
}
