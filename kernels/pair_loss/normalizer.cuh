// Weights that depend on the row: the device twin of src/loss/normalizer/, which has the formulas.
//
// A pass over a row leaves SideStatistics of each kind of its pairs; they become the row's RowNormalizer (in double precision, once a
// row), and the normalizer weighs every pair: offset + scale curve(s), with the logarithm of the denominator subtracted inside the
// curve's exponent, so that every weight is finite.
#pragma once
#include "weighting.cuh"

enum class Mining : uint32_t { All, Relative, Hardest };

enum class Normalization : uint32_t {
  Sum, Mean, MeanRow, MeanAll, SoftmaxPlusOne, Softmax, SoftmaxAll, Remainder, Contrast, Product, Hinge, Balanced, Triplets
};

struct SideParams {
  CurveParams curve;
  Mining mining;
  float margin;     // of relative mining
  Normalization scale;
  float factor;
};

// What a pass over a row found of one kind of its pairs.
struct SideStatistics {
  uint32_t count;   // pairs with a weight
  float hardest;    // smallest similarity of a positive, largest of a negative
  float row_max;    // largest exponent; 0 where the curve is no exponential
  float sum_exp;    // sum of the curve, divided by e^row_max
  float sum_exp_low;  // what single precision rounds off it; the device leaves it at 0
};

struct SideNormalizer {
  float low, high;      // only pairs between these are mined
  float offset, scale;  // of the weight
  float shift;          // subtracted from the exponent
  float loss;           // factor of the integral
};

struct RowNormalizer {
  SideNormalizer positive, negative;
  float constant;       // part of the loss that is no sum over pairs
};

// For the curves that are exponentials of something, its derivative by the similarity; 0 for all others.
DEVICE float curve_rate(const CurveParams& curve) {
  if (curve.kind == CurveKind::Exponential) return curve.first;
  if (curve.kind == CurveKind::Circle && curve.first != 0.0f) return curve.first < 0.0f ? -1.0f : 1.0f;
  return 0.0f;
}

DEVICE SideStatistics no_statistics(bool positive) { return {0, positive ? infinity() : -infinity(), -infinity(), 0.0f, 0.0f}; }

// Of the pairs of both.
DEVICE SideStatistics plus(const SideStatistics& a, const SideStatistics& b, bool positive) {
  const float row_max = fmaxf(a.row_max, b.row_max);
  const float left = a.row_max == row_max ? a.sum_exp : a.sum_exp * expf(a.row_max - row_max);
  const float right = b.row_max == row_max ? b.sum_exp : b.sum_exp * expf(b.row_max - row_max);
  const float hardest = positive ? fminf(a.hardest, b.hardest) : fmaxf(a.hardest, b.hardest);
  return {a.count + b.count, hardest, row_max, left + right, 0.0f};
}

// What a pair adds to the sum of its kind: its exponent, or its weight where there is none. The curves are a call, so that kernels
// stay small.
DEVICE_CALL float statistics_value(const CurveParams& curve, float s, float shift) {
  return curve_rate(curve) != 0.0f ? curve_exponent(curve, s) : shifted_weight(curve, s, shift);
}

// Adds one pair, with a running maximum of the exponents: the online softmax.
DEVICE void accumulate(SideStatistics& statistics, const CurveParams& curve, const SideNormalizer& normalizer, bool positive, float s) {
  statistics.hardest = positive ? fminf(statistics.hardest, s) : fmaxf(statistics.hardest, s);
  if (!(gate_open(curve, s) && s > normalizer.low && s < normalizer.high)) return;
  const bool exponential = curve_rate(curve) != 0.0f;
  const float value = statistics_value(curve, s, normalizer.shift);
  if (!exponential && value == 0.0f) return;
  const float row_max = exponential ? fmaxf(statistics.row_max, value) : 0.0f;
  statistics.count++;
  statistics.sum_exp = statistics.sum_exp * expf(statistics.row_max - row_max) + (exponential ? expf(value - row_max) : value);
  statistics.row_max = row_max;
}

// Area below a shifted sigmoid from where it vanishes: the loss of sides that report tails.
DEVICE float sigmoid_tail(const CurveParams& curve, float s, float shift) {
  constexpr float SMALLEST = 1.17549435e-38f;
  return softplus(curve_exponent(curve, s) - shift) / fmaxf(fabsf(curve.first), SMALLEST);
}

// Weight and loss of a pair by the normalizer of its row.
DEVICE Weighed weigh_normalized(const CurveParams& curve, const SideNormalizer& normalizer, float s, bool positive, bool tails) {
  if (!(s > normalizer.low && s < normalizer.high)) return {0.0f, 0.0f};
  const float weight = gate_open(curve, s) ? normalizer.offset + normalizer.scale * shifted_weight(curve, s, normalizer.shift) : 0.0f;
  const float integral = tails ? sigmoid_tail(curve, s, normalizer.shift) : pair_integral(curve, s, positive);
  return {weight, normalizer.loss * integral + normalizer.offset * (positive ? 1.0f - s : 1.0f + s)};
}
