//! Passes over a nested value without parsing it, 64 bytes at a time.
//!
//! Each block of bytes becomes sets of bits, one bit a byte: the positions of quotes, backslashes, brackets. From these
//! follow the bytes that are text, and the brackets outside of text are counted. The idea is from Langdale and Lemire,
//! "Parsing Gigabytes of JSON per Second" (2019), section 3.1.

#[cfg(feature = "simd")]
use fearless_simd::{Level, Simd, dispatch, prelude::*, u8x64};
use memchr::memchr2;

/// A value that was passed over.
#[allow(missing_debug_implementations, reason = "it holds words of callers or models")]
pub struct SkippedValue {
    /// The position behind the value.
    pub end: usize,
    /// True if a text in it begins like the crate's own marks.
    pub marked: bool,
}

/// Passes over the object or list that begins at `start`; returns `None` if it does not end.
///
/// Brackets are counted, and the last one is of the first one's kind; the pairs in between are not matched. A backslash
/// outside of a text is refused: it would leave the start of the next text undecided.
pub fn nested(json: &[u8], start: usize) -> Option<SkippedValue> {
    #[cfg(feature = "simd")]
    let skipped = dispatch!(Level::new(), simd => blocks(simd, json, start))?;
    #[cfg(not(feature = "simd"))]
    let skipped = blocks(OneByOne, json, start)?;
    let closing = if json[start] == b'{' { b'}' } else { b']' };
    (json[skipped.end - 1] == closing).then_some(skipped)
}

/// The beginning of the crate's own marks.
pub(crate) const OWN_MARK: &str = "steadfast.";

const BLOCK: usize = 64;
const MARK: &[u8] = OWN_MARK.as_bytes();
const _: () = assert!(!MARK.is_empty() && MARK.len() < BLOCK);

/// The registers that compare the bytes of a block.
trait Registers: Copy {
    type Bytes: Copy;

    fn load(self, block: &[u8; BLOCK]) -> Self::Bytes;

    /// Returns the bytes that are this one, as bits.
    fn equal(self, bytes: Self::Bytes, byte: u8) -> u64;

    /// Makes `[` and `]` of the block `{` and `}`: they differ in one bit.
    fn curly(self, bytes: Self::Bytes) -> Self::Bytes;
}

#[cfg(feature = "simd")]
impl<S: Simd> Registers for S {
    type Bytes = u8x64<S>;

    #[inline(always)]
    fn load(self, block: &[u8; BLOCK]) -> u8x64<S> {
        u8x64::from_slice(self, block)
    }

    #[inline(always)]
    fn equal(self, bytes: u8x64<S>, byte: u8) -> u64 {
        bytes.simd_eq(byte).to_bitmask()
    }

    #[inline(always)]
    fn curly(self, bytes: u8x64<S>) -> u8x64<S> {
        bytes | 0x20
    }
}

/// No registers: one byte after the other.
#[cfg(any(test, not(feature = "simd")))]
#[derive(Clone, Copy)]
struct OneByOne;

#[cfg(any(test, not(feature = "simd")))]
impl Registers for OneByOne {
    type Bytes = [u8; BLOCK];

    fn load(self, block: &[u8; BLOCK]) -> [u8; BLOCK] {
        *block
    }

    fn equal(self, bytes: [u8; BLOCK], byte: u8) -> u64 {
        bytes.iter().rev().fold(0, |bits, other| bits << 1 | u64::from(*other == byte))
    }

    fn curly(self, bytes: [u8; BLOCK]) -> [u8; BLOCK] {
        bytes.map(|byte| byte | 0x20)
    }
}

#[inline(always)]
fn blocks<R: Registers>(registers: R, json: &[u8], start: usize) -> Option<SkippedValue> {
    // The state that one block leaves to the next: `inside` is all ones inside of a text. `escaped` says that the next
    // block's first byte is escaped. `begun` has the texts that began too late in the block for a comparison with the
    // marks. `quiet` counts the blocks in a row that were nothing but text.
    let (mut inside, mut escaped, mut begun, mut quiet) = (0, false, 0, 0);
    let (mut at, mut depth, mut marked) = (start, 0_usize, false);
    loop {
        let rest = json.get(at..)?;
        let padded;
        let block = match rest.first_chunk() {
            Some(block) => block,
            None if rest.is_empty() => return None,
            None => {
                padded = with_spaces(rest);
                &padded
            }
        };
        let bytes = registers.load(block);
        let quotes = registers.equal(bytes, b'"');
        let backslashes = registers.equal(bytes, b'\\');
        let quotes_proper = quotes & !behind_backslashes(backslashes, &mut escaped);
        if quotes_proper == 0 && inside == u64::MAX && begun == 0 {
            at += BLOCK;
            quiet = if quotes | backslashes == 0 { quiet + 1 } else { 0 };
            // A long text without escapes: a picture, a document.
            if quiet == 2 {
                quiet = 0;
                at += memchr2(b'"', b'\\', json.get(at..)?)?;
            }
            continue;
        }
        // From an opening quote up to the closing one, exclusive.
        let text = parity(quotes_proper) ^ inside;
        inside = if text >> (BLOCK - 1) == 1 { u64::MAX } else { 0 };
        quiet = 0;
        if backslashes & !text != 0 {
            return None;
        }
        let opening = quotes_proper & text;
        let ends = (opening << MARK.len() | begun) & registers.equal(bytes, MARK[MARK.len() - 1]);
        begun = opening >> (BLOCK - MARK.len());
        marked |= ends != 0 && is_marked(json, at, ends);
        let brackets = registers.curly(bytes);
        let opened = registers.equal(brackets, b'{') & !text;
        let closed = registers.equal(brackets, b'}') & !text;
        if let Some(bit) = end_of_value(opened, closed, &mut depth) {
            return Some(SkippedValue { end: at + bit as usize + 1, marked });
        }
        at += BLOCK;
    }
}

/// Counts the brackets of a block; returns the position of the one that ends the value, if the block has it.
#[inline(always)]
fn end_of_value(opened: u64, closed: u64, depth: &mut usize) -> Option<u32> {
    if (closed.count_ones() as usize) < *depth {
        *depth = *depth + opened.count_ones() as usize - closed.count_ones() as usize;
        return None;
    }
    // The value may end in this block.
    let mut both = opened | closed;
    while both != 0 {
        let bit = both.trailing_zeros();
        both &= both - 1;
        if opened >> bit & 1 == 1 {
            *depth += 1;
        } else if *depth > 1 {
            *depth -= 1;
        } else {
            return Some(bit);
        }
    }
    None
}

/// The last bytes of a body, padded.
#[cold]
fn with_spaces(rest: &[u8]) -> [u8; BLOCK] {
    let mut block = [b' '; BLOCK];
    block[..rest.len()].copy_from_slice(rest);
    block
}

/// The bytes that a backslash escapes: those behind a run of backslashes of odd length. Every second backslash of a run
/// is included too, which does no harm here.
#[inline(always)]
fn behind_backslashes(backslashes: u64, carry: &mut bool) -> u64 {
    let first = u64::from(*carry);
    if backslashes == 0 {
        *carry = false;
        return first;
    }
    // A backslash that is itself escaped begins no run.
    let backslashes = backslashes & !first;
    let behind = backslashes << 1 | first;
    const EVEN: u64 = 0x5555_5555_5555_5555;
    // Adding a bit to the start of a run carries it through to the position behind the run's end. Runs that begin at an
    // odd position come out with their parity inverted.
    let odd_starts = backslashes & !EVEN & !behind;
    let (sum, over) = odd_starts.overflowing_add(backslashes);
    *carry = over;
    (EVEN ^ (sum << 1)) & behind
}

/// For each bit, the parity of the bits up to and including it.
#[inline(always)]
fn parity(mut bits: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
}

/// Returns true if the mark ends at one of these bits.
#[cold]
fn is_marked(json: &[u8], at: usize, mut ends: u64) -> bool {
    while ends != 0 {
        let end = at + ends.trailing_zeros() as usize + 1;
        ends &= ends - 1;
        if json.get(..end).is_some_and(|upto| upto.ends_with(MARK)) {
            return true;
        }
    }
    false
}

#[cfg(all(test, feature = "simd", target_arch = "x86_64"))]
mod tests {
    use super::*;

    /// The processor's features select one of these.
    #[test]
    fn every_width_of_registers_reads_the_same() {
        let level = Level::new();
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..2000 {
            let tokens = ["\"", "\\", "\\\"", "[", "]", "{", "}", "x", "steadfast.", "long and longer and so on "];
            let mut json = String::from("[");
            (0..rng.usize(..60)).for_each(|_| json += rng.choice(tokens).expect("there are some"));
            json += "\"]]]]]";
            let read = |skipped: Option<SkippedValue>| skipped.map(|skipped| (skipped.end, skipped.marked));
            let json = json.as_bytes();
            let all = [
                Some(read(blocks(OneByOne, json, 0))),
                level.as_sse2().map(|simd| read(blocks(simd, json, 0))),
                level.as_sse4_2().map(|simd| read(blocks(simd, json, 0))),
                level.as_avx2().map(|simd| read(blocks(simd, json, 0))),
                level.as_avx512().map(|simd| read(blocks(simd, json, 0))),
            ];
            let mut all = all.into_iter().flatten();
            let first = all.next().expect("every processor has the first one");
            assert!(all.all(|other| other == first), "{}", String::from_utf8_lossy(json));
        }
    }
}
