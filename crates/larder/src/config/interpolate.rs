//! `${NAME}` in the string values of a file.

use std::borrow::Cow;

use super::problems::quoted;
use super::sources::Environment;

/// Replaces `${NAME}` and `${NAME:-default}` by the environment's values, and `$$` by `$`.
///
/// The default applies when the variable is unset or empty. Any other `$` stands for itself.
/// Borrowed when there was nothing to replace.
///
/// # Errors
/// A sentence about the variable that is unset without a default, or the malformed reference.
pub(super) fn interpolate<'a>(
    text: &'a str,
    environment: &Environment,
) -> Result<Cow<'a, str>, String> {
    if !text.contains("${") && !text.contains("$$") {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let (reference, after) = after
                .split_once('}')
                .ok_or_else(|| "has a ${ without its }; write $$ for a $".to_owned())?;
            out.push_str(resolve(reference, environment)?);
            rest = after;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    Ok(Cow::Owned(out))
}

fn resolve<'a>(reference: &'a str, environment: &'a Environment) -> Result<&'a str, String> {
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let is_name = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_name {
        return Err(format!(
            "refers to {}, which is no name of a variable; write $$ for a $",
            quoted(name)
        ));
    }
    match (environment.get(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default),
        (None, None) => Err(format!(
            "needs the environment variable {name}, which is not set; set it or write ${{{name}:-default}}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn environment() -> Environment {
        [("HOST", "db1"), ("EMPTY", ""), ("DOLLAR", "${HOST}")]
            .into_iter()
            .collect()
    }

    #[test]
    fn variables_defaults_and_dollars() {
        for (text, expected) in [
            ("plain $5 $", "plain $5 $"),
            ("${HOST}:6379", "db1:6379"),
            ("${NONE:-x}${EMPTY:-y}${EMPTY}", "xy"),
            ("$${HOST} $$", "${HOST} $"),
            ("${DOLLAR}", "${HOST}"),
            ("${NONE:-}", ""),
        ] {
            assert_eq!(interpolate(text, &environment()).unwrap(), expected);
        }
    }

    #[test]
    fn what_cannot_be_replaced_is_named() {
        let message = interpolate("${PASSWORD}", &environment()).unwrap_err();
        assert!(message.contains("PASSWORD"), "{message}");
        for bad in ["${", "${HOST", "${}", "${A B}", "${1A}"] {
            assert!(interpolate(bad, &environment()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[$\\{\\}:\\-A-Zé ]{0,30}") {
            let _ = interpolate(&text, &environment());
        }
    }
}
