// Pooling of NHWC activations: 3 x 3 maximum, stride 2, padding 1 (the ResNet stem), and global average or maximum, with gradients.
//
// The maximum's position is not stored: the backward pass looks for it again, row by row of a window, and gathers, so that it needs no
// atomics. Among equal maxima the first in row-major order wins, and a NaN wins over everything, as in torch. A thread makes 16 bytes
// of neighbouring channels, or a single one where a row is no whole number of 16 bytes or a buffer does not start on them. Images of
// less than 2^31 values, less than 2^32 threads. Bound by bytes: each input and output once.
#include "device/device.cuh"

constexpr unsigned THREADS = 128;
constexpr int WINDOW = 3, STRIDE = 2, PADDING = 1;
constexpr int STRIP = 8;         // output rows that a thread of the backward pass goes down
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

// The largest values of some positions, and which of them come first among the largest in the order they were looked at.
template <unsigned WIDTH>
struct Maxima {
  float best[WIDTH];
  int where[WIDTH];        // row * width + column

  DEVICE void look_at(unsigned c, float value, int position) {
    if (!(value <= best[c]) && best[c] == best[c]) {
      best[c] = value;
      where[c] = position;
    }
  }
  DEVICE void follow_with(const Maxima& later) {
    UNROLL
    for (unsigned c = 0; c < WIDTH; c++) look_at(c, later.best[c], later.where[c]);
  }
};

// Of a row's positions in the windows of neighbouring output columns. Positions outside the image take the value of the nearest one
// inside, which the window holds as well: it may count twice.
template <class T, unsigned WIDTH, unsigned WINDOWS>
DEVICE void maxima_of_row(const PoolParams& params, const Place& channels, int row, int out_column, Maxima<WIDTH> (&maxima)[WINDOWS]) {
  UNROLL
  for (int i = 0; i < int(WINDOWS - 1) * STRIDE + WINDOW; i++) {
    const Place pixel{channels.image, channels.channel, limited(row, params.height), limited(out_column * STRIDE - PADDING + i, params.width), true};
    const int position = pixel.row * int(params.width) + pixel.column;
    const auto values = load_vector<WIDTH>(at(static_cast<const T*>(params.input), pixel, params.height, params.width, params.channels));
    UNROLL
    for (int window = 0; window < int(WINDOWS); window++) {
      UNROLL
      for (unsigned c = 0; c < WIDTH; c++) {
        const int place = i - window * STRIDE;
        const float value = to_float(values.values[c]);
        if (place == 0) maxima[window].best[c] = value, maxima[window].where[c] = position;
        else if (place > 0 && place < WINDOW) maxima[window].look_at(c, value, position);
      }
    }
  }
}

template <class T, unsigned WIDTH>
DEVICE void max_pool_forward(const PoolParams& params) {
  const Place place = place_of_thread(params, params.out_height, params.out_width);
  if (!place.inside) return;
  const int row = place.row * STRIDE - PADDING;
  Maxima<WIDTH> rows[WINDOW][1];
  UNROLL
  for (int i = 0; i < WINDOW; i++) {
    maxima_of_row<T>(params, place, row + i, place.column, rows[i]);
    if (i > 0) rows[0][0].follow_with(rows[i][0]);
  }
  T* output = at(static_cast<T*>(params.output), place, params.out_height, params.out_width, params.channels);
  store_vector(output, rounded<T>(rows[0][0].best));
}

// A thread goes down a strip of two columns, whose pixels are in windows of two output columns. Windows of neighbouring rows share a
// row of pixels: its maxima begin those of the next windows, and its sums end with what those give.
template <class T, unsigned WIDTH>
DEVICE void max_pool_backward(const PoolParams& params) {
  const Place strip = place_of_thread(params, (params.out_height + STRIP - 1) / STRIP, params.out_width);
  if (!strip.inside) return;
  const int first = strip.row * STRIP, end = limited(first + STRIP, params.out_height + 1);
  Maxima<WIDTH> maxima[STRIDE];
  Vector<T, WIDTH> gradients[STRIDE];
  float sums[STRIDE][WIDTH] = {};
  // What the windows give to the pixel of a row and a column of the strip. The first column is in those of one output column.
  const auto add = [&](int row, int column) {
    const int own = row * int(params.width) + strip.column * STRIDE + column;
    UNROLL
    for (int window = 0; window <= column; window++) {
      UNROLL
      for (unsigned c = 0; c < WIDTH; c++) sums[column][c] += maxima[window].where[c] == own ? to_float(gradients[window].values[c]) : 0.0f;
    }
  };
  // The end of a pixel's sums.
  const auto finish = [&](int row, int column, bool mine) {
    const Place pixel{strip.image, strip.channel, row, strip.column * STRIDE + column, true};
    if (mine && row < int(params.height) && pixel.column < int(params.width)) {
      T* result = at(static_cast<T*>(params.input_gradient), pixel, params.height, params.width, params.channels);
      store_vector(result, rounded<T>(sums[column]));
    }
    UNROLL
    for (unsigned c = 0; c < WIDTH; c++) sums[column][c] = 0.0f;
  };
  maxima_of_row<T>(params, strip, first * STRIDE - PADDING, strip.column, maxima);
  for (int out_row = first; out_row <= end; out_row++) {
    const int row = out_row * STRIDE;
    Maxima<WIDTH> middle[STRIDE], last[STRIDE];
    maxima_of_row<T>(params, strip, row, strip.column, middle);
    maxima_of_row<T>(params, strip, row + 1, strip.column, last);
    UNROLL
    for (int i = 0; i < STRIDE; i++) {
      maxima[i].follow_with(middle[i]);
      maxima[i].follow_with(last[i]);
      gradients[i] = {};
      const int out_column = strip.column + i;
      if (out_row >= int(params.out_height) || out_column >= int(params.out_width)) continue;
      const Place out{strip.image, strip.channel, out_row, out_column, true};
      const T* from = static_cast<const T*>(params.output_gradient);
      gradients[i] = load_vector<WIDTH>(at(from, out, params.out_height, params.out_width, params.channels));
    }
    UNROLL
    for (int column = 0; column < STRIDE; column++) {
      add(row - 1, column);
      finish(row - 1, column, out_row > first);
      add(row, column);
      finish(row, column, out_row < end);
      add(row + 1, column);
    }
    UNROLL
    for (int i = 0; i < STRIDE; i++) maxima[i] = last[i];
  }
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
  store_vector(output, rounded<T>(results));
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
    store_vector(result + i * params.channels, rounded<T>(mine));
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
