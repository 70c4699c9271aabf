//! The tensors that a pickle names, as views of storages.

use std::collections::BTreeMap;

use super::super::numbers::Numbers;
use super::super::pickle::{Id, Pickle, Value};

/// Most dimensions of a tensor; weights have at most four.
const MOST_DIMENSIONS: usize = 8;

/// Most nested calls that make a tensor; a parameter of a tensor is two.
const MOST_WRAPPERS: usize = 4;

/// The tensors and storages that a pickle names.
pub(super) struct Found {
    pub(super) tensors: BTreeMap<String, View>,
    pub(super) storages: BTreeMap<String, Storage>,
}

impl Found {
    /// What the dictionary of a pickle names.
    ///
    /// # Errors
    /// Says what is not as torch writes it.
    pub(super) fn of(pickle: &Pickle) -> Result<Self, String> {
        let Value::Dict(entries) = pickle.root() else {
            return Err(format!("expected a dictionary of tensors, got {}", pickle.root().kind()));
        };
        let mut found = Self { tensors: BTreeMap::new(), storages: BTreeMap::new() };

        for (name, value) in entries {
            let Value::Text(name) = pickle.get(*name) else {
                return Err(format!(
                    "expected the name of a tensor, got {}",
                    pickle.get(*name).kind()
                ));
            };

            let view = found.tensor(pickle, *value).map_err(|why| format!("`{name}`: {why}"))?;
            if found.tensors.insert(name.clone(), view).is_some() {
                return Err(format!("`{name}`: expected one tensor of this name, got two"));
            }
        }

        Ok(found)
    }

    /// The tensor that a value would make, through wrappers.
    fn tensor(&mut self, pickle: &Pickle, value: Id) -> Result<View, String> {
        let mut call = self::call(pickle, value)?;
        for _ in 0..MOST_WRAPPERS {
            call = match call {
                ("torch._utils._rebuild_parameter", [inside, ..]) => self::call(pickle, *inside)?,
                ("torch._tensor._rebuild_from_type_v2", [function, _, inside, ..]) => {
                    match (pickle.get(*function), pickle.get(*inside)) {
                        (Value::Global(name), Value::Tuple(arguments)) => (name, arguments),
                        _ => return Err("expected how a tensor is made".to_owned()),
                    }
                }
                (
                    "torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor",
                    [storage, offset, sizes, strides, ..],
                ) => return self.view(pickle, [*storage, *offset, *sizes, *strides]),
                (other, _) => return Err(format!("expected a tensor, got a call of {other}")),
            };
        }

        Err("expected a tensor, got wrappers of wrappers".to_owned())
    }

    /// A view, from the arguments of `_rebuild_tensor`. Notes its storage.
    fn view(
        &mut self,
        pickle: &Pickle,
        [storage, offset, sizes, strides]: [Id; 4],
    ) -> Result<View, String> {
        let sizes_of = |value: Id| match pickle.get(value) {
            Value::Tuple(items) | Value::List(items) if items.len() <= MOST_DIMENSIONS => {
                items.iter().map(|item| size(pickle, *item)).collect::<Result<Vec<_>, _>>()
            }
            other => Err(format!("expected at most {MOST_DIMENSIONS} sizes, got {}", other.kind())),
        };

        // A storage is a reference out of the pickle: ("storage", class, key, device, count).
        let Value::Persistent(key) = pickle.get(storage) else {
            return Err(format!("expected a storage, got {}", pickle.get(storage).kind()));
        };
        let Value::Tuple(parts) = pickle.get(*key) else {
            return Err("expected the parts of a storage".to_owned());
        };
        let [_, kind, key, _, count, rest @ ..] = parts.as_slice() else {
            return Err(format!("expected five parts of a storage, got {}", parts.len()));
        };
        if rest.iter().any(|part| *pickle.get(*part) != Value::None) {
            return Err("expected a storage, got a part of another one".to_owned());
        }
        let (Value::Global(kind), Value::Text(key)) = (pickle.get(*kind), pickle.get(*key)) else {
            return Err("expected kind and key of a storage".to_owned());
        };

        let numbers = numbers(kind);
        let count = size(pickle, *count)?;
        let view = View {
            storage: key.clone(),
            offset: size(pickle, offset)?,
            shape: sizes_of(sizes)?,
            strides: sizes_of(strides)?,
        };
        view.check(count)?;

        // Several tensors may be views of one storage, and must agree about it.
        let new = Storage { numbers: numbers.clone(), count, start: 0, entry: 0 };
        let there = self.storages.entry(key.clone()).or_insert(new);
        if (&there.numbers, there.count) != (&numbers, count) {
            return Err(format!("expected storage `{key}` to be of one kind and size, got two"));
        }

        Ok(view)
    }
}

/// A tensor as a view of a storage. Offset and strides count numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct View {
    pub(super) storage: String,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// Where the bytes of a storage are.
#[derive(Clone, Debug)]
pub(super) struct Storage {
    pub(super) numbers: Numbers,
    /// How many numbers it has.
    pub(super) count: usize,
    pub(super) start: u64,
    /// Number of its entry in the archive.
    pub(super) entry: usize,
}

impl View {
    /// How many numbers of the storage there are from the first to the last one that the view
    /// reads.
    pub(super) fn span(&self) -> usize {
        if self.shape.contains(&0) {
            return 0;
        }

        1 + self
            .shape
            .iter()
            .zip(&self.strides)
            .map(|(size, stride)| (size - 1) * stride)
            .sum::<usize>()
    }

    /// Whether the numbers are in the storage in the order of the tensor, without gaps.
    pub(super) fn is_contiguous(&self) -> bool {
        let mut expected = 1;

        // The stride of a dimension of 1 has no effect.
        self.shape.iter().zip(&self.strides).rev().all(|(size, stride)| {
            let is_next = *size == 1 || *stride == expected;
            expected *= size;
            is_next
        })
    }

    /// Calls `call` with the index of each number within the span, in the order of the tensor.
    pub(super) fn each(&self, mut call: impl FnMut(usize)) {
        let count: usize = self.shape.iter().product();
        let mut index = vec![0; self.shape.len()];
        let mut at = 0;

        for _ in 0..count {
            call(at);
            for dimension in (0..index.len()).rev() {
                index[dimension] += 1;
                at += self.strides[dimension];
                if index[dimension] < self.shape[dimension] {
                    break;
                }

                // This dimension is at its end: back to its start, and on to the one before it.
                at -= index[dimension] * self.strides[dimension];
                index[dimension] = 0;
            }
        }
    }

    /// Refuses a view that leaves its storage, or shows more numbers than it has.
    fn check(&self, count: usize) -> Result<(), String> {
        // The numbers are claims of a file, so every sum and product is checked.
        let fits = || {
            let numbers =
                self.shape.iter().try_fold(1_usize, |all, size| all.checked_mul(*size))?;
            let mut last = self.offset;
            for (size, stride) in self.shape.iter().zip(&self.strides) {
                last = last.checked_add(size.saturating_sub(1).checked_mul(*stride)?)?;
            }
            Some(numbers == 0 || numbers <= count && last < count)
        };

        if self.shape.len() == self.strides.len() && fits() == Some(true) {
            return Ok(());
        }

        Err(format!(
            "expected a view of the {count} numbers of its storage, \
             got offset {}, sizes {:?} and strides {:?}",
            self.offset, self.shape, self.strides
        ))
    }
}

/// The function that would make a value, and its arguments.
fn call(pickle: &Pickle, value: Id) -> Result<(&str, &[Id]), String> {
    let Value::Called { callable, arguments } = pickle.get(value) else {
        return Err(format!("expected a tensor, got {}", pickle.get(value).kind()));
    };

    match (pickle.get(*callable), pickle.get(*arguments)) {
        (Value::Global(name), Value::Tuple(arguments)) => Ok((name, arguments)),
        (callable, _) => Err(format!("expected a tensor, got what {} makes", callable.kind())),
    }
}

/// A whole number that is not negative.
fn size(pickle: &Pickle, value: Id) -> Result<usize, String> {
    match pickle.get(value) {
        Value::Whole(number) => {
            usize::try_from(*number).map_err(|_| format!("expected a size, got {number}"))
        }
        other => Err(format!("expected a size, got {}", other.kind())),
    }
}

/// The number format of a storage's class.
fn numbers(class: &str) -> Numbers {
    let name = class.rsplit('.').next().unwrap_or(class);
    match name {
        "FloatStorage" => Numbers::F32,
        "DoubleStorage" => Numbers::F64,
        "HalfStorage" => Numbers::F16,
        "BFloat16Storage" => Numbers::Bf16,
        other => Numbers::Other(other.strip_suffix("Storage").unwrap_or(other).to_owned()),
    }
}
