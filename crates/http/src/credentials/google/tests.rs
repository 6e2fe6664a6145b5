//! Google's sources against servers in process. The forms of requests are those of RFC 6749, RFC 7523, RFC 8693 and
//! AIP-4110 to AIP-4117; the words of refusals are Google's.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use super::{
    super::oauth::testing::{
        Reply, Server, assert_no_secret, decoded, failure, json as answer, machine, mistake, reply, token,
    },
    testing::{PKCS8, pem},
    *,
};
use crate::internal::wall_clock;

mod chains;
mod clocks;
mod federation;
mod files;

/// A folder of its own that a test removes at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("steadfast-google-{}-{}", std::process::id(), COUNT.fetch_add(1, SeqCst));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: impl ToString) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text.to_string()).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn service_account() -> Value {
    json!({
        "type": "service_account", "project_id": "p", "private_key_id": "kid-1", "private_key": pem("PRIVATE KEY", PKCS8),
        "client_email": "robot@p.iam.gserviceaccount.com", "client_id": "1", "universe_domain": "googleapis.com",
        "token_uri": "https://oauth2.googleapis.com/token",
    })
}

fn user() -> Value {
    json!({
        "type": "authorized_user", "client_id": "c.apps.googleusercontent.com", "client_secret": "d-s3cr3t-client",
        "refresh_token": "1//s3cr3t/refresh", "quota_project_id": "p",
    })
}

fn of(value: &Value, servers: &Server) -> Credentials {
    let machine = machine(&[], servers, &Server::unasked());
    json(&machine, &value.to_string(), "the test's key").unwrap()
}

/// The same value without a field.
fn without(mut value: Value, field: &str) -> Value {
    value.as_object_mut().unwrap().remove(field).expect("the field is there");
    value
}

fn with(mut value: Value, field: &str, new: impl Into<Value>) -> Value {
    value[field] = new.into();
    value
}
