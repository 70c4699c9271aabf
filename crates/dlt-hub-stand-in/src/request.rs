//! The requests that the stand-in receives.

use std::io::{self, BufRead};

/// One request, as it arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// `GET` or `HEAD`.
    pub method: String,
    /// Path and query, without host.
    pub path: String,
    /// The first and the last byte of the requested range, if there is one.
    pub range: Option<(u64, Option<u64>)>,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// The `Host` header.
    pub host: String,
    /// Whether it was sent to the stand-in as a proxy.
    pub is_proxied: bool,
}

impl Request {
    /// Reads a request up to the blank line; `None` at the end of the connection.
    pub(crate) fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Ok(None);
        }

        let mut words = line.split_whitespace();
        let method = words.next().unwrap_or_default();
        let target = words.next().unwrap_or_default();
        let mut request =
            Self { method: method.to_owned(), path: target.to_owned(), ..Self::default() };

        if let Some(absolute) = target.strip_prefix("http://") {
            request.is_proxied = true;
            request.path = absolute.find('/').map_or("/", |slash| &absolute[slash..]).to_owned();
        }

        loop {
            let mut header = String::new();
            if from.read_line(&mut header)? == 0 || header.trim().is_empty() {
                return Ok(Some(request));
            }
            request.take_header(header.trim());
        }
    }

    fn take_header(&mut self, header: &str) {
        let Some((name, value)) = header.split_once(':') else { return };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "authorization" => self.authorization = Some(value.to_owned()),
            "host" => self.host = value.to_owned(),
            "range" => self.range = range(value),
            _ => {}
        }
    }
}

/// `bytes=3-` or `bytes=3-7`.
fn range(value: &str) -> Option<(u64, Option<u64>)> {
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()))
}
