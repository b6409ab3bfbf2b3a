// Pooling of NHWC activations: 3 x 3 maximum, stride 2, padding 1 (the ResNet stem), and global average or maximum, with gradients.
//
// The maximum's position is not stored: the backward pass looks for it again, which reads nine neighbours from cache instead of a
// mask from memory, and gathers, so that it needs no atomics. Among equal maxima the first in row-major order wins, and a NaN wins
// over everything, as in torch. A thread makes 16 bytes of neighbouring channels, or a single one where a row is no whole number of
// 16 bytes or a buffer does not start on them. Images of less than 2^31 values, less than 2^32 threads. Bound by bytes: each input and
// output once.
#include "device/device.cuh"

constexpr unsigned THREADS = 128;
constexpr int WINDOW = 3, STRIDE = 2, PADDING = 1;
static_assert(WINDOW > STRIDE, "windows overlap: an input may be the maximum of several");

struct PoolParams {
  const void* input;
  void* output;                  // of the forward pass: written; unused by the backward pass
  const void* output_gradient;
  void* input_gradient;
  uint32_t batch, height, width, channels, out_height, out_width;
  uint32_t channels_at_once;     // 16 bytes of them, or 1
  uint32_t padding;
};

// Where a thread's channels lie in an NHWC buffer.
struct Place {
  uint32_t image, channel;
  int row, column;
  bool inside;
};

DEVICE Place place_of_thread(const PoolParams& params, uint32_t height, uint32_t width) {
  const uint32_t index = block_x() * THREADS + thread_index(), vectors = params.channels / params.channels_at_once;
  const uint32_t pixel = index / vectors, line = pixel / width;
  return {line / height, index % vectors * params.channels_at_once, int(line % height), int(pixel % width), line / height < params.batch};
}

template <class T>
DEVICE T* at(T* buffer, const Place& place, uint32_t height, uint32_t width, uint32_t channels) {
  const uint32_t pixel = uint32_t(place.row) * width + uint32_t(place.column);
  return buffer + (uint64_t(place.image) * height * width + pixel) * channels + place.channel;
}

DEVICE int limited(int value, uint32_t size) { return value < 0 ? 0 : value < int(size) ? value : int(size) - 1; }

// The maxima of a window, and which of its positions in row-major order come first among the largest. Positions outside the image
// take the value of the nearest one inside, which the window holds as well: it may count twice.
template <class T, unsigned WIDTH>
struct Maxima {
  float best[WIDTH];
  int where[WIDTH];        // row * width + column

  DEVICE Maxima(const PoolParams& params, uint32_t image, uint32_t channel, int out_row, int out_column) {
    const T* input = static_cast<const T*>(params.input) + uint64_t(image) * params.height * params.width * params.channels + channel;
    int positions[WINDOW * WINDOW];
    Vector<T, WIDTH> values[WINDOW * WINDOW];
    UNROLL
    for (int i = 0; i < WINDOW * WINDOW; i++) {
      const int row = limited(out_row * STRIDE - PADDING + i / WINDOW, params.height);
      const int column = limited(out_column * STRIDE - PADDING + i % WINDOW, params.width);
      positions[i] = row * int(params.width) + column;
      values[i] = load_vector<WIDTH>(input + uint32_t(positions[i]) * params.channels);
    }
    UNROLL
    for (unsigned c = 0; c < WIDTH; c++) {
      best[c] = to_float(values[0].values[c]);
      where[c] = positions[0];
      UNROLL
      for (int i = 1; i < WINDOW * WINDOW; i++) {
        const float value = to_float(values[i].values[c]);
        if (!(value <= best[c]) && best[c] == best[c]) {
          best[c] = value;
          where[c] = positions[i];
        }
      }
    }
  }
};

template <class T, unsigned WIDTH>
DEVICE Vector<T, WIDTH> rounded(const float (&values)[WIDTH]) {
  Vector<T, WIDTH> result;
  UNROLL
  for (unsigned c = 0; c < WIDTH; c++) result.values[c] = from_float<T>(values[c]);
  return result;
}

template <class T, unsigned WIDTH>
DEVICE void max_pool_forward(const PoolParams& params) {
  const Place place = place_of_thread(params, params.out_height, params.out_width);
  if (!place.inside) return;
  const Maxima<T, WIDTH> maxima(params, place.image, place.channel, place.row, place.column);
  T* output = at(static_cast<T*>(params.output), place, params.out_height, params.out_width, params.channels);
  store_vector(output, rounded<T, WIDTH>(maxima.best));
}

template <class T, unsigned WIDTH>
DEVICE void max_pool_backward(const PoolParams& params) {
  const Place place = place_of_thread(params, params.height, params.width);
  if (!place.inside) return;
  const int own = place.row * int(params.width) + place.column;
  float sums[WIDTH] = {};
  // The windows that hold this pixel: from ceil((row - 1) / 2) to floor((row + 1) / 2).
  const int last_row = (place.row + PADDING) / STRIDE, last_column = (place.column + PADDING) / STRIDE;
  for (int out_row = place.row / STRIDE; out_row <= last_row && out_row < int(params.out_height); out_row++) {
    for (int out_column = place.column / STRIDE; out_column <= last_column && out_column < int(params.out_width); out_column++) {
      const Maxima<T, WIDTH> maxima(params, place.image, place.channel, out_row, out_column);
      const Place out{place.image, place.channel, out_row, out_column, true};
      const T* gradient = static_cast<const T*>(params.output_gradient);
      const auto gradients = load_vector<WIDTH>(at(gradient, out, params.out_height, params.out_width, params.channels));
      UNROLL
      for (unsigned c = 0; c < WIDTH; c++) sums[c] += maxima.where[c] == own ? to_float(gradients.values[c]) : 0.0f;
    }
  }
  T* result = at(static_cast<T*>(params.input_gradient), place, params.height, params.width, params.channels);
  store_vector(result, rounded<T, WIDTH>(sums));
}

// A thread goes through all positions of its channels of an image, in order.
template <class T, unsigned WIDTH, bool MAXIMUM>
DEVICE void global_pool_forward(const PoolParams& params) {
  const Place place = place_of_thread(params, 1, 1);
  if (!place.inside) return;
  const uint32_t positions = params.height * params.width;
  const T* input = at(static_cast<const T*>(params.input), place, params.height, params.width, params.channels);
  float results[WIDTH] = {};
  for (uint32_t i = 0; i < positions; i++) {
    const Vector<T, WIDTH> values = load_vector<WIDTH>(input + i * params.channels);
    UNROLL
    for (unsigned c = 0; c < WIDTH; c++) {
      const float value = to_float(values.values[c]);
      if constexpr (MAXIMUM) {
        if (i == 0 || (!(value <= results[c]) && results[c] == results[c])) results[c] = value;
      } else {
        results[c] += value;
      }
    }
  }
  if constexpr (!MAXIMUM) {
    UNROLL
    for (unsigned c = 0; c < WIDTH; c++) results[c] /= float(positions);
  }
  T* output = static_cast<T*>(params.output) + uint64_t(place.image) * params.channels + place.channel;
  store_vector(output, rounded<T, WIDTH>(results));
}

template <class T, unsigned WIDTH, bool MAXIMUM>
DEVICE void global_pool_backward(const PoolParams& params) {
  const Place place = place_of_thread(params, 1, 1);
  if (!place.inside) return;
  const uint32_t positions = params.height * params.width;
  const T* input = at(static_cast<const T*>(params.input), place, params.height, params.width, params.channels);
  T* result = at(static_cast<T*>(params.input_gradient), place, params.height, params.width, params.channels);
  const T* from = static_cast<const T*>(params.output_gradient) + uint64_t(place.image) * params.channels + place.channel;
  const Vector<T, WIDTH> gradients = load_vector<WIDTH>(from);
  float best[WIDTH] = {}, parts[WIDTH];
  uint32_t where[WIDTH] = {};
  if constexpr (MAXIMUM) {
    for (uint32_t i = 0; i < positions; i++) {
      const Vector<T, WIDTH> values = load_vector<WIDTH>(input + i * params.channels);
      UNROLL
      for (unsigned c = 0; c < WIDTH; c++) {
        const float value = to_float(values.values[c]);
        if (i > 0 && (value <= best[c] || best[c] != best[c])) continue;
        best[c] = value;
        where[c] = i;
      }
    }
  }
  UNROLL
  for (unsigned c = 0; c < WIDTH; c++) parts[c] = MAXIMUM ? to_float(gradients.values[c]) : to_float(gradients.values[c]) / float(positions);
  for (uint32_t i = 0; i < positions; i++) {
    float mine[WIDTH];
    UNROLL
    for (unsigned c = 0; c < WIDTH; c++) mine[c] = !MAXIMUM || i == where[c] ? parts[c] : 0.0f;
    store_vector(result + i * params.channels, rounded<T, WIDTH>(mine));
  }
}

template <class T, unsigned WIDTH>
DEVICE void global_avg_pool_forward(const PoolParams& params) { global_pool_forward<T, WIDTH, false>(params); }
template <class T, unsigned WIDTH>
DEVICE void global_avg_pool_backward(const PoolParams& params) { global_pool_backward<T, WIDTH, false>(params); }
template <class T, unsigned WIDTH>
DEVICE void global_max_pool_forward(const PoolParams& params) { global_pool_forward<T, WIDTH, true>(params); }
template <class T, unsigned WIDTH>
DEVICE void global_max_pool_backward(const PoolParams& params) { global_pool_backward<T, WIDTH, true>(params); }

#define FOR_WIDTH(NAME, FORMAT, TYPE)                                        \
  KERNEL(NAME##_##FORMAT, PoolParams, THREADS) {                             \
    if (params.channels_at_once == 1) NAME<TYPE, 1>(params);                 \
    else NAME<TYPE, VECTOR_BYTES / sizeof(TYPE)>(params);                    \
  }
#define POOL(FORMAT, TYPE)                             \
  FOR_WIDTH(max_pool_forward, FORMAT, TYPE)            \
  FOR_WIDTH(max_pool_backward, FORMAT, TYPE)           \
  FOR_WIDTH(global_avg_pool_forward, FORMAT, TYPE)     \
  FOR_WIDTH(global_avg_pool_backward, FORMAT, TYPE)    \
  FOR_WIDTH(global_max_pool_forward, FORMAT, TYPE)     \
  FOR_WIDTH(global_max_pool_backward, FORMAT, TYPE)
POOL(f32, float)
POOL(f16, Half)
POOL(bf16, Bfloat)
