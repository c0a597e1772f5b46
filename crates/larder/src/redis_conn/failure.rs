//! The one place where errors of the client and of the server become errors of this crate.

use redis::{ErrorKind as ClientKind, RedisError, ServerError, ServerErrorKind};

use crate::error::{Error, ErrorKind};

/// Why a call got no reply.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// What to tell the caller.
    pub(crate) error: Error,
    /// Whether the server may be gone: somebody should look where its work went.
    pub(crate) is_loss: bool,
}

impl Failure {
    /// The server cannot be reached, or does not answer.
    pub(crate) fn loss(error: Error) -> Self {
        Self {
            error,
            is_loss: true,
        }
    }

    /// This process refuses the call.
    pub(crate) fn refusal(error: Error) -> Self {
        Self {
            error,
            is_loss: false,
        }
    }
}

/// Converts a failure of the connection.
pub(crate) fn client(error: RedisError, address: &str) -> Error {
    let text = error.to_string();
    let told = match error.kind() {
        _ if error.is_timeout() => Error::new(
            ErrorKind::Timeout,
            format!("{address} did not answer in time"),
        ),
        ClientKind::Io if is_about_certificates(&text) => Error::new(
            ErrorKind::Unavailable,
            format!(
                "{address} has a certificate that is not trusted: check ca, and the name in the URL"
            ),
        )
        .retryable(false),
        ClientKind::Io => Error::new(
            ErrorKind::Unavailable,
            format!("{address} cannot be reached"),
        ),
        ClientKind::AuthenticationFailed => login_refused(address),
        ClientKind::Parse => Error::new(
            ErrorKind::Unavailable,
            format!("{address} sent what is no Redis reply"),
        ),
        ClientKind::Server(_) => return server_text(&text, address).caused_by(error),
        ClientKind::InvalidClientConfig => Error::new(
            ErrorKind::InvalidConfig,
            format!("the settings of {address} cannot be used"),
        ),
        _ if error.is_unrecoverable_error() => Error::new(
            ErrorKind::Unavailable,
            format!("the connection to {address} was lost"),
        ),
        _ => Error::new(
            ErrorKind::Internal,
            format!("an unexpected failure at {address}"),
        ),
    };
    told.caused_by(error)
}

/// Converts an error reply.
pub(crate) fn server(error: &ServerError, address: &str) -> Error {
    // Inside a script, Redis 7 words a missing permission its own way.
    let in_script = detail(error).contains("can't run this command");
    if error.kind() == Some(ServerErrorKind::NoPerm) || in_script {
        return Error::new(
            ErrorKind::InvalidConfig,
            format!(
                "the user lacks a permission on {address}: {}",
                detail(error)
            ),
        );
    }
    let text = format!("{} {}", error.code(), detail(error));
    server_text(&text, address)
}

fn detail(error: &ServerError) -> &str {
    error.details().unwrap_or("no detail given")
}

/// Decides by the words that Redis begins its errors with.
fn server_text(text: &str, address: &str) -> Error {
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&[
        "WRONGPASS",
        "NOAUTH",
        "AuthenticationFailed",
        "invalid password",
    ]) {
        return login_refused(address);
    }
    let (kind, message) = if has(&["OOM"]) {
        (
            ErrorKind::Unavailable,
            format!(
                "{address} is out of memory and evicts nothing: raise maxmemory or set maxmemory-policy"
            ),
        )
    } else if has(&["READONLY"]) {
        (
            ErrorKind::Unavailable,
            format!("{address} is a read-only replica: name the primary, or its sentinels"),
        )
    } else if has(&["LOADING"]) {
        (
            ErrorKind::Unavailable,
            format!("{address} is loading its data"),
        )
    } else if has(&["BUSY"]) {
        (
            ErrorKind::Unavailable,
            format!("{address} is busy with a script"),
        )
    } else if has(&["MISCONF"]) {
        (
            ErrorKind::Unavailable,
            format!("{address} refuses writes, since it cannot save its data"),
        )
    } else if has(&["CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN", "MOVED", "ASK"]) {
        (
            ErrorKind::Unavailable,
            format!("the cluster of {address} is changing or down"),
        )
    } else if has(&["WRONGTYPE"]) {
        (
            ErrorKind::WrongType,
            "another program keeps something else under this key".to_owned(),
        )
    } else if has(&["cluster support disabled"]) {
        (
            ErrorKind::InvalidConfig,
            format!("{address} is no part of a cluster"),
        )
    } else if has(&["DB index is out of range", "SELECT is not allowed"]) {
        (
            ErrorKind::InvalidConfig,
            format!("{address} has no such database: check database"),
        )
    } else if has(&["max number of clients"]) {
        (
            ErrorKind::Unavailable,
            format!("{address} has too many clients"),
        )
    } else {
        (ErrorKind::Internal, format!("{address} answered: {text}"))
    };
    // A server that is full or cannot save answers all the same: it is not down, and trying again changes nothing.
    let is_passing = kind == ErrorKind::Unavailable && !has(&["OOM", "MISCONF"]);
    Error::new(kind, message).retryable(is_passing)
}

fn login_refused(address: &str) -> Error {
    Error::new(
        ErrorKind::InvalidConfig,
        format!("{address} refuses the login: check user and password"),
    )
}

fn is_about_certificates(text: &str) -> bool {
    [
        "certificate",
        "Certificate",
        "UnknownIssuer",
        "NotValidForName",
    ]
    .iter()
    .any(|word| text.contains(word))
}
