//! Weighted pair loss of a batch of anchors against a memory, and its gradient, in one pass that never stores the similarities.

mod cpu;
mod cuda;

use super::{In, IntegersIn, IntegersOut, Out, RowsIn};
use crate::device::Storage;
use crate::error::{Error, Result, expect_len};
use crate::loss::{PairWeighting, Soft, ValidWeighting};

/// Sizes of a pair loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairLossGeometry {
    /// Rows of the batch.
    pub anchors: usize,
    /// Rows of the memory that are in use.
    pub rows: usize,
    /// Length of an embedding.
    pub dim: usize,
}

/// Which memory rows are an anchor itself and therefore no pair at all.
#[derive(Debug)]
pub enum SelfPairMask<'a, B: Storage> {
    /// No row.
    None,
    /// One memory row per anchor, or -1.
    Slot(IntegersIn<'a, B>),
    /// Every memory row with the anchor's instance id.
    Instance {
        /// `(anchors)`.
        anchors: IntegersIn<'a, B>,
        /// `(rows)`.
        rows: IntegersIn<'a, B>,
    },
}

/// Soft labels, for [`crate::loss::Soft`]. An index outside the labels, such as -1, has none, and its negatives their whole weight.
#[derive(Debug)]
pub struct SoftLabels<'a, B: Storage> {
    /// `(labels)`.
    pub labels: In<'a, B>,
    /// `(anchors)`: index of each anchor's label.
    pub anchors: IntegersIn<'a, B>,
    /// `(rows)`: index of each memory row's label.
    pub rows: IntegersIn<'a, B>,
}

/// What anchors are compared with: `(rows, dim)`.
#[derive(Debug)]
pub enum CompareWith<'a, B: Storage> {
    /// Numbers like the anchors'.
    Numbers(In<'a, B>),
    /// Rows of an embedding memory.
    Stored(RowsIn<'a, B>),
}

/// What the loss reads. Embeddings are unit rows.
#[derive(Debug)]
pub struct PairLossInputs<'a, B: Storage> {
    /// `(anchors, dim)`.
    pub anchors: In<'a, B>,
    /// `(anchors)`.
    pub anchor_labels: IntegersIn<'a, B>,
    /// `(rows, dim)`.
    pub memory: CompareWith<'a, B>,
    /// `(rows)`.
    pub memory_labels: IntegersIn<'a, B>,
    /// Pairs of an image with itself.
    pub self_pairs: SelfPairMask<'a, B>,
    /// Needed where the weighting has [`crate::loss::Side::soft`].
    pub soft: Option<SoftLabels<'a, B>>,
}

/// What the loss writes.
#[derive(Debug)]
pub struct PairLossOutputs<'a, B: Storage> {
    /// `(anchors, dim)`: gradient of `scale * sum of row losses` with respect to the anchors.
    pub gradient: Out<'a, B>,
    /// `(anchors)`: unscaled loss of each row.
    pub row_losses: Out<'a, B>,
    /// `(anchors, 2)`: positives and negatives with a weight other than zero.
    pub kept: IntegersOut<'a, B>,
}

/// One pair loss: what is compared, how its pairs are weighed, and where the results go.
#[derive(Debug)]
pub struct PairLossCall<'a, B: Storage> {
    /// Sizes.
    pub geometry: PairLossGeometry,
    /// Weights of the pairs.
    pub weighting: &'a ValidWeighting,
    /// Factor of the gradient.
    pub scale: f32,
    /// Whether the gradient is added to what its buffer holds.
    pub accumulate: bool,
    /// What is read.
    pub inputs: PairLossInputs<'a, B>,
    /// What is written.
    pub outputs: PairLossOutputs<'a, B>,
}

/// Fails unless everything has the length that the geometry says.
fn check<B: Storage>(geometry: &PairLossGeometry, inputs: &PairLossInputs<'_, B>, outputs: &PairLossOutputs<'_, B>) -> Result<()> {
    let PairLossGeometry { anchors, rows, dim } = *geometry;
    if anchors > 0 && dim == 0 {
        return Err(Error::shape("embedding length", "at least 1", 0));
    }
    expect_len("anchors", anchors * dim, inputs.anchors.len)?;
    expect_len("anchor labels", anchors, inputs.anchor_labels.len)?;
    let numbers = match inputs.memory {
        CompareWith::Numbers(span) => span.len,
        CompareWith::Stored(span) => span.len,
    };
    expect_len("memory", rows * dim, numbers)?;
    expect_len("memory labels", rows, inputs.memory_labels.len)?;
    match inputs.self_pairs {
        SelfPairMask::None => {}
        SelfPairMask::Slot(slots) => expect_len("own slots", anchors, slots.len)?,
        SelfPairMask::Instance { anchors: anchor_ids, rows: row_ids } => {
            expect_len("anchor instance ids", anchors, anchor_ids.len)?;
            expect_len("memory instance ids", rows, row_ids.len)?;
        }
    }
    expect_len("gradient", anchors * dim, outputs.gradient.len)?;
    expect_len("row losses", anchors, outputs.row_losses.len)?;
    expect_len("kept counts", 2 * anchors, outputs.kept.len)
}

/// The soft labels with their rule, where the weighting has one.
fn soft_labels<'a, 'b, B: Storage>(
    geometry: &PairLossGeometry,
    weighting: &PairWeighting,
    soft: Option<&'b SoftLabels<'a, B>>,
) -> Result<Option<(Soft, &'b SoftLabels<'a, B>)>> {
    let Some(rule) = weighting.negative.soft else { return Ok(None) };
    let labels = soft.ok_or_else(|| {
        Error::config("negatives are to be weighed by soft labels, and the data has none; give its csv a column `soft_label`")
    })?;
    expect_len("soft labels of the anchors", geometry.anchors, labels.anchors.len)?;
    expect_len("soft labels of the memory", geometry.rows, labels.rows.len)?;
    Ok(Some((rule, labels)))
}

/// The fused pair loss.
pub trait PairLoss: Storage {
    /// For every anchor `i` and memory row `j` that is not the anchor itself, with similarity `s = f_i . m_j`:
    /// `loss_i = sum_positives L+(s) + sum_negatives L-(s)` and
    /// `gradient_i = scale * (sum_negatives w-(s) m_j - sum_positives w+(s) m_j)`, added to what `gradient` holds when `accumulate`.
    /// Curves, and why `dL/ds = w`, are in [`crate::loss`]. The memory receives no gradient.
    ///
    /// Where the weighting depends on the row, `w` and the loss are those of [`crate::loss::RowNormalizer`], and the memory is gone
    /// through once for each of [`crate::loss::Passes`] before.
    ///
    /// A negative's weight and loss are multiplied by the factor of its soft labels, after everything else.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] on wrong lengths, [`crate::Error::Config`] without soft labels that the weighting needs,
    /// [`crate::Error::NotFinite`] if a similarity is not finite.
    fn pair_loss(&self, call: PairLossCall<'_, Self>) -> Result<()>;

    /// [`PairLoss::pair_loss`] against rows that lie in parts on the ranks of [`Storage::group`]: each passes the same anchors and its own
    /// rows, and gets loss, gradient and counts of all rows. Slots ([`SelfPairMask::Slot`]) are those of its own rows.
    ///
    /// # Errors
    /// Those of [`PairLoss::pair_loss`]; [`crate::Error::Group`] if another rank does not answer.
    fn pair_loss_in_parts(&self, call: PairLossCall<'_, Self>) -> Result<()> {
        if self.group().is_alone() {
            return self.pair_loss(call);
        }
        Err(Error::config("a memory in parts on several ranks is compared with on the CPU only; use --device cpu"))
    }

    /// The same of a batch with itself: memory, its labels and ids are those of the anchors, and both sides of a pair are trained.
    ///
    /// The similarity of a pair stands in the losses of both its rows, so `gradient_i` is `scale * sum_j (w_ij + w_ji) f_j` with the
    /// signs above. A weight that depends on the similarity alone is symmetric, and this is twice the one-sided gradient; a weight
    /// scaled by its row is not, and each pair is weighed by the normalizers of both. A pair is kept where either weight is not zero.
    ///
    /// # Errors
    /// Those of [`PairLoss::pair_loss`]; [`crate::Error::Shape`] if anchors and rows are not the same number.
    fn batch_pair_loss(&self, call: PairLossCall<'_, Self>) -> Result<()>;
}
