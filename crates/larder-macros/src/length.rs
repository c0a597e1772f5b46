//! Lengths of time in the attribute: the grammar of `larder::parse_duration`, read when the program is compiled.

use syn::parse::{Parse, ParseStream};
use syn::{Lit, LitStr};

/// The longest: 1000 years.
const MAX_MS: u64 = 1000 * 365 * 24 * 3600 * 1000;

/// A length of time in milliseconds, from 1 ms to 1000 years.
#[derive(Clone, Copy)]
pub(crate) struct Length(pub(crate) u64);

/// How long a value lives.
#[derive(Clone, Copy)]
pub(crate) enum Life {
    For(Length),
    Forever,
}

impl Parse for Length {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let problem =
            "expected a length of time: seconds, or \"250ms\", \"90s\", \"10m\", \"1h30m\", \"7d\"";
        let wrong = |lit: &Lit| syn::Error::new(lit.span(), problem);
        let lit: Lit = input
            .parse()
            .map_err(|error| syn::Error::new(error.span(), problem))?;
        let ms = match &lit {
            Lit::Str(text) => text_ms(&text.value()),
            Lit::Int(seconds) if seconds.suffix().is_empty() => {
                let seconds: Option<u64> = seconds.base10_parse().ok();
                seconds.and_then(|seconds| seconds.checked_mul(1000))
            }
            _ => None,
        };
        match ms.ok_or_else(|| wrong(&lit))? {
            0 => Err(syn::Error::new(lit.span(), "a length of zero is refused")),
            ms if ms > MAX_MS => Err(syn::Error::new(
                lit.span(),
                "more than 1000 years is refused; `ttl = \"forever\"` says that a value does not expire",
            )),
            ms => Ok(Self(ms)),
        }
    }
}

impl Parse for Life {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let ahead = input.fork().parse::<LitStr>();
        if ahead.is_ok_and(|text| text.value() == "forever") {
            input.parse::<LitStr>()?;
            return Ok(Self::Forever);
        }
        Length::parse(input).map(Self::For)
    }
}

/// Reads `1h30m`, or a bare number of seconds.
fn text_ms(text: &str) -> Option<u64> {
    let text = text.trim();
    if text.ends_with(|last: char| last.is_ascii_digit()) {
        return seconds_ms(text);
    }
    if text.is_empty() {
        return None;
    }
    let (mut rest, mut total) = (text, 0_u64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let count: u64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let letters = after.find(|c: char| c.is_ascii_digit());
        let letters = letters.unwrap_or(after.len());
        let unit = match &after[..letters] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(count.checked_mul(unit)?)?;
        rest = &after[letters..];
    }
    Some(total)
}

/// Reads `90` or `2.5`; a fraction of a millisecond counts as one.
fn seconds_ms(text: &str) -> Option<u64> {
    let is_plain = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    if !text.bytes().all(is_plain) {
        return None;
    }
    let duration = std::time::Duration::try_from_secs_f64(text.parse().ok()?).ok()?;
    let ms = u64::try_from(duration.as_nanos().div_ceil(1_000_000));
    ms.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<u64> {
        syn::parse_str::<Length>(text).ok().map(|length| length.0)
    }

    #[test]
    fn lengths_are_read_as_in_the_configuration() {
        for (text, ms) in [
            ("\"250ms\"", 250),
            ("\"90s\"", 90_000),
            ("\"1h30m\"", 5_400_000),
            ("\"7d\"", 604_800_000),
            ("\"2.5\"", 2500),
            ("\" 60 \"", 60_000),
            ("300", 300_000),
            ("\"0.0001\"", 1),
        ] {
            assert_eq!(read(text), Some(ms), "{text}");
        }
        for bad in [
            "\"\"",
            "\"1x\"",
            "\"-5s\"",
            "\"m\"",
            "\"1.5h\"",
            "\"0\"",
            "0",
            "\"0s\"",
            "-5",
            "1.5",
            "5u8",
            "\"366000d\"",
            "99999999999999999999",
            "\"1e3\"",
            "\"1.5.2\"",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert!(matches!(syn::parse_str("\"forever\""), Ok(Life::Forever)));
    }
}
