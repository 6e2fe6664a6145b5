//! The task that follows the file of a stack.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    ConfigError, FileWatch, Problem,
    file_text::FileText,
    runtime::{StackHandle, state::StackState},
};

impl StackHandle {
    /// Starts a task that reloads the stack after each change of its file, until the [`FileWatch`] is dropped.
    ///
    /// [`FileWatch::file`] describes which changes it notices. A wrong or missing file is reported once by
    /// [`Event::ReloadRefused`](steadfast::Event::ReloadRefused), and the stack continues unchanged.
    ///
    /// A file that is read while it is written may have lost its budgets. So a text from which a setting is gone is
    /// loaded only once it has rested for 5 s, unless its last line is an [end mark](crate::EndMark). A text without
    /// the mark that the one before had is wrong.
    ///
    /// # Errors
    ///
    /// The stack was not built from a file, or the system cannot watch its folder.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn watch(&self) -> Result<FileWatch, ConfigError> {
        let path = self.shared.path()?.to_owned();
        let readers = self.shared.clone();
        let mut follower = Follower { shared: self.shared.clone(), loaded: None, seen: None, waiting: None };
        FileWatch::file_with_readings(path, move || readers.readings.load(Relaxed), move || follower.look())
    }
}

/// The time for which a text that has lost a setting must rest.
const REST: Duration = Duration::from_secs(5);

/// The reader of a watched file.
struct Follower {
    shared: Arc<StackState>,
    /// The last text that the stack has taken.
    loaded: Option<FileText>,
    /// The text of the last look that had a result.
    seen: Option<FileText>,
    /// The text that must rest, and the time since which it has.
    waiting: Option<(FileText, Instant)>,
}

impl Follower {
    /// Loads the file if it differs from what the stack has.
    fn look(&mut self) {
        let shared = self.shared.clone();
        let file = match shared.path().and_then(FileText::read) {
            Ok(file) => file,
            Err(error) => return self.refuse(error),
        };
        let Some(loaded) = &self.loaded else {
            (self.loaded, self.seen) = (Some(file.clone()), Some(file));
            return shared.catch_up();
        };
        let config = match file.mark.after(loaded.mark) {
            Ok(_) => shared.context.read(&file),
            Err(problem) => Err(ConfigError::new(vec![Problem::of_file(self.shared.path.clone(), problem)])),
        };
        let is_new = self.seen.as_ref().is_none_or(|seen| !file.is_as(seen));
        match &config {
            // The problem of this text has been said.
            Err(_) if !is_new => return,
            // Somebody else may have read another text.
            Ok(config) if *config == *shared.current.load().config => {}
            Ok(_) if file.loses_settings_of(loaded) && !self.has_rested(&file) => return,
            _ => drop(shared.reload(config.clone(), shared.path.as_deref())),
        }
        if config.is_ok() {
            self.loaded = Some(file.clone());
        }
        (self.seen, self.waiting) = (Some(file), None);
    }

    /// Returns whether a text has been the file's for [`REST`]. If not, the watch looks again.
    fn has_rested(&mut self, file: &FileText) -> bool {
        let since = match self.waiting.take() {
            Some((waiting, since)) if waiting.is_as(file) => since,
            _ => {
                tracing::warn!(
                    event = "reload_waits",
                    seconds = REST.as_secs(),
                    "settings are gone from the file, which may still be written: it is loaded once it has rested"
                );
                Instant::now()
            }
        };
        self.waiting = Some((file.clone(), since));
        self.shared.readings.fetch_add(1, Relaxed);
        since.elapsed() >= REST
    }

    fn refuse(&mut self, error: ConfigError) {
        (self.seen, self.waiting) = (None, None);
        let _ = self.shared.reload(Err(error), self.shared.path.as_deref());
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::time::advance;

    use super::*;
    use crate::{Config, Stack};

    const WHOLE: &str = "\
timeout: 20s
gateway:
  max_body: 64KiB
budgets:
  - name: all
    usd: 100
    period: day
  - name: chat
    usd: 10
    period: day
    feature: chat
tiers:
  - name: a
    provider: simulated
    model: gpt-4o
features:
  chat:
    concurrency: 20
    requests_per_minute: 600
  summary:
    concurrency: 10
default_feature:
  concurrency: 5
";

    struct File(std::path::PathBuf);

    impl File {
        fn new(name: &str, text: &str) -> Self {
            let path = std::env::temp_dir().join(format!("steadfast-{name}-{}.yaml", std::process::id()));
            fs::write(&path, text).unwrap();
            Self(path)
        }

        fn follower(&self) -> (StackHandle, Follower) {
            let handle = Stack::from_path(&self.0).unwrap().handle();
            let mut follower = Follower { shared: handle.shared.clone(), loaded: None, seen: None, waiting: None };
            follower.look();
            (handle, follower)
        }

        fn put(&self, text: &str, follower: &mut Follower) {
            fs::write(&self.0, text).unwrap();
            follower.look();
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    fn concurrency(config: &Config, feature: &str) -> Option<usize> {
        config.features.get(feature).and_then(|feature| feature.concurrency)
    }

    /// Asserts that no limit of the whole file is gone or wider.
    fn assert_limited(config: &Config, at: usize) {
        assert_eq!(config.gateway.max_body.map(|size| size.0), Some(64 << 10), "{at}");
        for (budget, usd) in config.budgets.iter().zip([100.0, 10.0]) {
            assert!(budget.usd <= usd, "{at}");
        }
        assert_eq!(config.budgets.len(), 2, "{at}");
        for (feature, most) in [("chat", 20), ("summary", 10)] {
            assert!(concurrency(config, feature).is_some_and(|limit| limit <= most), "{at}: {feature}");
        }
        assert!(config.default_feature.is_some(), "{at}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_configuration_that_is_cut_at_any_byte_keeps_every_budget_and_feature() {
        for whole in [WHOLE.to_owned(), format!("{WHOLE}...\n")] {
            let file = File::new("cut", &whole);
            let (handle, mut follower) = file.follower();
            for end in 0..whole.len() {
                // The order of a slow writer, and then each after the whole file.
                file.put(&whole[..end], &mut follower);
                assert_limited(&handle.config(), end);
            }
            for end in (0..whole.len()).rev() {
                file.put(&whole[..end], &mut follower);
                assert_limited(&handle.config(), end);
                file.put(&whole, &mut follower);
                assert_eq!(handle.config().budgets.len(), 2);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_setting_that_is_taken_out_is_gone_once_the_file_has_rested_or_at_once_under_an_end_mark() {
        let without = WHOLE.split("default_feature:").next().unwrap();
        let file = File::new("rest", WHOLE);
        let (handle, mut follower) = file.follower();
        file.put(without, &mut follower);
        assert!(handle.config().default_feature.is_some());
        advance(REST).await;
        follower.look();
        assert!(handle.config().default_feature.is_none());

        file.put(&format!("{WHOLE}...\n"), &mut follower);
        assert!(handle.config().default_feature.is_some());
        file.put(&format!("{without}...\n"), &mut follower);
        assert!(handle.config().default_feature.is_none());
        // An added setting, or another value, waits for nothing.
        file.put(&format!("{}...\n", without.replace("concurrency: 10", "concurrency: 12")), &mut follower);
        assert_eq!(concurrency(&handle.config(), "summary"), Some(12));
        // The mark is gone: the file is cut, however long it rests.
        file.put(WHOLE, &mut follower);
        advance(REST).await;
        follower.look();
        assert_eq!(concurrency(&handle.config(), "summary"), Some(12));
    }
}
