// Weights that depend on the row: the device twin of src/weighting/row/, which has the formulas.
//
// A pass over a row leaves SideStatistics of each kind of its pairs; they become the row's RowLaw (in double precision, once a row),
// and the law weighs every pair: offset + scale curve(s), with the logarithm of a normaliser subtracted inside the curve's exponent,
// so that every weight is finite.
#pragma once
#include "weighting.cuh"

enum class Mining : uint32_t { All, Relative, Hardest };

enum class RowScale : uint32_t {
  Sum, Mean, MeanRow, MeanAll, SoftOne, Soft, Joint, Remainder, Contrast, Product, Hinge, Balanced, Triplets
};

struct Side {
  Curve curve;
  Mining mining;
  float margin;     // of relative mining
  RowScale scale;
  float factor;
};
static_assert(sizeof(Side) == sizeof(Curve) + 16, "no padding: the Rust twin is compared by size");

// What a pass over a row found of one kind of its pairs.
struct SideStatistics {
  uint32_t count;   // pairs with a weight
  float hardest;    // smallest similarity of a positive, largest of a negative
  float peak;       // largest exponent; 0 where the curve is no exponential
  float sum, rest;  // of the curve, divided by e^peak; the device leaves the rest at 0
};

struct SideLaw {
  float low, high;      // only pairs between these are mined
  float offset, scale;  // of the weight
  float shift;          // subtracted from the exponent
  float loss;           // factor of the integral
};

struct RowLaw {
  SideLaw positive, negative;
  float constant;       // part of the loss that is no sum over pairs
};

// For the curves that are exponentials of something, its derivative by the similarity; 0 for all others.
DEVICE float curve_rate(const Curve& curve) {
  if (curve.kind == CurveKind::Exponential) return curve.first;
  if (curve.kind == CurveKind::Circle && curve.first != 0.0f) return curve.first < 0.0f ? -1.0f : 1.0f;
  return 0.0f;
}

DEVICE SideStatistics no_statistics(bool positive) { return {0, positive ? infinity() : -infinity(), -infinity(), 0.0f, 0.0f}; }

// Of the pairs of both.
DEVICE SideStatistics plus(const SideStatistics& a, const SideStatistics& b, bool positive) {
  const float peak = fmaxf(a.peak, b.peak);
  const float left = a.peak == peak ? a.sum : a.sum * expf(a.peak - peak), right = b.peak == peak ? b.sum : b.sum * expf(b.peak - peak);
  const float hardest = positive ? fminf(a.hardest, b.hardest) : fmaxf(a.hardest, b.hardest);
  return {a.count + b.count, hardest, peak, left + right, 0.0f};
}

// What a pair adds to the sum of its kind: its exponent, or its weight where there is none. The curves are a call, so that kernels
// stay small.
DEVICE_CALL float statistics_value(const Curve& curve, float s, float shift) {
  return curve_rate(curve) != 0.0f ? curve_exponent(curve, s) : shifted_weight(curve, s, shift);
}

// Takes in one pair, with a running maximum of the exponents.
DEVICE void see(SideStatistics& statistics, const Curve& curve, const SideLaw& law, bool positive, float s) {
  statistics.hardest = positive ? fminf(statistics.hardest, s) : fmaxf(statistics.hardest, s);
  if (!(gate_open(curve, s) && s > law.low && s < law.high)) return;
  const bool exponential = curve_rate(curve) != 0.0f;
  const float value = statistics_value(curve, s, law.shift);
  if (!exponential && value == 0.0f) return;
  const float peak = exponential ? fmaxf(statistics.peak, value) : 0.0f;
  statistics.count++;
  statistics.sum = statistics.sum * expf(statistics.peak - peak) + (exponential ? expf(value - peak) : value);
  statistics.peak = peak;
}

// Area below a shifted sigmoid from where it vanishes: the loss of sides that report tails.
DEVICE float sigmoid_tail(const Curve& curve, float s, float shift) {
  constexpr float SMALLEST = 1.17549435e-38f;
  return softplus(curve_exponent(curve, s) - shift) / fmaxf(fabsf(curve.first), SMALLEST);
}

// Weight and loss of a pair by the law of its row.
DEVICE_CALL Weighed weigh_by_law(const Curve& curve, const SideLaw& law, float s, bool positive, bool tails) {
  if (!(s > law.low && s < law.high)) return {0.0f, 0.0f};
  const float weight = gate_open(curve, s) ? law.offset + law.scale * shifted_weight(curve, s, law.shift) : 0.0f;
  const float integral = tails ? sigmoid_tail(curve, s, law.shift) : pair_integral(curve, s, positive);
  return {weight, law.loss * integral + law.offset * (positive ? 1.0f - s : 1.0f + s)};
}
