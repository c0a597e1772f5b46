//! Who may ask: checked before any route is looked at.
//!
//! With a token, whoever has it. Without one, whoever reaches the loopback address and calls it by a loopback name: a
//! browser that was lured to another name for 127.0.0.1 (DNS rebinding) sends that name as `Host`. In either case a web
//! page of another site may not change anything, and nobody may in read-only mode.

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::Response;

use super::problem::{Kind, Problem};
use super::token::Token;
use super::{Shared, health, path};

/// The header by which browsers tell where a request comes from.
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Passes a request on, or refuses it.
pub(super) async fn check(
    State(shared): State<Shared>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    match &shared.token {
        Some(token) => authorize(token, &request)?,
        None => refuse_foreign_hosts(&request)?,
    }
    if !is_safe(request.method()) {
        refuse_cross_origin(&request)?;
        let path = request.uri().path();
        if shared.read_only && !path::is_batch_get(path) {
            let detail = "this server was started read-only";
            return Err(Problem::new(Kind::ReadOnly, detail));
        }
    }
    Ok(next.run(request).await)
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

fn authorize(token: &Token, request: &Request) -> Result<(), Problem> {
    let probe = matches!(request.uri().path(), health::LIVE_PATH | health::READY_PATH);
    let mut given = request.headers().get_all(AUTHORIZATION).iter();
    let authorized = match (given.next(), given.next()) {
        (Some(only), None) => token.is_in(only.as_bytes()),
        _ => false,
    };
    if probe || authorized {
        return Ok(());
    }
    let detail = "send the header Authorization: Bearer with the server's token";
    Err(Problem::new(Kind::Unauthorized, detail))
}

fn refuse_foreign_hosts(request: &Request) -> Result<(), Problem> {
    let hosts = hosts(request);
    if !hosts.is_empty() && hosts.iter().all(|host| is_loopback(host)) {
        return Ok(());
    }
    let detail =
        "without a token only the hosts localhost, 127.0.0.1 and [::1] are served, on any port";
    Err(Problem::new(Kind::WrongHost, detail))
}

/// Returns every host that the request names, with ports: from the headers and from the request line.
fn hosts(request: &Request) -> Vec<&str> {
    let headers = request.headers().get_all(HOST).iter();
    let headers = headers.map(|host| host.to_str().unwrap_or_default());
    let line = request.uri().authority().map(|host| host.as_str());
    headers.chain(line).collect()
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    name.eq_ignore_ascii_case("localhost") || name == "127.0.0.1" || name == "[::1]"
}

/// Refuses what a browser sends for a page of another site. Programs that are no browsers send neither header.
fn refuse_cross_origin(request: &Request) -> Result<(), Problem> {
    let headers = request.headers();
    let same_site =
        values(headers, SEC_FETCH_SITE).all(|site| matches!(site, Some("same-origin" | "none")));
    let hosts = hosts(request);
    let same_origin = values(headers, ORIGIN.as_str()).all(|origin| {
        origin
            .and_then(|origin| origin.split_once("://"))
            .is_some_and(|(_, host)| hosts.iter().any(|ours| ours.eq_ignore_ascii_case(host)))
    });
    if same_site && same_origin {
        return Ok(());
    }
    let detail = "the request comes from a web page of another site";
    Err(Problem::new(Kind::CrossOrigin, detail))
}

/// Returns the values of a header; `None` for one that is not text.
fn values<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = Option<&'a str>> {
    headers
        .get_all(name)
        .iter()
        .map(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_pass_with_any_port() {
        for good in [
            "localhost",
            "LOCALHOST:1",
            "127.0.0.1",
            "127.0.0.1:7878",
            "[::1]",
            "[::1]:7878",
        ] {
            assert!(is_loopback(good), "{good:?}");
        }
        for bad in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:80",
            "localhost:",
            "localhost:x",
            "a@localhost",
            "evil:80@localhost",
            "::1",
            "0.0.0.0",
            "127.0.0.1 ",
        ] {
            assert!(!is_loopback(bad), "{bad:?}");
        }
    }
}
