//! The person at the terminal: single keys, or lines where there is none.

use std::{
    io::{self, BufRead as _, Read as _},
    thread,
};

use steadfast_internal::system::{CommandSignals, SingleKeys};
use tokio::sync::mpsc;

use super::trouble::Trouble;

/// An order by key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Trouble(Trouble),
    Heal,
    Quit,
    Unknown,
}

impl Key {
    fn of(text: &str) -> Self {
        let mut letters = text.trim().chars();
        match (letters.next(), letters.next()) {
            (None | Some('h'), None) => Self::Heal,
            (Some('q'), None) => Self::Quit,
            (Some(letter), None) => {
                let trouble = Trouble::ALL.into_iter().find(|trouble| trouble.key() == letter);
                trouble.map_or(Self::Unknown, Self::Trouble)
            }
            _ => Self::Unknown,
        }
    }
}

/// The keys and signals of this process. The terminal is as it was once this is dropped.
pub(super) struct Console {
    keys: mpsc::UnboundedReceiver<Key>,
    signals: CommandSignals,
    single: Option<SingleKeys>,
}

impl Console {
    /// Reads keys from here on: each at once at a terminal that can, else by lines.
    pub(super) fn begin() -> io::Result<Self> {
        // First: a signal must not leave the terminal in its other mode.
        let signals = CommandSignals::new()?;
        let single = SingleKeys::begin();
        let (send, keys) = mpsc::unbounded_channel();
        let read: fn(mpsc::UnboundedSender<Key>) = if single.is_some() { read_keys } else { read_lines };
        // No task: a runtime would wait for the read at its end.
        thread::Builder::new().name("keys".to_owned()).spawn(move || read(send))?;
        Ok(Self { keys, signals, single })
    }

    /// Returns whether a key needs no Enter behind it.
    pub(super) fn has_single_keys(&self) -> bool {
        self.single.is_some()
    }

    /// Waits for the next key. A signal to stop is one; at the end of the input there are only signals.
    pub(super) async fn key(&mut self) -> Key {
        tokio::select! {
            Some(key) = self.keys.recv() => key,
            _ = self.signals.next() => Key::Quit,
        }
    }
}

fn read_keys(send: mpsc::UnboundedSender<Key>) {
    for byte in io::stdin().lock().bytes() {
        let Ok(byte) = byte else { return };
        if send.send(Key::of(char::from(byte).encode_utf8(&mut [0; 4]))).is_err() {
            return;
        }
    }
}

fn read_lines(send: mpsc::UnboundedSender<Key>) {
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        if send.send(Key::of(&line)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trouble_has_a_key_of_its_own_and_enter_heals() {
        for trouble in Trouble::ALL {
            assert_eq!(Key::of(&format!("{}\r\n", trouble.key())), Key::Trouble(trouble));
        }
        for heal in ["", "h", "\n", " "] {
            assert_eq!(Key::of(heal), Key::Heal, "{heal:?}");
        }
        assert_eq!(Key::of("q"), Key::Quit);
        for unknown in ["x", "ff", "fail", "\u{1b}", "\u{e9}"] {
            assert_eq!(Key::of(unknown), Key::Unknown, "{unknown:?}");
        }
    }
}
