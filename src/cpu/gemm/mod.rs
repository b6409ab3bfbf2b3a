//! Matrix products on one thread. [`matmul`] is the plain one, of the `gemm` crate, which is called here only; the others read operands
//! where they lie: [`IndexedGemm`] listed left rows (indirect convolution, retrieval), [`OuterGemm`] listed rows of both operands (filter
//! gradients), `streamed` a memory that is too large to be packed (the pair loss).
//!
//! All are built as Goto and van de Geijn describe (Anatomy of High-Performance Matrix Multiplication, ACM TOMS 34, 2008,
//! <https://doi.org/10.1145/1356052.1356053>): one operand packed into panels that stay in a cache, the other streamed past them, and a
//! micro-kernel that keeps a tile of sums in registers.
//!
//! Callers split the work themselves into ranges fixed by the shapes, so that results do not depend on the number of threads.

mod indexed;
mod outer;
mod packed;
pub(crate) mod streamed;
mod tile;

pub use indexed::{IDENTITY_ROWS, IndexedGemm, IndexedRow};
pub use outer::OuterGemm;
pub use packed::{PANEL, in_panel, pack, pack_panel, packed_len};

/// A matrix view: element `(row, column)` is `data[row * row_stride + column * column_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// The numbers.
    pub data: &'a [f32],
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub columns: usize,
    /// Distance between rows.
    pub row_stride: usize,
    /// Distance between columns.
    pub column_stride: usize,
}

/// A matrix view to be written; strides as in [`Matrix`].
#[derive(Debug)]
pub struct MatrixMut<'a> {
    /// The numbers.
    pub data: &'a mut [f32],
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub columns: usize,
    /// Distance between rows.
    pub row_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A dense row-major matrix.
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self { data, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// The same numbers with rows and columns exchanged.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }

    fn extent(&self) -> usize {
        extent(self.rows, self.columns, self.row_stride, self.column_stride)
    }
}

impl<'a> MatrixMut<'a> {
    /// A dense row-major matrix.
    pub fn new(data: &'a mut [f32], rows: usize, columns: usize) -> Self {
        Self { data, rows, columns, row_stride: columns }
    }
}

fn extent(rows: usize, columns: usize, row_stride: usize, column_stride: usize) -> usize {
    if rows == 0 || columns == 0 { 0 } else { (rows - 1) * row_stride + (columns - 1) * column_stride + 1 }
}

/// `output = left * right`, or `output += left * right` when `accumulate`. One thread, fixed order of summation.
///
/// # Panics
/// If the shapes do not agree or a view reaches past its data: a broken invariant of the calling operation.
pub fn matmul(left: Matrix<'_>, right: Matrix<'_>, output: MatrixMut<'_>, accumulate: bool) {
    assert_eq!(left.columns, right.rows, "inner dimensions");
    assert_eq!((output.rows, output.columns), (left.rows, right.columns), "output shape");
    assert!(output.row_stride >= output.columns || output.rows <= 1, "output rows overlap");
    assert!(left.extent() <= left.data.len() && right.extent() <= right.data.len(), "operand out of bounds");
    assert!(extent(output.rows, output.columns, output.row_stride, 1) <= output.data.len(), "output out of bounds");
    // SAFETY: the asserts above bound every element that the strides can reach, output rows do not overlap, and `output` is
    // borrowed mutably, hence aliases neither operand.
    unsafe {
        gemm::gemm(
            output.rows,
            output.columns,
            left.columns,
            output.data.as_mut_ptr(),
            1,
            output.row_stride as isize,
            accumulate,
            left.data.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right.data.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
