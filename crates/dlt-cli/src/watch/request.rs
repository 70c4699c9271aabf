//! The requests of clients, and the reasons to refuse them.

use std::net::{IpAddr, SocketAddr};

use super::Answer;

/// Most bytes of the head of a request; browsers send one or two thousand.
pub(super) const MOST_BYTES: usize = 16 * 1024;
/// Most headers of a request.
const MOST_HEADERS: usize = 64;

/// Which of the two answers a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// `/`, the page.
    Page,
    /// `/data.json`, what is new in the run.
    News,
}

/// A request that can be answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) wanted: Wanted,
    /// Whether it is a GET and not a HEAD.
    pub(super) with_body: bool,
    /// The version that the client already has.
    pub(super) known: Option<String>,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Malformed,
    /// It was meant for another host. A page of an attacker could ask so, after making its own host
    /// name point to this machine (DNS rebinding).
    ForeignHost,
    Unknown,
    Method,
    Slow,
    Large,
    Busy,
}

impl Refusal {
    pub(super) fn answer(self) -> Answer {
        let (status, words) = match self {
            Self::Malformed => ("400 Bad Request", "the request cannot be understood"),
            Self::ForeignHost => {
                ("403 Forbidden", "the page is served only under the name of this machine")
            }
            Self::Unknown => ("404 Not Found", "only / and /data.json exist"),
            Self::Method => ("405 Method Not Allowed", "only GET and HEAD are allowed"),
            Self::Slow => ("408 Request Timeout", "the request took too long"),
            Self::Large => ("431 Request Header Fields Too Large", "the request is too large"),
            Self::Busy => ("503 Service Unavailable", "too many connections; try again later"),
        };

        Answer::new(status, "text/plain; charset=utf-8", format!("{words}\n"))
    }
}

impl Request {
    /// Parses a whole head that was sent to the address `local`.
    pub(super) fn read(head: &[u8], local: SocketAddr) -> Result<Self, Refusal> {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        match parsed.parse(head) {
            Ok(httparse::Status::Complete(_)) => {}
            Err(httparse::Error::TooManyHeaders) => return Err(Refusal::Large),
            Ok(httparse::Status::Partial) | Err(_) => return Err(Refusal::Malformed),
        }

        let all = |name: &str| {
            let values =
                parsed.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
            values
                .map(|header| std::str::from_utf8(header.value).unwrap_or("\u{fffd}"))
                .collect::<Vec<_>>()
        };

        // The host is checked first: a request for another host learns nothing, not even which
        // paths exist.
        match all("host")[..] {
            [host] if is_ours(host, local) => {}
            [_] => return Err(Refusal::ForeignHost),
            _ => return Err(Refusal::Malformed),
        }

        let with_body = match parsed.method {
            Some("GET") => true,
            Some("HEAD") => false,
            _ => return Err(Refusal::Method),
        };

        if !all("transfer-encoding").is_empty()
            || all("content-length").iter().any(|&length| length != "0")
        {
            return Err(Refusal::Malformed);
        }

        let wanted = match parsed.path {
            Some("/") => Wanted::Page,
            Some("/data.json") => Wanted::News,
            _ => return Err(Refusal::Unknown),
        };

        Ok(Self {
            wanted,
            with_body,
            known: all("if-none-match").first().map(|&version| version.to_owned()),
        })
    }
}

/// Whether a Host header names this machine, or exactly the address that the request was sent to,
/// with its port. Only an address can match the latter, so a host name that an attacker points to
/// this machine is refused.
fn is_ours(host: &str, local: SocketAddr) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !name.ends_with(':') && !port.ends_with(']') => (name, port),
        _ => (host, "80"),
    };

    // Only digits, because `parse` would also accept a sign.
    if !port.bytes().all(|byte| byte.is_ascii_digit()) || port.parse() != Ok(local.port()) {
        return false;
    }
    if ["localhost", "127.0.0.1", "[::1]"].iter().any(|own| name.eq_ignore_ascii_case(own)) {
        return true;
    }

    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    match bare.unwrap_or(name).parse::<IpAddr>() {
        Ok(address) => {
            address.is_ipv6() == bare.is_some()
                && address.to_canonical() == local.ip().to_canonical()
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local() -> SocketAddr {
        "192.168.7.5:7070".parse().unwrap()
    }

    fn read(head: &str) -> Result<Request, Refusal> {
        Request::read(head.replace('\n', "\r\n").as_bytes(), local())
    }

    #[test]
    fn two_paths_exist_and_no_more() {
        let asked = |path: &str| {
            read(&format!("GET {path} HTTP/1.1\nHost: localhost:7070\n\n"))
                .map(|request| request.wanted)
        };

        assert_eq!(asked("/"), Ok(Wanted::Page));
        assert_eq!(asked("/data.json"), Ok(Wanted::News));

        for path in [
            "//",
            "/?",
            "/?x",
            "/data.json?",
            "/data.json/",
            "/../spec.toml",
            "/%2e%2e/spec.toml",
            "/spec.toml",
            "/etc/passwd",
            "http://localhost:7070/",
            "*",
        ] {
            assert_eq!(asked(path), Err(Refusal::Unknown), "{path}");
        }
    }

    #[test]
    fn rejects_hosts_of_others() {
        let asked = |host: &str| read(&format!("GET / HTTP/1.1\nHost: {host}\n\n"));
        for host in
            ["localhost:7070", "LOCALHOST:7070", "127.0.0.1:7070", "[::1]:7070", "192.168.7.5:7070"]
        {
            assert!(asked(host).is_ok(), "{host}");
        }

        for host in [
            "evil.example:7070",
            "localhost",
            "localhost:7071",
            "localhost:+7070",
            "localhost:",
            "localhost:07070x",
            "127.0.0.1",
            "localhost.:7070",
            "localhost.evil.example:7070",
            "evil.localhost:7070",
            "192.168.7.6:7070",
            "0.0.0.0:7070",
            "::1:7070",
            "[::1]",
            "[192.168.7.5]:7070",
            "[::2]:7070",
            "user@localhost:7070",
            "",
            ":7070",
        ] {
            assert_eq!(asked(host), Err(Refusal::ForeignHost), "{host}");
        }

        assert_eq!(read("GET / HTTP/1.1\n\n"), Err(Refusal::Malformed), "none");
        let twice = read("GET / HTTP/1.1\nHost: localhost:7070\nHost: localhost:7070\n\n");
        assert_eq!(twice, Err(Refusal::Malformed));
    }

    #[test]
    fn rejects_everything_but_reading() {
        let asked = |method: &str| read(&format!("{method} / HTTP/1.1\nHost: localhost:7070\n\n"));
        assert!(asked("GET").unwrap().with_body && !asked("HEAD").unwrap().with_body);

        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "get", "X"]
        {
            assert_eq!(asked(method), Err(Refusal::Method), "{method}");
        }

        let with =
            |header: &str| read(&format!("GET / HTTP/1.1\nHost: localhost:7070\n{header}\n\n"));
        assert_eq!(with("Content-Length: 5"), Err(Refusal::Malformed));
        assert_eq!(with("Transfer-Encoding: chunked"), Err(Refusal::Malformed));
        assert_eq!(with("If-None-Match: \"abc\"").unwrap().known.as_deref(), Some("\"abc\""));
        assert_eq!(with(&"X: y\n".repeat(100)), Err(Refusal::Large));
        assert_eq!(read("nonsense\n\n"), Err(Refusal::Malformed));
    }
}
