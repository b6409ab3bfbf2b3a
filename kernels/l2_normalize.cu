// L2 normalisation of rows, forward and backward, and the enqueue into the ring of the memory fused with it.
//
// Forward: f = z / max(|z|, 1e-12). Backward: dz = (g - f (f . g)) / |z|, and 0 . g / 1e-12 for a row of zeros, as torch. Enqueue:
// row r goes to slot (head + r) mod capacity with its label and instance id; a wrap needs no second launch.
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

struct EnqueueParams {
  const void* input;
  const int32_t* labels;
  const int32_t* instances;
  void* memory;
  int32_t* memory_labels;
  int32_t* memory_instances;
  const uint32_t* head;
  uint32_t rows, dim, capacity, padding;
};

struct RingAdvanceParams {
  uint32_t* head;
  uint32_t* count;
  uint32_t rows, capacity;
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
  const float scale = 1.0f / fmaxf(norm, SMALLEST_NORM);
  for (uint32_t i = lane_index(); i < dim; i += WARP_SIZE) to[i] = from_float<Output>(to_float(from[i]) * scale);
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
  const float scale = 1.0f / fmaxf(params.norms[row], SMALLEST_NORM);
  Value* to = static_cast<Value*>(params.input_gradient) + start;
  for (uint32_t i = lane_index(); i < params.dim; i += WARP_SIZE) {
    to[i] = from_float<Value>((gradient[i] - to_float(output[i]) * along) * scale);
  }
}

template <class Input, class Memory>
DEVICE void enqueue(const EnqueueParams& params) {
  const uint32_t row = owned_row();
  if (row >= params.rows) return;
  const uint32_t slot = (*params.head + row) % params.capacity;
  const Input* from = static_cast<const Input*>(params.input) + uint64_t(row) * params.dim;
  Memory* to = static_cast<Memory*>(params.memory) + uint64_t(slot) * params.dim;
  write_unit_row(from, to, params.dim, norm_of(from, params.dim));
  if (lane_index() == 0) {
    params.memory_labels[slot] = params.labels[row];
    params.memory_instances[slot] = params.instances[row];
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

KERNEL(enqueue_f32_f16, EnqueueParams, THREADS) { enqueue<float, Half>(params); }
KERNEL(enqueue_f32_bf16, EnqueueParams, THREADS) { enqueue<float, Bfloat>(params); }
KERNEL(enqueue_f16_f16, EnqueueParams, THREADS) { enqueue<Half, Half>(params); }
KERNEL(enqueue_bf16_bf16, EnqueueParams, THREADS) { enqueue<Bfloat, Bfloat>(params); }

// After the enqueue, on the same stream: the head is a device scalar, so that a captured step needs no new argument.
KERNEL(ring_advance, RingAdvanceParams, WARP_SIZE) {
  if (thread_index() != 0) return;
  *params.head = (*params.head + params.rows) % params.capacity;
  const uint32_t count = *params.count + params.rows;
  *params.count = count < params.capacity ? count : params.capacity;
}
