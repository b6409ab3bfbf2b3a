// One anchor's pairs: what is known of the row, the signed weight of a pair, and the sums over the row.
#pragma once
#include "normalizer.cuh"

// What is read of each anchor and memory row beside the embeddings, and the curves: common to the fused and the unfused path.
struct PairRows {
  const int32_t* anchor_labels;
  const int32_t* memory_labels;
  const int32_t* own_slots;         // or null: the memory row that is the anchor itself, or -1
  const int32_t* anchor_instances;  // or null: with memory_instances, every row of the anchor's instance is left out; no own slots then
  const int32_t* memory_instances;
  const float* soft_labels;         // or null; then the two below are not read
  const int32_t* anchor_soft;       // index of each anchor's soft label; outside the labels it has none
  const int32_t* memory_soft;
  const uint32_t* count;            // or null: memory rows in use, at most `rows`
  const RowNormalizer* row_normalizers;  // or null, where a weight depends on its similarity alone: (anchors)
  uint32_t anchor_count, rows;
  uint32_t positive_tails, negative_tails;  // whether a side's loss is the tail of its sigmoid
  float soft_width, soft_least;     // a negative weighs least at equal soft labels, and fully where they differ by the width
  uint32_t soft_count, padding;
  CurveParams positive, negative;
};
static_assert(sizeof(PairRows) % 8 == 0, "may be followed by pointers");

// What a thread knows of the rows its accumulators belong to.
struct AnchorRow {
  bool valid;
  int32_t label, own_slot, instance;
  uint32_t row;
};

// Sums of one row over the columns a thread has seen.
struct RowSums {
  float loss = 0.0f;
  int32_t positives = 0, negatives = 0;
};

DEVICE AnchorRow read_anchor(const PairRows& params, uint32_t row) {
  AnchorRow anchor{row < params.anchor_count, 0, -1, -1, row};
  if (!anchor.valid) return anchor;
  anchor.label = params.anchor_labels[row];
  if (params.own_slots) anchor.own_slot = params.own_slots[row];
  if (params.anchor_instances) anchor.instance = params.anchor_instances[row];
  return anchor;
}

DEVICE uint32_t rows_in_use(const PairRows& params) { return params.count ? *params.count : params.rows; }

// Whether anchor and memory row are a pair at all: not the same image.
DEVICE bool is_pair(const AnchorRow& anchor, uint32_t row, bool same_instance) {
  return anchor.valid && !same_instance && int32_t(row) != anchor.own_slot;
}

// What the soft labels of a negative leave of its weight.
DEVICE float soft_factor(const PairRows& params, uint32_t anchor, uint32_t row) {
  if (!params.soft_labels) return 1.0f;
  const uint32_t mine = uint32_t(params.anchor_soft[anchor]), other = uint32_t(params.memory_soft[row]);
  if (mine >= params.soft_count || other >= params.soft_count) return 1.0f;
  const float apart = fabsf(params.soft_labels[mine] - params.soft_labels[other]) / params.soft_width;
  return params.soft_least + (1.0f - params.soft_least) * fminf(apart, 1.0f);
}

// Weight and loss of a pair; none for an anchor that there is not. A call, so that kernels stay small.
DEVICE_CALL Weighed weigh_pair_of_row(const PairRows& params, uint32_t anchor, uint32_t row, bool positive, float s) {
  if (anchor >= params.anchor_count) return {0.0f, 0.0f};
  const CurveParams& curve = positive ? params.positive : params.negative;
  Weighed pair;
  if (params.row_normalizers) {
    const RowNormalizer& normalizer = params.row_normalizers[anchor];
    pair = weigh_normalized(curve, positive ? normalizer.positive : normalizer.negative, s, positive,
                            positive ? params.positive_tails : params.negative_tails);
  } else {
    pair = weigh_pair(curve, s, positive);
  }
  // A similarity that is not finite must not pass unseen through a gate.
  pair.loss += s * 0.0f;
  if (!params.soft_labels || positive) return pair;
  const float factor = soft_factor(params, anchor, row);
  return {factor * pair.weight, factor * pair.loss};
}

// The signed weight of a pair, what its memory row contributes to the gradient of the anchor, after adding it to the sums of its row.
DEVICE float add_pair(RowSums& sums, bool positive, const Weighed& pair) {
  sums.positives += positive && pair.weight != 0.0f;
  sums.negatives += !positive && pair.weight != 0.0f;
  sums.loss += pair.loss;
  return positive ? -pair.weight : pair.weight;
}

// One side of a weighting whose curve is constant and whose pairs depend on nothing but their similarity: the signed weight of pairs
// from `least` to `largest`, the numbers next to the gate. The loss is the weight times the distance from `zero`, which is one of them
// where the gate is closed to what weighs nothing.
struct ConstantSide {
  float weight, least, largest, zero;

  DEVICE ConstantSide(const CurveParams& curve, bool positive)
      : weight(positive ? -curve.first : curve.first), least(next_above(curve.gate_low)), largest(next_below(curve.gate_high)),
        zero(positive ? fminf(largest, 1.0f) : fmaxf(least, -1.0f)) {}

  // Adds a pair to the sums of its row, and says whether it has a weight, if weights of this side are not 0. A similarity that is not
  // finite is for the caller to see.
  DEVICE bool add(bool pair, float s, int32_t& count, float& loss) const {
    const float at = fminf(fmaxf(s, least), largest);
    const bool kept = pair & (at == s);
    loss += pair ? weight * (at - zero) : 0.0f;
    count += kept;
    return kept;
  }
  // Pairs of weight 0 are not kept.
  DEVICE int32_t kept(int32_t count) const { return weight == 0.0f ? 0 : count; }
};
