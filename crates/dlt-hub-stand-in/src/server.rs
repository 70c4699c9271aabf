//! The server.

use crate::{
    answer::Answer,
    fault::{Fault, RequestKind},
    repository::Repository,
    request::Request,
};
use std::{
    io::{BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// A running stand-in; it ends when it is dropped.
#[derive(Debug)]
pub struct StandIn {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
pub(crate) struct Shared {
    is_over: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    repositories: Vec<Repository>,
    faults: Vec<Planned>,
    requests: Vec<Request>,
}

/// A fault that is still to happen.
#[derive(Debug)]
struct Planned {
    kind: RequestKind,
    fault: Fault,
    /// How many more times it happens.
    left: usize,
}

impl StandIn {
    /// Listens on a free port of 127.0.0.1.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);

        thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.is_over.load(Ordering::Relaxed) {
                    return;
                }

                let shared = Arc::clone(&serving);
                // A client that disconnects early is not an error of the server.
                thread::spawn(move || {
                    stream.and_then(|stream| converse(&shared, &stream, address))
                });
            }
        });

        Self { address, shared }
    }

    /// The address for a client's `HF_ENDPOINT`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds a repository, or replaces the one of the same kind, name and revision.
    pub fn serve(&self, repository: Repository) {
        let repositories = &mut self.shared.lock().repositories;
        repositories.retain(|old| {
            (old.kind, &old.name, &old.revision)
                != (repository.kind, &repository.name, &repository.revision)
        });

        repositories.push(repository);
    }

    /// Misbehaves in the next `times` requests of this kind. Faults of one kind of request happen
    /// in the order of the calls.
    pub fn misbehave(&self, kind: RequestKind, times: usize, fault: Fault) {
        self.shared.lock().faults.push(Planned { kind, fault, left: times });
    }

    /// Removes all planned faults.
    pub fn behave(&self) {
        self.shared.lock().faults.clear();
    }

    /// Every request so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().requests.clone()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        // Wakes the listener, so that it sees the end. If this fails, it is already gone.
        drop(TcpStream::connect(self.address));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The fault that is planned for this kind of request, counted down.
    pub(crate) fn fault(&self, kind: RequestKind) -> Option<Fault> {
        let mut state = self.lock();
        let planned =
            state.faults.iter_mut().find(|planned| planned.kind == kind && planned.left > 0)?;
        planned.left -= 1;
        Some(planned.fault.clone())
    }

    pub(crate) fn repositories(&self) -> Vec<Repository> {
        self.lock().repositories.clone()
    }
}

/// Answers one request and closes.
fn converse(shared: &Shared, stream: &TcpStream, address: SocketAddr) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let Some(mut request) = Request::read(&mut reader)? else { return Ok(()) };
    if request.method == "CONNECT" {
        (&mut &*stream).write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
        let Some(inner) = Request::read(&mut reader)? else { return Ok(()) };
        request = Request { is_proxied: true, ..inner };
    }

    shared.lock().requests.push(request.clone());
    Answer::to(&request, shared, address).write(stream, &request.method)
}
