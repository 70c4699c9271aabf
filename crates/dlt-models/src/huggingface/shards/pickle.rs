//! Python's pickles, as far as files of weights need them. Nothing that a pickle names is run: a
//! call is only noted, with its arguments.
//!
//! Values are numbered and refer to each other by number. So a value that is used twice exists
//! once, nesting costs no stack, and a file cannot use more memory than [`MOST_VALUES`] and
//! [`MOST_BYTES`] allow.

use std::collections::BTreeMap;

/// Most bytes of a pickle that are read. A pickle of 10,000 tensors has about 2 MiB.
pub(super) const MOST_BYTES: usize = 16 << 20;

/// Most values of a pickle, and most entries of its memory. A tensor is about 15 values.
const MOST_VALUES: usize = 1 << 20;

/// The number of a value.
pub(super) type Id = u32;

/// A value of a pickle.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    None,
    Bool,
    Whole(i64),
    Float,
    Text(String),
    /// A class or function, by module and name.
    Global(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// What a call would return.
    Called {
        callable: Id,
        arguments: Id,
    },
    /// Something outside of the pickle, by its key.
    Persistent(Id),
}

impl Value {
    /// What it is, for a message.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool => "a truth value",
            Self::Whole(_) => "a whole number",
            Self::Float => "a number",
            Self::Text(_) => "a text",
            Self::Global(_) => "a class",
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dictionary",
            Self::Called { .. } => "an object",
            Self::Persistent(_) => "a storage",
        }
    }
}

/// The values of one pickle.
pub(super) struct Pickle {
    values: Vec<Value>,
    root: Id,
}

impl Pickle {
    /// Reads the pickle at the start of `bytes`, and leaves in `bytes` what follows it.
    ///
    /// # Errors
    /// Says what is wrong and at which byte.
    pub(super) fn read(bytes: &mut &[u8]) -> Result<Self, String> {
        let whole = bytes.len();
        let mut machine = Machine {
            bytes,
            values: Vec::new(),
            stack: Vec::new(),
            memory: BTreeMap::new(),
            copied: 0,
        };

        let root = machine.run();
        let values = machine.values;
        let at = whole - bytes.len();

        root.map(|root| Self { values, root })
            .map_err(|why| format!("{why}, at byte {at} of the pickle"))
    }

    /// The value that the whole pickle makes.
    pub(super) fn root(&self) -> &Value {
        self.get(self.root)
    }

    pub(super) fn get(&self, id: Id) -> &Value {
        &self.values[id as usize]
    }
}

/// What the stack holds: values, and marks between them.
#[derive(Clone, Copy)]
enum Slot {
    Mark,
    Value(Id),
}

/// The stack machine that runs a pickle, which is a program.
struct Machine<'a, 'b> {
    bytes: &'a mut &'b [u8],
    values: Vec<Value>,
    stack: Vec<Slot>,
    memory: BTreeMap<u32, Id>,
    /// Pairs of ordered dictionaries that were copied from lists.
    copied: usize,
}

impl<'b> Machine<'_, 'b> {
    fn run(&mut self) -> Result<Id, String> {
        loop {
            let code = self.byte()?;
            if code == b'.' {
                return self.pop();
            }
            self.step(code)?;
        }
    }

    fn step(&mut self, code: u8) -> Result<(), String> {
        match code {
            // PROTO and FRAME say nothing about the values.
            0x80 => self.take(1).map(drop),
            0x95 => self.take(8).map(drop),
            b'(' => {
                self.stack.push(Slot::Mark);
                Ok(())
            }
            b'0' => self.stack.pop().map(drop).ok_or_else(empty),
            b'1' => self.since_mark().map(drop),
            b'2' => self.top().map(|top| self.stack.push(Slot::Value(top))),
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.remember(code),
            b'N' | 0x88 | 0x89 | b'K' | b'M' | b'J' | 0x8a | b'G' => self.number(code),
            b'X' | 0x8c | b'T' | b'U' | b'c' | 0x93 => self.text(code),
            b')' | b't' | 0x85..=0x87 | b']' | b'l' | b'}' | b'd' => self.container(code),
            b'a' | b'e' | b's' | b'u' => self.fill(code),
            b'R' | 0x81 => self.call(),
            b'b' => self.build(),
            b'Q' => {
                let key = self.pop()?;
                self.push(Value::Persistent(key))
            }
            other => Err(format!("expected an operation of pickle protocol 2, got {other:#04x}")),
        }
    }

    /// Puts the top of the stack into the memory, or pushes a value of the memory.
    fn remember(&mut self, code: u8) -> Result<(), String> {
        let place = match code {
            b'q' | b'h' => u32::from(self.byte()?),
            // MEMOIZE uses the next free number.
            0x94 => u32::try_from(self.memory.len()).map_err(|error| error.to_string())?,
            _ => u32::from_le_bytes(self.array()?),
        };

        if matches!(code, b'h' | b'j') {
            let found = self
                .memory
                .get(&place)
                .ok_or_else(|| format!("expected a memory {place}, got none"))?;
            self.stack.push(Slot::Value(*found));
            return Ok(());
        }

        if self.memory.len() >= MOST_VALUES {
            return Err(format!("expected at most {MOST_VALUES} memories, got more"));
        }

        let top = self.top()?;
        self.memory.insert(place, top);
        Ok(())
    }

    /// Pushes None, a truth value or a number. Only whole numbers are kept: sizes are whole.
    fn number(&mut self, code: u8) -> Result<(), String> {
        let value = match code {
            b'N' => Value::None,
            b'K' => Value::Whole(i64::from(self.byte()?)),
            b'M' => Value::Whole(i64::from(u16::from_le_bytes(self.array()?))),
            b'J' => Value::Whole(i64::from(i32::from_le_bytes(self.array()?))),
            0x8a => self.long()?,
            b'G' => {
                self.take(8)?;
                Value::Float
            }
            _ => Value::Bool,
        };

        self.push(value)
    }

    /// A whole number of some bytes. One that does not fit into 8 bytes cannot be a size, so its
    /// value does not matter.
    fn long(&mut self) -> Result<Value, String> {
        let length = usize::from(self.byte()?);
        let bytes = self.take(length)?;

        if length > 8 {
            return Ok(Value::Float);
        }

        // Two's complement, in as few bytes as hold it: the rest is filled with the sign.
        let sign = if bytes.last().is_some_and(|last| *last >= 0x80) { 0xff } else { 0 };
        let mut whole = [sign; 8];
        whole[..length].copy_from_slice(bytes);

        Ok(Value::Whole(i64::from_le_bytes(whole)))
    }

    /// Pushes a text, or a class or function by its name.
    fn text(&mut self, code: u8) -> Result<(), String> {
        let value = match code {
            b'c' => {
                let module = self.line()?;
                let name = self.line()?;
                Value::Global(format!("{module}.{name}"))
            }
            0x93 => {
                let name = self.pop()?;
                let module = self.pop()?;
                match (&self.values[module as usize], &self.values[name as usize]) {
                    (Value::Text(module), Value::Text(name)) => {
                        Value::Global(format!("{module}.{name}"))
                    }
                    _ => return Err("expected two texts that name a class".to_owned()),
                }
            }
            _ => {
                let length = match code {
                    0x8c | b'U' => usize::from(self.byte()?),
                    _ => u32::from_le_bytes(self.array()?) as usize,
                };

                Value::Text(utf8(self.take(length)?)?)
            }
        };

        self.push(value)
    }

    /// Pushes a tuple, list or dictionary of values on the stack.
    fn container(&mut self, code: u8) -> Result<(), String> {
        let value = match code {
            b')' => Value::Tuple(Vec::new()),
            b']' => Value::List(Vec::new()),
            b'}' => Value::Dict(Vec::new()),
            b't' => Value::Tuple(self.since_mark()?),
            b'l' => Value::List(self.since_mark()?),
            b'd' => Value::Dict(pairs(&self.since_mark()?)?),
            _ => {
                // TUPLE1, TUPLE2 and TUPLE3.
                let count = usize::from(code - 0x84);
                let mut items = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
                items.reverse();
                Value::Tuple(items)
            }
        };

        self.push(value)
    }

    /// Adds values on the stack to the list or dictionary under them.
    fn fill(&mut self, code: u8) -> Result<(), String> {
        let items = match code {
            b'a' => vec![self.pop()?],
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                vec![key, value]
            }
            _ => self.since_mark()?,
        };

        let top = self.top()?;
        match (&mut self.values[top as usize], code) {
            (Value::List(into), b'a' | b'e') => into.extend(items),
            (Value::Dict(into), b's' | b'u') => into.extend(pairs(&items)?),
            (other, _) => {
                return Err(format!("expected a list or dictionary to fill, got {}", other.kind()));
            }
        }

        Ok(())
    }

    /// Notes a call. Only ordered dictionaries are made: state dictionaries are of this class.
    fn call(&mut self) -> Result<(), String> {
        let arguments = self.pop()?;
        let callable = self.pop()?;
        let is_ordered = matches!(&self.values[callable as usize],
            Value::Global(name) if name == "collections.OrderedDict");

        let value = if is_ordered {
            Value::Dict(self.ordered(arguments)?)
        } else {
            Value::Called { callable, arguments }
        };

        self.push(value)
    }

    /// The pairs of an ordered dictionary: none, or those of a list, as Python 2 wrote it.
    fn ordered(&mut self, arguments: Id) -> Result<Vec<(Id, Id)>, String> {
        let get = |id: Id| &self.values[id as usize];
        let refuse = || "expected the pairs of an ordered dictionary".to_owned();
        let Value::Tuple(arguments) = get(arguments) else { return Err(refuse()) };
        let Some(first) = arguments.first() else { return Ok(Vec::new()) };
        let Value::List(items) = get(*first) else { return Err(refuse()) };

        // A few bytes of a file can copy the same list again, so copies have a limit too.
        self.copied += items.len();
        if self.copied > MOST_VALUES {
            return Err(format!("expected at most {MOST_VALUES} pairs, got more"));
        }

        let pair = |item: &Id| match get(*item) {
            Value::Tuple(pair) | Value::List(pair) if pair.len() == 2 => Ok((pair[0], pair[1])),
            _ => Err(refuse()),
        };

        items.iter().map(pair).collect()
    }

    /// Drops the state of an object. That of a dictionary is `_metadata`: versions of modules,
    /// which no weight needs.
    fn build(&mut self) -> Result<(), String> {
        self.pop()?;
        let top = self.top()?;
        match &self.values[top as usize] {
            Value::Dict(_) => Ok(()),
            other => {
                Err(format!("expected the state of a dictionary, got that of {}", other.kind()))
            }
        }
    }

    /// Numbers a value and pushes it.
    fn push(&mut self, value: Value) -> Result<(), String> {
        if self.values.len() >= MOST_VALUES {
            return Err(format!("expected at most {MOST_VALUES} values, got more"));
        }

        self.stack.push(Slot::Value(self.values.len() as Id));
        self.values.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Result<Id, String> {
        match self.stack.pop() {
            Some(Slot::Value(id)) => Ok(id),
            _ => Err(empty()),
        }
    }

    fn top(&self) -> Result<Id, String> {
        match self.stack.last() {
            Some(Slot::Value(id)) => Ok(*id),
            _ => Err(empty()),
        }
    }

    /// Pops the last mark and the values above it, and returns the values.
    fn since_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark =
            self.stack.iter().rposition(|slot| matches!(slot, Slot::Mark)).ok_or_else(empty)?;
        let above = self.stack.drain(mark..).skip(1);

        Ok(above
            .filter_map(|slot| if let Slot::Value(id) = slot { Some(id) } else { None })
            .collect())
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let bytes = self.take(N)?;
        Ok(std::array::from_fn(|index| bytes[index]))
    }

    fn take(&mut self, count: usize) -> Result<&'b [u8], String> {
        let bytes: &'b [u8] = self.bytes;
        let (taken, rest) = bytes
            .split_at_checked(count)
            .ok_or_else(|| format!("expected {count} more bytes, got {}", bytes.len()))?;
        *self.bytes = rest;

        Ok(taken)
    }

    /// A text up to the end of a line, which is dropped.
    fn line(&mut self) -> Result<String, String> {
        let end = self.bytes.iter().position(|byte| *byte == b'\n');
        let end = end.ok_or_else(|| "expected the end of a line, got none".to_owned())?;
        let line = utf8(self.take(end)?)?;
        self.take(1)?;
        Ok(line)
    }
}

fn empty() -> String {
    "expected a value on the stack, got none".to_owned()
}

fn utf8(bytes: &[u8]) -> Result<String, String> {
    std::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|error| format!("expected UTF-8: {error}"))
}

/// Keys and values in turn, as pairs.
fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>, String> {
    if !items.len().is_multiple_of(2) {
        return Err("expected a value for each key of a dictionary, got one too few".to_owned());
    }
    Ok(items.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(bytes: &[u8]) -> String {
        Pickle::read(&mut &bytes[..]).map(|_| ()).expect_err("refused")
    }

    /// `b` repeated, between a beginning and an end.
    fn around(begin: &[u8], b: &[u8], count: usize, end: &[u8]) -> Vec<u8> {
        [begin, &b.repeat(count), end].concat()
    }

    #[test]
    fn a_call_is_noted_and_not_made() {
        // os.system("true"), as pickle writes it.
        let bytes = b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.rest";
        let mut left = &bytes[..];
        let pickle = Pickle::read(&mut left).expect("a pickle");
        let Value::Called { callable, arguments } = pickle.root() else {
            panic!("{:?}", pickle.root())
        };

        assert_eq!(*pickle.get(*callable), Value::Global("os.system".to_owned()));
        let Value::Tuple(arguments) = pickle.get(*arguments) else { panic!("no arguments") };
        assert_eq!(*pickle.get(arguments[0]), Value::Text("true".to_owned()));
        assert_eq!(left, b"rest");
    }

    #[test]
    fn whole_numbers_are_read_with_their_sign() {
        let read = |bytes: &[u8]| Pickle::read(&mut &bytes[..]).expect("a pickle").root().clone();
        assert_eq!(read(b"K\xff."), Value::Whole(255));
        assert_eq!(read(b"M\x01\x02."), Value::Whole(513));
        assert_eq!(read(b"J\xfe\xff\xff\xff."), Value::Whole(-2));
        assert_eq!(read(b"\x8a\x02\x00\xff."), Value::Whole(-256));
        assert_eq!(read(b"\x8a\x00."), Value::Whole(0));
        assert_eq!(read(b"\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x40."), Value::Whole(1 << 62));
    }

    /// Depth and repetition cost neither stack nor memory: values refer to each other by number.
    #[test]
    fn law_nesting_and_doubling_are_cheap() {
        let deep = around(b")", b"\x85", MOST_VALUES - 1, b".");
        assert!(Pickle::read(&mut deep.as_slice()).is_ok());

        // x = (x, x), forty times: 2^40 values if each was a copy.
        let doubled = around(b")q\x00", b"h\x00h\x00\x86q\x00", 40, b".");
        assert!(Pickle::read(&mut doubled.as_slice()).is_ok());

        let itself = b"]q\x00h\x00a.";
        assert!(Pickle::read(&mut &itself[..]).is_ok());
    }

    #[test]
    fn rejects_pickles_that_ask_for_too_much() {
        let many = around(b"", b")", MOST_VALUES + 1, b".");
        assert!(refusal(&many).starts_with("expected at most 1048576 values, got more"));

        let memories = around(b")", b"\x94", MOST_VALUES + 1, b".");
        assert!(refusal(&memories).starts_with("expected at most 1048576 memories, got more"));

        let text = b"X\xff\xff\xff\xff.";
        assert!(refusal(text).starts_with("expected 4294967295 more bytes, got 1"));

        // A list of a thousand pairs that is copied again and again.
        let pairs = [
            b"(".to_vec(),
            b"))\x86".repeat(1000),
            b"l\x85q\x00ccollections\nOrderedDict\nq\x01".to_vec(),
        ]
        .concat();

        let again = around(&pairs, b"h\x01h\x00R", 2000, b".");
        assert!(refusal(&again).starts_with("expected at most 1048576 pairs, got more"));
    }

    #[test]
    fn rejects_pickles_that_are_none() {
        for (bytes, message) in [
            (&b""[..], "expected 1 more bytes, got 0"),
            (b".", "expected a value on the stack, got none"),
            (b"h\x07.", "expected a memory 7, got none"),
            (b"t.", "expected a value on the stack, got none"),
            (b"(R.", "expected a value on the stack, got none"),
            (b"}(NNNu.", "expected a value for each key of a dictionary, got one too few"),
            (b"NNs.", "expected a value on the stack, got none"),
            (b"NNNs.", "expected a list or dictionary to fill, got None"),
            (b")Nb.", "expected the state of a dictionary, got that of a tuple"),
            (b"X\x01\x00\x00\x00\xff.", "expected UTF-8"),
            (b"cos\nsystem", "expected the end of a line, got none"),
            (b"NN\x93.", "expected two texts that name a class"),
            (b"\xff.", "expected an operation of pickle protocol 2, got 0xff"),
        ] {
            let refused = refusal(bytes);
            assert!(refused.starts_with(message), "{bytes:?}: {refused}");
        }
    }
}
