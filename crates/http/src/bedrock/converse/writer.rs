use serde_json::value::RawValue;

/// Writes JSON into bytes, with the commas.
#[derive(Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Begins a value: with a comma if one stands before it.
    fn begin(&mut self) {
        // The last byte of a whole value is none of these.
        if !matches!(self.0.last(), None | Some(b'{' | b'[' | b':')) {
            self.0.push(b',');
        }
    }

    /// Begins an object or a list, by its bracket.
    pub(super) fn open(&mut self, bracket: u8) -> &mut Self {
        self.begin();
        self.0.push(bracket);
        self
    }

    /// Ends objects and lists.
    pub(super) fn close(&mut self, brackets: &str) -> &mut Self {
        self.0.extend_from_slice(brackets.as_bytes());
        self
    }

    /// Writes the name of a field.
    pub(super) fn name(&mut self, name: &str) -> &mut Self {
        self.text(name);
        self.0.push(b':');
        self
    }

    /// Writes a text.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.begin();
        // Writing into memory cannot fail.
        let _ = serde_json::to_writer(&mut self.0, text);
        self
    }

    /// Writes a value as it is spelled.
    pub(super) fn raw(&mut self, value: &RawValue) -> &mut Self {
        self.json(value.get())
    }

    /// Writes JSON of our own.
    pub(super) fn json(&mut self, json: &str) -> &mut Self {
        self.begin();
        self.0.extend_from_slice(json.as_bytes());
        self
    }

    /// Writes a field with a value as it is spelled, if it is present.
    pub(super) fn field(&mut self, name: &str, value: Option<&RawValue>) -> &mut Self {
        if let Some(value) = value {
            self.name(name).raw(value);
        }
        self
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes back all that was written behind a length.
    pub(super) fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}
