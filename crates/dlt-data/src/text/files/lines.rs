//! UTF-8 text. Each line is a row, with its line end.

use super::{DataFile, Flow, Piece, PieceKind, Sink};
use crate::error::DataError;
use std::io::{ErrorKind, Read};

/// Bytes that are read at a time.
const BLOCK: usize = 256 * 1024;

pub(super) fn read(file: &DataFile, sink: Sink<'_>) -> Result<Flow, DataError> {
    let mut reader = file.open()?;
    let mut block = vec![0; BLOCK];

    // Bytes at the front of the block that remain from the one before: the beginning of a
    // character.
    let mut held = 0;
    let mut offset = 0_usize;
    let mut is_open = false;

    loop {
        let read = match reader.read(&mut block[held..]) {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(file.unreadable(error)),
        };

        let is_last = read == 0;
        let bytes = &block[..held + read];
        let whole = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let valid = error.valid_up_to();
                if error.error_len().is_some() || is_last {
                    let path = file.path.clone();
                    let offset = offset + valid;
                    let byte = bytes[valid];

                    return Err(DataError::NotUtf8 { path, offset, byte });
                }

                // This part was just found to be valid, so the default is never used.
                std::str::from_utf8(&bytes[..valid]).unwrap_or_default()
            }
        };

        for line in whole.split_inclusive('\n') {
            is_open = !line.ends_with('\n');
            let kind = if is_open { PieceKind::Begins } else { PieceKind::Ends };
            if sink(Piece { text: line, kind })? == Flow::Stop {
                return Ok(Flow::Stop);
            }
        }

        if is_last {
            break;
        }

        offset += whole.len();
        let used = whole.len();
        held = held + read - used;
        block.copy_within(used..used + held, 0);
    }

    // The last line has no line end, so its row is ended here.
    if is_open && sink(Piece { text: "", kind: PieceKind::Ends })? == Flow::Stop {
        return Ok(Flow::Stop);
    }

    Ok(Flow::On)
}
