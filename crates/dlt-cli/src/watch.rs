//! `dlt watch`: serves the page of a run, and keeps it up to date while the run trains.
//!
//! The server is our own, small, on the standard library, with `httparse` to parse requests. The
//! alternative, `tiny_http`, reads headers of any size, waits for slow clients for ever, and starts
//! threads without a bound. A request only chooses between two answers in memory. Nothing in it
//! reaches the file system.

mod request;

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
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

To look from another machine, run: ssh -L 7070:127.0.0.1:7070 HOST
Then open http://127.0.0.1:7070/";

/// The first port that is tried.
const PORT: u16 = 7070;
/// How many ports after it are tried.
const PORTS: u16 = 30;
/// Most connections at the same time; any more get the answer 503.
const MOST_CONNECTIONS: usize = 64;
/// Time for a client to send its request, and again to receive the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time for which a client that was refused may still be sending.
const FAREWELL: Duration = Duration::from_millis(300);
/// Least time between two reads of the run folder.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Args, Debug)]
pub(crate) struct WatchTask {
    /// Run folder
    #[arg(value_name = "RUN")]
    pub(crate) run: PathBuf,
    /// Port; 0 means any free one [default: 7070, or the next free one]
    #[arg(long, value_name = "N")]
    pub(crate) port: Option<u16>,
    /// Address to serve on; anyone who can reach it can read the page
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub(crate) address: IpAddr,
}

/// The run, and when its folder was last read. All connections share it.
struct Watch {
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

    let watch = Arc::new(Mutex::new(Watch { live, at: Instant::now() }));
    thread::spawn(move || accept(&listener, &watch));
    if ending.recv().is_err() {
        // Signals cannot be caught, so one will end the process by itself.
        loop {
            thread::park();
        }
    }

    Ok(())
}

/// Listens on the port that was asked for, or on the first free one.
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

/// Accepts connections for ever, each on its own thread.
fn accept(listener: &TcpListener, watch: &Arc<Mutex<Watch>>) {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Usually the file descriptors are used up: other connections have to end first.
                tracing::debug!(%error, "a connection was lost");
                thread::sleep(Duration::from_millis(50));
                continue;
            }
        };

        // One is of this thread, and one of each connection.
        let shared = Arc::clone(watch);
        if Arc::strong_count(watch) > 1 + MOST_CONNECTIONS {
            let _ = stream.set_write_timeout(Some(FAREWELL));
            let _ = Refusal::Busy.answer().send(&stream, true);
            continue;
        }

        let started = thread::Builder::new().spawn(move || {
            if let Err(error) = serve(&stream, &shared) {
                tracing::debug!(%error, "a connection ended early");
            }
        });

        if let Err(error) = started {
            tracing::debug!(%error, "cannot start a thread for a connection");
        }
    }
}

/// Reads one request and answers it.
fn serve(stream: &TcpStream, watch: &Mutex<Watch>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let head = match read_head(stream)? {
        Ok(head) => head,
        Err(refusal) => return send_away(stream, &refusal.answer()),
    };

    match Request::read(&head, stream.local_addr()?) {
        Ok(request) => {
            let (body, kind, version) =
                watch.lock().unwrap_or_else(PoisonError::into_inner).look(request.wanted);
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

/// Reads the head of a request, within bounds of size and time.
fn read_head(mut stream: &TcpStream) -> io::Result<std::result::Result<Vec<u8>, Refusal>> {
    let until = Instant::now() + PATIENCE;
    let mut head = Vec::new();
    let mut buffer = [0; 2048];

    loop {
        let Some(left) = left(until) else { return Ok(Err(Refusal::Slow)) };

        // The limit is for the whole head, not for each read: a client that sends a byte now and
        // then gains no time.
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

/// The time until a moment; `None` if it is over.
fn left(until: Instant) -> Option<Duration> {
    Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
}

/// Sends a refusal, and reads on for a moment. If the connection were closed at once, a client that
/// is still sending would get a reset instead of the answer.
fn send_away(mut stream: &TcpStream, answer: &Answer) -> io::Result<()> {
    answer.send(stream, true)?;
    stream.shutdown(Shutdown::Write)?;

    let until = Instant::now() + FAREWELL;
    let mut buffer = [0; 4096];

    loop {
        let Some(left) = left(until) else { return Ok(()) };
        stream.set_read_timeout(Some(left))?;
        if !matches!(stream.read(&mut buffer), Ok(read) if read > 0) {
            return Ok(());
        }
    }
}

impl Watch {
    /// The answer, its content type and its version. The run folder is read only when somebody
    /// asks, and at most once in [`LOOK_EVERY`].
    fn look(&mut self, wanted: Wanted) -> (String, &'static str, String) {
        let snapshot: &Snapshot = if self.at.elapsed() < LOOK_EVERY {
            self.live.snapshot()
        } else {
            self.at = Instant::now();
            self.live.look()
        };

        let version = format!("\"{}\"", snapshot.version);
        match wanted {
            Wanted::Page => (snapshot.page.clone(), "text/html; charset=utf-8", version),
            Wanted::News => (snapshot.news.clone(), "application/json", version),
        }
    }
}

/// An answer to a client.
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

    /// Sends the answer. The page has its own content policy; the headers add what only headers can
    /// say.
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

/// Writes all bytes within a time, or gives up on a client that receives them too slowly.
fn write_within(mut stream: &TcpStream, mut bytes: &[u8], time: Duration) -> io::Result<()> {
    let until = Instant::now() + time;
    while !bytes.is_empty() {
        let Some(left) = left(until) else { return Err(io::ErrorKind::TimedOut.into()) };
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
