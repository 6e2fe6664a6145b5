//! A configuration's file as it is read, before anything of it is understood.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{
    end_mark::EndMark,
    error::{ConfigError, Problem},
    format::Format,
    source::Source,
    tree::{self, Place},
};

/// The longest accepted text, in bytes.
pub(super) const MAX_BYTES: usize = 1024 * 1024;

/// A file's text, with the format of its suffix.
#[derive(Clone, Debug)]
pub(super) struct FileText {
    pub(super) path: PathBuf,
    pub(super) text: String,
    pub(super) format: Format,
    pub(super) mark: EndMark,
}

impl FileText {
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let (text, format) = text_of(path)?;
        let mark = match format {
            Format::Yaml => EndMark::of(&text),
            Format::Toml | Format::Json => Ok(EndMark::Absent),
        };
        let mark =
            mark.map_err(|error| ConfigError::new(vec![Problem::of_file(Some(path.to_owned()), error.to_string())]))?;
        Ok(Self { path: path.to_owned(), text, format, mark })
    }

    pub(super) fn is_as(&self, other: &Self) -> bool {
        self.text == other.text
    }

    /// Returns whether a setting of the text before is gone, as it is from a text that is cut, or its last line's end
    /// is. The end of a JSON text proves that it is whole.
    pub(super) fn loses_settings_of(&self, before: &Self) -> bool {
        if self.format == Format::Json || self.mark != EndMark::Absent {
            return false;
        }
        if before.text.ends_with('\n') && !self.text.ends_with('\n') {
            return true;
        }
        let tree = |file: &Self| tree::parse(file.text.trim_start_matches('\u{feff}'), file.format).ok();
        tree(before).zip(tree(self)).is_some_and(|(before, now)| now.loses(&before))
    }
}

fn text_of(path: &Path) -> Result<(String, Format), ConfigError> {
    let wrong = |message: String| ConfigError::new(vec![Problem::of_file(Some(path.to_owned()), message)]);
    let bytes = read_file(path).map_err(|error| wrong(unreadable(&error)))?;
    let format = Format::of(path)
        .ok_or_else(|| wrong("unknown format; the name must end in .yaml, .yml, .toml or .json".to_owned()))?;
    if bytes.len() > MAX_BYTES {
        return Err(wrong("the file is longer than 1 MiB; shorten it".to_owned()));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
        let source = Source::new(Some(path.to_owned()), text);
        let place = Place::Text(good..good);
        ConfigError::new(vec![source.problem(Some(&place), "the text is not UTF-8 from here on")])
    })?;
    Ok((text, format))
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut bytes = Vec::new();
    // One byte over the limit is enough to detect it.
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::IsADirectory => "this is a directory, not a file".to_owned(),
        io::ErrorKind::PermissionDenied => "this file may not be read: permission denied".to_owned(),
        _ => format!("the file cannot be read: {error}"),
    }
}
