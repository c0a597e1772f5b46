//! The little of URLs that configuration needs: scheme, credentials, redaction.

use super::secret::REDACTED;

/// Query parameters whose values are not shown when their name contains one of these.
const SECRET_PARAMETERS: [&str; 7] = ["pass", "pwd", "secret", "token", "key", "auth", "user"];

/// A URL taken apart at its scheme and credentials.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    pub(super) scheme: &'a str,
    pub(super) userinfo: Option<&'a str>,
    /// Host, path and query.
    pub(super) rest: &'a str,
}

/// Takes a URL apart; `None` when it has no scheme, or nothing after it.
pub(super) fn split(url: &str) -> Option<Parts<'_>> {
    let (scheme, rest) = url.split_once("://")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    if scheme.is_empty() || !scheme.chars().all(plain) || rest.chars().any(char::is_whitespace) {
        return None;
    }
    let (userinfo, rest) = match rest.rsplit_once('@') {
        Some((userinfo, rest)) => (Some(userinfo), rest),
        None => (None, rest),
    };
    (!rest.is_empty()).then_some(Parts {
        scheme,
        userinfo,
        rest,
    })
}

/// Returns host and path, without credentials and options: what tells servers apart.
pub(super) fn without_credentials(url: &str) -> String {
    let rest = split(url).map_or(url, |parts| parts.rest);
    let place = rest.split('?').next().unwrap_or_default();
    place.trim_end_matches('/').to_owned()
}

/// Returns the URL without what must not be shown.
///
/// Everything up to the last `@` counts as credentials, so that a password with an unescaped `/`
/// or `@` does not show either.
pub(super) fn redact(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return match url.rsplit_once('@') {
            Some((_, rest)) => format!("{REDACTED}@{}", redact_query(rest)),
            None => redact_query(url),
        };
    };
    match rest.rsplit_once('@') {
        Some((_, rest)) => format!("{scheme}://{REDACTED}@{}", redact_query(rest)),
        None => format!("{scheme}://{}", redact_query(rest)),
    }
}

fn redact_query(text: &str) -> String {
    let Some((before, query)) = text.split_once('?') else {
        return text.to_owned();
    };
    let shown: Vec<String> = query
        .split('&')
        .map(|parameter| match parameter.split_once('=') {
            Some((name, _)) if is_secret(name) => format!("{name}={REDACTED}"),
            _ => parameter.to_owned(),
        })
        .collect();
    format!("{before}?{}", shown.join("&"))
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_PARAMETERS.iter().any(|word| name.contains(word))
}

/// Puts credentials into a URL; those given replace its own.
pub(super) fn with_credentials(url: &str, user: Option<&str>, password: Option<&str>) -> String {
    let Some(parts) = split(url) else {
        return url.to_owned();
    };
    if user.is_none() && password.is_none() {
        return url.to_owned();
    }
    let (own_user, own_password) = match parts.userinfo {
        Some(userinfo) => match userinfo.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (userinfo, None),
        },
        None => ("", None),
    };
    let user = user.map_or_else(|| own_user.to_owned(), percent_encode);
    let password = password
        .map(percent_encode)
        .or_else(|| own_password.map(Into::into))
        .map(|password| format!(":{password}"))
        .unwrap_or_default();
    format!("{}://{user}{password}@{}", parts.scheme, parts.rest)
}

fn percent_encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn credentials_do_not_show() {
        for (url, shown) in [
            ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
            ("redis://:hush@h/0", "redis://***@h/0"),
            ("redis://u:a@b/c@h:1", "redis://***@h:1"),
            (
                "postgres://h/db?sslmode=require&password=hush",
                "postgres://h/db?sslmode=require&password=***",
            ),
            ("u:hush@h", "***@h"),
        ] {
            assert_eq!(redact(url), shown);
        }
    }

    #[test]
    fn given_credentials_replace_those_of_the_url() {
        assert_eq!(
            with_credentials("redis://u:old@h/0", None, Some("n@w/")),
            "redis://u:n%40w%2F@h/0"
        );
        assert_eq!(
            with_credentials("redis://h/0", None, Some("p")),
            "redis://:p@h/0"
        );
        assert_eq!(with_credentials("redis://h", None, None), "redis://h");
    }

    proptest! {
        #[test]
        fn a_password_never_survives_redaction(password in "[a-z@:/?&=%]{0,8}QZX[a-z@:/]{0,8}") {
            let shown = redact(&format!("redis://user:{password}@host/0"));
            prop_assert!(!shown.contains("QZX"), "{}", shown);
        }

        #[test]
        fn no_text_panics(url in ".{0,40}") {
            let _ = (split(&url), redact(&url), with_credentials(&url, Some("u"), Some("p")));
        }
    }
}
