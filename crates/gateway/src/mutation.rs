//! Bytes for tests of what reads those of callers and operators: in pieces, and changed.

/// Cuts bytes into pieces of up to this length.
pub(crate) fn pieces(mut bytes: &[u8], longest: usize, seed: u64) -> Vec<&[u8]> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(random.usize(1..=longest).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

/// Changes a few of the bytes, or puts one of the words among them.
#[cfg(test)]
pub(crate) fn mutated(good: &[u8], words: &[&str], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..random.usize(1..=4) {
        let at = random.usize(..=bytes.len());
        let end = (at + random.usize(..20)).min(bytes.len());
        match random.u8(..6) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => bytes.insert(at, random.u8(..)),
            3 => {
                let copied = bytes[at..end].to_vec();
                let to = random.usize(..=bytes.len());
                drop(bytes.splice(to..to, copied));
            }
            _ => drop(bytes.splice(at..at, random.choice(words).into_iter().flat_map(|word| word.bytes()))),
        }
    }
    bytes
}
