// The normalizers of rows from their statistics: one thread a row, in double precision. The formulas are those of src/loss/normalizer/.
//
// Statistics come in splits of the memory and are added in their order. A weighting takes up to three passes over the memory before
// the one that makes the gradient, and this kernel ends each of them: it opens the normalizers, lets only mined pairs in, scales,
// balances.
// Range: any number of anchors and splits. Bound: launch latency.
#include "normalizer.cuh"

constexpr unsigned THREADS = 128;

enum class NormalizeStep : uint32_t { Open, Mine, Scale, Balance };

struct NormalizeParams {
  const SideStatistics* statistics;  // (splits, anchors, 2); not read by Open
  const float* last;                 // or null: (anchors, 2) the last positive and negative that mining of the hardest keeps
  RowNormalizer* normalizers;        // (anchors), written by Open, changed by the other steps
  uint32_t anchors, splits;
  NormalizeStep step;
  uint32_t shared_loss;              // whether both sides are parts of one loss
  SideParams positive, negative;
};

// Statistics of all splits.
struct SideTotal {
  double count, sum_exp;
  float hardest, row_max;

  // Sum of the curve.
  DEVICE double weight() const { return count == 0.0 ? 0.0 : sum_exp * exp(double(row_max)); }
  // Its logarithm.
  DEVICE double ln_sum() const { return count == 0.0 || sum_exp <= 0.0 ? -double(infinity()) : double(row_max) + log(sum_exp); }
};

DEVICE SideTotal total_of(const NormalizeParams& params, uint32_t row, uint32_t kind) {
  SideTotal total{0.0, 0.0, kind == 0 ? infinity() : -infinity(), -infinity()};
  for (uint32_t split = 0; split < params.splits; split++) {
    const SideStatistics& part = params.statistics[2 * (uint64_t(split) * params.anchors + row) + kind];
    const float row_max = fmaxf(total.row_max, part.row_max);
    const double part_sum = double(part.sum_exp) + double(part.sum_exp_low);
    if (row_max != -infinity()) {
      const double before = total.row_max == row_max ? total.sum_exp : total.sum_exp * exp(double(total.row_max - row_max));
      total.sum_exp = before + (part.row_max == row_max ? part_sum : part_sum * exp(double(part.row_max - row_max)));
    }
    total.row_max = row_max;
    total.count += double(part.count);
    total.hardest = kind == 0 ? fminf(total.hardest, part.hardest) : fmaxf(total.hardest, part.hardest);
  }
  return total;
}

DEVICE float next_up(float value) {
  const uint32_t bits = float_bits(value);
  if (value == infinity() || value != value) return value;
  if (value == 0.0f) return bits_float(1);
  return bits_float(value > 0.0f ? bits + 1 : bits - 1);
}

DEVICE void mine(const NormalizeParams& params, uint32_t row) {
  RowNormalizer& normalizer = params.normalizers[row];
  const SideParams &positive = params.positive, &negative = params.negative;
  if (positive.mining == Mining::Relative) normalizer.positive.high = total_of(params, row, 1).hardest + positive.margin;
  if (negative.mining == Mining::Relative) normalizer.negative.low = total_of(params, row, 0).hardest - negative.margin;
  if (positive.mining == Mining::Hardest) normalizer.positive.high = next_up(params.last[2 * row]);
  if (negative.mining == Mining::Hardest) normalizer.negative.low = -next_up(-params.last[2 * row + 1]);
}

// Logarithm of the least sum that weights are divided by: what is smaller is as good as nothing.
constexpr double LEAST_LN_SUM = -60.0;

// ln(e^a + e^b).
DEVICE double ln_add(double a, double b) {
  const double low = a < b ? a : b, high = a < b ? b : a;
  return low == -double(infinity()) ? high : high + log1p(exp(low - high));
}

struct Denominator {
  double ln, loss;
};

// Logarithms of what the weights are divided by, and of the loss.
DEVICE Denominator denominator_of(Normalization scale, bool positive, double sum, double other_sum) {
  const double joint = ln_add(sum, other_sum);
  switch (scale) {
    case Normalization::SoftmaxPlusOne: return {ln_add(0.0, sum), ln_add(0.0, sum)};
    case Normalization::Softmax: return {sum, sum};
    case Normalization::SoftmaxAll: return {joint, joint};
    case Normalization::Remainder: return {joint + sum - other_sum, sum - joint};
    case Normalization::Contrast: return {joint, 0.0};
    case Normalization::Product: return {ln_add(0.0, sum + other_sum) - other_sum, ln_add(0.0, sum + other_sum)};
    case Normalization::Hinge:
      if (sum + other_sum > 0.0) return {sum, sum + other_sum};
      return {double(infinity()), 0.0};
    case Normalization::Balanced: return {positive ? -other_sum : sum, 0.0};
    default: return {0.0, 0.0};
  }
}

DEVICE void scale_linearly(SideNormalizer& normalizer, double scale) { normalizer.scale = normalizer.loss = float(scale); }

DEVICE void weigh_nothing(SideNormalizer& normalizer) { normalizer.offset = normalizer.scale = normalizer.shift = normalizer.loss = 0.0f; }

// Fills in the normalizer of one side and returns its loss that is no sum over pairs.
DEVICE double scaled(SideNormalizer& normalizer, const SideParams& side, bool positive, const SideTotal& own, const SideTotal& other,
                     double mean_all) {
  const double factor = double(side.factor), rate = double(curve_rate(side.curve));
  if (side.scale == Normalization::Sum || side.scale == Normalization::Triplets) return 0.0;
  if (own.count == 0.0) {
    weigh_nothing(normalizer);
    return 0.0;
  }
  if (side.scale == Normalization::Mean || side.scale == Normalization::MeanRow || side.scale == Normalization::MeanAll) {
    const double divisor = side.scale == Normalization::Mean ? own.count : side.scale == Normalization::MeanRow ? own.count + other.count : mean_all;
    scale_linearly(normalizer, factor / divisor);
    return 0.0;
  }
  const double per_rate = rate == 0.0 ? 0.0 : (positive ? -1.0 : 1.0) / rate;
  const Denominator denominator = denominator_of(side.scale, positive, own.ln_sum(), other.ln_sum());
  if (!(fabs(denominator.ln) < double(infinity()))) {
    weigh_nothing(normalizer);
    // The sum of a curve that is no exponential may be negative, and its logarithm is then no loss.
    return per_rate == 0.0 ? 0.0 : factor * per_rate * denominator.loss;
  }
  if (side.scale == Normalization::Contrast) {
    normalizer.offset = float(factor / own.count);
    normalizer.scale = -side.factor;
    normalizer.shift = float(denominator.ln);
    normalizer.loss = 0.0f;
    return factor * (denominator.ln / double(side.curve.first) + double(side.curve.second) - 1.0);
  }
  if (rate == 0.0 && side.scale != Normalization::Balanced) {
    if (denominator.ln < LEAST_LN_SUM) {
      weigh_nothing(normalizer);
    } else {
      scale_linearly(normalizer, factor * exp(-denominator.ln));
    }
    return 0.0;
  }
  normalizer.shift = float(denominator.ln);
  normalizer.loss = side.scale == Normalization::Balanced && positive ? side.factor : 0.0f;
  return factor * per_rate * denominator.loss;
}

// Pairs of a kind with a weight, over all rows, divided by the rows; the same sum in every block.
DEVICE double kept_of_a_row(const NormalizeParams& params, uint32_t kind, double* shared) {
  double mine = 0.0;
  const uint64_t rows = uint64_t(params.splits) * params.anchors;
  for (uint64_t row = thread_index(); row < rows; row += THREADS) mine += double(params.statistics[2 * row + kind].count);
  shared[thread_index()] = mine;
  block_barrier();
  double sum = 0.0;
  for (unsigned thread = 0; thread < THREADS; thread++) sum += shared[thread];
  block_barrier();
  return sum / double(params.anchors);
}

DEVICE void scale(const NormalizeParams& params, uint32_t row, double mean_positives, double mean_negatives) {
  RowNormalizer& normalizer = params.normalizers[row];
  const SideTotal positives = total_of(params, row, 0), negatives = total_of(params, row, 1);
  const double own = scaled(normalizer.positive, params.positive, true, positives, negatives, mean_positives);
  const double other = scaled(normalizer.negative, params.negative, false, negatives, positives, mean_negatives);
  normalizer.constant = float(own + (params.shared_loss ? 0.0 : other));
  if (params.shared_loss && positives.count == 0.0) weigh_nothing(normalizer.negative);
}

// Gives the negatives as much weight in all as the positives have.
DEVICE void balance(const NormalizeParams& params, uint32_t row) {
  RowNormalizer& normalizer = params.normalizers[row];
  const double sum = double(normalizer.positive.scale) * total_of(params, row, 0).weight();
  normalizer.negative.scale = normalizer.negative.scale == 0.0f ? 0.0f : float(double(params.negative.factor) * sum);
}

DEVICE SideNormalizer open_normalizer(const SideParams& side) { return {-infinity(), infinity(), 0.0f, side.factor, 0.0f, side.factor}; }

KERNEL(pair_normalize, NormalizeParams, THREADS) {
  SHARED_MEMORY(shared);
  const uint32_t row = block_x() * THREADS + thread_index();
  double mean_positives = 0.0, mean_negatives = 0.0;
  if (params.step == NormalizeStep::Scale) {
    double* sums = reinterpret_cast<double*>(shared);
    if (params.positive.scale == Normalization::MeanAll) mean_positives = kept_of_a_row(params, 0, sums);
    if (params.negative.scale == Normalization::MeanAll) mean_negatives = kept_of_a_row(params, 1, sums);
  }
  if (row >= params.anchors) return;
  switch (params.step) {
    case NormalizeStep::Open: params.normalizers[row] = {open_normalizer(params.positive), open_normalizer(params.negative), 0.0f}; break;
    case NormalizeStep::Mine: mine(params, row); break;
    case NormalizeStep::Scale: scale(params, row, mean_positives, mean_negatives); break;
    case NormalizeStep::Balance: balance(params, row); break;
  }
}
