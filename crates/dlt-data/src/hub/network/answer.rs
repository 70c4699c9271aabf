//! One request, and the meaning of its answer.

use crate::{
    error::DataError,
    hub::{FetchEvent, Hub, OnFetch, RepoKind, Token},
};
use hf_hub::{
    Cache, Repo, RepoType,
    api::sync::{ApiBuilder, ApiRepo},
};
use std::{
    thread,
    time::{Duration, SystemTime},
};
use ureq::{
    Body, Error,
    http::{Response, Uri},
};

/// Longest address that is followed.
const LONGEST_ADDRESS: usize = 8_192;

/// Most redirects that are followed one after the other.
const MOST_REDIRECTS: usize = 5;

/// The clients that make requests. When a client follows redirects itself, it compares only host
/// names, so another server on another port of the same machine would get the token. Therefore
/// redirects are followed here, with the client that fits the address.
pub(super) struct Client {
    /// With the token, for the hub's own scheme, host and port.
    pub(super) own: ApiRepo,
    /// Without the token, for every other address.
    pub(super) bare: ApiRepo,
}

/// How to handle a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Redirects {
    /// It is followed.
    Followed,
    /// It is the answer.
    Kept,
}

/// A try that failed.
pub(super) enum Failed {
    /// Another try may help.
    ForNow {
        /// What happened.
        error: DataError,
        /// The pause that the hub asks for.
        retry_after: Option<Duration>,
    },
    /// Another try cannot help.
    ForGood(DataError),
}

impl From<DataError> for Failed {
    fn from(error: DataError) -> Self {
        Self::ForGood(error)
    }
}

/// What to request.
pub(super) struct Question<'a> {
    /// An address; `None` for the repository's listing.
    pub(super) address: Option<&'a str>,
    /// The first and the last byte that are wanted.
    pub(super) range: Option<(u64, Option<u64>)>,
    /// How to handle a redirect.
    pub(super) redirects: Redirects,
    /// What it is about, for messages.
    pub(super) what: &'a str,
}

impl Hub<'_> {
    /// Clients of the `hf-hub` crate for this repository at a revision.
    pub(super) fn client(&self, revision: &str) -> Result<Client, DataError> {
        let with = |token: Option<&Token>| {
            let api = ApiBuilder::from_cache(Cache::new(self.config.cache.clone()))
                .with_endpoint(self.config.endpoint.clone())
                .with_token(token.map(|token| token.0.clone()))
                .with_user_agent("dlt", env!("CARGO_PKG_VERSION"))
                .with_progress(false)
                .build()
                .map_err(|error| self.unreachable(self.name.as_str(), &error.to_string()))?;
            Ok(api.repo(self.repo(revision)))
        };

        Ok(Client { own: with(self.config.token.as_ref())?, bare: with(None)? })
    }

    fn repo(&self, revision: &str) -> Repo {
        let kind = match self.name.kind() {
            RepoKind::Dataset => RepoType::Dataset,
            RepoKind::Model => RepoType::Model,
        };
        Repo::with_revision(self.name.as_str().to_owned(), kind, revision.to_owned())
    }

    /// Makes a request. Returns an answer of status 2xx, or 3xx if redirects are kept.
    pub(super) fn ask(
        &self,
        client: &Client,
        question: &Question<'_>,
    ) -> Result<Response<Body>, Failed> {
        let what = question.what;
        let mut address = question.address.map(str::to_owned);
        for _ in 0..=MOST_REDIRECTS {
            let (asked, response) = self.ask_once(client, question, address.as_deref())?;
            match response.status().as_u16() {
                200..300 => return Ok(response),
                300..400 if question.redirects == Redirects::Kept => return Ok(response),
                301 | 302 | 303 | 307 | 308 => {
                    let location = header(&response, "location").unwrap_or_default();
                    let target = joined(&asked, location).ok_or_else(|| {
                        self.untrusted(what, "a redirect that leads nowhere".to_owned())
                    })?;
                    address = Some(target);
                }
                _ => return Err(self.refused(what, &response)),
            }
        }

        Err(self.untrusted(what, "redirects in a circle".to_owned()).into())
    }

    /// One request, and the address that it went to.
    fn ask_once(
        &self,
        client: &Client,
        question: &Question<'_>,
        address: Option<&str>,
    ) -> Result<(Uri, Response<Body>), Failed> {
        // The crate has no public way to ask for any other address with its client, token and
        // proxies.
        let mut request = match address {
            Some(address) if address.len() > LONGEST_ADDRESS => {
                let reason = "an address of more than 8,192 letters".to_owned();
                return Err(self.untrusted(question.what, reason).into());
            }
            Some(address) if self.is_own(address) => client.own.info_request().uri(address),
            Some(address) => client.bare.info_request().uri(address),
            // With this parameter the listing has sizes and checksums.
            None => client.own.info_request().query("blobs", "true"),
        };

        if let Some((first, last)) = question.range {
            let last = last.map_or_else(String::new, |last| last.to_string());
            request = request.header("Range", format!("bytes={first}-{last}"));
        }

        let asked = request.uri_ref().cloned().unwrap_or_default();
        let stall = Some(self.config.patience.stall);
        let settings = request
            .config()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_resolve(stall)
            .timeout_connect(stall)
            .timeout_send_request(stall)
            .timeout_recv_response(stall)
            .timeout_per_read(stall);

        let response =
            settings.build().call().map_err(|error| self.unanswered(question.what, &error))?;
        Ok((asked, response))
    }

    /// Whether an address is one of the hub's. Only these get the token.
    fn is_own(&self, address: &str) -> bool {
        let server = |text: &str| text.parse::<Uri>().ok().as_ref().and_then(server);
        server(address).is_some_and(|asked| Some(asked) == server(&self.config.endpoint))
    }

    /// Waits before the next try of `what`, after `failed` tries.
    ///
    /// # Errors
    /// The error of the last try, if another one is of no use or too many failed.
    pub(super) fn pause(
        &self,
        what: &str,
        failed: u32,
        failure: Failed,
        on: OnFetch<'_>,
    ) -> Result<(), DataError> {
        let patience = &self.config.patience;
        let (error, retry_after) = match failure {
            Failed::ForGood(error) => return Err(error),
            Failed::ForNow { error, .. } if failed >= patience.tries => return Err(error),
            Failed::ForNow { error, retry_after } => (error, retry_after),
        };

        let wait = patience.wait(failed, retry_after);
        let (file, wait_ms) = (what.to_owned(), wait.as_millis() as u64);
        on(FetchEvent::Waiting { file, wait_ms, reason: error.to_string() });
        thread::sleep(wait);
        Ok(())
    }

    /// The error for an answer that cannot be what was requested.
    pub(super) fn untrusted(&self, what: &str, reason: String) -> DataError {
        DataError::HubAnswer { what: what.to_owned(), reason: self.hidden(&reason) }
    }

    fn unanswered(&self, what: &str, error: &Error) -> Failed {
        let said = match error {
            Error::Timeout(_) => format!("no answer within {:?}", self.config.patience.stall),
            other => other.to_string(),
        };

        let failed = self.unreachable(what, &said);

        match error {
            Error::Io(_)
            | Error::Timeout(_)
            | Error::ConnectionFailed
            | Error::HostNotFound
            | Error::Protocol(_)
            | Error::ConnectProxyFailed(_) => Failed::ForNow { error: failed, retry_after: None },
            _ => Failed::ForGood(failed),
        }
    }

    fn refused(&self, what: &str, response: &Response<Body>) -> Failed {
        let status = response.status().as_u16();
        let has_token = self.config.token.is_some();
        let advice = match status {
            401 if has_token => {
                "the token in HF_TOKEN is not accepted: make a new one in your settings there"
            }
            401 => {
                "it asks for a token, as it does for a mistyped name: check the name, or set \
                 HF_TOKEN"
            }
            403 if has_token => {
                "the token has no access: accept the terms on its page, or use another token"
            }
            403 => "access is restricted: accept the terms on its page and set HF_TOKEN",
            404 => "there is no such repository, revision or file: check the name and --revision",
            429 => "too many requests: wait, or set HF_TOKEN for a higher limit",
            500.. => "the hub itself has trouble: try again later",
            _ => "this status was not expected",
        };

        let error = DataError::HubStatus { what: what.to_owned(), status, advice };

        match status {
            408 | 425 | 429 | 500 | 502 | 503 | 504 => {
                Failed::ForNow { error, retry_after: retry_after(response) }
            }
            _ => Failed::ForGood(error),
        }
    }
}

/// Scheme, host and port, which identify a server.
fn server(address: &Uri) -> Option<(String, String, u16)> {
    let scheme = address.scheme_str()?.to_ascii_lowercase();
    let usual = if scheme == "https" { 443 } else { 80 };
    let port = address.port_u16().unwrap_or(usual);
    Some((scheme, address.host()?.to_ascii_lowercase(), port))
}

/// The target of a redirect; `None` if it is not an address with http or https.
fn joined(from: &Uri, location: &str) -> Option<String> {
    let scheme = from.scheme_str()?;
    let here = format!("{scheme}://{}", from.authority()?);
    let path = location.split(['?', '#']).next().unwrap_or_default();
    let target = if path.contains("://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{here}{location}")
    } else if location.is_empty() {
        return None;
    } else {
        let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{here}{folder}/{location}")
    };

    let is_web = target.starts_with("http://") || target.starts_with("https://");
    (is_web && target.parse::<Uri>().is_ok()).then_some(target)
}

/// A header as text.
pub(super) fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// Whether the body is a page for people.
pub(super) fn is_page(response: &Response<Body>) -> bool {
    header(response, "content-type").is_some_and(|kind| kind.trim_start().starts_with("text/html"))
}

/// The pause that the hub asks for: seconds, or a date.
fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let value = header(response, "retry-after")?.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => until(value, SystemTime::now()),
    }
}

/// Time from `now` until a date as HTTP writes it, `Sun, 06 Nov 1994 08:49:37 GMT`.
fn until(date: &str, now: SystemTime) -> Option<Duration> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = date.split_whitespace().skip(1);
    let day: i64 = words.next()?.parse().ok()?;
    let name = words.next()?;
    let month = MONTHS.iter().position(|month| *month == name)? as i64 + 1;

    let year: i64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(str::parse::<i64>);
    let hour = clock.next()?.ok()?;
    let minute = clock.next()?.ok()?;
    let second = clock.next()?.ok()?;

    if !(1970..3000).contains(&year) || !(1..=31).contains(&day) {
        return None;
    }

    // Days since 1970, counted in years that begin in March, so that a leap day is the last of its
    // year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    let seconds = u64::try_from(days * 86_400 + hour * 3_600 + minute * 60 + second).ok()?;
    let then = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;

    Some(then.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_is_joined_with_the_address_that_it_is_of() {
        let from: Uri = "http://hub.example:81/api/models/a?blobs=true".parse().unwrap();

        for (location, target) in [
            ("/b", Some("http://hub.example:81/b")),
            ("b?c=http://d", Some("http://hub.example:81/api/models/b?c=http://d")),
            ("//other.example/b", Some("http://other.example/b")),
            ("https://other.example/b", Some("https://other.example/b")),
            ("ftp://other.example/b", None),
            ("", None),
            ("http://", None),
        ] {
            assert_eq!(joined(&from, location).as_deref(), target, "{location:?}");
        }
    }

    #[test]
    fn servers_differ_by_scheme_host_and_port() {
        let of = |address: &str| server(&address.parse().unwrap()).unwrap();
        assert_eq!(of("https://Hub.example"), of("https://me:secret@hub.example:443/a"));
        for other in ["http://hub.example", "https://hub.example:444", "https://hub.example.org"] {
            assert_ne!(of("https://hub.example"), of(other), "{other}");
        }
    }

    #[test]
    fn dates_of_http_are_read() {
        // 784,111,777 seconds after 1970, by the standard that defines the form.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_770);
        assert_eq!(until("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(7)));
        assert_eq!(
            until("Thu, 29 Feb 1996 00:00:00 GMT", now),
            Some(Duration::from_secs(825_552_000 - 784_111_770))
        );
        assert_eq!(until("Sun, 06 Nov 1994 08:49:30 GMT", now), Some(Duration::ZERO));

        for wrong in ["", "soon", "Sun, 06 Nov", "Sun, 99 Nov 1994 08:49:37 GMT"] {
            assert_eq!(until(wrong, now), None, "{wrong}");
        }
    }
}
