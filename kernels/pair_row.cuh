// One anchor's pairs: what is known of the row, the signed weight of a pair, and the sums over the row.
#pragma once
#include "weighting.cuh"

// What is read of each anchor and memory row beside the embeddings, and the curves: common to the fused and the unfused path.
struct PairRows {
  const int32_t* anchor_labels;
  const int32_t* memory_labels;
  const int32_t* own_slots;         // or null: the memory row that is the anchor itself, or -1
  const int32_t* anchor_instances;  // or null: with memory_instances, every row of the anchor's instance is left out
  const int32_t* memory_instances;
  const uint32_t* count;            // or null: memory rows in use, at most `rows`
  const float* row_scales;          // or null: (anchors, 2) factors on the positive and negative weights of a row
  const float* row_gates;           // or null: (anchors, 2) positives below the first and negatives above the second are kept
  uint32_t anchor_count, rows;
  Curve positive, negative;
};
static_assert(sizeof(PairRows) % 8 == 0, "may be followed by pointers");

// What a thread knows of the two rows its accumulators belong to.
struct AnchorRow {
  bool valid;
  int32_t label, own_slot, instance;
  float positive_scale, negative_scale, positive_gate, negative_gate;
};

// Sums of one row over the columns a thread has seen.
struct RowSums {
  float loss = 0.0f;
  int32_t positives = 0, negatives = 0;
  float positive_weight = 0.0f, negative_weight = 0.0f;
  float hardest_positive = infinity(), hardest_negative = -infinity();
};

DEVICE AnchorRow read_anchor(const PairRows& params, uint32_t row) {
  AnchorRow anchor{row < params.anchor_count, 0, -1, -1, 1.0f, 1.0f, infinity(), -infinity()};
  if (!anchor.valid) return anchor;
  anchor.label = params.anchor_labels[row];
  if (params.own_slots) anchor.own_slot = params.own_slots[row];
  if (params.anchor_instances) anchor.instance = params.anchor_instances[row];
  if (params.row_scales) {
    anchor.positive_scale = params.row_scales[2 * row];
    anchor.negative_scale = params.row_scales[2 * row + 1];
  }
  if (params.row_gates) {
    anchor.positive_gate = params.row_gates[2 * row];
    anchor.negative_gate = params.row_gates[2 * row + 1];
  }
  return anchor;
}

DEVICE uint32_t rows_in_use(const PairRows& params) { return params.count ? *params.count : params.rows; }

// Whether anchor and memory row are a pair at all: not the same image.
DEVICE bool is_pair(const AnchorRow& anchor, uint32_t row, bool same_instance) {
  return anchor.valid && !same_instance && int32_t(row) != anchor.own_slot;
}

// The signed weight of a pair: what its memory row contributes to the gradient of the anchor.
DEVICE float weigh(const PairRows& params, const AnchorRow& anchor, bool positive, float s, RowSums& sums) {
  sums.loss += s * 0.0f;  // a similarity that is not finite must not pass unseen through a gate
  sums.hardest_positive = positive ? fminf(sums.hardest_positive, s) : sums.hardest_positive;
  sums.hardest_negative = positive ? sums.hardest_negative : fmaxf(sums.hardest_negative, s);
  const bool mined = positive ? s < anchor.positive_gate : s > anchor.negative_gate;
  const Weighed pair = weigh_pair(positive ? params.positive : params.negative, s, positive);
  const float scale = positive ? anchor.positive_scale : anchor.negative_scale, weight = scale * pair.weight;
  if (!mined) return 0.0f;
  sums.positives += positive && weight != 0.0f;
  sums.negatives += !positive && weight != 0.0f;
  sums.positive_weight += positive ? weight : 0.0f;
  sums.negative_weight += positive ? 0.0f : weight;
  sums.loss += scale * pair.loss;
  return positive ? -weight : weight;
}
