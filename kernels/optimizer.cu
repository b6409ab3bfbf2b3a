// One optimiser step over the flat parameter buffer: SGD with momentum, Adam or AdamW as torch defines them, weight decay and rate by
// parameter group, clipping of the gradient to a norm, and the 16-bit copy that the network computes with.
//
// A step in the order of its launches: unscale takes the loss scale off the gradients, follow_scale notes whether they are finite and
// moves the scale; squared_norm_partial and squared_norm_total sum the squares of the groups in use; optimizer_begin turns that sum
// into the factor on the gradient, and optimizer_step updates. No value returns to the host. A gradient that is not finite leaves
// every buffer untouched. Parameters outside all groups are untouched. moving_average is that of the key encoder.
// Threads move 16 bytes of neighbours at a time; single values where those belong to several groups, at the end, or where a buffer does
// not start on 16 bytes. Any number of parameters below 2^40. Bound by bytes: SGD 20 a parameter, Adam 28, the copy 2 more, clipping
// 4, the average 12.
#include "device/device.cuh"

constexpr unsigned THREADS = 256;
constexpr float SMALLEST_LOSS_SCALE = 1.0f, LARGEST_LOSS_SCALE = 16777216.0f;
constexpr double LARGEST_SQUARED_NORM = 1e300;

enum class Rule : uint32_t { Sgd, Adam, AdamW };
enum class CopyFormat : uint32_t { None, Half, Bfloat };

// Ascending and disjoint.
struct DeviceGroup {
  uint64_t start, len;
  float learning_rate, weight_decay;
};

// What changes from step to step, in device memory, so that a captured step replays.
struct OptimizerScalars {
  uint32_t step;                  // the number of this step, from 1; all else is set by optimizer_begin
  uint32_t skip;                  // 1 when the gradient is not finite
  float gradient_scale;           // what clipping leaves of the gradient
  float first_correction;         // 1 / (1 - beta1^step)
  float second_correction;        // 1 / sqrt(1 - beta2^step)
};

// What outlives a step: part of every checkpoint.
struct GradientScaler {
  float loss_scale;               // what the gradient of the embeddings is multiplied by
  float clean;                    // steps since it last changed
  float skipped;                  // steps left out
  float finite;                   // 1 or 0: whether the last gradient was finite
};

struct OptimizerBeginParams {
  OptimizerScalars* scalars;
  const GradientScaler* scaler;
  const double* squared_norm;     // of all gradients in use; null: no clipping
  float clip_norm;                // the largest norm, read with squared_norm
  float beta1, beta2;
  uint32_t padding;
};

struct FollowScaleParams {
  GradientScaler* scaler;
  const double* squared_norm;
  uint32_t growth_interval;       // clean steps before the loss scale doubles; 0: it never changes
  uint32_t padding;
};

struct ScaleLossParams {
  float* values;
  const GradientScaler* scaler;
  uint64_t len;
};

struct OptimizerParams {
  const float* gradients;
  float* parameters;
  float* first_moment;
  float* second_moment;           // unused by SGD
  void* copy;                     // or null
  const DeviceGroup* groups;
  const OptimizerScalars* scalars;
  uint64_t len;
  uint32_t group_count;
  Rule rule;
  CopyFormat copy_format;
  float beta1, beta2, epsilon;
};

struct SquaredNormParams {
  const float* values;
  const DeviceGroup* groups;      // whose values count; null: all do
  double* partials;               // one a block
  double* result;
  uint64_t len;
  uint32_t group_count, partial_count;
};

struct MovingAverageParams {
  const float* source;
  float* target;
  uint64_t len;
  float momentum;
  uint32_t padding;
};

// Halves the loss scale when a gradient has overflowed, doubles it after many that have not.
KERNEL(follow_scale, FollowScaleParams, WARP_SIZE) {
  if (thread_index() != 0) return;
  GradientScaler& scaler = *params.scaler;
  const bool finite = *params.squared_norm < LARGEST_SQUARED_NORM;
  scaler.finite = finite ? 1.0f : 0.0f;
  scaler.clean = finite ? scaler.clean + 1.0f : 0.0f;
  if (!finite) scaler.skipped += 1.0f;
  if (params.growth_interval == 0) return;
  if (!finite && scaler.loss_scale > SMALLEST_LOSS_SCALE) scaler.loss_scale *= 0.5f;
  if (scaler.clean < float(params.growth_interval)) return;
  scaler.clean = 0.0f;
  if (scaler.loss_scale < LARGEST_LOSS_SCALE) scaler.loss_scale *= 2.0f;
}

KERNEL(optimizer_begin, OptimizerBeginParams, WARP_SIZE) {
  if (thread_index() != 0) return;
  OptimizerScalars& scalars = *params.scalars;
  scalars.skip = params.scaler->finite == 0.0f;
  const double largest = params.clip_norm, norm = params.squared_norm ? sqrt(*params.squared_norm) : 0.0;
  scalars.gradient_scale = norm > largest ? float(largest / norm) : 1.0f;
  scalars.first_correction = float(1.0 / (1.0 - pow(double(params.beta1), double(scalars.step))));
  scalars.second_correction = float(1.0 / sqrt(1.0 - pow(double(params.beta2), double(scalars.step))));
}

template <unsigned N>
struct Count {
  static constexpr unsigned VALUE = N;
};

// Calls visit(index, Count<N>) for all of `len` values, among the threads of the grid: for N neighbours from `index` on, 16 bytes of
// them while there are as many and buffers start on 16 bytes. Unrolled, loops would begin with a 64-bit division, for their number.
template <class Visit>
DEVICE void for_values(uint64_t len, bool in_vectors, const Visit& visit) {
  constexpr unsigned N = VECTOR_BYTES / sizeof(float);
  const uint64_t thread = uint64_t(block_x()) * THREADS + thread_index(), threads = uint64_t(blocks_x()) * THREADS;
  const uint64_t vectors = in_vectors ? len / N : 0;
  ROLLED
  for (uint64_t i = thread; i < vectors; i += threads) visit(i * N, Count<N>{});
  ROLLED
  for (uint64_t i = vectors * N + thread; i < len; i += threads) visit(i, Count<1>{});
}

// Neighbouring parameters, all of one group or all of none.
struct Stretch {
  uint64_t start, end;
  bool in_group;
  float learning_rate, weight_decay;

  DEVICE bool holds(uint64_t index, unsigned count) const { return start <= index && index + count <= end; }
};

DEVICE Stretch stretch_of(const DeviceGroup* groups, uint32_t count, uint64_t index) {
  uint32_t low = 0, high = count;   // groups up to `low` start at the parameter or before it, those from `high` on behind
  while (low < high) {
    const uint32_t middle = (low + high) / 2;
    if (groups[middle].start <= index) low = middle + 1; else high = middle;
  }
  const DeviceGroup before = low > 0 ? groups[low - 1] : DeviceGroup{};
  const uint64_t end = before.start + before.len;
  if (index < end) return {before.start, end, true, before.learning_rate, before.weight_decay};
  return {end, low < count ? groups[low].start : ~uint64_t(0), false, 0.0f, 0.0f};
}

// As for_values, of the values in groups: visit(stretch, index, Count<N>). Neighbours of several stretches come one by one.
template <class Visit>
DEVICE void for_grouped_values(const DeviceGroup* groups, uint32_t group_count, uint64_t len, bool in_vectors, const Visit& visit) {
  Stretch stretch{};
  if (!groups) stretch = {0, len, true, 0.0f, 0.0f};
  const auto visit_if_together = [&](uint64_t index, auto count) {
    if (!stretch.holds(index, 1)) stretch = stretch_of(groups, group_count, index);
    const bool together = stretch.holds(index, count.VALUE);
    if (together && stretch.in_group) visit(stretch, index, count);
    return together;
  };
  for_values(len, in_vectors, [&](uint64_t index, auto count) {
    if (visit_if_together(index, count) || count.VALUE == 1) return;
    ROLLED
    for (unsigned i = 0; i < count.VALUE; i++) visit_if_together(index + i, Count<1>{});
  });
}

template <class T, unsigned N>
DEVICE void write_copy(const OptimizerParams& params, uint64_t index, const Vector<float, N>& values) {
  store_vector(static_cast<T*>(params.copy) + index, rounded<T>(values.values));
}

template <Rule RULE, unsigned N>
DEVICE void update(const OptimizerParams& params, const OptimizerScalars& scalars, const Stretch& group, uint64_t index) {
  auto parameters = load_vector<N>(params.parameters + index), first_moments = load_vector<N>(params.first_moment + index);
  const auto gradients = load_vector<N>(params.gradients + index);
  auto second_moments = first_moments;
  if constexpr (RULE != Rule::Sgd) second_moments = load_vector<N>(params.second_moment + index);
  UNROLL
  for (unsigned c = 0; c < N; c++) {
    float &parameter = parameters.values[c], &first = first_moments.values[c], &second = second_moments.values[c];
    float gradient = gradients.values[c] * scalars.gradient_scale;
    if constexpr (RULE != Rule::AdamW) gradient += group.weight_decay * parameter;
    if constexpr (RULE == Rule::Sgd) {
      first = params.beta1 * first + gradient;
      parameter = parameter - group.learning_rate * first;
    } else {
      first = params.beta1 * first + (1.0f - params.beta1) * gradient;
      second = params.beta2 * second + (1.0f - params.beta2) * gradient * gradient;
      const float decayed = RULE == Rule::AdamW ? parameter * (1.0f - group.learning_rate * group.weight_decay) : parameter;
      const float denominator = sqrtf(second) * scalars.second_correction + params.epsilon;
      parameter = decayed - group.learning_rate * scalars.first_correction * first / denominator;
    }
  }
  store_vector(params.parameters + index, parameters);
  store_vector(params.first_moment + index, first_moments);
  if constexpr (RULE != Rule::Sgd) store_vector(params.second_moment + index, second_moments);
  if (params.copy_format == CopyFormat::Half) write_copy<Half>(params, index, parameters);
  if (params.copy_format == CopyFormat::Bfloat) write_copy<Bfloat>(params, index, parameters);
}

template <Rule RULE>
DEVICE void step(const OptimizerParams& params) {
  const OptimizerScalars scalars = *params.scalars;
  if (scalars.skip) return;
  const bool in_vectors = vectors_start_at(params.gradients, params.parameters, params.first_moment, params.second_moment, params.copy);
  for_grouped_values(params.groups, params.group_count, params.len, in_vectors, [&](const Stretch& group, uint64_t index, auto count) {
    update<RULE, count.VALUE>(params, scalars, group, index);
  });
}

KERNEL(optimizer_step, OptimizerParams, THREADS) {
  if (params.rule == Rule::Sgd) step<Rule::Sgd>(params);
  else if (params.rule == Rule::Adam) step<Rule::Adam>(params);
  else step<Rule::AdamW>(params);
}

// The sum over the block, in the first thread: halves are added in pairs, always in the same order.
DEVICE double block_total(double sum) {
  SHARED_MEMORY(shared);
  double* sums = reinterpret_cast<double*>(shared);
  sums[thread_index()] = sum;
  for (unsigned half = THREADS / 2; half > 0; half /= 2) {
    block_barrier();
    if (thread_index() < half) sums[thread_index()] += sums[thread_index() + half];
  }
  return thread_index() == 0 ? sums[0] : 0.0;
}

// Range `block` of the values, whatever the device: the sum has one order for one number of blocks.
KERNEL(squared_norm_partial, SquaredNormParams, THREADS) {
  double sum = 0.0;
  const bool in_vectors = vectors_start_at(params.values);
  for_grouped_values(params.groups, params.group_count, params.len, in_vectors, [&](const Stretch&, uint64_t index, auto count) {
    const auto values = load_vector<count.VALUE>(params.values + index);
    UNROLL
    for (unsigned c = 0; c < count.VALUE; c++) sum += double(values.values[c]) * double(values.values[c]);
  });
  sum = block_total(sum);
  if (thread_index() == 0) params.partials[block_x()] = sum;
}

// One block.
KERNEL(squared_norm_total, SquaredNormParams, THREADS) {
  double sum = 0.0;
  for (uint32_t i = thread_index(); i < params.partial_count; i += THREADS) sum += params.partials[i];
  sum = block_total(sum);
  if (thread_index() == 0) *params.result = sum;
}

KERNEL(moving_average, MovingAverageParams, THREADS) {
  for_values(params.len, vectors_start_at(params.source, params.target), [&](uint64_t index, auto count) {
    const auto source = load_vector<count.VALUE>(params.source + index);
    auto target = load_vector<count.VALUE>(params.target + index);
    UNROLL
    for (unsigned c = 0; c < count.VALUE; c++) target.values[c] = params.momentum * target.values[c] + (1.0f - params.momentum) * source.values[c];
    store_vector(params.target + index, target);
  });
}

DEVICE void multiply(const ScaleLossParams& params, float factor) {
  for_values(params.len, vectors_start_at(params.values), [&](uint64_t index, auto count) {
    auto values = load_vector<count.VALUE>(params.values + index);
    UNROLL
    for (unsigned c = 0; c < count.VALUE; c++) values.values[c] *= factor;
    store_vector(params.values + index, values);
  });
}

// Before a backward pass in 16 bit, and after it.
KERNEL(scale_loss, ScaleLossParams, THREADS) { multiply(params, params.scaler->loss_scale); }
KERNEL(unscale, ScaleLossParams, THREADS) { multiply(params, 1.0f / params.scaler->loss_scale); }
