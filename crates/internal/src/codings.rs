//! Bodies in content codings (RFC 9110, 8.4), opened piece by piece.
//!
//! A body of a few megabytes may open to gigabytes. So whoever reads an opened one has it in small pieces, and may stop
//! at any of them; and neither the closed body, nor what lies between two codings, nor the opened body may be longer
//! than a limit. A piece of either that opens to nothing costs its bytes, which count.

use std::{error, fmt, io, pin::Pin};

use async_compression::tokio::bufread::{BrotliDecoder, DeflateDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use http::{
    HeaderMap,
    header::{CONTENT_ENCODING, CONTENT_LENGTH},
};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt},
    task::coop::consume_budget,
};
use tokio_util::io::StreamReader;

type BoxError = Box<dyn error::Error + Send + Sync>;

/// A content coding that can be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// `gzip`, or `x-gzip`.
    Gzip,
    /// `deflate`: the zlib format, or the bare one that some senders take it for.
    Deflate,
    /// `br`.
    Brotli,
    /// `zstd`.
    Zstd,
}

impl Coding {
    /// Returns the first bytes of every body in the coding, if there are such.
    fn mark(self) -> Option<&'static [u8]> {
        match self {
            Self::Gzip => Some(b"\x1f\x8b"),
            Self::Zstd => Some(b"\x28\xb5\x2f\xfd"),
            Self::Deflate | Self::Brotli => None,
        }
    }

    /// Returns the coding that a body is in by its first bytes, whatever its label says; no JSON and no text begins so.
    pub fn of_first(first: &[u8]) -> Option<Self> {
        [Self::Gzip, Self::Zstd].into_iter().find(|coding| coding.mark().is_some_and(|mark| first.starts_with(mark)))
    }
}

/// The most codings of one body, one around the other. A choice of ours: each one more is work for the reader.
const MOST: usize = 3;

/// A list of codings that cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidCodings {
    /// One of them is not known. It has this name, or begins so.
    Unknown(String),
    /// They are too many.
    TooMany,
}

impl fmt::Display for InvalidCodings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => {
                write!(f, "the encoding `{name}` (`Content-Encoding`) is not known: gzip, zstd, br and deflate are")
            }
            Self::TooMany => write!(f, "more than {MOST} encodings lie around the body (`Content-Encoding`)"),
        }
    }
}

impl error::Error for InvalidCodings {}

/// Takes the codings out of a head, which is that of the opened body then. See `of`.
///
/// # Errors
///
/// One of them is not known, or there are too many. The head stays as it is.
pub fn take(headers: &mut HeaderMap) -> Result<Vec<Coding>, InvalidCodings> {
    if !headers.contains_key(CONTENT_ENCODING) {
        return Ok(Vec::new());
    }
    let codings = of(headers)?;
    headers.remove(CONTENT_ENCODING);
    if !codings.is_empty() {
        headers.remove(CONTENT_LENGTH);
    }
    Ok(codings)
}

/// Returns the codings that a head names, in the order in which they were applied. `identity` is none.
///
/// # Errors
///
/// One of them is not known, or there are too many.
fn of(headers: &HeaderMap) -> Result<Vec<Coding>, InvalidCodings> {
    /// The letters of an unknown name that are shown.
    const SHOWN: usize = 40;
    let mut codings = Vec::new();
    for value in headers.get_all(CONTENT_ENCODING) {
        for name in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            codings.push(match &*name.to_ascii_lowercase() {
                b"" | b"identity" => continue,
                b"gzip" | b"x-gzip" => Coding::Gzip,
                b"deflate" => Coding::Deflate,
                b"br" => Coding::Brotli,
                b"zstd" => Coding::Zstd,
                _ => {
                    let shown = String::from_utf8_lossy(&name[..name.len().min(SHOWN)]).replace('`', "'");
                    return Err(InvalidCodings::Unknown(shown));
                }
            });
            if codings.len() > MOST {
                return Err(InvalidCodings::TooMany);
            }
        }
    }
    Ok(codings)
}

/// A failure of an opened body.
#[derive(Debug)]
pub enum OpenError {
    /// More than the limit came, or came out.
    TooLong,
    /// The bytes are not in the coding that the head names.
    Damaged(io::Error),
    /// The closed body failed.
    Body(BoxError),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => f.write_str("the body is larger than its limit, once it is opened"),
            Self::Damaged(_) => f.write_str("the body is not in the encoding that its head names (`Content-Encoding`)"),
            Self::Body(error) => error.fmt(f),
        }
    }
}

impl error::Error for OpenError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::TooLong => None,
            Self::Damaged(error) => Some(error),
            Self::Body(error) => Some(&**error),
        }
    }
}

impl From<OpenError> for io::Error {
    fn from(error: OpenError) -> Self {
        Self::other(error)
    }
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        error.downcast().unwrap_or_else(Self::Damaged)
    }
}

/// The pieces of an opened body.
pub type Opened = Pin<Box<dyn Stream<Item = Result<Bytes, OpenError>> + Send>>;

/// Opens a body in these codings, of which none may be longer than the limit, before and after.
pub fn open<S, E>(body: S, codings: &[Coding], limit: u64) -> Opened
where
    S: Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: Into<BoxError>,
{
    opened(body, codings, limit, false)
}

/// Opens an answer in these codings. One that is not in the coding of its label, as its first byte shows, is as it is:
/// some proxies open an answer and leave the label. Whoever reads it limits its length.
pub fn open_answer<S, E>(body: S, codings: &[Coding]) -> Opened
where
    S: Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: Into<BoxError>,
{
    opened(body, codings, u64::MAX, true)
}

fn opened<S, E>(body: S, codings: &[Coding], limit: u64, may_be_open: bool) -> Opened
where
    S: Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: Into<BoxError>,
{
    let closed: Opened = Box::pin(body.map(|piece| piece.map_err(|error| OpenError::Body(error.into()))));
    codings.iter().rev().fold(limited(closed, limit), |closed, coding| {
        let opener = Opener { coding: *coding, may_be_open, state: State::Closed(StreamReader::new(closed)) };
        let pieces =
            stream::try_unfold(
                opener,
                |mut opener| async move { Ok(opener.piece().await?.map(|piece| (piece, opener))) },
            );
        limited(Box::pin(pieces), limit)
    })
}

/// Ends pieces with an error once they are over the limit together.
fn limited(pieces: Opened, limit: u64) -> Opened {
    Box::pin(pieces.scan(Some(limit), |left, piece| {
        let Some(room) = *left else { return std::future::ready(None) };
        let piece = piece.and_then(|piece| match room.checked_sub(piece.len() as u64) {
            Some(room) => {
                *left = Some(room);
                Ok(piece)
            }
            None => Err(OpenError::TooLong),
        });
        if piece.is_err() {
            *left = None;
        }
        std::future::ready(Some(piece))
    }))
}

type Closed = StreamReader<Opened, Bytes>;

struct Opener {
    coding: Coding,
    may_be_open: bool,
    state: State,
}

enum State {
    /// Nothing has come yet.
    Closed(Closed),
    Plain(Closed),
    Gzip(GzipDecoder<Closed>),
    Zlib(ZlibDecoder<Closed>),
    Deflate(DeflateDecoder<Closed>),
    Brotli(Box<BrotliDecoder<Closed>>),
    Zstd(ZstdDecoder<Closed>),
    Over,
}

/// The most bytes of one piece.
const PIECE: usize = 16 << 10;

/// The largest window of zstd, as a power of two: HTTP's own limit (RFC 9659), 8 MB.
const WINDOW: u32 = 23;

impl Opener {
    /// Returns the next piece; `None` behind the last one.
    async fn piece(&mut self) -> Result<Option<Bytes>, OpenError> {
        // Opening is work without a wait, and other tasks have their turns in between.
        consume_budget().await;
        if let State::Closed(closed) = &mut self.state {
            let first = closed.fill_buf().await?;
            let [first, second] = [first.first().copied(), first.get(1).copied()];
            let State::Closed(closed) = std::mem::replace(&mut self.state, State::Over) else { return Ok(None) };
            // An empty body is empty in every coding: clients that compress bodies send it for none.
            let Some(first) = first else { return Ok(None) };
            self.state = match self.coding {
                coding if self.may_be_open && coding.mark().is_some_and(|mark| mark[0] != first) => {
                    State::Plain(closed)
                }
                Coding::Gzip => {
                    let mut opened = GzipDecoder::new(closed);
                    opened.multiple_members(true);
                    State::Gzip(opened)
                }
                Coding::Deflate if is_zlib(first, second) => State::Zlib(ZlibDecoder::new(closed)),
                Coding::Deflate => State::Deflate(DeflateDecoder::new(closed)),
                Coding::Brotli => State::Brotli(Box::new(BrotliDecoder::new(closed))),
                Coding::Zstd => {
                    let window = async_compression::zstd::DParameter::window_log_max(WINDOW);
                    let mut opened = ZstdDecoder::with_params(closed, &[window]);
                    opened.multiple_members(true);
                    State::Zstd(opened)
                }
            };
        }
        let mut piece = BytesMut::with_capacity(PIECE);
        let read = match &mut self.state {
            State::Closed(_) | State::Over => return Ok(None),
            State::Plain(plain) => plain.read_buf(&mut piece).await?,
            State::Gzip(opened) => opened.read_buf(&mut piece).await?,
            State::Zlib(opened) => opened.read_buf(&mut piece).await?,
            State::Deflate(opened) => opened.read_buf(&mut piece).await?,
            State::Brotli(opened) => opened.read_buf(&mut piece).await?,
            State::Zstd(opened) => opened.read_buf(&mut piece).await?,
        };
        if read > 0 {
            // A short piece does not hold a long one's memory.
            return Ok(Some(if read < PIECE / 2 { Bytes::copy_from_slice(&piece) } else { piece.freeze() }));
        }
        // The closed body is read to its end, so that its connection can be used again.
        match std::mem::replace(&mut self.state, State::Over) {
            State::Closed(_) | State::Over => {}
            State::Plain(mut plain) => ended(&mut plain).await?,
            State::Gzip(mut opened) => ended(opened.get_mut()).await?,
            State::Zlib(mut opened) => ended(opened.get_mut()).await?,
            State::Deflate(mut opened) => ended(opened.get_mut()).await?,
            State::Brotli(mut opened) => ended(opened.get_mut()).await?,
            State::Zstd(mut opened) => ended(opened.get_mut()).await?,
        }
        Ok(None)
    }
}

/// Returns true for the first bytes of the zlib format (RFC 1950, 2.2). A lone first byte is taken for one.
fn is_zlib(first: u8, second: Option<u8>) -> bool {
    let is_whole = second.is_none_or(|second| (u16::from(first) << 8 | u16::from(second)).is_multiple_of(31));
    first & 0x0f == 8 && is_whole
}

/// Checks that a closed body is over.
async fn ended(closed: &mut (impl AsyncBufRead + Unpin)) -> Result<(), OpenError> {
    match closed.fill_buf().await?.is_empty() {
        true => Ok(()),
        false => Err(OpenError::Damaged(io::Error::new(io::ErrorKind::InvalidData, "bytes behind the end"))),
    }
}

#[cfg(test)]
mod tests {
    use async_compression::tokio::write::{BrotliEncoder, DeflateEncoder, GzipEncoder, ZlibEncoder, ZstdEncoder};
    use http::HeaderValue;
    use tokio::io::AsyncWriteExt;

    use super::*;

    const ALL: [&str; 5] = ["gzip", "deflate", "raw deflate", "br", "zstd"];

    async fn close(coding: &str, text: &[u8]) -> Vec<u8> {
        macro_rules! with {
            ($encoder:ident) => {{
                let mut encoder = $encoder::new(Vec::new());
                encoder.write_all(text).await.unwrap();
                encoder.shutdown().await.unwrap();
                encoder.into_inner()
            }};
        }
        match coding {
            "gzip" | "x-gzip" => with!(GzipEncoder),
            "deflate" => with!(ZlibEncoder),
            "raw deflate" => with!(DeflateEncoder),
            "br" => with!(BrotliEncoder),
            "zstd" => with!(ZstdEncoder),
            other => panic!("{other}"),
        }
    }

    fn coding(name: &str) -> Coding {
        let headers = HeaderMap::from_iter([(CONTENT_ENCODING, name.trim_start_matches("raw ").parse().unwrap())]);
        of(&headers).unwrap()[0]
    }

    /// Opens a body that comes in pieces of this length. Returns what came out, and the failure.
    async fn opened(closed: &[u8], codings: &[Coding], piece: usize, limit: u64) -> (Vec<u8>, Option<OpenError>) {
        let pieces: Vec<_> =
            closed.chunks(piece).map(|piece| Ok::<_, BoxError>(Bytes::copy_from_slice(piece))).collect();
        let mut pieces = open(stream::iter(pieces), codings, limit);
        let mut all = Vec::new();
        while let Some(piece) = pieces.next().await {
            match piece {
                Ok(piece) => all.extend_from_slice(&piece),
                Err(error) => {
                    assert!(pieces.next().await.is_none(), "nothing follows a failure");
                    return (all, Some(error));
                }
            }
        }
        (all, None)
    }

    fn is_too_long(error: Option<&OpenError>) -> bool {
        matches!(error, Some(OpenError::TooLong))
    }

    #[test]
    fn a_list_of_codings_is_read_in_its_order() {
        use Coding::*;
        let unknown = |name: &str| Err(InvalidCodings::Unknown(name.to_owned()));
        for (lines, expected) in [
            (&[][..], Ok(vec![])),
            (&["identity"], Ok(vec![])),
            (&["", " Identity ,"], Ok(vec![])),
            (&["GZip"], Ok(vec![Gzip])),
            (&["x-gzip, zstd"], Ok(vec![Gzip, Zstd])),
            (&["br", "deflate"], Ok(vec![Brotli, Deflate])),
            (&["gzip, gzip, gzip"], Ok(vec![Gzip; 3])),
            (&["gzip, gzip", "identity, gzip, gzip"], Err(InvalidCodings::TooMany)),
            (&["gzip, compress"], unknown("compress")),
            (&["`snappy`"], unknown("'snappy'")),
        ] {
            let lines = lines.iter().map(|line| (CONTENT_ENCODING, HeaderValue::from_static(line)));
            let mut headers = HeaderMap::new();
            lines.for_each(|(name, value)| {
                headers.append(name, value);
            });
            assert_eq!(of(&headers), expected, "{headers:?}");
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("7"));
            let closed = expected.as_ref().is_ok_and(|codings| !codings.is_empty());
            assert_eq!(take(&mut headers), expected);
            assert_eq!(headers.contains_key(CONTENT_ENCODING), expected.is_err(), "{headers:?}");
            assert_eq!(headers.contains_key(CONTENT_LENGTH), !closed, "{headers:?}");
        }
    }

    #[tokio::test]
    async fn every_coding_opens_at_every_cut() {
        let text = "a text that comes again, and a text that comes again: 世界".repeat(40).into_bytes();
        for name in ALL {
            let closed = close(name, &text).await;
            for piece in [1, 2, 3, 7, 64, closed.len()] {
                let (all, error) = opened(&closed, &[coding(name)], piece, 1 << 20).await;
                assert!(all == text && error.is_none(), "{name} by {piece}: {error:?}, {} bytes", all.len());
            }
        }
    }

    #[tokio::test]
    async fn codings_around_codings_open_from_the_last_to_the_first() {
        for inner in ALL {
            for outer in ALL {
                let closed = close(outer, &close(inner, b"{\"a\":1}").await).await;
                let (all, error) = opened(&closed, &[coding(inner), coding(outer)], 5, 1 << 10).await;
                assert!(all == b"{\"a\":1}" && error.is_none(), "{inner} in {outer}: {error:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_body_of_nothing_opens_to_nothing() {
        for name in ALL {
            let (all, error) = opened(b"", &[coding(name)], 1, 10).await;
            assert!(all.is_empty() && error.is_none(), "{name}");
            let (all, error) = opened(&close(name, b"").await, &[coding(name)], 1, 100).await;
            assert!(all.is_empty() && error.is_none(), "{name}: {error:?}");
        }
    }

    #[tokio::test]
    async fn what_opens_to_more_than_the_limit_is_given_up_there() {
        const LIMIT: u64 = 1 << 20;
        let bomb = vec![b' '; 20 << 20];
        for name in ALL {
            let closed = close(name, &bomb).await;
            let (all, error) = opened(&closed, &[coding(name)], 4096, LIMIT).await;
            assert!(is_too_long(error.as_ref()), "{name}: {error:?}");
            assert!(all.len() as u64 <= LIMIT, "{name}: {} bytes", all.len());
            let (all, error) = opened(&closed, &[coding(name)], 4096, bomb.len() as u64).await;
            assert!(all.len() == bomb.len() && error.is_none(), "{name}: {error:?}");
        }
    }

    #[tokio::test]
    async fn what_opens_to_nothing_counts_by_its_own_bytes() {
        let empty = close("gzip", b"").await;
        let members = empty.repeat(10_000);
        let (all, error) = opened(&members, &[Coding::Gzip], 4096, 100_000).await;
        assert!(all.is_empty() && is_too_long(error.as_ref()), "{error:?}");
        // Within another coding they are short.
        let closed = close("zstd", &members).await;
        assert!(closed.len() < 10_000);
        let (all, error) = opened(&closed, &[Coding::Gzip, Coding::Zstd], 4096, 100_000).await;
        assert!(all.is_empty() && is_too_long(error.as_ref()), "{error:?}");
        // A frame of zstd that is to be skipped.
        let skipped = [&0x184d_2a50_u32.to_le_bytes()[..], &200_000_u32.to_le_bytes(), &vec![0; 200_000]].concat();
        let (_, error) = opened(&skipped, &[Coding::Zstd], 4096, 100_000).await;
        assert!(is_too_long(error.as_ref()), "{error:?}");
    }

    #[tokio::test]
    async fn damage_is_told_from_a_body_that_broke_off() {
        let text = b"some words ".repeat(50);
        for name in ALL {
            let closed = close(name, &text).await;
            for damaged in [&closed[..closed.len() / 2], b"{\"model\":\"m\",\"messages\":[]}", &[0xff; 40]] {
                let (_, error) = opened(damaged, &[coding(name)], 9, 1 << 20).await;
                assert!(matches!(error, Some(OpenError::Damaged(_))), "{name}: {error:?}");
            }
            let broken = stream::iter([Ok(Bytes::copy_from_slice(&closed[..8])), Err("reset")]);
            let last = open(broken, &[coding(name)], 1 << 20).collect::<Vec<_>>().await.pop();
            assert!(matches!(last, Some(Err(OpenError::Body(_)))), "{name}: {last:?}");
        }
    }

    #[tokio::test]
    async fn an_answer_is_in_the_coding_that_its_first_bytes_show() {
        let text = b"{\"a\":1}".repeat(10);
        for name in ALL {
            let closed = close(name, &text).await;
            let of_first = Coding::of_first(&closed);
            assert_eq!(of_first, Some(coding(name)).filter(|coding| coding.mark().is_some()), "{name}");
            for (body, codings) in [(&closed, [coding(name)]), (&text, [Coding::Gzip]), (&text, [Coding::Zstd])] {
                let pieces: Vec<_> =
                    body.chunks(3).map(|piece| Ok::<_, BoxError>(Bytes::copy_from_slice(piece))).collect();
                let pieces: Vec<_> = open_answer(stream::iter(pieces), &codings).map(Result::unwrap).collect().await;
                assert_eq!(pieces.concat(), text, "{name} as {codings:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_window_larger_than_https_own_is_refused() {
        let mut encoder = ZstdEncoder::with_quality_and_params(
            Vec::new(),
            async_compression::Level::Default,
            &[async_compression::zstd::CParameter::window_log(27)],
        );
        encoder.write_all(&[b'a'; 100]).await.unwrap();
        encoder.shutdown().await.unwrap();
        let (_, error) = opened(&encoder.into_inner(), &[Coding::Zstd], 64, 1 << 20).await;
        assert!(matches!(error, Some(OpenError::Damaged(_))), "{error:?}");
    }
}
