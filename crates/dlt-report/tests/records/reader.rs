//! Reads event files from their description only, without the code that writes them.

/// The content of one event.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Event {
    pub(crate) wall_time: f64,
    pub(crate) step: u64,
    pub(crate) file_version: Option<String>,
    pub(crate) writer: Option<String>,
    pub(crate) values: Vec<(String, f32)>,
}

/// The events of a file, or where the file is damaged.
pub(crate) fn read(mut file: &[u8]) -> Result<Vec<Event>, String> {
    let mut events = Vec::new();
    while !file.is_empty() {
        let at = |what: &str| format!("event {}: {what}", events.len());
        let length = take(&mut file, 8).ok_or_else(|| at("no length"))?;
        let checksum = take(&mut file, 4).ok_or_else(|| at("no checksum of the length"))?;

        if checksum != masked(length) {
            return Err(at("another length was written"));
        }

        let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
        let message = take(&mut file, length).ok_or_else(|| at("a message that is too short"))?;
        let checksum = take(&mut file, 4).ok_or_else(|| at("no checksum of the message"))?;

        if checksum != masked(message) {
            return Err(at("another message was written"));
        }

        events.push(event(message));
    }

    Ok(events)
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// CRC-32C, bit by bit, with Castagnoli's polynomial.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ (0x82f6_3b78 * (sum & 1)))
    })
}

/// A field of a message: its number and its content.
enum Field<'a> {
    Varint(u64),
    Bits64(u64),
    Bits32(u32),
    Bytes(&'a [u8]),
}

fn fields(mut message: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let field = match key & 7 {
            0 => Field::Varint(varint(&mut message)),
            1 => Field::Bits64(u64::from_le_bytes(
                take(&mut message, 8).unwrap().try_into().unwrap(),
            )),
            2 => {
                let length = varint(&mut message) as usize;
                Field::Bytes(take(&mut message, length).unwrap())
            }
            5 => Field::Bits32(u32::from_le_bytes(
                take(&mut message, 4).unwrap().try_into().unwrap(),
            )),
            kind => panic!("a field of kind {kind}"),
        };

        fields.push((key >> 3, field));
    }

    fields
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for place in (0..).step_by(7) {
        let byte = take(bytes, 1).unwrap()[0];
        value |= u64::from(byte & 0x7f) << place;

        if byte < 0x80 {
            break;
        }
    }

    value
}

fn event(message: &[u8]) -> Event {
    let mut event = Event::default();
    for (number, field) in fields(message) {
        match (number, field) {
            (1, Field::Bits64(bits)) => event.wall_time = f64::from_bits(bits),
            (2, Field::Varint(step)) => event.step = step,
            (3, Field::Bytes(version)) => event.file_version = Some(text(version)),
            (5, Field::Bytes(summary)) => {
                event.values = fields(summary).iter().map(value).collect()
            }
            (10, Field::Bytes(source)) => match &fields(source)[..] {
                [(1, Field::Bytes(writer))] => event.writer = Some(text(writer)),
                _ => panic!("a source without a writer"),
            },
            (number, _) => panic!("an event with a field {number}"),
        }
    }

    event
}

fn value((number, field): &(u64, Field<'_>)) -> (String, f32) {
    let (1, Field::Bytes(message)) = (number, field) else {
        panic!("a summary with a field {number}")
    };

    match &fields(message)[..] {
        [(1, Field::Bytes(tag)), (2, Field::Bits32(bits))] => (text(tag), f32::from_bits(*bits)),
        _ => panic!("expected a value with a tag and a number"),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
