//! One launch: which kernel, over how many blocks of threads, with which numbers.

use candle_core::{DType, Result, bail};

/// Threads of a block where each thread has an element or a column.
const THREADS: usize = 256;
/// Fewest and most threads of a block where the block has a row.
const ROW_THREADS: (usize, usize) = (32, 1024);
/// Elements of a row for each of its threads, in rows that are long enough. With fewer, threads
/// mostly wait for each other.
const ROW_ELEMENTS: usize = 16;
/// Rows of a table that a thread handles one after the other. `block.cuh` defines the same number
/// for the kernels.
const TABLE_ROWS: usize = 8;
/// The most blocks of a grid that CUDA accepts in each of the two dimensions.
const MOST_BLOCKS: [usize; 2] = [i32::MAX as usize, u16::MAX as usize];

/// The file of `cuda/` that a kernel is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelFile {
    /// `attention.cu`
    Attention,
    /// `elementwise.cu`
    Elementwise,
    /// `embedding.cu`
    Embedding,
    /// `loss.cu`
    Loss,
    /// `norm.cu`
    Norm,
    /// `optimizer.cu`
    Optimizer,
    /// `sketch.cu`
    Sketch,
    /// `sums.cu`
    Sums,
}

/// A number that a kernel is given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// `unsigned`
    U32(u32),
    /// `unsigned long long`
    U64(u64),
    /// `float`
    F32(f32),
}

/// One launch.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// The file that holds the kernel.
    pub file: KernelFile,
    /// Its name.
    pub kernel: String,
    /// Blocks in both dimensions of the grid.
    pub blocks: [u32; 2],
    /// Threads of a block: a power of two.
    pub threads: u32,
    /// The parameters behind the memory.
    pub numbers: Vec<Number>,
}

/// How threads are divided among the elements of a tensor.
#[derive(Clone, Copy, Debug)]
pub(super) enum Grid {
    /// A block for each of `rows` rows of `width`.
    Rows { rows: usize, width: usize },
    /// A thread for each of so many elements.
    Elements(usize),
    /// For each of `groups` groups of rows, a thread for each of `width` columns.
    Columns { width: usize, groups: usize },
    /// For each row of a table, a thread for each of `width` columns.
    TableRows { rows: usize, width: usize },
    /// For each [`TABLE_ROWS`] of `rows` rows, a thread for each of `width` columns. The number of
    /// rows is the kernel's first number.
    GroupsOfRows { rows: usize, width: usize },
    /// So many blocks with the most threads that a block can have.
    Blocks(usize),
}

impl Grid {
    /// Blocks in both dimensions, and threads of a block.
    fn blocks_and_threads(self) -> ([usize; 2], usize) {
        let columns = |width: usize| width.div_ceil(THREADS);

        match self {
            Grid::Rows { rows, width } => {
                let threads = width.div_ceil(ROW_ELEMENTS).clamp(ROW_THREADS.0, ROW_THREADS.1);
                ([rows, 1], threads.next_power_of_two())
            }
            Grid::Elements(count) => ([columns(count), 1], THREADS),
            Grid::Columns { width, groups } => ([columns(width), groups], THREADS),
            Grid::TableRows { rows, width } => ([rows, columns(width)], THREADS),
            Grid::GroupsOfRows { rows, width } => {
                ([rows.div_ceil(TABLE_ROWS), columns(width)], THREADS)
            }
            Grid::Blocks(blocks) => ([blocks, 1], ROW_THREADS.1),
        }
    }
}

impl Launch {
    /// A launch over activations of this dtype.
    pub(super) fn new(file: KernelFile, kernel: &str, dtype: DType, grid: Grid) -> Result<Self> {
        let (blocks, threads) = grid.blocks_and_threads();
        let suffix = match dtype {
            DType::F32 => "f32",
            DType::BF16 => "bf16",
            other => bail!("{kernel}: expected activations of dtype F32 or BF16, got {other:?}"),
        };

        if blocks.iter().zip(MOST_BLOCKS).any(|(&blocks, most)| blocks == 0 || blocks > most) {
            bail!("{kernel}: expected a grid of 1 to {MOST_BLOCKS:?} blocks, got {blocks:?}")
        }

        let launch = Launch {
            file,
            kernel: format!("{kernel}_{suffix}"),
            blocks: blocks.map(|blocks| blocks as u32),
            threads: threads as u32,
            numbers: Vec::new(),
        };

        match grid {
            Grid::GroupsOfRows { rows, .. } => launch.with_sizes([rows]),
            _ => Ok(launch),
        }
    }

    /// The launch with further numbers.
    pub(super) fn with(mut self, numbers: impl IntoIterator<Item = Number>) -> Self {
        self.numbers.extend(numbers);
        self
    }

    /// The launch with further numbers of 32 bits.
    pub(super) fn with_sizes(mut self, sizes: impl IntoIterator<Item = usize>) -> Result<Self> {
        for size in sizes {
            match u32::try_from(size) {
                Ok(size) => self.numbers.push(Number::U32(size)),
                Err(_) => bail!("{}: expected sizes of 32 bits, got {size}", self.kernel),
            }
        }

        Ok(self)
    }

    /// The launch with a further number of 64 bits.
    pub(super) fn with_count(self, count: usize) -> Self {
        self.with([Number::U64(count as u64)])
    }
}
