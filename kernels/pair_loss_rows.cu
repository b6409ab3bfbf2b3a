// The row-wise companions of pair_loss: add the partial sums of the splits, turn row statistics into scales and gates, and weigh a
// stored chunk of similarities for lengths that the fused kernel does not take.
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
  if (params.unit) {
    for (uint32_t i = thread_index(); i < params.dim; i += THREADS) along += params.unit[start + i] * split_sum(params, row, i);
    along = block_sum(along, reinterpret_cast<float*>(shared));
    inverse_norm = 1.0f / fmaxf(params.norms[row], SMALLEST_NORM);
  }
  for (uint32_t i = thread_index(); i < params.dim; i += THREADS) {
    float value = split_sum(params, row, i);
    if (params.unit) value = (value - params.unit[start + i] * along) * inverse_norm;
    params.gradient[start + i] = params.accumulate ? params.gradient[start + i] + value : value;
  }
  if (thread_index() != 0) return;
  float loss = 0.0f;
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

// How the weights of a row are scaled, from the sums of a first pass.
enum class Aggregation : uint32_t {
  Sum,           // 1
  MeanOfKind,    // 1 / kept pairs of the kind
  MeanOfRow,     // 1 / kept pairs of the row
  SoftWithOne,   // 1 / (1 + sum of the kind's weights)
  Soft,          // 1 / sum of the kind's weights
  JointSoft,     // 1 / sum of the row's weights
};

struct PairScalesParams {
  const float* statistics;  // (splits, anchors, 4)
  const int32_t* kept;      // (splits, anchors, 2)
  float* row_scales;        // or null: (anchors, 2)
  float* row_gates;         // or null: (anchors, 2)
  uint32_t anchors, splits;
  Aggregation aggregation;
  float margin;             // of relative mining: positives below the hardest negative + margin, negatives above ... - margin
};

DEVICE float inverse_or_zero(float value) { return value > 0.0f ? 1.0f / value : 0.0f; }

DEVICE float scale_of(Aggregation aggregation, float kind_kept, float row_kept, float kind_weight, float row_weight) {
  switch (aggregation) {
    case Aggregation::Sum: return 1.0f;
    case Aggregation::MeanOfKind: return inverse_or_zero(kind_kept);
    case Aggregation::MeanOfRow: return inverse_or_zero(row_kept);
    case Aggregation::SoftWithOne: return 1.0f / (1.0f + kind_weight);
    case Aggregation::Soft: return inverse_or_zero(kind_weight);
    case Aggregation::JointSoft: return inverse_or_zero(row_weight);
  }
  return 1.0f;
}

KERNEL(pair_scales, PairScalesParams, THREADS) {
  const uint32_t row = block_x() * THREADS + thread_index();
  if (row >= params.anchors) return;
  float positive = 0.0f, negative = 0.0f, hardest_positive = infinity(), hardest_negative = -infinity(), positives = 0.0f, negatives = 0.0f;
  for (uint32_t split = 0; split < params.splits; split++) {
    const uint64_t at = uint64_t(split) * params.anchors + row;
    positive += params.statistics[4 * at];
    negative += params.statistics[4 * at + 1];
    hardest_positive = fminf(hardest_positive, params.statistics[4 * at + 2]);
    hardest_negative = fmaxf(hardest_negative, params.statistics[4 * at + 3]);
    positives += float(params.kept[2 * at]);
    negatives += float(params.kept[2 * at + 1]);
  }
  if (params.row_scales) {
    const float kept = positives + negatives, weight = positive + negative;
    params.row_scales[2 * row] = scale_of(params.aggregation, positives, kept, positive, weight);
    params.row_scales[2 * row + 1] = scale_of(params.aggregation, negatives, kept, negative, weight);
  }
  if (params.row_gates) {
    params.row_gates[2 * row] = hardest_negative + params.margin;
    params.row_gates[2 * row + 1] = hardest_positive - params.margin;
  }
}

struct PairWeightsParams {
  PairRows rows;
  const float* similarities;  // (anchors, columns) of the memory rows from `first_row` on
  void* weights;              // (anchors, columns)
  float* row_losses;          // (anchors), added to unless `first_chunk`
  int32_t* kept;              // (anchors, 2), the same
  uint32_t first_row, columns, first_chunk, padding;
};

template <class T>
DEVICE void pair_weights(const PairWeightsParams& params) {
  SHARED_MEMORY(shared);
  const uint32_t row = block_x(), in_use = rows_in_use(params.rows);
  const AnchorRow anchor = read_anchor(params.rows, row);
  RowSums sums;
  for (uint32_t column = thread_index(); column < params.columns; column += THREADS) {
    const uint64_t at = uint64_t(row) * params.columns + column;
    const uint32_t other = params.first_row + column;
    float weight = 0.0f;
    if (other < in_use) {
      const bool same_instance = params.rows.memory_instances && params.rows.memory_instances[other] == anchor.instance;
      const bool positive = params.rows.memory_labels[other] == anchor.label;
      if (is_pair(anchor, other, same_instance)) weight = weigh(params.rows, anchor, positive, params.similarities[at], sums);
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
  const float* similarities;
  float* results;  // (count, 3): weight, loss as positive, loss as negative
  uint32_t count, padding;
};

KERNEL(weigh_each, WeighParams, THREADS) {
  const uint32_t i = block_x() * THREADS + thread_index();
  if (i >= params.count) return;
  const Weighed positive = weigh_pair(params.curve, params.similarities[i], true);
  const Weighed negative = weigh_pair(params.curve, params.similarities[i], false);
  params.results[3 * i] = positive.weight != 0.0f ? positive.weight : negative.weight;
  params.results[3 * i + 1] = positive.loss;
  params.results[3 * i + 2] = negative.loss;
}
