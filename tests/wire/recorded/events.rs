//! The blocks of an event stream, read by the plain rules of the standard: lines, and a blank one ends a block.

/// A block of a stream.
#[derive(Debug, Default)]
pub(crate) struct Block {
    /// The value of `event:`.
    pub(crate) name: String,
    /// The values of `data:`, one a line.
    pub(crate) data: Option<String>,
    /// Lines of no field: a bare JSON error that some server wrote in between.
    pub(crate) bare: String,
    /// The start of the block, in bytes of the stream.
    pub(crate) start: usize,
    /// The end of the block.
    pub(crate) end: usize,
}

/// The blocks of a stream; one that is not ended by a blank line counts.
pub(crate) fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut block = Block::default();
    let mut any = false;
    let mut at = 0;
    let bytes = text.as_bytes();
    while at < bytes.len() {
        let length = bytes[at..].iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(bytes.len() - at);
        let line = text[at..at + length].trim_start_matches('\u{feff}');
        at += length;
        at += match &bytes[at..] {
            [b'\r', b'\n', ..] => 2,
            [] => 0,
            _ => 1,
        };
        if line.is_empty() {
            if any {
                block.end = at;
                blocks.push(std::mem::take(&mut block));
                any = false;
                block.start = at;
            }
            continue;
        }
        any = true;
        let value = |rest: &str| rest.strip_prefix(' ').unwrap_or(rest).to_owned();
        if let Some(rest) = line.strip_prefix("data:") {
            let data = block.data.get_or_insert_default();
            if !data.is_empty() {
                data.push('\n');
            }
            data.push_str(&value(rest));
        } else if let Some(rest) = line.strip_prefix("event:") {
            block.name = value(rest);
        } else if !line.starts_with(':') && !line.starts_with("id:") && !line.starts_with("retry:") {
            block.bare.push_str(line);
            block.bare.push('\n');
        }
    }
    if any {
        block.end = at;
        blocks.push(block);
    }
    blocks
}
