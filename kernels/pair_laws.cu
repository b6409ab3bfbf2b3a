// The laws of rows from their statistics: one thread a row, in double precision. The formulas are those of src/weighting/row/.
//
// Statistics come in splits of the memory and are added in their order. A weighting takes up to three passes over the memory before
// the one that makes the gradient, and this kernel ends each of them: it opens the laws, lets only mined pairs in, scales, balances.
// Range: any number of anchors and splits. Bound: launch latency.
#include "row_law.cuh"

constexpr unsigned THREADS = 128;

enum class LawStep : uint32_t { Open, Mine, Scale, Balance };

struct PairLawsParams {
  const SideStatistics* statistics;  // (splits, anchors, 2); not read by Open
  const float* last;                 // or null: (anchors, 2) the last positive and negative that mining of the hardest keeps
  RowLaw* laws;                      // (anchors), written by Open, changed by the other steps
  uint32_t anchors, splits;
  LawStep step;
  uint32_t shared_loss;              // whether both sides are parts of one loss
  Side positive, negative;
};

// Statistics of all splits.
struct SideTotal {
  double count, sum;
  float hardest, peak;

  // Sum of the curve.
  DEVICE double weight() const { return count == 0.0 ? 0.0 : sum * exp(double(peak)); }
  // Its logarithm.
  DEVICE double ln_sum() const { return count == 0.0 || sum <= 0.0 ? -double(infinity()) : double(peak) + log(sum); }
};

DEVICE SideTotal total_of(const PairLawsParams& params, uint32_t row, uint32_t kind) {
  SideTotal total{0.0, 0.0, kind == 0 ? infinity() : -infinity(), -infinity()};
  for (uint32_t split = 0; split < params.splits; split++) {
    const SideStatistics& part = params.statistics[2 * (uint64_t(split) * params.anchors + row) + kind];
    const float peak = fmaxf(total.peak, part.peak);
    const double part_sum = double(part.sum) + double(part.rest);
    if (peak != -infinity()) {
      const double before = total.peak == peak ? total.sum : total.sum * exp(double(total.peak - peak));
      total.sum = before + (part.peak == peak ? part_sum : part_sum * exp(double(part.peak - peak)));
    }
    total.peak = peak;
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

DEVICE void mine(const PairLawsParams& params, uint32_t row) {
  RowLaw& law = params.laws[row];
  const Side &positive = params.positive, &negative = params.negative;
  if (positive.mining == Mining::Relative) law.positive.high = total_of(params, row, 1).hardest + positive.margin;
  if (negative.mining == Mining::Relative) law.negative.low = total_of(params, row, 0).hardest - negative.margin;
  if (positive.mining == Mining::Hardest) law.positive.high = next_up(params.last[2 * row]);
  if (negative.mining == Mining::Hardest) law.negative.low = -next_up(-params.last[2 * row + 1]);
}

// Logarithm of the least sum that weights are divided by: what is smaller is as good as nothing.
constexpr double LEAST_LN_SUM = -60.0;

// ln(e^a + e^b).
DEVICE double ln_add(double a, double b) {
  const double low = a < b ? a : b, high = a < b ? b : a;
  return low == -double(infinity()) ? high : high + log1p(exp(low - high));
}

struct Normaliser {
  double ln, loss;
};

// Logarithms of what the weights are divided by, and of the loss.
DEVICE Normaliser normaliser_of(RowScale scale, bool positive, double sum, double other_sum) {
  const double both = ln_add(sum, other_sum);
  switch (scale) {
    case RowScale::SoftOne: return {ln_add(0.0, sum), ln_add(0.0, sum)};
    case RowScale::Soft: return {sum, sum};
    case RowScale::Joint: return {both, both};
    case RowScale::Remainder: return {both + sum - other_sum, sum - both};
    case RowScale::Contrast: return {both, 0.0};
    case RowScale::Product: return {ln_add(0.0, sum + other_sum) - other_sum, ln_add(0.0, sum + other_sum)};
    case RowScale::Hinge:
      if (sum + other_sum > 0.0) return {sum, sum + other_sum};
      return {double(infinity()), 0.0};
    case RowScale::Balanced: return {positive ? -other_sum : sum, 0.0};
    default: return {0.0, 0.0};
  }
}

DEVICE void scale_linearly(SideLaw& law, double scale) { law.scale = law.loss = float(scale); }

DEVICE void weigh_nothing(SideLaw& law) { law.offset = law.scale = law.shift = law.loss = 0.0f; }

// Fills in the law of one side and returns its loss that is no sum over pairs.
DEVICE double scaled(SideLaw& law, const Side& side, bool positive, const SideTotal& own, const SideTotal& other, double mean_all) {
  const double factor = double(side.factor), rate = double(curve_rate(side.curve));
  if (side.scale == RowScale::Sum || side.scale == RowScale::Triplets) return 0.0;
  if (own.count == 0.0) {
    weigh_nothing(law);
    return 0.0;
  }
  if (side.scale == RowScale::Mean || side.scale == RowScale::MeanRow || side.scale == RowScale::MeanAll) {
    const double divisor = side.scale == RowScale::Mean ? own.count : side.scale == RowScale::MeanRow ? own.count + other.count : mean_all;
    scale_linearly(law, factor / divisor);
    return 0.0;
  }
  const double per_rate = rate == 0.0 ? 0.0 : (positive ? -1.0 : 1.0) / rate;
  const Normaliser normaliser = normaliser_of(side.scale, positive, own.ln_sum(), other.ln_sum());
  if (!(fabs(normaliser.ln) < double(infinity()))) {
    weigh_nothing(law);
    // The sum of a curve that is no exponential may be negative, and its logarithm is then no loss.
    return per_rate == 0.0 ? 0.0 : factor * per_rate * normaliser.loss;
  }
  if (side.scale == RowScale::Contrast) {
    law.offset = float(factor / own.count);
    law.scale = -side.factor;
    law.shift = float(normaliser.ln);
    law.loss = 0.0f;
    return factor * (normaliser.ln / double(side.curve.first) + double(side.curve.second) - 1.0);
  }
  if (rate == 0.0 && side.scale != RowScale::Balanced) {
    if (normaliser.ln < LEAST_LN_SUM) {
      weigh_nothing(law);
    } else {
      scale_linearly(law, factor * exp(-normaliser.ln));
    }
    return 0.0;
  }
  law.shift = float(normaliser.ln);
  law.loss = side.scale == RowScale::Balanced && positive ? side.factor : 0.0f;
  return factor * per_rate * normaliser.loss;
}

// Pairs of a kind with a weight, over all rows, divided by the rows; the same sum in every block.
DEVICE double kept_of_a_row(const PairLawsParams& params, uint32_t kind, double* shared) {
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

DEVICE void scale(const PairLawsParams& params, uint32_t row, double mean_positives, double mean_negatives) {
  RowLaw& law = params.laws[row];
  const SideTotal positives = total_of(params, row, 0), negatives = total_of(params, row, 1);
  const double own = scaled(law.positive, params.positive, true, positives, negatives, mean_positives);
  const double other = scaled(law.negative, params.negative, false, negatives, positives, mean_negatives);
  law.constant = float(own + (params.shared_loss ? 0.0 : other));
  if (params.shared_loss && positives.count == 0.0) weigh_nothing(law.negative);
}

// Gives the negatives as much weight in all as the positives have.
DEVICE void balance(const PairLawsParams& params, uint32_t row) {
  RowLaw& law = params.laws[row];
  const double sum = double(law.positive.scale) * total_of(params, row, 0).weight();
  law.negative.scale = law.negative.scale == 0.0f ? 0.0f : float(double(params.negative.factor) * sum);
}

DEVICE SideLaw open_law(const Side& side) { return {-infinity(), infinity(), 0.0f, side.factor, 0.0f, side.factor}; }

KERNEL(pair_laws, PairLawsParams, THREADS) {
  SHARED_MEMORY(shared);
  const uint32_t row = block_x() * THREADS + thread_index();
  double mean_positives = 0.0, mean_negatives = 0.0;
  if (params.step == LawStep::Scale) {
    double* sums = reinterpret_cast<double*>(shared);
    if (params.positive.scale == RowScale::MeanAll) mean_positives = kept_of_a_row(params, 0, sums);
    if (params.negative.scale == RowScale::MeanAll) mean_negatives = kept_of_a_row(params, 1, sums);
  }
  if (row >= params.anchors) return;
  switch (params.step) {
    case LawStep::Open: params.laws[row] = {open_law(params.positive), open_law(params.negative), 0.0f}; break;
    case LawStep::Mine: mine(params, row); break;
    case LawStep::Scale: scale(params, row, mean_positives, mean_negatives); break;
    case LawStep::Balance: balance(params, row); break;
  }
}
