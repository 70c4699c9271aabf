//! Correlations between the feed-forward weights of the layers of a saved model (Fig. 4 of the
//! paper).

mod saved;

use std::ops::Range;
use std::path::Path;

use dlt_spec::tensors::{KEPT_KEY, TensorFile, open_model};
use serde::{Deserialize, Serialize};

use crate::error::{ReportError, Result};
pub use saved::CORRELATIONS_FILE;

/// Numbers of each layer that are in memory at a time.
const CHUNK: usize = 1 << 16;

/// For each architecture, the parts of a tensor's name before and after the layer's number: one
/// prefix, and the endings of the two feed-forward matrices.
const FEED_FORWARD: [(&str, [&str; 2]); 4] = [
    ("transformer.h.", [".mlp.c_fc.weight", ".mlp.c_proj.weight"]),
    ("bert.encoder.layer.", [".intermediate.dense.weight", ".output.dense.weight"]),
    ("vit.encoder.layer.", [".intermediate.dense.weight", ".output.dense.weight"]),
    ("model.layers.", [".mlp.gate_up_proj.weight", ".mlp.down_proj.weight"]),
];

/// Pearson correlations between layers. All are finite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Correlations {
    layers: Vec<usize>,
    values: Vec<f64>,
}

/// What a figure shows of one model: a heat map.
#[derive(Clone, Debug)]
pub struct CorrelationPanel<'a> {
    /// What the model is, for example "tied".
    pub name: &'a str,
    /// Its correlations.
    pub correlations: &'a Correlations,
    /// Range of the shades; `None` chooses it from the data.
    pub range: Option<Range<f64>>,
}

/// The content of a file before it is checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    layers: Vec<usize>,
    values: Vec<f64>,
}

impl TryFrom<Unchecked> for Correlations {
    type Error = String;

    fn try_from(unchecked: Unchecked) -> Result<Self, String> {
        Self::new(unchecked.layers, unchecked.values)
    }
}

impl Correlations {
    /// Correlations of `layers`, row after row.
    ///
    /// # Errors
    /// A text if `values` is not a square of that size, or has a number outside -1 to 1.
    pub fn new(layers: Vec<usize>, values: Vec<f64>) -> Result<Self, String> {
        let expected = layers.len() * layers.len();
        if values.len() != expected {
            return Err(format!(
                "expected {expected} correlations of {} layers, got {}",
                layers.len(),
                values.len()
            ));
        }

        match values.iter().find(|value| !(-1.0..=1.0).contains(*value)) {
            Some(value) => Err(format!("expected correlations from -1 to 1, got {value}")),
            None => Ok(Self { layers, values }),
        }
    }

    /// Correlations between the feed-forward weights of layers of a model file, both matrices of a
    /// layer one after the other. `None` means the layers that the state calls independent. Naming
    /// `layers` gives the same layers of another model, for example a conventional one. A tied
    /// layer has its owner's weights. The file is read once, a piece of every layer at a time, and
    /// sums are in f64.
    ///
    /// # Errors
    /// [`ReportError::Io`] if the file cannot be read; [`ReportError::Format`] if it is not a model
    /// file of this version, lacks a layer, or has weights without a correlation: not finite, or
    /// all equal.
    pub fn of_model(path: &Path, layers: Option<&[usize]>) -> Result<Self> {
        let file = ModelFile::open(path)?;
        let layers = match layers {
            Some(layers) => layers.to_vec(),
            None => file.numbers("independent")?,
        };

        let mut sums = Sums::new(layers.len());
        for matrix in 0..2 {
            let spans = file.spans(&layers, matrix)?;
            let count = spans.first().map_or(0, |span| span.count);
            for from in (0..count).step_by(CHUNK) {
                let length = CHUNK.min(count - from);
                // Offsets are in bytes, of which a number has four.
                let read = spans.iter().map(|span| file.read(span.begin + 4 * from as u64, length));
                sums.add(&read.collect::<Result<Vec<_>>>()?);
            }
        }

        let refuse = |reason| ReportError::format(path, reason);
        Self::new(layers.clone(), sums.correlations(&layers).map_err(refuse)?).map_err(refuse)
    }

    /// The layers, in the order of rows and columns.
    #[must_use]
    pub fn layers(&self) -> &[usize] {
        &self.layers
    }

    /// The correlation of a row and a column.
    ///
    /// # Panics
    /// If there is no such row or column.
    #[must_use]
    pub fn at(&self, row: usize, column: usize) -> f64 {
        let size = self.layers.len();
        assert!(
            row < size && column < size,
            "expected rows and columns below {size}, got {row} and {column}"
        );

        self.values[row * size + column]
    }
}

/// Sums of products of numbers. A shift near their mean is subtracted first, because the covariance
/// is a difference of sums, which would lose digits if the mean were far from 0.
struct Sums {
    count: usize,
    shifts: Vec<f64>,
    single: Vec<f64>,
    /// Products of each row with the columns up to it.
    products: Vec<Vec<f64>>,
}

impl Sums {
    fn new(size: usize) -> Self {
        let products = (0..size).map(|row| vec![0.0; row + 1]).collect();
        Self { count: 0, shifts: Vec::new(), single: vec![0.0; size], products }
    }

    fn add(&mut self, chunk: &[Vec<f64>]) {
        // The mean of the first piece serves as the shift of all: any number near the mean does.
        if self.count == 0 {
            self.shifts = chunk
                .iter()
                .map(|numbers| numbers.iter().sum::<f64>() / numbers.len() as f64)
                .collect();
        }

        self.count += chunk.first().map_or(0, Vec::len);

        let shifted = |row: usize| {
            chunk[row].iter().map(|number| number - self.shifts[row]).collect::<Vec<_>>()
        };
        let shifted: Vec<_> = (0..chunk.len()).map(shifted).collect();

        for (row, numbers) in shifted.iter().enumerate() {
            self.single[row] += numbers.iter().sum::<f64>();
            for (sum, others) in self.products[row].iter_mut().zip(&shifted) {
                *sum += numbers.iter().zip(others).map(|(a, b)| a * b).sum::<f64>();
            }
        }
    }

    fn covariance(&self, row: usize, column: usize) -> f64 {
        let product = self.products[row.max(column)][row.min(column)];
        product - self.single[row] * self.single[column] / self.count as f64
    }

    fn correlations(&self, layers: &[usize]) -> Result<Vec<f64>, String> {
        let size = self.single.len();
        for (row, layer) in layers.iter().enumerate() {
            let variance = self.covariance(row, row);
            if !(variance.is_finite() && variance > 0.0) {
                return Err(format!(
                    "layer {layer}: expected feed-forward weights that are finite and differ"
                ));
            }
        }

        let correlation = |row: usize, column: usize| {
            if row == column {
                return 1.0;
            }

            let scale = self.covariance(row, row).sqrt() * self.covariance(column, column).sqrt();
            // Rounding may lead a little beyond 1, which would be refused.
            (self.covariance(row, column) / scale).clamp(-1.0, 1.0)
        };

        Ok((0..size)
            .flat_map(|row| (0..size).map(move |column| (row, column)))
            .map(|(a, b)| correlation(a, b))
            .collect())
    }
}

/// Where the numbers of a tensor are in the data of a file: the first byte, and how many numbers.
struct TensorSpan {
    begin: u64,
    count: usize,
}

/// A model file. Every byte of it has been checked.
struct ModelFile(TensorFile);

impl ModelFile {
    fn open(path: &Path) -> Result<Self> {
        Ok(Self(open_model(path)?.0))
    }

    fn refuse(&self, reason: impl ToString) -> ReportError {
        ReportError::format(self.0.path(), reason)
    }

    /// Layer numbers under a key of the metadata.
    fn numbers(&self, key: &str) -> Result<Vec<usize>> {
        let text = self
            .0
            .header()
            .metadata
            .get(key)
            .ok_or_else(|| self.refuse(format!("the metadata lacks `{key}`")))?;

        let numbers = text.split(',').filter(|part| !part.is_empty()).map(str::parse);

        numbers.collect::<std::result::Result<_, _>>().map_err(|_| {
            self.refuse(format!(
                "metadata `{key}`: expected layer numbers with commas between, got `{text}`"
            ))
        })
    }

    /// Whether each layer keeps the parameter whose name ends in this for itself.
    fn keeps(&self, behind: &str) -> bool {
        let kept = self.0.header().metadata.get(KEPT_KEY).map_or("", String::as_str);
        kept.split(',').any(|name| behind.strip_prefix('.') == Some(name))
    }

    /// Where one of the two feed-forward matrices of each layer is.
    fn spans(&self, layers: &[usize], matrix: usize) -> Result<Vec<TensorSpan>> {
        let storage = self.numbers("storage")?;
        let tensors = &self.0.header().tensors;
        let names = FEED_FORWARD
            .iter()
            .find(|(before, behind)| tensors.contains_key(&format!("{before}0{}", behind[0])));
        let (before, behind) =
            names.ok_or_else(|| self.refuse("no feed-forward weights of a layer 0".to_owned()))?;

        let mut spans: Vec<TensorSpan> = Vec::new();
        for &layer in layers {
            // A block is in the file once, under the lowest layer that uses it.
            let lowest = storage.get(layer).ok_or_else(|| {
                self.refuse(format!("expected layers below {}, got {layer}", storage.len()))
            })?;
            // What each layer keeps for itself is there for every layer.
            let holder = if self.keeps(behind[matrix]) { layer } else { *lowest };
            let name = format!("{before}{holder}{}", behind[matrix]);
            let info = tensors
                .get(&name)
                .ok_or_else(|| self.refuse(format!("lacks the tensor `{name}`")))?;

            let count = info.count() as usize;
            let expected = spans.first().map(|span| span.count);
            if expected.is_some_and(|expected| expected != count) {
                return Err(self.refuse(format!(
                    "tensor `{name}`: expected as many numbers as in other layers"
                )));
            }

            spans.push(TensorSpan { begin: info.data_offsets.0, count });
        }

        Ok(spans)
    }

    fn read(&self, begin: u64, count: usize) -> Result<Vec<f64>> {
        let bytes = self.0.read(begin, 4 * count as u64)?;
        let (numbers, _) = bytes.as_chunks::<4>();
        Ok(numbers.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect())
    }
}
