// One optimiser step over the flat parameter buffer: SGD with momentum, Adam or AdamW as torch defines them, weight decay and rate by
// parameter group, clipping of the gradient to a norm, and the 16-bit copy that the network computes with.
//
// A step in the order of its launches: unscale takes the loss scale off the gradients, follow_scale notes whether they are finite and
// moves the scale; squared_norm_partial and squared_norm_total sum the squares of the groups in use; optimizer_begin turns that sum
// into the factor on the gradient, and optimizer_step updates. No value returns to the host. A gradient that is not finite leaves
// every buffer untouched. Parameters outside all groups are untouched. moving_average is that of the key encoder.
// Any number of parameters below 2^40. Bound by bytes: SGD 20 a parameter, Adam 28, the copy 2 more, clipping 4, the average 12.
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

// The group of a parameter, or null.
DEVICE const DeviceGroup* group_of(const DeviceGroup* groups, uint32_t count, uint64_t index) {
  uint32_t low = 0, high = count;
  while (low < high) {
    const uint32_t middle = (low + high) / 2;
    if (groups[middle].start <= index) low = middle + 1; else high = middle;
  }
  if (low == 0) return nullptr;
  const DeviceGroup* group = groups + (low - 1);
  return index - group->start < group->len ? group : nullptr;
}

DEVICE float updated(const OptimizerParams& params, const DeviceGroup& group, const OptimizerScalars& scalars, uint64_t index) {
  const float parameter = params.parameters[index];
  float gradient = params.gradients[index] * scalars.gradient_scale;
  if (params.rule != Rule::AdamW) gradient += group.weight_decay * parameter;
  if (params.rule == Rule::Sgd) {
    const float velocity = params.beta1 * params.first_moment[index] + gradient;
    params.first_moment[index] = velocity;
    return parameter - group.learning_rate * velocity;
  }
  const float first = params.beta1 * params.first_moment[index] + (1.0f - params.beta1) * gradient;
  const float second = params.beta2 * params.second_moment[index] + (1.0f - params.beta2) * gradient * gradient;
  params.first_moment[index] = first;
  params.second_moment[index] = second;
  const float decayed = params.rule == Rule::AdamW ? parameter * (1.0f - group.learning_rate * group.weight_decay) : parameter;
  const float denominator = sqrtf(second) * scalars.second_correction + params.epsilon;
  return decayed - group.learning_rate * scalars.first_correction * first / denominator;
}

DEVICE void write_copy(const OptimizerParams& params, uint64_t index, float value) {
  if (params.copy_format == CopyFormat::Half) static_cast<Half*>(params.copy)[index] = from_float<Half>(value);
  if (params.copy_format == CopyFormat::Bfloat) static_cast<Bfloat*>(params.copy)[index] = from_float<Bfloat>(value);
}

KERNEL(optimizer_step, OptimizerParams, THREADS) {
  const OptimizerScalars scalars = *params.scalars;
  if (scalars.skip) return;
  const uint64_t stride = uint64_t(blocks_x()) * THREADS;
  for (uint64_t index = uint64_t(block_x()) * THREADS + thread_index(); index < params.len; index += stride) {
    const DeviceGroup* group = group_of(params.groups, params.group_count, index);
    if (!group) continue;
    const float value = updated(params, *group, scalars, index);
    params.parameters[index] = value;
    write_copy(params, index, value);
  }
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
  const uint64_t stride = uint64_t(blocks_x()) * THREADS;
  for (uint64_t index = uint64_t(block_x()) * THREADS + thread_index(); index < params.len; index += stride) {
    if (params.groups && !group_of(params.groups, params.group_count, index)) continue;
    const double value = params.values[index];
    sum += value * value;
  }
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
  const uint64_t stride = uint64_t(blocks_x()) * THREADS;
  for (uint64_t index = uint64_t(block_x()) * THREADS + thread_index(); index < params.len; index += stride) {
    params.target[index] = params.momentum * params.target[index] + (1.0f - params.momentum) * params.source[index];
  }
}

// Before a backward pass in 16 bit, and after it.
KERNEL(scale_loss, ScaleLossParams, THREADS) {
  const float scale = params.scaler->loss_scale;
  const uint64_t stride = uint64_t(blocks_x()) * THREADS;
  for (uint64_t index = uint64_t(block_x()) * THREADS + thread_index(); index < params.len; index += stride) params.values[index] *= scale;
}

KERNEL(unscale, ScaleLossParams, THREADS) {
  const float factor = 1.0f / params.scaler->loss_scale;
  const uint64_t stride = uint64_t(blocks_x()) * THREADS;
  for (uint64_t index = uint64_t(block_x()) * THREADS + thread_index(); index < params.len; index += stride) params.values[index] *= factor;
}
