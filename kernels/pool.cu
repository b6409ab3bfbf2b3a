// Pooling of NHWC activations: 3 x 3 maximum, stride 2, padding 1 (the ResNet stem), and global average or maximum, with gradients.
//
// The maximum's position is not stored: the backward pass looks for it again, which reads nine neighbours from cache instead of a
// mask from memory, and gathers, so that it needs no atomics. Among equal maxima the first in row-major order wins, and a NaN wins
// over everything, as in torch. Any sizes. Bound by bytes: each input and output once.
#include "device/device.cuh"

constexpr unsigned THREADS = 256;
constexpr int WINDOW = 3, STRIDE = 2, PADDING = 1;
static_assert(WINDOW > STRIDE, "windows overlap: an input may be the maximum of several");

struct PoolParams {
  const void* input;
  void* output;                  // of the forward pass: written; unused by the backward pass
  const void* output_gradient;
  void* input_gradient;
  uint32_t batch, height, width, channels, out_height, out_width;
};

struct Window {
  int top, bottom, left, right;  // half open, inside the image
};

DEVICE Window window_of(const PoolParams& params, int out_row, int out_column) {
  const int top = out_row * STRIDE - PADDING, left = out_column * STRIDE - PADDING;
  const int bottom = top + WINDOW, right = left + WINDOW, height = int(params.height), width = int(params.width);
  return {top > 0 ? top : 0, bottom < height ? bottom : height, left > 0 ? left : 0, right < width ? right : width};
}

DEVICE uint64_t position(const PoolParams& params, uint32_t image, int row, int column) {
  return ((uint64_t(image) * params.height + uint32_t(row)) * params.width + uint32_t(column)) * params.channels;
}

// Offset of the maximum of a window, and the maximum.
template <class T>
DEVICE float maximum_of(const PoolParams& params, uint32_t image, const Window& window, uint32_t channel, uint64_t& where) {
  const T* input = static_cast<const T*>(params.input);
  where = position(params, image, window.top, window.left) + channel;
  float best = to_float(input[where]);
  for (int row = window.top; row < window.bottom; row++) {
    for (int column = window.left; column < window.right; column++) {
      const uint64_t at = position(params, image, row, column) + channel;
      const float value = to_float(input[at]);
      if (!(value <= best) && best == best) {
        best = value;
        where = at;
      }
    }
  }
  return best;
}

template <class T>
DEVICE void max_pool_forward(const PoolParams& params) {
  const uint64_t total = uint64_t(params.batch) * params.out_height * params.out_width * params.channels;
  const uint64_t index = uint64_t(block_x()) * THREADS + thread_index();
  if (index >= total) return;
  const uint32_t channel = uint32_t(index % params.channels);
  const uint64_t pixel = index / params.channels;
  const int out_column = int(pixel % params.out_width), out_row = int(pixel / params.out_width % params.out_height);
  const uint32_t image = uint32_t(pixel / params.out_width / params.out_height);
  uint64_t where;
  static_cast<T*>(params.output)[index] = from_float<T>(maximum_of<T>(params, image, window_of(params, out_row, out_column), channel, where));
}

template <class T>
DEVICE void max_pool_backward(const PoolParams& params) {
  const uint64_t total = uint64_t(params.batch) * params.height * params.width * params.channels;
  const uint64_t index = uint64_t(block_x()) * THREADS + thread_index();
  if (index >= total) return;
  const uint32_t channel = uint32_t(index % params.channels);
  const uint64_t pixel = index / params.channels;
  const int column = int(pixel % params.width), row = int(pixel / params.width % params.height);
  const uint32_t image = uint32_t(pixel / params.width / params.height);
  const T* gradient = static_cast<const T*>(params.output_gradient);
  float sum = 0.0f;
  // The windows that hold this pixel: from ceil((row - 1) / 2) to floor((row + 1) / 2).
  for (int out_row = row / STRIDE; out_row <= (row + PADDING) / STRIDE && out_row < int(params.out_height); out_row++) {
    for (int out_column = column / STRIDE; out_column <= (column + PADDING) / STRIDE && out_column < int(params.out_width); out_column++) {
      uint64_t where;
      maximum_of<T>(params, image, window_of(params, out_row, out_column), channel, where);
      const uint64_t out = ((uint64_t(image) * params.out_height + uint32_t(out_row)) * params.out_width + uint32_t(out_column));
      if (where == index) sum += to_float(gradient[out * params.channels + channel]);
    }
  }
  static_cast<T*>(params.input_gradient)[index] = from_float<T>(sum);
}

// A thread for each channel of each image, through all positions in order.
template <class T, bool MAXIMUM>
DEVICE void global_pool_forward(const PoolParams& params) {
  const uint64_t index = uint64_t(block_x()) * THREADS + thread_index();
  if (index >= uint64_t(params.batch) * params.channels) return;
  const uint64_t positions = uint64_t(params.height) * params.width;
  const T* input = static_cast<const T*>(params.input) + index / params.channels * positions * params.channels + index % params.channels;
  float result = MAXIMUM ? to_float(input[0]) : 0.0f;
  for (uint64_t i = 0; i < positions; i++) {
    const float value = to_float(input[i * params.channels]);
    if constexpr (MAXIMUM) {
      if (!(value <= result) && result == result) result = value;
    } else {
      result += value;
    }
  }
  static_cast<T*>(params.output)[index] = from_float<T>(MAXIMUM ? result : result / float(positions));
}

template <class T, bool MAXIMUM>
DEVICE void global_pool_backward(const PoolParams& params) {
  const uint64_t index = uint64_t(block_x()) * THREADS + thread_index();
  if (index >= uint64_t(params.batch) * params.channels) return;
  const uint64_t positions = uint64_t(params.height) * params.width;
  const uint64_t start = index / params.channels * positions * params.channels + index % params.channels;
  const T* input = static_cast<const T*>(params.input) + start;
  T* result = static_cast<T*>(params.input_gradient) + start;
  const float gradient = to_float(static_cast<const T*>(params.output_gradient)[index]);
  uint64_t where = 0;
  if constexpr (MAXIMUM) {
    float best = to_float(input[0]);
    for (uint64_t i = 1; i < positions; i++) {
      const float value = to_float(input[i * params.channels]);
      if (!(value <= best) && best == best) {
        best = value;
        where = i;
      }
    }
  }
  for (uint64_t i = 0; i < positions; i++) {
    const float part = MAXIMUM ? (i == where ? gradient : 0.0f) : gradient / float(positions);
    result[i * params.channels] = from_float<T>(part);
  }
}

#define POOL(FORMAT, TYPE)                                                                                              \
  KERNEL(max_pool_forward_##FORMAT, PoolParams, THREADS) { max_pool_forward<TYPE>(params); }                            \
  KERNEL(max_pool_backward_##FORMAT, PoolParams, THREADS) { max_pool_backward<TYPE>(params); }                          \
  KERNEL(global_avg_pool_forward_##FORMAT, PoolParams, THREADS) { global_pool_forward<TYPE, false>(params); }           \
  KERNEL(global_avg_pool_backward_##FORMAT, PoolParams, THREADS) { global_pool_backward<TYPE, false>(params); }         \
  KERNEL(global_max_pool_forward_##FORMAT, PoolParams, THREADS) { global_pool_forward<TYPE, true>(params); }            \
  KERNEL(global_max_pool_backward_##FORMAT, PoolParams, THREADS) { global_pool_backward<TYPE, true>(params); }
POOL(f32, float)
POOL(f16, Half)
POOL(bf16, Bfloat)
