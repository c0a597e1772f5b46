//! Replies of the meta protocol: a pure parser over the bytes received so far.
//!
//! It knows nothing of requests or sockets. A reply is whole only with its final line end; anything that no
//! Memcached would send is [`Malformed`], after which nothing on that connection can be trusted.
//! Format: <https://github.com/memcached/memcached/blob/master/doc/protocol.txt>.

use std::ops::Range;

use super::frame::MAX_FRAME_BYTES;

/// The longest line before a body, without its end. Real ones are under 100 bytes, statistics under 1 KiB.
const MAX_LINE_BYTES: usize = 2048;
const LINE_END: &[u8] = b"\r\n";

/// What a reply says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    /// `HD`: done.
    Done,
    /// `VA`: here is the item.
    Value,
    /// `EN`: a read found no item.
    Missing,
    /// `NS`: not stored, there is an item already.
    NotStored,
    /// `EX`: the item changed since it was read.
    Exists,
    /// `NF`: there is no item to change.
    NotFound,
    /// `MN`: the answer to a ping.
    Pong,
    /// `STAT`: one line of statistics.
    Stat,
    /// `END`: there are no more lines.
    End,
    /// The server refuses items of this size.
    TooLarge,
    /// The server has no memory for the item and may evict nothing.
    OutOfMemory,
    /// Any other error line.
    Refused,
}

/// A whole reply; positions count from the start of the parsed bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) code: Code,
    /// The token of the request, as it came back.
    pub(super) opaque: Option<u64>,
    /// The item's version; 0 unless it was asked for.
    pub(super) cas: u64,
    /// The seconds that the item has left; `None` unless that was asked and it ends.
    pub(super) ttl_s: Option<u64>,
    /// The item's bytes, or the name and value of a statistic.
    pub(super) body: Range<usize>,
    /// The length of the whole reply.
    pub(super) len: usize,
}

/// The outcome of looking for a reply at the front of some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parsed {
    /// There is one.
    Whole(Head),
    /// It takes at least this many bytes in total.
    Partial(usize),
}

/// The bytes are no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Finds the reply at the front of `input`.
pub(super) fn parse(input: &[u8]) -> Result<Parsed, Malformed> {
    let searched = &input[..input.len().min(MAX_LINE_BYTES + LINE_END.len())];
    let Some(newline) = searched.iter().position(|byte| *byte == b'\n') else {
        if input.len() > MAX_LINE_BYTES {
            return Err(Malformed);
        }
        return Ok(Parsed::Partial(input.len() + 1));
    };
    let line = searched[..newline].strip_suffix(b"\r").ok_or(Malformed)?;
    let (word, rest) = split(line);
    let code = match word {
        b"VA" => return parse_value(input, rest, newline + 1),
        b"HD" => Code::Done,
        b"EN" => Code::Missing,
        b"NS" => Code::NotStored,
        b"EX" => Code::Exists,
        b"NF" => Code::NotFound,
        b"MN" if rest.is_empty() => Code::Pong,
        b"END" if rest.is_empty() => Code::End,
        b"STAT" => return Ok(Parsed::Whole(text(Code::Stat, line, newline))),
        b"SERVER_ERROR" => return Ok(Parsed::Whole(text(server_error(rest), line, newline))),
        b"CLIENT_ERROR" | b"ERROR" => {
            return Ok(Parsed::Whole(text(Code::Refused, line, newline)));
        }
        _ => return Err(Malformed),
    };
    let Flags { opaque, cas, ttl_s } = parse_flags(rest)?;
    Ok(Parsed::Whole(Head {
        code,
        opaque,
        cas,
        ttl_s,
        body: 0..0,
        len: newline + 1,
    }))
}

/// `<size> <flags>`, then so many bytes and a line end.
fn parse_value(input: &[u8], rest: &[u8], body_at: usize) -> Result<Parsed, Malformed> {
    let (size, flags) = split(rest);
    let size = parse_number(size, 10).ok_or(Malformed)?;
    let size = usize::try_from(size).map_err(|_too_large| Malformed)?;
    if size > MAX_FRAME_BYTES {
        return Err(Malformed);
    }
    let Flags { opaque, cas, ttl_s } = parse_flags(flags)?;
    let end = body_at + size;
    let len = end + LINE_END.len();
    if input.len() < len {
        return Ok(Parsed::Partial(len));
    }
    if &input[end..len] != LINE_END {
        return Err(Malformed);
    }
    Ok(Parsed::Whole(Head {
        code: Code::Value,
        opaque,
        cas,
        ttl_s,
        body: body_at..end,
        len,
    }))
}

/// A line whose text after the first word matters.
fn text(code: Code, line: &[u8], newline: usize) -> Head {
    let (word, _) = split(line);
    let start = (word.len() + 1).min(line.len());
    Head {
        code,
        opaque: None,
        cas: 0,
        ttl_s: None,
        body: start..line.len(),
        len: newline + 1,
    }
}

fn server_error(message: &[u8]) -> Code {
    match message {
        b"object too large for cache" => Code::TooLarge,
        b"out of memory storing object" => Code::OutOfMemory,
        _ => Code::Refused,
    }
}

/// What the flags of a reply say.
#[derive(Debug, Default)]
struct Flags {
    opaque: Option<u64>,
    cas: u64,
    ttl_s: Option<u64>,
}

/// Reads the flags; those that nobody asked for do no harm.
fn parse_flags(mut flags: &[u8]) -> Result<Flags, Malformed> {
    let mut found = Flags::default();
    while !flags.is_empty() {
        let (flag, rest) = split(flags);
        match flag {
            [b'O', token @ ..] => found.opaque = Some(parse_number(token, 16).ok_or(Malformed)?),
            [b'c', token @ ..] => found.cas = parse_number(token, 10).ok_or(Malformed)?,
            b"t-1" => found.ttl_s = None,
            [b't', token @ ..] => found.ttl_s = Some(parse_number(token, 10).ok_or(Malformed)?),
            _ => {}
        }
        flags = rest;
    }
    Ok(found)
}

fn parse_number(digits: &[u8], radix: u32) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let radix_wide = u64::from(radix);
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = char::from(*digit).to_digit(radix)?;
        number
            .checked_mul(radix_wide)?
            .checked_add(u64::from(digit))
    })
}

/// Splits at the first space.
fn split(line: &[u8]) -> (&[u8], &[u8]) {
    match line.iter().position(|byte| *byte == b' ') {
        Some(space) => (&line[..space], &line[space + 1..]),
        None => (line, b""),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(input: &[u8]) -> Head {
        match parse(input) {
            Ok(Parsed::Whole(head)) => head,
            other => panic!("{other:?} of {:?}", input.escape_ascii().to_string()),
        }
    }

    #[test]
    fn replies_are_read_to_their_end() {
        let value = b"VA 5 c77 O1f W\r\na\r\nbc\r\nHD O2\r\n";
        let head = whole(value);
        assert_eq!(
            (head.code, head.opaque, head.cas),
            (Code::Value, Some(0x1f), 77)
        );
        assert_eq!(&value[head.body.clone()], b"a\r\nbc");
        assert_eq!(whole(b"VA 0 c7 t90 O1\r\n\r\n").ttl_s, Some(90));
        assert_eq!(whole(b"VA 0 c7 t-1 O1\r\n\r\n").ttl_s, None);
        let next = whole(&value[head.len..]);
        assert_eq!((next.code, next.opaque), (Code::Done, Some(2)));
        for (line, code) in [
            ("EN O1", Code::Missing),
            ("NS O1", Code::NotStored),
            ("EX O1", Code::Exists),
            ("NF O1", Code::NotFound),
            ("MN", Code::Pong),
            ("END", Code::End),
            ("STAT pid 7", Code::Stat),
            ("ERROR", Code::Refused),
            ("CLIENT_ERROR bad data chunk", Code::Refused),
            ("SERVER_ERROR object too large for cache", Code::TooLarge),
            (
                "SERVER_ERROR out of memory storing object",
                Code::OutOfMemory,
            ),
            (
                "SERVER_ERROR out of memory writing get response",
                Code::Refused,
            ),
        ] {
            let head = whole(format!("{line}\r\n").as_bytes());
            assert_eq!((head.code, head.len), (code, line.len() + 2), "{line}");
        }
        assert_eq!(whole(b"VA 0 O1\r\n\r\n").body.len(), 0);
    }

    #[test]
    fn what_no_server_sends_is_malformed() {
        let over = format!("VA {} O1\r\n", MAX_FRAME_BYTES + 1);
        let long = "HD O1 ".to_owned() + &"x".repeat(MAX_LINE_BYTES);
        for junk in [
            "\r\n",
            "HDD O1\r\n",
            "HD\n",
            "VA x O1\r\n",
            "VA -1 O1\r\n",
            "VA 1 O1\r\nabc",
            "VA 99999999999999999999 O1\r\n",
            "HD Oxyz\r\n",
            "HD O\r\n",
            "HD t-2 O1\r\n",
            "MN O1\r\n",
            "EN O11111111111111111\r\n",
            &over,
            &long,
        ] {
            assert_eq!(parse(junk.as_bytes()), Err(Malformed), "{junk:.60}");
        }
    }

    fn reply() -> impl Strategy<Value = Vec<u8>> {
        let body = proptest::collection::vec(any::<u8>(), 0..200);
        (any::<u64>(), any::<u64>(), body, 0..4).prop_map(|(opaque, cas, body, kind)| {
            let line = match kind {
                0 => format!("HD O{opaque:x}\r\n"),
                1 => format!("EN O{opaque:x}\r\n"),
                2 => "SERVER_ERROR object too large for cache\r\n".to_owned(),
                _ => {
                    let head = format!("VA {} c{cas} O{opaque:x}\r\n", body.len());
                    return [head.as_bytes(), &body, b"\r\n"].concat();
                }
            };
            line.into_bytes()
        })
    }

    proptest! {
        #[test]
        fn junk_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
            let _ = parse(&[b"VA 10 O1 ", &bytes[..]].concat());
        }

        #[test]
        fn a_truncated_reply_is_never_whole(reply in reply()) {
            prop_assert_eq!(whole(&reply).len, reply.len());
            for cut in 0..reply.len() {
                match parse(&reply[..cut]) {
                    Ok(Parsed::Partial(need)) => prop_assert!(need > cut && need <= reply.len()),
                    other => prop_assert!(false, "cut at {}: {:?}", cut, other),
                }
            }
        }
    }
}
