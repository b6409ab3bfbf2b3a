// The row-wise companions of pair_loss: add the partial sums of the splits, and weigh a stored chunk of similarities for lengths that the
// fused kernel does not take.
//
// pair_loss_combine adds splits in their order, scales, adds to what is there if asked, and pulls the gradient back through the L2
// normalisation, so the unnormalised gradient is never stored. Bound: splits anchors dim 4 bytes, launch latency for one split.
// pair_weights is the middle of the unfused path: matrix product, this kernel, matrix product over chunks of the memory that stay in
// second-level cache; it reads 4 bytes and writes 2 for each pair. One block owns a row throughout, so the order of sums is fixed.
#include "pair_row.cuh"

constexpr unsigned THREADS = 128;
constexpr float SMALLEST_NORM = 1e-12f;

struct PairLossCombineParams {
  const float* gradients;  // (splits, anchors, dim)
  const float* losses;     // (splits, anchors)
  const int32_t* kept;     // (splits, anchors, 2)
  const float* unit;       // or null: (anchors, dim) unit rows, then the gradient is that of the rows before normalisation
  const float* norms;      // (anchors), read with `unit`
  const RowLaw* row_laws;  // or null: (anchors), with parts of the losses that are no sums over pairs
  float* gradient;         // (anchors, dim)
  float* row_losses;       // (anchors)
  int32_t* row_kept;       // (anchors, 2)
  uint32_t anchors, dim, splits, accumulate;
  float scale;
  uint32_t padding;
};

DEVICE float split_sum(const PairLossCombineParams& params, uint32_t row, uint32_t column) {
  float sum = 0.0f;
  for (uint32_t split = 0; split < params.splits; split++) {
    sum += params.gradients[(uint64_t(split) * params.anchors + row) * params.dim + column];
  }
  return sum * params.scale;
}

KERNEL(pair_loss_combine, PairLossCombineParams, THREADS) {
  SHARED_MEMORY(shared);
  const uint32_t row = block_x();
  const uint64_t start = uint64_t(row) * params.dim;
  float along = 0.0f, inverse_norm = 1.0f;
  bool short_row = false;
  if (params.unit) {
    for (uint32_t i = thread_index(); i < params.dim; i += THREADS) along += params.unit[start + i] * split_sum(params, row, i);
    along = block_sum(along, reinterpret_cast<float*>(shared));
    // A row shorter than this has no direction, hence no gradient: as in l2_normalize.cu.
    short_row = params.norms[row] < SMALLEST_NORM;
    inverse_norm = 1.0f / params.norms[row];
  }
  for (uint32_t i = thread_index(); i < params.dim; i += THREADS) {
    float value = split_sum(params, row, i);
    if (params.unit) value = short_row ? 0.0f : (value - params.unit[start + i] * along) * inverse_norm;
    params.gradient[start + i] = params.accumulate ? params.gradient[start + i] + value : value;
  }
  if (thread_index() != 0) return;
  float loss = params.row_laws ? params.row_laws[row].constant : 0.0f;
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

struct PairWeightsParams {
  PairRows rows;
  const float* similarities;  // (anchors, columns) of the memory rows from `first_row` on
  void* weights;              // (anchors, columns)
  float* row_losses;          // (anchors), added to unless `first_chunk`
  int32_t* kept;              // (anchors, 2), the same
  uint32_t first_row, columns, first_chunk;
  uint32_t first_anchor;      // the anchor of the first row of similarities; the other buffers hold all anchors
};

template <class T>
DEVICE void pair_weights(const PairWeightsParams& params) {
  SHARED_MEMORY(shared);
  const uint32_t row = params.first_anchor + block_x(), in_use = rows_in_use(params.rows);
  const AnchorRow anchor = read_anchor(params.rows, row);
  RowSums sums;
  for (uint32_t column = thread_index(); column < params.columns; column += THREADS) {
    const uint64_t at = uint64_t(block_x()) * params.columns + column;
    const uint32_t other = params.first_row + column;
    float weight = 0.0f;
    if (other < in_use) {
      const bool same_instance = params.rows.memory_instances && params.rows.memory_instances[other] == anchor.instance;
      const bool positive = params.rows.memory_labels[other] == anchor.label;
      if (is_pair(anchor, other, same_instance)) weight = weigh(params.rows, anchor, other, positive, params.similarities[at], sums);
    }
    static_cast<T*>(params.weights)[at] = from_float<T>(weight);
  }
  const float loss = block_sum(sums.loss, reinterpret_cast<float*>(shared));
  const int32_t positives = block_sum(sums.positives, reinterpret_cast<int32_t*>(shared));
  const int32_t negatives = block_sum(sums.negatives, reinterpret_cast<int32_t*>(shared));
  if (thread_index() != 0) return;
  params.row_losses[row] = params.first_chunk ? loss : params.row_losses[row] + loss;
  params.kept[2 * row] = params.first_chunk ? positives : params.kept[2 * row] + positives;
  params.kept[2 * row + 1] = params.first_chunk ? negatives : params.kept[2 * row + 1] + negatives;
}

KERNEL(pair_weights_f32, PairWeightsParams, THREADS) { pair_weights<float>(params); }
KERNEL(pair_weights_f16, PairWeightsParams, THREADS) { pair_weights<Half>(params); }
KERNEL(pair_weights_bf16, PairWeightsParams, THREADS) { pair_weights<Bfloat>(params); }

// The curves alone, for the comparison with src/weighting.rs: weight and loss at each similarity, as positive and as negative pair.
struct WeighParams {
  Curve curve;
  const SideLaw* law;  // or null: the law that the pairs are weighed by
  const float* similarities;
  float* results;      // (count, 3): weight, loss as positive, loss as negative
  uint32_t count, tails;
};

DEVICE Weighed weigh_one(const WeighParams& params, float s, bool positive) {
  return params.law ? weigh_by_law(params.curve, *params.law, s, positive, params.tails) : weigh_pair(params.curve, s, positive);
}

KERNEL(weigh_each, WeighParams, THREADS) {
  const uint32_t i = block_x() * THREADS + thread_index();
  if (i >= params.count) return;
  const Weighed positive = weigh_one(params, params.similarities[i], true), negative = weigh_one(params, params.similarities[i], false);
  params.results[3 * i] = positive.weight != 0.0f ? positive.weight : negative.weight;
  params.results[3 * i + 1] = positive.loss;
  params.results[3 * i + 2] = negative.loss;
}
