// Adds the partial sums of the splits of the memory: the pass after fused.cu, row by row.
//
// Splits are added in their order, scaled, and added to what is there if asked. One block owns a row, so the order of sums is fixed.
// Range: any number of anchors, splits and columns. Bound: splits anchors dim 4 bytes, launch latency for one split.
#include "row.cuh"

constexpr unsigned THREADS = 128;

struct CombineParams {
  const float* gradients;                // (splits, anchors, dim)
  const float* losses;                   // (splits, anchors)
  const int32_t* kept;                   // (splits, anchors, 2)
  const RowNormalizer* row_normalizers;  // or null: (anchors), with parts of the losses that are no sums over pairs
  float* gradient;                       // (anchors, dim)
  float* row_losses;                     // (anchors)
  int32_t* row_kept;                     // (anchors, 2)
  uint32_t anchors, dim, splits, accumulate;
  float scale;
  uint32_t padding;
};

DEVICE float split_sum(const CombineParams& params, uint32_t row, uint32_t column) {
  float sum = 0.0f;
  for (uint32_t split = 0; split < params.splits; split++) {
    sum += params.gradients[(uint64_t(split) * params.anchors + row) * params.dim + column];
  }
  return sum * params.scale;
}

// Loss and numbers of pairs of a row, by one thread.
DEVICE void combine_sums(const CombineParams& params, uint32_t row) {
  float loss = params.row_normalizers ? params.row_normalizers[row].constant : 0.0f;
  int32_t positives = 0, negatives = 0;
  for (uint32_t split = 0; split < params.splits; split++) {
    const uint64_t at = uint64_t(split) * params.anchors + row;
    loss += params.losses[at];
    positives += params.kept[2 * at];
    negatives += params.kept[2 * at + 1];
  }
  params.row_losses[row] = loss;
  params.row_kept[2 * row] = positives;
  params.row_kept[2 * row + 1] = negatives;
}

KERNEL(pair_loss_combine, CombineParams, THREADS) {
  const uint32_t row = block_x();
  const uint64_t start = uint64_t(row) * params.dim;
  for (uint32_t i = thread_index(); i < params.dim; i += THREADS) {
    const float value = split_sum(params, row, i);
    params.gradient[start + i] = params.accumulate ? params.gradient[start + i] + value : value;
  }
  if (thread_index() == 0) combine_sums(params, row);
}
