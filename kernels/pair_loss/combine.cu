// Adds the partial sums of the splits of the memory: the pass after fused.cu, row by row.
//
// Parts are added in their order, scaled, and added to what is there if asked. A thread owns a column of a row, or the sums of a row, so
// the order of sums is fixed. The parts of the gradient are the splits of fused.cu; the sums of a row have parts of their own, as the
// unfused path takes a row in more pieces than it has gradients.
// Range: any number of anchors, parts and columns. Bound: parts anchors dim 4 bytes, or launch latency.
#include "row.cuh"

constexpr unsigned THREADS = 128;

struct CombineParams {
  const float* gradients;                // (splits, anchors, dim)
  const float* losses;                   // (loss_parts, anchors)
  const int32_t* kept;                   // (kept_parts, anchors, 2)
  const RowNormalizer* row_normalizers;  // or null: (anchors), with parts of the losses that are no sums over pairs
  float* gradient;                       // (anchors, dim)
  float* row_losses;                     // (anchors)
  int32_t* row_kept;                     // (anchors, 2)
  uint32_t anchors, dim, splits, accumulate;
  float scale;
  uint32_t loss_parts, kept_parts, padding;
};

// Several parts are on their way at a time, and added one after the other.
template <class T>
DEVICE T sum_of_parts(const T* first, uint64_t stride, uint32_t parts) {
  constexpr uint32_t AT_A_TIME = 8;
  T sum = 0;
  uint32_t part = 0;
  for (; part + AT_A_TIME <= parts; part += AT_A_TIME) {
    T values[AT_A_TIME];
    UNROLL
    for (uint32_t i = 0; i < AT_A_TIME; i++) values[i] = first[(part + i) * stride];
    UNROLL
    for (uint32_t i = 0; i < AT_A_TIME; i++) sum += values[i];
  }
  for (; part < parts; part++) sum += first[part * stride];
  return sum;
}

// Blocks along x take the anchors, along y THREADS columns each.
KERNEL(pair_loss_combine, CombineParams, THREADS) {
  const uint32_t row = block_x(), column = block_y() * THREADS + thread_index();
  if (column < params.dim) {
    const uint64_t at = uint64_t(row) * params.dim + column;
    const float value = sum_of_parts(params.gradients + at, uint64_t(params.anchors) * params.dim, params.splits) * params.scale;
    params.gradient[at] = params.accumulate ? params.gradient[at] + value : value;
  }
  if (block_y() != 0) return;
  // Three threads of different warps, so that none waits for another.
  if (thread_index() == 0) {
    const float constant = params.row_normalizers ? params.row_normalizers[row].constant : 0.0f;
    params.row_losses[row] = constant + sum_of_parts(params.losses + row, params.anchors, params.loss_parts);
  }
  for (uint32_t kind = 0; kind < 2; kind++) {
    if (thread_index() != WARP_SIZE * (kind + 1)) continue;
    params.row_kept[2 * row + kind] = sum_of_parts(params.kept + 2 * row + kind, 2 * uint64_t(params.anchors), params.kept_parts);
  }
}
