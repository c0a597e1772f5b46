//! The least HTTP client that tests the shop: one request a connection.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// An answer; the header lines as they came.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: String,
    pub(crate) body: String,
}

impl Response {
    /// Returns the value of a header, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Response {
    get_as(address, path, "").await
}

/// Asks as the visitor to whom the shop has given this cookie.
pub(crate) async fn get_as(address: SocketAddr, path: &str, cookie: &str) -> Response {
    request(address, ("GET", path), cookie, "").await
}

/// Posts a form, encoded already.
pub(crate) async fn post(address: SocketAddr, path: &str, form: &str) -> Response {
    request(address, ("POST", path), "", form).await
}

async fn request(
    address: SocketAddr,
    (method, path): (&str, &str),
    cookie: &str,
    form: &str,
) -> Response {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncookie: {cookie}\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
        form.len()
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (headers, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = headers.split(' ').nth(1).unwrap().parse().unwrap();
    Response {
        status,
        headers: headers.to_owned(),
        body: body.to_owned(),
    }
}
