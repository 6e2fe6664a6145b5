//! Secrets stay out of the log.

use std::{
    io,
    sync::{Arc, Mutex},
};

use steadfast::{BoxLlmService, ErrorKind, LlmError, LlmRequest, LlmResponse, provider_fn};
use tracing::instrument::WithSubscriber;

use super::harness::*;
use crate::limits::Settings;

/// A log. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(super) fn said(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A provider that repeats what it was asked in its error, as some do.
fn parrot() -> BoxLlmService {
    BoxLlmService::new(provider_fn(async |request: LlmRequest| {
        let said = request.chat()?.messages[0].text();
        Err::<LlmResponse, _>(LlmError::new(ErrorKind::Server, format!("cannot answer: {said}")).with_raw(said.into()))
    }))
}

#[tokio::test]
async fn neither_prompt_nor_key_is_in_the_log() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let run = async {
        let server = Server::start(parrot(), Settings::default()).await;
        let headers = [("authorization", "Bearer sk-secret"), ("x-api-key", "sk-secret"), ("x-secret", "secret")];
        for path in PATHS {
            for stream in [false, true] {
                let mut request = hello(stream);
                request["messages"][0]["content"] = "a secret".into();
                assert!(server.post(path, &headers, &request).await.status >= 500);
            }
            assert_eq!(server.post("/v1/sk-secret", &headers, &hello(false)).await.status, 404);
            server.post(path, &headers, &"a secret".into()).await;
        }
    };
    // The server's own tasks are spawned within, so the subscriber must be the thread's.
    let _here = log_to(subscriber);
    run.with_current_subscriber().await;
    let log = log.said();
    assert!(log.contains("request failed") && log.contains("kind=\"server\""), "{log}");
    assert!(!log.contains("secret"), "{log}");
}
