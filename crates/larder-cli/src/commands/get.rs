//! `larder cache get`: prints a value.

use larder::ErrorKind;
use larder::cache::RawValue;
use serde::Serialize;
use serde_json::value::RawValue as Json;

use crate::escape;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::input::{KeyArg, encode_base64};
use crate::json::{KeyFields, ttl_ms};
use crate::session::Session;

/// Prints the value and a line break; typed values and sorted sets as JSON.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    key: KeyArg,
    /// Print exactly the stored bytes, without a line break
    #[arg(long, conflicts_with = "base64")]
    raw: bool,
    /// Print the stored bytes in base64
    #[arg(long)]
    base64: bool,
}

pub(crate) async fn run(args: &Args, session: &mut Session<'_>) -> Outcome {
    if args.raw && session.output.is_json() {
        return Err(Failure::usage("--raw and --json exclude each other"));
    }
    let key = args.key.bytes()?;
    match session.cache.get_raw(&key).await {
        Ok(Some(value)) => print(args, &key, &value, session),
        Ok(None) => Err(session.why_absent(&key).await),
        Err(error) if error.kind() == ErrorKind::WrongType && !args.raw && !args.base64 => {
            print_sorted_set(&key, session).await
        }
        Err(error) => Err(error.into()),
    }
}

/// The output of `--json`.
#[derive(Debug, Serialize)]
struct Printed {
    #[serde(flatten)]
    key: KeyFields,
    value: Box<Json>,
    /// How to read `value`: `utf8`, `base64`, or `json` when it is the value itself.
    encoding: &'static str,
    content_type: String,
    typed: bool,
    ttl_ms: Option<u64>,
    tags: Vec<String>,
}

fn print(args: &Args, key: &[u8], value: &RawValue, session: &mut Session<'_>) -> Outcome {
    if session.output.is_json() {
        let (shown, encoding) = encode(args, value)?;
        session.output.json(&Printed {
            key: KeyFields::new(key),
            value: shown,
            encoding,
            content_type: value.content_type.clone(),
            typed: value.is_typed,
            ttl_ms: ttl_ms(value.time_left),
            tags: value.tags.clone(),
        })?;
        return Ok(Exit::Ok);
    }
    if args.raw {
        session.output.bytes(&value.body)?;
    } else if args.base64 {
        session.output.line(encode_base64(&value.body))?;
    } else if value.is_typed {
        print_text(&typed_as_json(value)?, session)?;
    } else {
        print_text(&value.body, session)?;
    }
    Ok(Exit::Ok)
}

/// Prints a value and a line break; a terminal gets no control characters.
fn print_text(value: &[u8], session: &mut Session<'_>) -> Outcome<()> {
    if session.output.is_terminal() {
        session.output.line(escape::lines(value))?;
    } else {
        session.output.bytes(value)?;
        session.output.bytes(b"\n")?;
    }
    Ok(())
}

fn typed_as_json(value: &RawValue) -> Outcome<Vec<u8>> {
    let json = value.to_json();
    let json = json.map_err(|error| Failure::from(error).after("use --raw or --base64"))?;
    Ok(json.to_vec())
}

fn encode(args: &Args, value: &RawValue) -> Outcome<(Box<Json>, &'static str)> {
    let typed = value
        .to_json()
        .ok()
        .filter(|_| value.is_typed && !args.base64)
        .and_then(|json| String::from_utf8(json.to_vec()).ok())
        .and_then(|json| Json::from_string(json).ok());
    if let Some(json) = typed {
        return Ok((json, "json"));
    }
    let text = std::str::from_utf8(&value.body)
        .ok()
        .filter(|_| !value.is_typed && !args.base64);
    let (shown, encoding) = match text {
        Some(text) => (serde_json::value::to_raw_value(text), "utf8"),
        None => {
            let text = encode_base64(&value.body);
            (serde_json::value::to_raw_value(&text), "base64")
        }
    };
    let shown = shown.map_err(|error| Failure::failed(error.to_string()))?;
    Ok((shown, encoding))
}

/// A member of a sorted set, as printed.
#[derive(Debug, Serialize)]
struct Member {
    member: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    member_encoding: Option<&'static str>,
    score: f64,
}

impl Member {
    fn new(score: f64, member: &[u8]) -> Self {
        let text = std::str::from_utf8(member).map(str::to_owned);
        let member_encoding = text.is_err().then_some("base64");
        Self {
            member: text.unwrap_or_else(|_| encode_base64(member)),
            member_encoding,
            score,
        }
    }
}

/// Prints the members, the lowest score first.
async fn print_sorted_set(key: &[u8], session: &mut Session<'_>) -> Outcome {
    let members = session.cache.sorted_set(key).range(0, -1).await?;
    let members: Vec<_> = members
        .iter()
        .map(|(score, member)| Member::new(*score, member))
        .collect();
    let shown = serde_json::value::to_raw_value(&members)
        .map_err(|error| Failure::failed(error.to_string()))?;
    if !session.output.is_json() {
        print_text(shown.get().as_bytes(), session)?;
        return Ok(Exit::Ok);
    }
    let left = session.cache.ttl(key).await?;
    let tags = session.cache.key_tags(key).await?.unwrap_or_default();
    session.output.json(&Printed {
        key: KeyFields::new(key),
        value: shown,
        encoding: "json",
        content_type: "application/json".to_owned(),
        typed: true,
        ttl_ms: ttl_ms(left),
        tags,
    })?;
    Ok(Exit::Ok)
}
