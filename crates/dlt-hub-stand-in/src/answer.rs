//! The answers of the stand-in.

use crate::{
    fault::{Fault, RequestKind},
    repository::{File, Repository},
    request::Request,
    server::Shared,
};
use serde_json::{Value, json};
use std::{
    io::{self, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
};

/// A response that is about to be written.
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    fault: Option<Fault>,
}

const PAGE: &str = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head>\
                    <body>Please sign in.</body></html>\n";

impl Answer {
    pub(crate) fn to(request: &Request, shared: &Shared, address: SocketAddr) -> Self {
        let path = request.path.split('?').next().unwrap_or_default();
        let path = path.replace("%2F", "/").replace("%2f", "/").replace("%20", " ");
        let repositories = shared.repositories();

        if let Some(sha256) = path.strip_prefix("/store/") {
            let file = repositories.iter().flat_map(|repository| &repository.files);
            let fault = shared.fault(RequestKind::Content);
            return match file.into_iter().find(|file| file.sha256() == sha256) {
                Some(file) => Self::content(file, request, fault),
                None => Self::page(404),
            };
        }

        for repository in &repositories {
            let asked = below(&path, &format!("{}/revision", repository.api_path()));
            if asked.is_some_and(|revision| is_revision(repository, revision)) {
                return match shared.fault(RequestKind::Listing) {
                    Some(Fault::Elsewhere { server }) => {
                        Self::redirect(format!("{server}{}", request.path))
                    }
                    fault => Self::listing(repository, fault),
                };
            }

            if let Some(rest) = below(&path, &repository.resolve_path()) {
                let named = repository.files.iter().find(|file| {
                    rest.strip_suffix(&file.name)
                        .and_then(|revision| revision.strip_suffix('/'))
                        .is_some_and(|revision| is_revision(repository, revision))
                });

                if let Some(file) = named {
                    return Self::resolve(repository, file, request, shared, address);
                }
            }
        }

        Self::page(404)
    }

    fn listing(repository: &Repository, fault: Option<Fault>) -> Self {
        let mut listing = repository.listing();
        match &fault {
            Some(Fault::FileName { name }) => {
                listing["siblings"][0]["rfilename"] = name.as_str().into()
            }
            Some(Fault::Commit { commit }) => listing["sha"] = commit.as_str().into(),
            Some(Fault::BareListing) => {
                for entry in listing["siblings"].as_array_mut().into_iter().flatten() {
                    *entry = json!({ "rfilename": entry["rfilename"] });
                }
            }
            Some(Fault::Size { stated }) => {
                for entry in listing["siblings"].as_array_mut().into_iter().flatten() {
                    entry["size"] = Value::from(*stated);
                    if entry.get("lfs").is_some() {
                        entry["lfs"]["size"] = Value::from(*stated);
                    }
                }
            }
            _ => {}
        }

        let headers = vec![("Content-Type", "application/json; charset=utf-8".to_owned())];
        let mut body = listing.to_string().into_bytes();
        if let Some(Fault::Padded { bytes }) = fault {
            body.resize(body.len() + bytes, b' ');
        }

        Self { status: 200, headers, body, fault: None }.with(fault)
    }

    fn redirect(location: String) -> Self {
        Self { status: 307, headers: vec![("Location", location)], body: Vec::new(), fault: None }
    }

    /// The hub's own answer for a file: its content if it is small, else a redirect to its content.
    fn resolve(
        repository: &Repository,
        file: &File,
        request: &Request,
        shared: &Shared,
        address: SocketAddr,
    ) -> Self {
        let fault = shared.fault(RequestKind::Resolve);
        // The bytes of a small file are requested here, after its headers. A client asks for the
        // headers with the range of the first byte.
        let is_content = !file.is_large && request.range.is_none_or(|range| range != (0, Some(0)));
        let fault =
            if is_content { fault.or_else(|| shared.fault(RequestKind::Content)) } else { fault };

        let tag = match &fault {
            Some(Fault::Etag { tag }) => tag.clone(),
            _ => file.etag(),
        };

        let commit = match &fault {
            Some(Fault::Commit { commit }) => commit.clone(),
            _ => repository.commit(),
        };

        let mut headers = vec![("X-Repo-Commit", commit), ("ETag", format!("\"{tag}\""))];
        if !file.is_large {
            let mut answer = Self::content(file, request, fault);
            answer.headers.extend(headers);
            return answer.without_headers();
        }

        let size = match &fault {
            Some(Fault::Size { stated }) => *stated,
            _ => file.content.len() as u64,
        };

        headers.push(("X-Linked-Etag", format!("\"{tag}\"")));
        headers.push(("X-Linked-Size", size.to_string()));

        if fault != Some(Fault::NoLocation) {
            // Another host, which must not get the token. The query is secret, like the hub's
            // signed addresses.
            let server = match &fault {
                Some(Fault::Elsewhere { server }) => server.clone(),
                _ => format!("http://localhost:{}", address.port()),
            };

            let place = format!("{server}/store/{}", file.sha256());
            headers.push(("Location", format!("{place}?X-Amz-Signature=0123secret")));
        }

        Self { status: 302, headers, body: b"Found. Redirecting".to_vec(), fault: None }.with(fault)
    }

    fn content(file: &File, request: &Request, fault: Option<Fault>) -> Self {
        let mut content = file.content.clone();
        if fault == Some(Fault::OtherBytes) {
            content.iter_mut().for_each(|byte| *byte ^= 1);
        }

        let size = content.len() as u64;
        let mut headers = vec![("Accept-Ranges", "bytes".to_owned())];
        let range = request.range.filter(|_| fault != Some(Fault::NoRanges));
        let (status, body) = match range {
            None => (200, content),
            Some((first, _)) if first >= size => {
                headers.push(("Content-Range", format!("bytes */{size}")));
                (416, Vec::new())
            }
            Some((first, last)) => {
                let last = last.unwrap_or(size - 1).min(size - 1);
                headers.push(("Content-Range", format!("bytes {first}-{last}/{size}")));
                (206, content[first as usize..=last as usize].to_vec())
            }
        };

        Self { status, headers, body, fault: None }.with(fault)
    }

    fn page(status: u16) -> Self {
        let headers = vec![("Content-Type", "text/html; charset=utf-8".to_owned())];
        Self { status, headers, body: PAGE.as_bytes().to_vec(), fault: None }
    }

    /// Applies a fault that replaces or shortens the answer.
    fn with(self, fault: Option<Fault>) -> Self {
        match fault {
            Some(Fault::Status { code, retry_after }) => {
                let mut answer = Self::page(code);
                answer
                    .headers
                    .extend(retry_after.map(|seconds| ("Retry-After", seconds.to_string())));
                answer
            }
            Some(Fault::HtmlPage) => Self::page(200),
            Some(Fault::NoHeaders) => {
                Self { headers: Vec::new(), fault: Some(Fault::NoHeaders), ..self }
            }
            fault => Self { fault, ..self },
        }
    }

    /// Removes headers that were added after [`Fault::NoHeaders`] was applied.
    fn without_headers(mut self) -> Self {
        if matches!(self.fault, Some(Fault::NoHeaders)) {
            self.headers.clear();
        }
        self
    }

    pub(crate) fn write(&self, mut stream: &TcpStream, method: &str) -> io::Result<()> {
        let mut head = format!("HTTP/1.1 {} Stand-in\r\nConnection: close\r\n", self.status);
        head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));

        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }

        head.push_str("\r\n");
        stream.write_all(head.as_bytes())?;

        if method == "HEAD" {
            return Ok(());
        }

        match &self.fault {
            Some(Fault::Cut { after }) => {
                stream.write_all(&self.body[..(*after).min(self.body.len())])?;
            }
            Some(Fault::Drip { bytes, pause }) => {
                for piece in self.body.chunks(*bytes) {
                    stream.write_all(piece)?;
                    thread::sleep(*pause);
                }
            }
            _ => stream.write_all(&self.body)?,
        }

        stream.flush()?;
        stream.shutdown(Shutdown::Write)
    }
}

/// The part of a path below a folder.
fn below<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    path.strip_prefix(folder)?.strip_prefix('/')
}

fn is_revision(repository: &Repository, revision: &str) -> bool {
    revision == repository.revision || revision == repository.commit()
}
