// Batch normalisation over NHWC activations, fused with residual add and ReLU: forward in training and frozen mode, and backward.
//
//   output = relu(weight (input - mean) / sqrt(variance + epsilon) + bias + residual)
//
// Torch's semantics: the biased variance normalises, the unbiased one enters the running variance. Statistics are taken in two
// launches: blocks take mean and squared deviations of fixed ranges of rows, batch_norm_statistics puts the ranges together. Both
// combine by Chan's formula, which does not cancel, in an order that the sizes fix. The masked gradient is never stored unless a
// residual asks for it.
// Any number of channels and rows: threads move 16 bytes of neighbouring channels at a time, or single values where a row is no whole
// number of 16 bytes or a buffer does not start on them. Bound by bytes: training reads the input twice and writes once, the backward
// pass reads three buffers twice and writes one or two.
#include "device/device.cuh"

constexpr unsigned THREADS = 256;
// Blocks that put the ranges together: as many channels as a 32-byte sector of partial sums holds, and lanes for the ranges.
constexpr unsigned SUM_CHANNELS = 8, SUM_LANES = THREADS / SUM_CHANNELS;
// Rows whose loads a thread has in flight together.
constexpr unsigned FORWARD_ROWS = 4, BACKWARD_ROWS = 2;

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
  uint32_t width;               // channels that move at once: 16 bytes of them, or 1
  uint32_t across;              // threads of a block side by side along a row, `width` channels each; the others take other rows
  float inverse_rows;           // 1 / rows
  float epsilon, momentum;
  uint32_t relu, frozen;
};

DEVICE uint32_t rows_of(const BatchNormParams& params, uint32_t range) {
  const uint64_t left = params.rows - uint64_t(range) * params.rows_per_range;
  return left < params.rows_per_range ? uint32_t(left) : params.rows_per_range;
}

// What a thread has of the range block_y(): `width` channels, and each row_lanes-th row.
struct Owned {
  uint32_t row_lane, row_lanes, column, columns, channel;   // column: the first of the block's columns, a channel each
  uint32_t rows;                                            // of the range
  bool any;
};

DEVICE Owned owned_by_thread(const BatchNormParams& params) {
  Owned owned;
  owned.row_lane = thread_index() / params.across;
  owned.row_lanes = THREADS / params.across;
  owned.column = thread_index() % params.across * params.width;
  owned.columns = params.across * params.width;
  owned.channel = block_x() * owned.columns + owned.column;
  owned.rows = rows_of(params, block_y());
  owned.any = owned.row_lane < owned.row_lanes && owned.channel < params.channels;
  return owned;
}

// Calls work.rows<N>(index, stride): N rows from the value `index` on, `stride` values apart.
template <unsigned ROWS, class Work>
DEVICE void for_owned_rows(const BatchNormParams& params, const Owned& owned, Work& work) {
  if (!owned.any) return;
  const uint64_t start = uint64_t(block_y()) * params.rows_per_range * params.channels + owned.channel;
  const uint64_t stride = uint64_t(owned.row_lanes) * params.channels;
  uint32_t row = owned.row_lane;
  for (; row + (ROWS - 1) * owned.row_lanes < owned.rows; row += ROWS * owned.row_lanes) {
    work.template rows<ROWS>(start + uint64_t(row) * params.channels, stride);
  }
  for (; row < owned.rows; row += owned.row_lanes) work.template rows<1>(start + uint64_t(row) * params.channels, stride);
}

template <unsigned ROWS, unsigned WIDTH, class T>
DEVICE void load_rows(Vector<T, WIDTH> (&rows)[ROWS], const void* buffer, uint64_t index, uint64_t stride) {
  UNROLL
  for (unsigned i = 0; i < ROWS; i++) rows[i] = load_vector<WIDTH>(static_cast<const T*>(buffer) + index + i * stride);
}

struct Moments {
  float count, mean, squares;   // squares: sum of squared deviations from the mean
};

// The moments of parts taken together, in their order: Chan's formula for many parts at once. `part(i)` are the moments of one.
template <class Part>
DEVICE Moments combined(uint32_t parts, Part part) {
  if (parts == 0) return {0.0f, 0.0f, 0.0f};
  const float pivot = part(0).mean;
  float count = 0.0f, sum = 0.0f, squares = 0.0f;
  for (uint32_t i = 0; i < parts; i++) {
    const Moments one = part(i);
    count += one.count;
    sum += one.count * (one.mean - pivot);
  }
  const float mean = pivot + sum / count;
  for (uint32_t i = 0; i < parts; i++) {
    const Moments one = part(i);
    squares += one.squares + one.count * (one.mean - mean) * (one.mean - mean);
  }
  return {count, mean, squares};
}

template <class T, unsigned WIDTH>
struct RangeMoments {
  const void* input;
  float count = 0.0f, mean[WIDTH] = {}, squares[WIDTH] = {};

  // Chan's formula again, for the rows before and these.
  template <unsigned ROWS>
  DEVICE void rows(uint64_t index, uint64_t stride) {
    Vector<T, WIDTH> inputs[ROWS];
    load_rows(inputs, input, index, stride);
    const float before = count;
    count += float(ROWS);
    const float share = float(ROWS) / count, product = before * share;
    UNROLL
    for (unsigned c = 0; c < WIDTH; c++) {
      float sum = 0.0f, deviations = 0.0f;
      UNROLL
      for (unsigned i = 0; i < ROWS; i++) sum += to_float(inputs[i].values[c]);
      const float of_these = sum * (1.0f / ROWS), delta = of_these - mean[c];
      UNROLL
      for (unsigned i = 0; i < ROWS; i++) {
        const float deviation = to_float(inputs[i].values[c]) - of_these;
        deviations += deviation * deviation;
      }
      mean[c] += delta * share;
      squares[c] += deviations + delta * delta * product;
    }
  }
};

// The sums of a block in shared memory: for each row lane a number for each column, of two kinds. After the barrier a thread for each
// column adds up the lanes.
DEVICE float* lane_sums(float* shared, const Owned& owned, unsigned kind, uint32_t row_lane) {
  return shared + (kind * owned.row_lanes + row_lane) * owned.columns;
}
DEVICE uint32_t column_channel(const Owned& owned) { return block_x() * owned.columns + thread_index(); }
DEVICE bool has_column(const BatchNormParams& params, const Owned& owned) {
  return thread_index() < owned.columns && column_channel(owned) < params.channels;
}

template <class T, unsigned WIDTH>
DEVICE void range_moments(const BatchNormParams& params) {
  SHARED_MEMORY(bytes);
  float* shared = reinterpret_cast<float*>(bytes);
  const Owned owned = owned_by_thread(params);
  float* counts = lane_sums(shared, owned, 2, 0);
  RangeMoments<T, WIDTH> mine{params.input};
  for_owned_rows<FORWARD_ROWS>(params, owned, mine);
  if (owned.any) {
    if (owned.column == 0) counts[owned.row_lane] = mine.count;
    UNROLL
    for (unsigned c = 0; c < WIDTH; c++) {
      lane_sums(shared, owned, 0, owned.row_lane)[owned.column + c] = mine.mean[c];
      lane_sums(shared, owned, 1, owned.row_lane)[owned.column + c] = mine.squares[c];
    }
  }
  block_barrier();
  if (!has_column(params, owned)) return;
  const uint32_t column = thread_index();
  const Moments all = combined(owned.row_lanes, [&](uint32_t lane) {
    return Moments{counts[lane], lane_sums(shared, owned, 0, lane)[column], lane_sums(shared, owned, 1, lane)[column]};
  });
  float* to = params.partials + uint64_t(block_y()) * 2 * params.channels + column_channel(owned);
  to[0] = all.mean;
  to[params.channels] = all.squares;
}

// Ranges of one of the lanes that put them together.
DEVICE uint32_t ranges_of_lane(const BatchNormParams& params, uint32_t lane) { return (params.ranges + SUM_LANES - 1 - lane) / SUM_LANES; }

// The moments of all ranges, and the running averages.
KERNEL(batch_norm_statistics, BatchNormParams, THREADS) {
  SHARED_MEMORY(shared);
  Moments* lanes = reinterpret_cast<Moments*>(shared);
  const uint32_t lane = thread_index() / SUM_CHANNELS, channel = block_x() * SUM_CHANNELS + thread_index() % SUM_CHANNELS;
  if (channel < params.channels) {
    lanes[thread_index()] = combined(ranges_of_lane(params, lane), [&](uint32_t i) {
      const uint32_t range = i * SUM_LANES + lane;
      const float* from = params.partials + uint64_t(range) * 2 * params.channels + channel;
      return Moments{float(rows_of(params, range)), from[0], from[params.channels]};
    });
  }
  block_barrier();
  if (lane != 0 || channel >= params.channels) return;
  const Moments all = combined(SUM_LANES, [&](uint32_t from) { return lanes[from * SUM_CHANNELS + thread_index()]; });
  params.mean[channel] = all.mean;
  params.inverse_deviation[channel] = 1.0f / sqrtf(all.squares * params.inverse_rows + params.epsilon);
  const float keep = 1.0f - params.momentum, unbiased = all.squares / (float(params.rows) - 1.0f);
  params.running_mean[channel] = keep * params.running_mean[channel] + params.momentum * all.mean;
  params.running_variance[channel] = keep * params.running_variance[channel] + params.momentum * unbiased;
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

template <class T, unsigned WIDTH>
struct Normalise {
  const BatchNormParams& params;
  float mean[WIDTH], scale[WIDTH], bias[WIDTH];

  template <unsigned ROWS>
  DEVICE void rows(uint64_t index, uint64_t stride) {
    Vector<T, WIDTH> inputs[ROWS], residuals[ROWS];
    load_rows(inputs, params.input, index, stride);
    if (params.residual) load_rows(residuals, params.residual, index, stride);
    UNROLL
    for (unsigned i = 0; i < ROWS; i++) {
      Vector<T, WIDTH> result;
      UNROLL
      for (unsigned c = 0; c < WIDTH; c++) {
        float value = (to_float(inputs[i].values[c]) - mean[c]) * scale[c] + bias[c];
        if (params.residual) value += to_float(residuals[i].values[c]);
        if (params.relu && value < 0.0f) value = 0.0f;
        result.values[c] = from_float<T>(value);
      }
      store_vector(static_cast<T*>(params.result) + index + i * stride, result);
    }
  }
};

template <class T, unsigned WIDTH>
DEVICE void normalise(const BatchNormParams& params) {
  const Owned owned = owned_by_thread(params);
  if (!owned.any) return;
  Normalise<T, WIDTH> work{params};
  UNROLL
  for (unsigned c = 0; c < WIDTH; c++) {
    work.mean[c] = params.mean[owned.channel + c];
    work.scale[c] = params.weight[owned.channel + c] * params.inverse_deviation[owned.channel + c];
    work.bias[c] = params.bias[owned.channel + c];
  }
  for_owned_rows<FORWARD_ROWS>(params, owned, work);
}

// The output's gradients where the ReLU let the values through.
template <unsigned ROWS, class T, unsigned WIDTH>
DEVICE void load_masked_gradients(const BatchNormParams& params, float (&gradients)[ROWS][WIDTH], uint64_t index, uint64_t stride) {
  Vector<T, WIDTH> rows[ROWS], outputs[ROWS];
  load_rows(rows, params.output_gradient, index, stride);
  if (params.relu) load_rows(outputs, params.output, index, stride);
  UNROLL
  for (unsigned i = 0; i < ROWS; i++) {
    UNROLL
    for (unsigned c = 0; c < WIDTH; c++) {
      const bool passed = !params.relu || to_float(outputs[i].values[c]) > 0.0f;
      gradients[i][c] = passed ? to_float(rows[i].values[c]) : 0.0f;
    }
  }
}

template <class T, unsigned WIDTH>
struct RangeGradients {
  const BatchNormParams& params;
  float mean[WIDTH], inverse_deviation[WIDTH], gradient[WIDTH] = {}, with_input[WIDTH] = {};

  template <unsigned ROWS>
  DEVICE void rows(uint64_t index, uint64_t stride) {
    Vector<T, WIDTH> inputs[ROWS];
    float gradients[ROWS][WIDTH];
    load_rows(inputs, params.input, index, stride);
    load_masked_gradients<ROWS, T>(params, gradients, index, stride);
    UNROLL
    for (unsigned i = 0; i < ROWS; i++) {
      UNROLL
      for (unsigned c = 0; c < WIDTH; c++) {
        gradient[c] += gradients[i][c];
        with_input[c] += gradients[i][c] * ((to_float(inputs[i].values[c]) - mean[c]) * inverse_deviation[c]);
      }
    }
  }
};

template <class T, unsigned WIDTH>
DEVICE void range_gradients(const BatchNormParams& params) {
  SHARED_MEMORY(bytes);
  float* shared = reinterpret_cast<float*>(bytes);
  const Owned owned = owned_by_thread(params);
  RangeGradients<T, WIDTH> mine{params};
  if (owned.any) {
    UNROLL
    for (unsigned c = 0; c < WIDTH; c++) {
      mine.mean[c] = params.mean[owned.channel + c];
      mine.inverse_deviation[c] = params.inverse_deviation[owned.channel + c];
    }
    for_owned_rows<BACKWARD_ROWS>(params, owned, mine);
    UNROLL
    for (unsigned c = 0; c < WIDTH; c++) {
      lane_sums(shared, owned, 0, owned.row_lane)[owned.column + c] = mine.gradient[c];
      lane_sums(shared, owned, 1, owned.row_lane)[owned.column + c] = mine.with_input[c];
    }
  }
  block_barrier();
  if (!has_column(params, owned)) return;
  float gradient = 0.0f, with_input = 0.0f;
  for (uint32_t lane = 0; lane < owned.row_lanes; lane++) {
    gradient += lane_sums(shared, owned, 0, lane)[thread_index()];
    with_input += lane_sums(shared, owned, 1, lane)[thread_index()];
  }
  float* to = params.partials + uint64_t(block_y()) * 2 * params.channels + column_channel(owned);
  to[0] = gradient;
  to[params.channels] = with_input;
}

struct GradientSums {
  double gradient, with_input;
};

KERNEL(batch_norm_parameter_gradients, BatchNormParams, THREADS) {
  SHARED_MEMORY(shared);
  GradientSums* lanes = reinterpret_cast<GradientSums*>(shared);
  const uint32_t lane = thread_index() / SUM_CHANNELS, channel = block_x() * SUM_CHANNELS + thread_index() % SUM_CHANNELS;
  GradientSums sums{0.0, 0.0};
  if (channel < params.channels) {
    for (uint32_t range = lane; range < params.ranges; range += SUM_LANES) {
      const float* from = params.partials + uint64_t(range) * 2 * params.channels + channel;
      sums.gradient += from[0];
      sums.with_input += from[params.channels];
    }
  }
  lanes[thread_index()] = sums;
  block_barrier();
  if (lane != 0 || channel >= params.channels) return;
  for (unsigned from = 1; from < SUM_LANES; from++) {
    sums.gradient += lanes[from * SUM_CHANNELS + thread_index()].gradient;
    sums.with_input += lanes[from * SUM_CHANNELS + thread_index()].with_input;
  }
  params.bias_gradient[channel] = float(sums.gradient);
  params.weight_gradient[channel] = float(sums.with_input);
}

// input gradient = scale (gradient - gradient_mean - slope (input - mean)): what the statistics themselves pass on is in the last two.
template <class T, unsigned WIDTH>
struct InputGradient {
  const BatchNormParams& params;
  float mean[WIDTH], scale[WIDTH], gradient_mean[WIDTH], slope[WIDTH];

  template <unsigned ROWS>
  DEVICE void rows(uint64_t index, uint64_t stride) {
    Vector<T, WIDTH> inputs[ROWS];
    float gradients[ROWS][WIDTH];
    if (!params.frozen) load_rows(inputs, params.input, index, stride);
    load_masked_gradients<ROWS, T>(params, gradients, index, stride);
    UNROLL
    for (unsigned i = 0; i < ROWS; i++) {
      Vector<T, WIDTH> masked, result;
      UNROLL
      for (unsigned c = 0; c < WIDTH; c++) {
        float gradient = gradients[i][c];
        masked.values[c] = from_float<T>(gradient);
        if (!params.frozen) gradient = gradient - gradient_mean[c] - (to_float(inputs[i].values[c]) - mean[c]) * slope[c];
        result.values[c] = from_float<T>(gradient * scale[c]);
      }
      if (params.residual_gradient) store_vector(static_cast<T*>(params.residual_gradient) + index + i * stride, masked);
      store_vector(static_cast<T*>(params.result) + index + i * stride, result);
    }
  }
};

template <class T, unsigned WIDTH>
DEVICE void input_gradient(const BatchNormParams& params) {
  const Owned owned = owned_by_thread(params);
  if (!owned.any) return;
  InputGradient<T, WIDTH> work{params};
  UNROLL
  for (unsigned c = 0; c < WIDTH; c++) {
    const uint32_t channel = owned.channel + c;
    work.mean[c] = params.mean[channel];
    work.scale[c] = params.weight[channel] * params.inverse_deviation[channel];
    work.gradient_mean[c] = params.bias_gradient[channel] * params.inverse_rows;
    work.slope[c] = params.weight_gradient[channel] * params.inverse_rows * params.inverse_deviation[channel];
  }
  for_owned_rows<BACKWARD_ROWS>(params, owned, work);
}

#define FOR_WIDTH(NAME, FORMAT, TYPE)                                                                          \
  KERNEL(batch_norm_##NAME##_##FORMAT, BatchNormParams, THREADS) {                                             \
    if (params.width == 1) NAME<TYPE, 1>(params);                                                              \
    else NAME<TYPE, VECTOR_BYTES / sizeof(TYPE)>(params);                                                      \
  }
#define BATCH_NORM(FORMAT, TYPE)            \
  FOR_WIDTH(range_moments, FORMAT, TYPE)    \
  FOR_WIDTH(normalise, FORMAT, TYPE)        \
  FOR_WIDTH(range_gradients, FORMAT, TYPE)  \
  FOR_WIDTH(input_gradient, FORMAT, TYPE)
BATCH_NORM(f32, float)
BATCH_NORM(f16, Half)
BATCH_NORM(bf16, Bfloat)
