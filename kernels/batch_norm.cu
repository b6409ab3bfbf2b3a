// Batch normalisation over NHWC activations, fused with residual add and ReLU: forward in training and frozen mode, and backward.
//
//   output = relu(weight (input - mean) / sqrt(variance + epsilon) + bias + residual)
//
// Torch's semantics: the biased variance normalises, the unbiased one enters the running variance. Statistics are taken in two
// launches: blocks combine mean and squared deviations of fixed ranges of rows by Chan's formula, which does not cancel, and
// batch_norm_statistics adds the ranges in their order. The masked gradient is never stored unless a residual asks for it.
// Any number of channels and rows. Bound by bytes: training reads the input twice and writes once, the backward pass reads three
// buffers twice and writes one or two.
#include "device/device.cuh"

// A block covers 32 channels by 8 rows at a time: a warp reads neighbouring channels of one row.
constexpr unsigned CHANNELS = WARP_SIZE, ROW_LANES = 8, THREADS = CHANNELS * ROW_LANES;
static_assert(CHANNELS == WARP_SIZE, "thread_index() / CHANNELS is the warp");

struct BatchNormParams {
  const void* input;
  const void* output;           // of the forward pass, for the ReLU's mask; the backward pass only
  const void* residual;         // or null
  const void* output_gradient;  // the backward pass only
  void* result;                 // output, or the gradient of the input
  void* residual_gradient;      // or null
  const float* weight;
  const float* bias;
  float* mean;                  // (channels)
  float* inverse_deviation;     // (channels)
  float* running_mean;
  float* running_variance;
  float* weight_gradient;
  float* bias_gradient;
  float* partials;              // (ranges, 2, channels)
  uint64_t rows;
  uint32_t channels, ranges, rows_per_range;
  float epsilon, momentum;
  uint32_t relu, frozen, padding;
};

struct Moments {
  float count, mean, squares;   // squares: sum of squared deviations from the mean
};

DEVICE Moments combined(const Moments& a, const Moments& b) {
  const float count = a.count + b.count;
  if (count == 0.0f) return a;
  const float delta = b.mean - a.mean;
  return {count, a.mean + delta * (b.count / count), a.squares + b.squares + delta * delta * (a.count * b.count / count)};
}

DEVICE uint32_t owned_channel() { return block_x() * CHANNELS + thread_index() % CHANNELS; }
DEVICE uint64_t first_row(const BatchNormParams& params) { return uint64_t(block_y()) * params.rows_per_range; }
DEVICE uint64_t end_row(const BatchNormParams& params) {
  const uint64_t end = first_row(params) + params.rows_per_range;
  return end < params.rows ? end : params.rows;
}

template <class T>
DEVICE void range_moments(const BatchNormParams& params) {
  SHARED_MEMORY(shared);
  Moments* all = reinterpret_cast<Moments*>(shared);
  const uint32_t channel = owned_channel(), row_lane = thread_index() / CHANNELS;
  const T* input = static_cast<const T*>(params.input);
  Moments mine{0.0f, 0.0f, 0.0f};
  if (channel < params.channels) {
    for (uint64_t row = first_row(params) + row_lane; row < end_row(params); row += ROW_LANES) {
      const float value = to_float(input[row * params.channels + channel]), delta = value - mine.mean;
      mine.count += 1.0f;
      mine.mean += delta / mine.count;
      mine.squares += delta * (value - mine.mean);
    }
  }
  all[thread_index()] = mine;
  block_barrier();
  if (row_lane != 0 || channel >= params.channels) return;
  for (unsigned lane = 1; lane < ROW_LANES; lane++) mine = combined(mine, all[lane * CHANNELS + thread_index()]);
  float* to = params.partials + uint64_t(block_y()) * 2 * params.channels + channel;
  to[0] = mine.mean;
  to[params.channels] = mine.squares;
}

// The moments of all ranges, and the running averages.
KERNEL(batch_norm_statistics, BatchNormParams, THREADS) {
  const uint32_t channel = block_x() * THREADS + thread_index();
  if (channel >= params.channels) return;
  Moments all{0.0f, 0.0f, 0.0f};
  for (uint32_t range = 0; range < params.ranges; range++) {
    const uint64_t first = uint64_t(range) * params.rows_per_range, left = params.rows - first;
    const float* from = params.partials + uint64_t(range) * 2 * params.channels + channel;
    const float count = float(left < params.rows_per_range ? left : params.rows_per_range);
    all = combined(all, {count, from[0], from[params.channels]});
  }
  const float rows = float(params.rows);
  params.mean[channel] = all.mean;
  params.inverse_deviation[channel] = 1.0f / sqrtf(all.squares / rows + params.epsilon);
  const float keep = 1.0f - params.momentum;
  params.running_mean[channel] = keep * params.running_mean[channel] + params.momentum * all.mean;
  params.running_variance[channel] = keep * params.running_variance[channel] + params.momentum * all.squares / (rows - 1.0f);
}

// Given statistics as the forward pass wants them.
KERNEL(batch_norm_freeze, BatchNormParams, THREADS) {
  const uint32_t channel = block_x() * THREADS + thread_index();
  if (channel >= params.channels) return;
  params.mean[channel] = params.running_mean[channel];
  params.inverse_deviation[channel] = 1.0f / sqrtf(params.running_variance[channel] + params.epsilon);
}

// A batch norm of given statistics as input * scale + bias: the scale takes the place of the inverse deviation, the bias that of the mean.
KERNEL(batch_norm_fold, BatchNormParams, THREADS) {
  const uint32_t channel = block_x() * THREADS + thread_index();
  if (channel >= params.channels) return;
  const float scale = params.weight[channel] / sqrtf(params.running_variance[channel] + params.epsilon);
  params.inverse_deviation[channel] = scale;
  params.mean[channel] = params.bias[channel] - params.running_mean[channel] * scale;
}

template <class T>
DEVICE void normalise(const BatchNormParams& params) {
  const uint64_t index = uint64_t(block_x()) * THREADS + thread_index();
  if (index >= params.rows * params.channels) return;
  const uint32_t channel = uint32_t(index % params.channels);
  const float scale = params.weight[channel] * params.inverse_deviation[channel];
  float value = (to_float(static_cast<const T*>(params.input)[index]) - params.mean[channel]) * scale + params.bias[channel];
  if (params.residual) value += to_float(static_cast<const T*>(params.residual)[index]);
  if (params.relu && value < 0.0f) value = 0.0f;
  static_cast<T*>(params.result)[index] = from_float<T>(value);
}

// The output's gradient where the ReLU let the value through.
template <class T>
DEVICE float masked_gradient(const BatchNormParams& params, uint64_t index) {
  const float gradient = to_float(static_cast<const T*>(params.output_gradient)[index]);
  const bool passed = !params.relu || to_float(static_cast<const T*>(params.output)[index]) > 0.0f;
  return passed ? gradient : 0.0f;
}

template <class T>
DEVICE float normalised_input(const BatchNormParams& params, uint64_t index, uint32_t channel) {
  return (to_float(static_cast<const T*>(params.input)[index]) - params.mean[channel]) * params.inverse_deviation[channel];
}

struct GradientSums {
  float gradient, with_input;
};

template <class T>
DEVICE void range_gradients(const BatchNormParams& params) {
  SHARED_MEMORY(shared);
  GradientSums* all = reinterpret_cast<GradientSums*>(shared);
  const uint32_t channel = owned_channel(), row_lane = thread_index() / CHANNELS;
  GradientSums mine{0.0f, 0.0f};
  if (channel < params.channels) {
    for (uint64_t row = first_row(params) + row_lane; row < end_row(params); row += ROW_LANES) {
      const uint64_t index = row * params.channels + channel;
      const float gradient = masked_gradient<T>(params, index);
      mine.gradient += gradient;
      mine.with_input += gradient * normalised_input<T>(params, index, channel);
    }
  }
  all[thread_index()] = mine;
  block_barrier();
  if (row_lane != 0 || channel >= params.channels) return;
  for (unsigned lane = 1; lane < ROW_LANES; lane++) {
    mine.gradient += all[lane * CHANNELS + thread_index()].gradient;
    mine.with_input += all[lane * CHANNELS + thread_index()].with_input;
  }
  float* to = params.partials + uint64_t(block_y()) * 2 * params.channels + channel;
  to[0] = mine.gradient;
  to[params.channels] = mine.with_input;
}

KERNEL(batch_norm_parameter_gradients, BatchNormParams, THREADS) {
  const uint32_t channel = block_x() * THREADS + thread_index();
  if (channel >= params.channels) return;
  double gradient = 0.0, with_input = 0.0;
  for (uint32_t range = 0; range < params.ranges; range++) {
    const float* from = params.partials + uint64_t(range) * 2 * params.channels + channel;
    gradient += from[0];
    with_input += from[params.channels];
  }
  params.bias_gradient[channel] = float(gradient);
  params.weight_gradient[channel] = float(with_input);
}

template <class T>
DEVICE void input_gradient(const BatchNormParams& params) {
  const uint64_t index = uint64_t(block_x()) * THREADS + thread_index();
  if (index >= params.rows * params.channels) return;
  const uint32_t channel = uint32_t(index % params.channels);
  float gradient = masked_gradient<T>(params, index);
  if (params.residual_gradient) static_cast<T*>(params.residual_gradient)[index] = from_float<T>(gradient);
  if (!params.frozen) {
    const float rows = float(params.rows);
    gradient -= params.bias_gradient[channel] / rows;
    gradient -= normalised_input<T>(params, index, channel) * (params.weight_gradient[channel] / rows);
  }
  static_cast<T*>(params.result)[index] = from_float<T>(gradient * params.weight[channel] * params.inverse_deviation[channel]);
}

#define BATCH_NORM(FORMAT, TYPE)                                                                               \
  KERNEL(batch_norm_range_moments_##FORMAT, BatchNormParams, THREADS) { range_moments<TYPE>(params); }         \
  KERNEL(batch_norm_normalise_##FORMAT, BatchNormParams, THREADS) { normalise<TYPE>(params); }                 \
  KERNEL(batch_norm_range_gradients_##FORMAT, BatchNormParams, THREADS) { range_gradients<TYPE>(params); }     \
  KERNEL(batch_norm_input_gradient_##FORMAT, BatchNormParams, THREADS) { input_gradient<TYPE>(params); }
BATCH_NORM(f32, float)
BATCH_NORM(f16, Half)
BATCH_NORM(bf16, Bfloat)
