// L2 normalisation of rows, forward and backward.
//
// Forward: f = z / |z|. Backward: dz = (g - f (f . g)) / |z|. Both are zeros for a row shorter than 1e-12, which has no direction.
// One warp owns a row; nothing but the norms is stored beside the result. Any dim >= 1, any number of rows.
// Bound by bytes: one read and one write of each row from second-level cache (rows are at most 8 KiB), launch latency below 1 MiB.
#include "device/device.cuh"

constexpr unsigned THREADS = 256;
constexpr unsigned ROWS_PER_BLOCK = THREADS / WARP_SIZE;
static_assert(THREADS % WARP_SIZE == 0, "a row is one warp's");

constexpr float SMALLEST_NORM = 1e-12f;

struct L2NormalizeParams {
  const void* input;
  void* output;
  float* norms;
  uint32_t rows, dim;
};

struct L2NormalizeBackwardParams {
  const void* output;
  const float* norms;
  const float* output_gradient;
  void* input_gradient;
  uint32_t rows, dim;
};

DEVICE uint32_t owned_row() { return block_x() * ROWS_PER_BLOCK + warp_index(); }

template <class Input>
DEVICE float norm_of(const Input* row, uint32_t dim) {
  float squares = 0.0f;
  for (uint32_t i = lane_index(); i < dim; i += WARP_SIZE) {
    const float value = to_float(row[i]);
    squares += value * value;
  }
  return sqrtf(warp_sum(squares));
}

template <class Input, class Output>
DEVICE void write_unit_row(const Input* from, Output* to, uint32_t dim, float norm) {
  const bool short_row = norm < SMALLEST_NORM;
  const float scale = 1.0f / norm;
  for (uint32_t i = lane_index(); i < dim; i += WARP_SIZE) to[i] = from_float<Output>(short_row ? 0.0f : to_float(from[i]) * scale);
}

template <class Input, class Output>
DEVICE void forward(const L2NormalizeParams& params) {
  const uint32_t row = owned_row();
  if (row >= params.rows) return;
  const Input* from = static_cast<const Input*>(params.input) + uint64_t(row) * params.dim;
  const float norm = norm_of(from, params.dim);
  write_unit_row(from, static_cast<Output*>(params.output) + uint64_t(row) * params.dim, params.dim, norm);
  if (lane_index() == 0) params.norms[row] = norm;
}

template <class Value>
DEVICE void backward(const L2NormalizeBackwardParams& params) {
  const uint32_t row = owned_row();
  if (row >= params.rows) return;
  const uint64_t start = uint64_t(row) * params.dim;
  const Value* output = static_cast<const Value*>(params.output) + start;
  const float* gradient = params.output_gradient + start;
  float along = 0.0f;
  for (uint32_t i = lane_index(); i < params.dim; i += WARP_SIZE) along += to_float(output[i]) * gradient[i];
  along = warp_sum(along);
  const bool short_row = params.norms[row] < SMALLEST_NORM;
  const float scale = 1.0f / params.norms[row];
  Value* to = static_cast<Value*>(params.input_gradient) + start;
  for (uint32_t i = lane_index(); i < params.dim; i += WARP_SIZE) {
    to[i] = from_float<Value>(short_row ? 0.0f : (gradient[i] - to_float(output[i]) * along) * scale);
  }
}

KERNEL(l2_normalize_forward_f32_f32, L2NormalizeParams, THREADS) { forward<float, float>(params); }
KERNEL(l2_normalize_forward_f32_f16, L2NormalizeParams, THREADS) { forward<float, Half>(params); }
KERNEL(l2_normalize_forward_f32_bf16, L2NormalizeParams, THREADS) { forward<float, Bfloat>(params); }
KERNEL(l2_normalize_forward_f16_f16, L2NormalizeParams, THREADS) { forward<Half, Half>(params); }
KERNEL(l2_normalize_forward_bf16_bf16, L2NormalizeParams, THREADS) { forward<Bfloat, Bfloat>(params); }

KERNEL(l2_normalize_backward_f32, L2NormalizeBackwardParams, THREADS) { backward<float>(params); }
KERNEL(l2_normalize_backward_f16, L2NormalizeBackwardParams, THREADS) { backward<Half>(params); }
KERNEL(l2_normalize_backward_bf16, L2NormalizeBackwardParams, THREADS) { backward<Bfloat>(params); }
