// Weight curves of pairs: the device twin of src/loss/, where they are defined and their integrals derived.
//
// weight(s) is w = |dL/ds| of a pair of similarity s; the loss is its integral, from s to 1 for positives and from -1 to s for
// negatives. A gate is an open interval outside of which the weight is 0. Every result is finite for s in [-1, 1].
#pragma once
#include "../device/device.cuh"

enum class CurveKind : uint32_t { Constant, Linear, Power, Exponential, Sigmoid, Band, Table, Circle };

constexpr uint32_t MAX_KNOTS = 16;

struct CurveParams {
  CurveKind kind;
  float first, second;          // the curve's parameters, in the order of the Rust variant
  float gate_low, gate_high;    // weights are zero outside the open interval
  uint32_t knots;               // of a table; at least 1
  float knot_s[MAX_KNOTS];
  float knot_weight[MAX_KNOTS];
};

// e^11 is the last power of e below the largest 16-bit float.
constexpr float LARGEST_EXPONENT = 11.0f;

DEVICE float clamped(float value, float low, float high) { return fminf(fmaxf(value, low), high); }
DEVICE float power_curve(float x, float p) { return x > 0.0f ? powf(x, p) : 0.0f; }
DEVICE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
// ln(1 + e^x).
DEVICE float softplus(float x) { return fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x))); }
// (1 - e^-x) / x for x >= 0.
DEVICE float mean_of_decay(float x) { return x > 0.0f ? -expm1f(-x) / x : 1.0f; }

// Area below e^(k x) clipped at e^11: the part below the clip, from its larger end so that nothing overflows, then a rectangle.
DEVICE float exponential_area(float k, float from, float to) {
  const float clip = k == 0.0f ? infinity() : LARGEST_EXPONENT / k;
  const float low = k < 0.0f ? fmaxf(from, clip) : fminf(from, clip);
  const float high = k < 0.0f ? fmaxf(to, clip) : fminf(to, clip);
  const float curved = (high - low) * expf(fmaxf(k * low, k * high)) * mean_of_decay(fabsf(k * high - k * low));
  return curved + expf(LARGEST_EXPONENT) * ((to - high) - (from - low));
}

// Area below 1 / (1 + e^(-k x)); flat curves by Gauss's three points, as the difference of two softplus would cancel.
DEVICE float sigmoid_area(float k, float from, float to) {
  constexpr float FLAT = 0.25f, GAUSS_POINT = 0.7745966692f;
  if (fabsf(k) >= FLAT) return (softplus(k * to) - softplus(k * from)) / k;
  const float middle = 0.5f * (from + to), half_width = 0.5f * (to - from);
  const float outer = sigmoid(k * (middle - half_width * GAUSS_POINT)) + sigmoid(k * (middle + half_width * GAUSS_POINT));
  return half_width * (5.0f * outer + 8.0f * sigmoid(k * middle)) / 9.0f;
}

DEVICE float table_slope(const CurveParams& curve, uint32_t knot) {
  if (knot + 1 >= curve.knots) return 0.0f;
  return (curve.knot_weight[knot + 1] - curve.knot_weight[knot]) / (curve.knot_s[knot + 1] - curve.knot_s[knot]);
}

DEVICE float table_weight(const CurveParams& curve, float s) {
  float weight = curve.knot_weight[0];
  for (uint32_t knot = 0; knot < curve.knots && s >= curve.knot_s[knot]; knot++) {
    weight = curve.knot_weight[knot] + table_slope(curve, knot) * (s - curve.knot_s[knot]);
  }
  return weight;
}

// Area from the first knot to s.
DEVICE float table_area(const CurveParams& curve, float s) {
  float area = curve.knot_weight[0] * (s - curve.knot_s[0]), before = 0.0f;
  for (uint32_t knot = 0; knot < curve.knots && s >= curve.knot_s[knot]; knot++) {
    const float slope = table_slope(curve, knot), weight = curve.knot_weight[knot], beyond = s - curve.knot_s[knot];
    area = before + beyond * (weight + 0.5f * slope * beyond);
    if (knot + 1 < curve.knots) {
      const float width = curve.knot_s[knot + 1] - curve.knot_s[knot];
      before += width * (weight + 0.5f * slope * width);
    }
  }
  return area;
}

DEVICE float circle_distance(const CurveParams& curve, float s) { return curve.first < 0.0f ? 1.0f - s : s; }

// The derivative of a circle's exponent with its self-paced factor held constant.
DEVICE float circle_pace(const CurveParams& curve, float s) { return fabsf(curve.first) * fmaxf(circle_distance(curve, s) + curve.second, 0.0f); }

// The exponent of an exponential curve, or what is inside a sigmoid; elsewhere 0.
DEVICE float curve_exponent(const CurveParams& curve, float s) {
  switch (curve.kind) {
    case CurveKind::Exponential:
    case CurveKind::Sigmoid: return curve.first * (s - curve.second);
    case CurveKind::Circle: return circle_pace(curve, s) * (circle_distance(curve, s) - curve.second);
    default: return 0.0f;
  }
}

// The weight with the exponent less by `shift`; the same weight where there is no exponent.
DEVICE float shifted_weight(const CurveParams& curve, float s, float shift) {
  const float exponent = curve_exponent(curve, s) - shift;
  switch (curve.kind) {
    case CurveKind::Constant: return curve.first;
    case CurveKind::Linear: return curve.first + curve.second * s;
    case CurveKind::Power: return power_curve((s - curve.first) / (1.0f - curve.first), curve.second);
    case CurveKind::Exponential: return expf(fminf(exponent, LARGEST_EXPONENT));
    case CurveKind::Sigmoid: return sigmoid(exponent);
    case CurveKind::Band: return s >= curve.first && s <= curve.second ? 1.0f : 0.0f;
    case CurveKind::Table: return table_weight(curve, s);
    case CurveKind::Circle: return circle_pace(curve, s) * expf(fminf(exponent, LARGEST_EXPONENT));
  }
  return 0.0f;
}

DEVICE float curve_integral(const CurveParams& curve, float from, float to) {
  switch (curve.kind) {
    case CurveKind::Constant: return curve.first * (to - from);
    case CurveKind::Linear: return (to - from) * (curve.first + 0.5f * curve.second * (from + to));
    case CurveKind::Power: {
      const float width = 1.0f - curve.first, exponent = curve.second + 1.0f;
      const float high = power_curve((to - curve.first) / width, exponent), low = power_curve((from - curve.first) / width, exponent);
      return (high - low) * width / exponent;
    }
    case CurveKind::Exponential: return exponential_area(curve.first, from - curve.second, to - curve.second);
    case CurveKind::Sigmoid: return sigmoid_area(curve.first, from - curve.second, to - curve.second);
    case CurveKind::Band: return clamped(to, curve.first, curve.second) - clamped(from, curve.first, curve.second);
    case CurveKind::Table: return table_area(curve, to) - table_area(curve, from);
    case CurveKind::Circle: return 0.0f;  // its loss is that of the row
  }
  return 0.0f;
}

struct Weighed {
  float weight, loss;
};

DEVICE bool gate_open(const CurveParams& curve, float s) { return s > curve.gate_low && s < curve.gate_high; }

// The weight's integral from s to 1 for a positive, from -1 to s for a negative; beyond a closed gate it stays what it was at the gate.
DEVICE float pair_integral(const CurveParams& curve, float s, bool positive) {
  const float at_gate = clamped(s, curve.gate_low, curve.gate_high);
  const float from = positive ? at_gate : fmaxf(curve.gate_low, -1.0f), to = positive ? fminf(curve.gate_high, 1.0f) : at_gate;
  return curve_integral(curve, from, to);
}

// Weight and loss of a pair.
DEVICE Weighed weigh_by_curve(const CurveParams& curve, float s, bool positive) {
  return {gate_open(curve, s) ? shifted_weight(curve, s, 0.0f) : 0.0f, pair_integral(curve, s, positive)};
}

// Most pairs are easy and have neither weight nor loss, and most curves are constant: the rest is a call, so that kernels stay small.
DEVICE Weighed weigh_pair(const CurveParams& curve, float s, bool positive) {
  if (positive ? s >= curve.gate_high : s <= curve.gate_low) return {0.0f, 0.0f};
  if (curve.kind != CurveKind::Constant) return weigh_by_curve(curve, s, positive);
  const float at_gate = clamped(s, curve.gate_low, curve.gate_high);
  const float distance = positive ? fminf(curve.gate_high, 1.0f) - at_gate : at_gate - fmaxf(curve.gate_low, -1.0f);
  return {gate_open(curve, s) ? curve.first : 0.0f, curve.first * distance};
}
