//! Messages in flight. They are sent and received while the process computes, so MPI holds their
//! buffers across calls. The scopes of rsmpi end requests in the reverse of their order, and
//! exchanges end in their order. So this file calls MPI itself, and it alone has unsafe code.
#![allow(unsafe_code, reason = "requests that own their buffers, and errors that do not abort")]

use std::ffi::{c_char, c_int};
use std::mem::MaybeUninit;

use dlt_train::Words;
use mpi::environment::Universe;
use mpi::ffi;

/// Words of one message of MPI. Its counts end at 2^31 - 1, so longer messages are cut.
pub(super) const PIECE: usize = 1 << 23;

/// Why MPI could not carry a message, in its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) String);

/// What a message is for. Messages of one kind between two processes keep their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Words of an exchange.
    Words,
    /// A note between the threads that carry.
    Note,
}

impl Kind {
    fn tag(self) -> c_int {
        match self {
            Self::Words => 1,
            Self::Note => 2,
        }
    }
}

/// MPI as the thread that started it may use it. The requests and the universe are of that thread
/// alone: neither is `Send`.
pub(super) struct Link {
    #[expect(dead_code, reason = "dropping it ends MPI")]
    universe: Universe,
    not_send: std::marker::PhantomData<*const ()>,
}

impl Link {
    /// From here on, an error of MPI is an answer and not the end of all processes.
    pub(super) fn new(universe: Universe) -> Self {
        // SAFETY: MPI is initialised, since `universe` exists. The standard gives the null handle
        // of files the handler that returns errors, and 0 is that handle in Fortran's numbers. If
        // a library disagrees, it returns an error, and the handler of the world stays as it was.
        unsafe {
            let mut handler = MaybeUninit::uninit();
            let files = ffi::RSMPI_File_f2c(0);
            let got = ffi::MPI_File_get_errhandler(files, handler.as_mut_ptr());
            if got == SUCCESS {
                ffi::MPI_Comm_set_errhandler(ffi::RSMPI_COMM_WORLD, handler.assume_init());
            }
        }

        Self { universe, not_send: std::marker::PhantomData }
    }

    /// Begins to send words.
    pub(super) fn send(&self, kind: Kind, to: usize, words: Words) -> Result<Flight, Refusal> {
        let mut flight = Flight { requests: Vec::new(), got: 0, words };
        let start = flight.words.as_ptr();

        for (at, length) in pieces(flight.words.len()) {
            let mut request = MaybeUninit::uninit();
            // SAFETY: the piece is inside the words, which the flight keeps where they are until
            // MPI is done with them, or for ever. Nothing writes into them.
            let sent = unsafe {
                ffi::MPI_Isend(
                    start.add(at).cast(),
                    count(length),
                    ffi::RSMPI_UINT32_T,
                    count(to),
                    kind.tag(),
                    ffi::RSMPI_COMM_WORLD,
                    request.as_mut_ptr(),
                )
            };
            checked(sent)?;
            // SAFETY: MPI has said that it made the request.
            flight.requests.push(unsafe { request.assume_init() });
        }

        flight.requests.reverse();
        Ok(flight)
    }

    /// Begins to receive a number of words of an exchange.
    pub(super) fn receive(&self, from: usize, length: usize) -> Result<Flight, Refusal> {
        let mut flight = Flight { requests: Vec::new(), got: 0, words: vec![0; length] };
        let start = flight.words.as_mut_ptr();

        for (at, length) in pieces(length) {
            let mut request = MaybeUninit::uninit();
            // SAFETY: the piece is inside the words, and no other piece overlaps it. The flight
            // keeps the words where they are, and reads none, until MPI is done with them, or for
            // ever.
            let posted = unsafe {
                ffi::MPI_Irecv(
                    start.add(at).cast(),
                    count(length),
                    ffi::RSMPI_UINT32_T,
                    count(from),
                    Kind::Words.tag(),
                    ffi::RSMPI_COMM_WORLD,
                    request.as_mut_ptr(),
                )
            };
            checked(posted)?;
            // SAFETY: MPI has said that it made the request.
            flight.requests.push(unsafe { request.assume_init() });
        }

        flight.requests.reverse();
        Ok(flight)
    }

    /// The next note that has come, and from which process. It does not wait.
    pub(super) fn note(&self) -> Result<Option<(usize, Words)>, Refusal> {
        let (mut found, mut status) = (0, MaybeUninit::uninit());
        // SAFETY: MPI writes the flag, and the status if the flag is set.
        let probed = unsafe {
            ffi::MPI_Iprobe(
                ffi::RSMPI_ANY_SOURCE,
                Kind::Note.tag(),
                ffi::RSMPI_COMM_WORLD,
                &mut found,
                status.as_mut_ptr(),
            )
        };
        checked(probed)?;
        if found == 0 {
            return Ok(None);
        }

        // SAFETY: the flag is set, so the status is written.
        let status = unsafe { status.assume_init() };
        let mut words = vec![0; length_of(&status)?];
        // SAFETY: the words have room for the message that was found. It has come, so this does
        // not wait; only this thread receives, so none other can take it.
        let received = unsafe {
            ffi::MPI_Recv(
                words.as_mut_ptr().cast(),
                count(words.len()),
                ffi::RSMPI_UINT32_T,
                status.MPI_SOURCE,
                Kind::Note.tag(),
                ffi::RSMPI_COMM_WORLD,
                ffi::RSMPI_STATUS_IGNORE,
            )
        };
        checked(received)?;
        Ok(Some((usize::try_from(status.MPI_SOURCE).unwrap_or_default(), words)))
    }
}

/// A message that MPI carries. It owns the words, and MPI reads or writes them until it has landed.
pub(super) struct Flight {
    /// One a piece that has not landed, the last first.
    requests: Vec<ffi::MPI_Request>,
    /// Words of the pieces that have landed.
    got: usize,
    words: Words,
}

impl Flight {
    /// Whether MPI is done. It does not wait, and MPI makes progress only in such calls.
    pub(super) fn landed(&mut self) -> Result<bool, Refusal> {
        while let Some(request) = self.requests.last_mut() {
            let (mut done, mut status) = (0, MaybeUninit::uninit());
            // SAFETY: the request is one that MPI made and has not ended. MPI writes the flag, and
            // the status if the flag is set.
            let tested = unsafe { ffi::MPI_Test(request, &mut done, status.as_mut_ptr()) };
            checked(tested)?;
            if done == 0 {
                return Ok(false);
            }

            self.requests.pop();
            // SAFETY: the flag is set, so the status is written.
            let status = unsafe { status.assume_init() };
            self.got += length_of(&status).unwrap_or_default();
        }

        Ok(true)
    }

    /// The words of a message that has landed, and how many of them were received.
    pub(super) fn into_words(mut self) -> (Words, usize) {
        debug_assert!(self.requests.is_empty(), "the message has landed");
        (self.take(), self.got)
    }

    /// The words, if MPI is done with them. Else they stay where they are for ever: memory that MPI
    /// may still write into must not be used for anything else.
    fn take(&mut self) -> Words {
        let words = std::mem::take(&mut self.words);
        if self.requests.is_empty() {
            return words;
        }

        std::mem::forget(words);
        Words::new()
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.take();
    }
}

/// Start and length of each piece of a message. An empty message is one empty piece, so that a
/// process which expects more hears of it.
fn pieces(length: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..length.max(1)).step_by(PIECE).map(move |at| (at, PIECE.min(length - at)))
}

fn length_of(status: &ffi::MPI_Status) -> Result<usize, Refusal> {
    let mut length = 0;
    // SAFETY: MPI reads a status that it has written, and writes the length.
    checked(unsafe { ffi::MPI_Get_count(status, ffi::RSMPI_UINT32_T, &mut length) })?;
    Ok(usize::try_from(length).unwrap_or_default())
}

/// A length of a piece, or a rank, as MPI counts.
fn count(number: usize) -> c_int {
    c_int::try_from(number).expect("pieces and ranks are below 2^31")
}

const SUCCESS: c_int = 0;

fn checked(code: c_int) -> Result<(), Refusal> {
    if code == SUCCESS {
        return Ok(());
    }

    let (mut text, mut length) = ([0_u8; TEXT], 0);
    // SAFETY: no library writes a text of more than the 512 bytes that it says, and 2048 are here.
    unsafe { ffi::MPI_Error_string(code, text.as_mut_ptr().cast::<c_char>(), &mut length) };
    let length = usize::try_from(length).unwrap_or_default().min(TEXT);
    Err(Refusal(String::from_utf8_lossy(&text[..length]).into_owned()))
}

/// Room for a text about an error.
const TEXT: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_message_in_order() {
        let cut = |length| pieces(length).collect::<Vec<_>>();
        assert_eq!(cut(0), [(0, 0)]);
        assert_eq!(cut(1), [(0, 1)]);
        assert_eq!(cut(PIECE), [(0, PIECE)]);
        assert_eq!(cut(2 * PIECE + 1), [(0, PIECE), (PIECE, PIECE), (2 * PIECE, 1)]);
    }
}
