//! Certificates for servers with TLS, made afresh by `openssl`: an authority, a server and a client it vouches for, and
//! a second authority that vouches for nobody.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{Program, find_binary};

/// What makes the certificates.
pub(super) const OPENSSL: Program = Program {
    package: "openssl",
    binary: "openssl",
};

/// One section for each kind of certificate; the configuration of the system does not matter.
const CONFIG: &str = "\
[req]
distinguished_name = name
prompt = no
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1
[client]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
";

/// Writes `ca.pem`, `other-ca.pem`, `server.pem`, `server.key`, `client.pem` and `client.key` into `dir`, which is
/// created.
///
/// The server's certificate is for `localhost` and `127.0.0.1`.
///
/// # Errors
///
/// When `openssl` is missing or fails, or the files cannot be written.
pub fn make_certificates(dir: &Path) -> Result<()> {
    let written = fs::create_dir_all(dir).and_then(|()| fs::write(dir.join("openssl.cnf"), CONFIG));
    written.with_context(|| format!("cannot write to {}", dir.display()))?;
    make(dir, "authority", "ca", None)?;
    make(dir, "authority", "other-ca", None)?;
    make(dir, "server", "server", Some("ca"))?;
    make(dir, "client", "client", Some("ca"))
}

/// Makes one key and its certificate, signed by `issuer` or by itself.
fn make(dir: &Path, section: &str, name: &str, issuer: Option<&str>) -> Result<()> {
    let binary = find_binary(OPENSSL.binary).context("openssl is not installed")?;
    let mut command = Command::new(binary);
    command
        .current_dir(dir)
        .args([
            "req",
            "-x509",
            "-config",
            "openssl.cnf",
            "-extensions",
            section,
        ])
        .args([
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ])
        .args(["-days", "365", "-subj", &format!("/CN=Larder test {name}")])
        .args([
            "-keyout",
            &format!("{name}.key"),
            "-out",
            &format!("{name}.pem"),
        ]);
    if let Some(issuer) = issuer {
        command.args(["-CA", &format!("{issuer}.pem")]);
        command.args(["-CAkey", &format!("{issuer}.key")]);
    }
    let output = command.output().context("cannot run openssl")?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        bail!("openssl made no certificate for {name}: {}", message.trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verifies(dir: &Path, authority: &str, certificate: &str) -> bool {
        let mut command = Command::new("openssl");
        command.current_dir(dir);
        command.args(["verify", "-x509_strict", "-CAfile", authority, certificate]);
        command.output().unwrap().status.success()
    }

    #[test]
    fn only_the_authority_vouches_for_the_certificates() {
        let dir = tempfile::tempdir().unwrap();
        make_certificates(dir.path()).unwrap();
        for certificate in ["server.pem", "client.pem"] {
            assert!(verifies(dir.path(), "ca.pem", certificate));
            assert!(!verifies(dir.path(), "other-ca.pem", certificate));
        }
    }
}
