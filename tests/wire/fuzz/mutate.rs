//! Recorded bodies, made wrong in the ways that bodies go wrong.

use proptest::{prelude::*, sample::Index};

/// One change.
#[derive(Clone, Debug)]
pub(crate) enum Mutation {
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Truncate(Index),
    Remove(Index, usize),
    /// A piece is there twice.
    Duplicate(Index, usize),
    /// Goes on as another body does from there on.
    Join(Index, Index, Index),
    /// A field before a field: its value is this.
    Field(Index, Odd),
}

/// Values that parsers stumble over.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Odd {
    DeepList,
    DeepObject,
    UnclosedLists,
    HugeNumber,
    HugeExponent,
    LongNumber,
    LoneSurrogate,
    InvalidUtf8,
    Null,
    EmptyObject,
    EmptyList,
    Nul,
    LongText,
}

const DEEP: usize = 10_000;

impl Odd {
    fn json(self) -> Vec<u8> {
        match self {
            Self::DeepList => ["[".repeat(DEEP), "]".repeat(DEEP)].concat().into(),
            Self::DeepObject => ["{\"a\":".repeat(DEEP), "1".into(), "}".repeat(DEEP)].concat().into(),
            Self::UnclosedLists => "[".repeat(DEEP).into(),
            Self::HugeNumber => b"-18446744073709551616".into(),
            Self::HugeExponent => b"1e999999".into(),
            Self::LongNumber => "9".repeat(5000).into(),
            Self::LoneSurrogate => br#""\ud800 \udfff""#.into(),
            Self::InvalidUtf8 => b"\"\xff\xc3\"".into(),
            Self::Null => b"null".into(),
            Self::EmptyObject => b"{}".into(),
            Self::EmptyList => b"[]".into(),
            Self::Nul => b"\"\\u0000\"".into(),
            Self::LongText => format!("\"{}\"", "long ".repeat(2000)).into(),
        }
    }
}

pub(crate) fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let tokens: &[&[u8]] = &[
        b"\n\n",
        b"\r",
        b"\n",
        b"data: ",
        b"data:{}\n\n",
        b"event: error\n",
        b": ping\n\n",
        b"\xEF\xBB\xBF",
        b"[DONE]",
        b"{",
        b"}",
        b"[",
        b"]",
        b"\"",
        b"\\",
        b",",
        b":",
        b"null",
        b"\"error\":{},",
        b"\"model\":\"a\",",
        b"\"stream\":true,",
        b"\0",
        b"try again in 9999999999999s",
        b"data: [DONE]\n\n",
    ];
    let insert = prop_oneof![
        3 => prop::sample::select(tokens.to_vec()).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 1..8),
    ];
    use Odd::*;
    let odd = prop::sample::select(vec![
        DeepList,
        DeepObject,
        UnclosedLists,
        HugeNumber,
        HugeExponent,
        LongNumber,
        LoneSurrogate,
        InvalidUtf8,
        Null,
        EmptyObject,
        EmptyList,
        Nul,
        LongText,
    ]);
    let any_index = any::<Index>;
    let one = prop_oneof![
        3 => (any_index(), 1_u8..).prop_map(|(at, by)| Mutation::Flip(at, by)),
        3 => (any_index(), insert).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        1 => any_index().prop_map(Mutation::Truncate),
        1 => (any_index(), 1_usize..200).prop_map(|(at, length)| Mutation::Remove(at, length)),
        1 => (any_index(), 1_usize..2000).prop_map(|(at, length)| Mutation::Duplicate(at, length)),
        1 => (any_index(), any_index(), any_index()).prop_map(|(at, of, from)| Mutation::Join(at, of, from)),
        4 => (any_index(), odd).prop_map(|(at, odd)| Mutation::Field(at, odd)),
    ];
    prop::collection::vec(one, 0..6)
}

/// The body with all changes made. `corpus` is what it can be joined with.
pub(crate) fn apply(body: &[u8], mutations: &[Mutation], corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut body = body.to_vec();
    for mutation in mutations {
        if body.is_empty() {
            body.push(b'{');
        }
        let length = body.len();
        let piece = |at: &Index, size: usize| {
            let from = at.index(length);
            from..(from + size).min(length)
        };
        match mutation {
            Mutation::Flip(at, by) => body[at.index(length)] ^= by,
            Mutation::Insert(at, bytes) => {
                let at = at.index(length);
                body.splice(at..at, bytes.iter().copied());
            }
            Mutation::Truncate(at) => body.truncate(at.index(length)),
            Mutation::Remove(at, size) => drop(body.drain(piece(at, *size))),
            Mutation::Duplicate(at, size) => {
                let piece = piece(at, *size);
                let copy = body[piece.clone()].to_vec();
                body.splice(piece.end..piece.end, copy);
            }
            Mutation::Join(at, of, from) => {
                body.truncate(at.index(length));
                let other = &corpus[of.index(corpus.len())];
                if !other.is_empty() {
                    body.extend_from_slice(&other[from.index(other.len())..]);
                }
            }
            Mutation::Field(at, odd) => {
                // The value of the next field, and that field's own value goes to a new one.
                let from = at.index(length);
                let Some(colon) = memchr::memmem::find(&body[from..], b"\":") else { continue };
                let at = from + colon + 2;
                let field = [&odd.json()[..], b",\"f\":"].concat();
                body.splice(at..at, field);
            }
        }
    }
    body
}
