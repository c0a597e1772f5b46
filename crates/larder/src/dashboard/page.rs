//! The status page: one table, no script, brought up to date by the browser.

use std::fmt::{self, Display, Write as _};

use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{Html, IntoResponse, Response};

use super::{Shared, stats};
use crate::cache::{CacheStats, Counts};
use crate::error::Result;

/// Where the stylesheet is; the page names it relative to itself.
pub(super) const STYLESHEET_PATH: &str = "/static/larder.css";

const CSS: &str = include_str!("larder.css");
/// The page may load its own stylesheet and nothing else.
const POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What stands before the tables.
const HEAD: &str = "<!doctype html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<meta name=\"color-scheme\" content=\"light dark\">
<meta http-equiv=\"refresh\" content=\"2\">
<title>Larder</title>
<link rel=\"stylesheet\" href=\"static/larder.css\">
</head>
<body>
<header><h1>Larder</h1></header>
<main>
";

/// `GET /`: every cache with its figures.
pub(super) async fn status(State(shared): State<Shared>) -> Response {
    let mut page = String::from(HEAD);
    for (name, cache) in stats::named(&shared) {
        let stats = cache.stats().await;
        // Writing to a string cannot fail.
        let _ = section(&mut page, (&name, cache.store_name()), &stats);
    }
    page.push_str("</main>\n</body>\n</html>\n");
    let policy = [(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY))];
    (policy, Html(page)).into_response()
}

/// `GET /static/larder.css`.
pub(super) async fn stylesheet() -> Response {
    ([(CONTENT_TYPE, "text/css; charset=utf-8")], CSS).into_response()
}

fn section(
    page: &mut String,
    (name, store): (&str, &str),
    stats: &Result<CacheStats>,
) -> fmt::Result {
    let title = format!("{} <small>{}</small>", Escaped(name), Escaped(store));
    writeln!(page, "<section>\n<h2>{title}</h2>")?;
    match stats {
        Ok(stats) => {
            hero(page, stats)?;
            reasons(page, &stats.total)?;
        }
        Err(error) => {
            tracing::warn!(cache = name, %error, "the figures of a cache cannot be read");
            let kind = error.kind().to_string();
            writeln!(page, "<p class=\"bad\">{}</p>", Escaped(&kind))?;
        }
    }
    page.write_str("</section>\n")
}

/// Writes the figures that are looked at first.
fn hero(page: &mut String, stats: &CacheStats) -> fmt::Result {
    let ratio = stats.total.hit_ratio();
    let ratio = ratio.map_or("no reads yet".into(), |ratio| {
        format!("{:.1} %", ratio * 100.0)
    });
    page.write_str("<dl class=\"hero\">\n")?;
    row(page, "hit ratio", ratio)?;
    row(page, "entries", known(stats.entries))?;
    row(
        page,
        "store size",
        stats.store.bytes.map_or("-".into(), size),
    )?;
    if let Some(local) = &stats.local {
        row(page, "local entries", local.entries)?;
        row(page, "local size", size(local.bytes))?;
        if let Some(lag_ms) = local.lag_ms {
            row(page, "local lag", format!("{lag_ms} ms"))?;
        }
    }
    page.write_str("</dl>\n")
}

/// Writes why reads hit or missed, and what was written.
fn reasons(page: &mut String, counts: &Counts) -> fmt::Result {
    let misses = &counts.misses;
    let rows = [
        ("hits, local tier", counts.local_hits),
        ("hits, store", counts.store_hits),
        ("misses, absent", misses.absent),
        ("misses, invalidated", misses.invalidated),
        ("misses, unknown layout", misses.layout),
        ("misses, damaged", misses.damaged),
        ("misses, other schema", misses.schema),
        ("misses, other type", misses.decode),
        ("misses, store failed", misses.error),
        ("sets", counts.sets),
        ("deletes", counts.deletes),
        ("loads", counts.loads),
        ("loads, failed", counts.failed_loads),
        ("refreshes", counts.refreshes),
        ("refreshes, failed", counts.failed_refreshes),
        ("served stale", counts.stale_served),
    ];
    page.write_str("<dl>\n")?;
    for (name, count) in rows {
        row(page, name, count)?;
    }
    page.write_str("</dl>\n")
}

fn row(page: &mut String, name: &str, value: impl Display) -> fmt::Result {
    let value = value.to_string();
    let (name, value) = (Escaped(name), Escaped(&value));
    writeln!(page, "<div><dt>{name}</dt><dd>{value}</dd></div>")
}

fn known(count: Option<u64>) -> String {
    count.map_or("-".into(), |count| count.to_string())
}

/// Writes a size with three digits or so.
fn size(bytes: u64) -> String {
    let mut size = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if size < 1024.0 {
            let digits = usize::from(unit != "B" && size < 100.0);
            return format!("{size:.digits$} {unit}");
        }
        size /= 1024.0;
    }
    format!("{size:.1} TiB")
}

/// Text in a page: markup characters become entities, and characters that could rearrange or hide text are spelled out.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                hidden if is_hidden(hidden) => write!(f, "\\u{{{:x}}}", u32::from(hidden))?,
                plain => f.write_char(plain)?,
            }
        }
        Ok(())
    }
}

/// Returns whether a character is a control, or a format character that turns or joins what stands around it.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup_or_rearrange_the_page() {
        let text = Escaped("<script x=\"'\">&amp;</script>").to_string();
        assert_eq!(
            text,
            "&lt;script x=&quot;&#39;&quot;&gt;&amp;amp;&lt;/script&gt;"
        );
        let text = Escaped("a\u{202e}b\u{1b}[31m\n").to_string();
        assert_eq!(text, "a\\u{202e}b\\u{1b}[31m\\u{a}");
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(200 << 20), "200 MiB");
        assert_eq!(size(u64::MAX), "16777216.0 TiB");
    }
}
