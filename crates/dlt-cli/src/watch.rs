//! `dlt watch`: the page of a run, kept up to date while the run goes on.
//!
//! The server is a small one of our own on the standard library, with `httparse` for what arrives:
//! `tiny_http` reads headers of any size, waits for a slow client for ever and starts a thread for
//! each connection without a bound. A request may choose between two answers that are in memory,
//! and nothing in it reaches the file system.

mod request;

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use dlt_report::page::{Live, Snapshot};
use dlt_spec::ExitCode;

use crate::failure::{Failure, Result};
use crate::{interrupt, output};
use request::{Refusal, Request, Wanted};

pub(crate) const HELP: &str = "\
Prints the address of the page. The page asks for news every two seconds.
The run may be training, be resumed later, or have finished.
Nothing is computed while nobody looks, and nothing is written. Ctrl-C ends it.

Examples:
  dlt watch runs/shakespeare-12-1
  dlt watch runs/shakespeare-12-1 --port 8080

From another machine, go through ssh: ssh -L 7070:127.0.0.1:7070 HOST, then open http://127.0.0.1:7070/";

/// The first port that is tried.
const PORT: u16 = 7070;
/// How many ports are tried from there on.
const PORTS: u16 = 30;
/// Connections at a time; who comes on top of that is told to come later.
const MOST_CONNECTIONS: usize = 64;
/// Time for a client to send its request, and again to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time for which a client that was sent away may still be sending.
const FAREWELL: Duration = Duration::from_millis(300);
/// Least time between two looks at the run.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Args, Debug)]
pub(crate) struct WatchTask {
    /// Run folder
    #[arg(value_name = "RUN")]
    pub(crate) run: PathBuf,
    /// Port; 0 takes any that is free [default: 7070, or the next one that is free]
    #[arg(long, value_name = "N")]
    pub(crate) port: Option<u16>,
    /// Address to serve on: whoever reaches it can read the page
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub(crate) address: IpAddr,
}

/// What all connections share.
struct Watch {
    live: Mutex<Looked>,
    connections: AtomicUsize,
}

/// The run, and when it was looked at last.
struct Looked {
    live: Live,
    at: Instant,
}

pub(crate) fn run(task: &WatchTask) -> Result {
    let live = Live::open(&task.run)?;
    let listener = listen(task.address, task.port)?;
    let address = listener.local_addr().map_err(cannot_listen)?;
    let ending = interrupt::ending();

    if !address.ip().is_loopback() {
        output::note(
            "warning: anyone who reaches this address can read the page; there is no password and no encryption",
        );
    }

    let mut shown = address;
    if address.ip().is_unspecified() {
        shown.set_ip(if address.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        });
    }

    output::print(&format!("http://{shown}/\n"))?;
    output::note("Ctrl-C ends it");

    let watch = Arc::new(Watch {
        live: Mutex::new(Looked { live, at: Instant::now() }),
        connections: AtomicUsize::new(0),
    });

    thread::spawn(move || accept(&listener, &watch));
    if ending.recv().is_err() {
        // No signal can be caught: one ends the process by itself.
        loop {
            thread::park();
        }
    }

    Ok(())
}

/// The port that was asked for, or the first free one.
fn listen(address: IpAddr, port: Option<u16>) -> Result<TcpListener> {
    let ports = port.map_or(PORT..=PORT + PORTS, |port| port..=port);
    let mut last = None;

    for port in ports {
        match TcpListener::bind(SocketAddr::new(address, port)) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = Some(error),
            Err(error) => return Err(cannot_listen(error)),
        }
    }

    Err(cannot_listen(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into())))
}

fn cannot_listen(error: io::Error) -> Failure {
    Failure::refused(
        ExitCode::Resources,
        format!("cannot serve a page at this address and port: {error}"),
    )
}

fn accept(listener: &TcpListener, watch: &Arc<Watch>) {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, as a rule: others have to end first.
                tracing::debug!(%error, "a connection was lost");
                thread::sleep(Duration::from_millis(50));
                continue;
            }
        };

        let guest = Guest::of(watch);
        if watch.connections.load(Ordering::SeqCst) > MOST_CONNECTIONS {
            let _ = stream.set_write_timeout(Some(FAREWELL));
            let _ = Refusal::Busy.answer().send(&stream, true);
            continue;
        }

        let started = thread::Builder::new().spawn(move || {
            if let Err(error) = serve(&stream, &guest.0) {
                tracing::debug!(%error, "a connection ended early");
            }
        });

        if let Err(error) = started {
            tracing::debug!(%error, "no thread for a connection");
        }
    }
}

/// One connection, counted for as long as it lives.
struct Guest(Arc<Watch>);

impl Guest {
    fn of(watch: &Arc<Watch>) -> Self {
        watch.connections.fetch_add(1, Ordering::SeqCst);
        Self(watch.clone())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::SeqCst);
    }
}

/// One request and its answer.
fn serve(stream: &TcpStream, watch: &Watch) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let head = match read_head(stream)? {
        Ok(head) => head,
        Err(refusal) => return send_away(stream, &refusal.answer()),
    };

    match Request::read(&head, stream.local_addr()?) {
        Ok(request) => {
            let (body, kind, version) = watch.look(request.wanted);
            if request.known.as_deref() == Some(&*version) {
                return Answer::new("304 Not Modified", kind, String::new())
                    .version(&version)
                    .send(stream, true);
            }

            Answer::new("200 OK", kind, body).version(&version).send(stream, request.with_body)
        }
        Err(refusal) => send_away(stream, &refusal.answer()),
    }
}

/// The head of a request, within its bounds of size and time.
fn read_head(mut stream: &TcpStream) -> io::Result<std::result::Result<Vec<u8>, Refusal>> {
    let until = Instant::now() + PATIENCE;
    let mut head = Vec::new();
    let mut buffer = [0; 2048];

    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Err(Refusal::Slow));
        }

        // What is left becomes less with every byte: sending one now and then wins no time.
        stream.set_read_timeout(Some(left))?;
        let read = match stream.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(error)
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
            {
                return Ok(Err(Refusal::Slow));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };

        head.extend_from_slice(&buffer[..read]);
        if head.windows(4).any(|end| end == b"\r\n\r\n") {
            return Ok(Ok(head));
        }

        if head.len() > request::MOST_BYTES {
            return Ok(Err(Refusal::Large));
        }
    }
}

/// Sends a refusal. A client that is still sending would lose it if the connection were closed at
/// once.
fn send_away(mut stream: &TcpStream, answer: &Answer) -> io::Result<()> {
    answer.send(stream, true)?;
    stream.shutdown(Shutdown::Write)?;

    let until = Instant::now() + FAREWELL;
    let mut buffer = [0; 4096];

    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }

        stream.set_read_timeout(Some(left))?;
        if !matches!(stream.read(&mut buffer), Ok(read) if read > 0) {
            return Ok(());
        }
    }
}

impl Watch {
    /// The answer, its type and its version. The run is looked at only when somebody asks, and not
    /// for each who does.
    fn look(&self, wanted: Wanted) -> (String, &'static str, String) {
        let mut looked: MutexGuard<'_, Looked> =
            self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot: &Snapshot = match looked.at.elapsed() < LOOK_EVERY {
            true => looked.live.snapshot(),
            false => {
                looked.at = Instant::now();
                looked.live.look()
            }
        };

        let version = format!("\"{}\"", snapshot.version);

        match wanted {
            Wanted::Page => (snapshot.page.clone(), "text/html; charset=utf-8", version),
            Wanted::News => (snapshot.news.clone(), "application/json", version),
        }
    }
}

/// What goes back.
struct Answer {
    status: &'static str,
    kind: &'static str,
    version: Option<String>,
    body: String,
}

impl Answer {
    fn new(status: &'static str, kind: &'static str, body: String) -> Self {
        Self { status, kind, version: None, body }
    }

    fn version(self, version: &str) -> Self {
        Self { version: Some(version.to_owned()), ..self }
    }

    /// The page's own policy stands in the page; the headers add what only they can say.
    fn send(&self, stream: &TcpStream, with_body: bool) -> io::Result<()> {
        let mut text = format!(
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\nCache-Control: no-cache\r\n\
             X-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\nReferrer-Policy: no-referrer\r\n\
             Cross-Origin-Resource-Policy: same-origin\r\nCross-Origin-Opener-Policy: same-origin\r\n",
            self.status,
            self.kind,
            self.body.len(),
        );

        if self.status.starts_with("405") {
            text += "Allow: GET, HEAD\r\n";
        }
        if let Some(version) = &self.version {
            text += &format!("ETag: {version}\r\n");
        }

        text += "\r\n";
        if with_body {
            text += &self.body;
        }

        write_within(stream, text.as_bytes(), PATIENCE)
    }
}

/// Writes all of it, or gives up on a client that takes it too slowly.
fn write_within(mut stream: &TcpStream, mut bytes: &[u8], time: Duration) -> io::Result<()> {
    let until = Instant::now() + time;
    while !bytes.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }

        stream.set_write_timeout(Some(left))?;
        match stream.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }

    Ok(())
}
