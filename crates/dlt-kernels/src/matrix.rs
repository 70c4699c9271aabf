//! Strided matrices whose bounds are checked once, their product by `gemm`, and the division of one
//! buffer into column panels that several threads write.
#![allow(
    unsafe_code,
    reason = "gemm takes raw pointers, and interleaved column panels are not slices"
)]

use gemm::Parallelism;
use std::marker::PhantomData;
use std::ops::Range;
use std::slice;

use crate::tiles::{Operand, three};

/// Rows of a transposition that are handled together.
const TILE: usize = 16;

/// A matrix to read: any strides.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> View<'a> {
    /// Rows of `columns` adjacent elements, `stride` apart.
    ///
    /// # Panics
    /// When `data` is too short, which is a bug in the caller.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(fits(data.len(), rows, columns, stride), "a matrix ends behind its buffer");
        View { data, rows, columns, row_stride: stride, column_stride: 1 }
    }

    /// The same memory with rows and columns exchanged.
    pub(crate) fn t(self) -> Self {
        View {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// One row of a matrix whose columns are adjacent.
    #[inline(always)]
    pub(crate) fn row(self, row: usize) -> &'a [f32] {
        assert!(self.column_stride == 1, "a row of a transposed matrix");
        &self.data[row * self.row_stride..][..self.columns]
    }

    /// A copy whose rows are the columns of this matrix, adjacent in memory.
    pub(crate) fn transposed(self) -> Vec<f32> {
        let mut out = vec![0.0; self.rows * self.columns];
        // In tiles, so that both what is read and what is written stay in the first cache.
        for tile in (0..self.rows).step_by(TILE) {
            let rows = tile..(tile + TILE).min(self.rows);
            for (column, out) in out.chunks_exact_mut(self.rows).enumerate() {
                let first = column * self.column_stride;
                for (out, row) in out[rows.clone()].iter_mut().zip(rows.clone()) {
                    *out = self.data[row * self.row_stride + first];
                }
            }
        }

        out
    }

    /// Rows and columns.
    pub(crate) fn size(self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// Some rows and columns.
    pub(crate) fn part(self, rows: Range<usize>, columns: Range<usize>) -> Self {
        assert!(rows.end <= self.rows && columns.end <= self.columns, "a part of a matrix");
        let first = rows.start * self.row_stride + columns.start * self.column_stride;
        View { data: &self.data[first..], rows: rows.len(), columns: columns.len(), ..self }
    }

    /// The rows as indices of an operand.
    pub(crate) fn operand(self) -> Operand<'a, f32> {
        if self.column_stride == 1 {
            Operand::of_rows(self.data, self.rows, self.columns, self.row_stride)
        } else {
            Operand::of_columns(self.data, self.rows, self.columns, self.column_stride)
        }
    }

    /// `count` rows from `start`.
    pub(crate) fn rows(self, start: usize, count: usize) -> Self {
        assert!(self.column_stride == 1 && start + count <= self.rows, "rows outside of a matrix");
        View::new(&self.data[start * self.row_stride..], count, self.columns, self.row_stride)
    }
}

fn fits(length: usize, rows: usize, columns: usize, stride: usize) -> bool {
    let end = (rows.max(1) - 1).checked_mul(stride).and_then(|last| last.checked_add(columns));

    // gemm's offsets are signed.
    rows > 0
        && columns > 0
        && stride >= columns
        && end.is_some_and(|end| end <= length && end < isize::MAX as usize)
}

/// A matrix to write: rows of adjacent elements that do not overlap, exclusively borrowed.
pub(crate) struct Panel<'a> {
    start: *mut f32,
    rows: usize,
    columns: usize,
    stride: usize,
    owner: PhantomData<&'a mut [f32]>,
}

// SAFETY: a panel is an exclusive borrow of its elements, like `&mut [f32]`, which is Send.
unsafe impl Send for Panel<'_> {}

impl<'a> Panel<'a> {
    /// Rows of `columns` adjacent elements, `stride` apart.
    ///
    /// # Panics
    /// When `data` is too short, which is a bug in the caller.
    pub(crate) fn new(data: &'a mut [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(fits(data.len(), rows, columns, stride), "a matrix ends behind its buffer");
        Panel { start: data.as_mut_ptr(), rows, columns, stride, owner: PhantomData }
    }

    /// All elements, row after row.
    ///
    /// # Panics
    /// When rows are further apart than they are wide, which is a bug in the caller.
    fn all(&mut self) -> &mut [f32] {
        assert!(self.stride == self.columns, "rows that are not adjacent");
        // SAFETY: the panel exclusively borrows these elements, which are adjacent. They are
        // initialised: `product` makes the only panel of a new buffer, and zeroes it for `By::Thirds`,
        // which alone asks for this.
        unsafe { slice::from_raw_parts_mut(self.start, self.rows * self.columns) }
    }

    /// Divides the columns into `count` panels of equal width, side by side.
    ///
    /// # Panics
    /// When the width is not a multiple of `count`, which is a bug in the caller.
    pub(crate) fn split(self, count: usize) -> Vec<Panel<'a>> {
        assert!(count > 0 && self.columns.is_multiple_of(count), "columns that do not divide");
        let columns = self.columns / count;

        (0..count)
            .map(|i| Panel {
                // SAFETY: i * columns is below self.columns, so the first row holds that element.
                start: unsafe { self.start.add(i * columns) },
                // The panels are disjoint: columns [i * columns, (i + 1) * columns) of each row,
                // and rows do not overlap because the stride is at least the width of all panels.
                columns,
                ..self
            })
            .collect()
    }

    /// `count` rows from `start`, borrowed from this panel.
    pub(crate) fn rows(&mut self, start: usize, count: usize) -> Panel<'_> {
        assert!(count > 0 && start + count <= self.rows, "rows outside of a matrix");
        // SAFETY: row `start` exists, so its first element is inside the buffer.
        let start = unsafe { self.start.add(start * self.stride) };
        Panel { start, rows: count, columns: self.columns, stride: self.stride, owner: PhantomData }
    }

    /// One row.
    pub(crate) fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows, "a row outside of a matrix");
        // SAFETY: the row's `columns` elements are inside the buffer (checked when the panel was
        // made) and borrowed by this panel alone.
        unsafe { slice::from_raw_parts_mut(self.start.add(row * self.stride), self.columns) }
    }
}

/// What happens to the elements that a product is written to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Into {
    /// They are overwritten.
    Set,
    /// The product is added to them.
    Add,
}

/// Numbers (f32) that gemm holds while it multiplies n x `k` by `k` x `m`. It packs the matrix with
/// the n rows, in pieces that stay in the outermost cache (32 MiB on most machines). It packs
/// nothing where few columns would use the copy.
pub(crate) fn product_workspace(n: usize, k: usize, m: usize) -> usize {
    const DEPTH: usize = 512;
    const PIECE: usize = 30 << 18;
    const FEW_COLUMNS: usize = 128;
    if m <= FEW_COLUMNS { 0 } else { (k.min(DEPTH) * n).min(PIECE) }
}

/// What computes a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// gemm on the calling thread.
    Thread,
    /// gemm on all threads of the pool.
    Threads,
    /// Three products of bf16 matrices on all threads, as in [`crate::tiles::three`].
    Thirds,
}

/// `a · b` in a new buffer, row after row.
///
/// # Panics
/// When the shapes do not fit, which is a bug in the caller.
pub(crate) fn product(a: View<'_>, b: View<'_>, by: By) -> Vec<f32> {
    let rows = a.rows;
    let columns = b.columns;

    // gemm has separate code for vectors and outer products. It makes slices of the destination,
    // which must then be initialised. So do three products.
    if rows == 1 || columns == 1 || a.columns <= 2 || by == By::Thirds {
        let mut out = vec![0.0; rows * columns];
        multiply(&mut Panel::new(&mut out, rows, columns, columns), Into::Set, 1.0, a, b, by);
        return out;
    }

    let mut out: Vec<f32> = Vec::with_capacity(rows * columns);
    let mut panel =
        Panel { start: out.as_mut_ptr(), rows, columns, stride: columns, owner: PhantomData };

    // Zeroing first would cost another pass over the largest buffers of a model.
    multiply(&mut panel, Into::Set, 1.0, a, b, by);

    // SAFETY: the capacity is rows * columns. With `Into::Set` gemm reads nothing from its
    // destination and writes each of its elements through raw pointers. These are all elements of
    // the buffer, because the stride is the width.
    unsafe { out.set_len(rows * columns) };

    out
}

/// `out = scale · a · b`, or `out += scale · a · b`.
///
/// # Panics
/// When the shapes do not fit, which is a bug in the caller.
pub(crate) fn multiply(
    out: &mut Panel<'_>,
    into: Into,
    scale: f32,
    a: View<'_>,
    b: View<'_>,
    by: By,
) {
    assert!(
        a.columns == b.rows && out.rows == a.rows && out.columns == b.columns,
        "matrices that do not fit: ({}, {}) x ({}, {}) into ({}, {})",
        a.rows,
        a.columns,
        b.rows,
        b.columns,
        out.rows,
        out.columns
    );

    let parallelism = match by {
        By::Thirds => return three::multiply(out.all(), into, scale, a, b),
        By::Threads if rayon::current_num_threads() > 1 => {
            Parallelism::Rayon(rayon::current_num_threads())
        }
        _ => Parallelism::None,
    };

    // gemm computes `out = 1 · out + scale · a · b`, and reads `out` only for `Into::Add`. Each
    // column stride comes before the row stride, and the three flags are for complex numbers.
    //
    // SAFETY: every element (i, j) that the strides address was checked to be inside its buffer
    // when the views and the panel were made; the panel's elements are exclusively borrowed and do
    // not overlap each other or the views.
    unsafe {
        gemm::gemm(
            out.rows,
            out.columns,
            a.columns,
            out.start,
            1,
            out.stride as isize,
            into == Into::Add,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0f32,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}
