// Rows by number: gathered from a matrix, and scattered into one with the integers that belong to them (the memory's enqueue).
//
// Gather: output row i is row index[i] of the input, widened to 32 bit; zeros where the index is negative. Scatter: row i goes to row
// index[i] of the output, nowhere if that is negative; indices that occur twice are the caller's error. The indices lie in device memory,
// so a captured step moves on in its ring. One warp owns a row. Any dim >= 1, any number of rows. Bound by bytes: one read and one write.
#include "device/device.cuh"

constexpr unsigned THREADS = 256;
constexpr unsigned ROWS_PER_BLOCK = THREADS / WARP_SIZE;
static_assert(THREADS % WARP_SIZE == 0, "a row is one warp's");

struct RowsParams {
  const void* input;
  void* output;
  const int32_t* indices;
  uint32_t rows, dim;
};

template <class Input, class Output>
DEVICE void copy_row(const Input* from, Output* to, uint32_t dim) {
  for (uint32_t i = lane_index(); i < dim; i += WARP_SIZE) to[i] = from_float<Output>(to_float(from[i]));
}

template <class Input>
DEVICE void gather(const RowsParams& params) {
  const uint32_t row = block_x() * ROWS_PER_BLOCK + warp_index();
  if (row >= params.rows) return;
  const int32_t index = params.indices[row];
  float* to = static_cast<float*>(params.output) + uint64_t(row) * params.dim;
  if (index >= 0) return copy_row(static_cast<const Input*>(params.input) + uint64_t(index) * params.dim, to, params.dim);
  for (uint32_t i = lane_index(); i < params.dim; i += WARP_SIZE) to[i] = 0.0f;
}

template <class Input, class Output>
DEVICE void scatter(const RowsParams& params) {
  const uint32_t row = block_x() * ROWS_PER_BLOCK + warp_index();
  if (row >= params.rows || params.indices[row] < 0) return;
  const Input* from = static_cast<const Input*>(params.input) + uint64_t(row) * params.dim;
  copy_row(from, static_cast<Output*>(params.output) + uint64_t(params.indices[row]) * params.dim, params.dim);
}

KERNEL(gather_rows_f32, RowsParams, THREADS) { gather<float>(params); }
KERNEL(gather_rows_f16, RowsParams, THREADS) { gather<Half>(params); }
KERNEL(gather_rows_bf16, RowsParams, THREADS) { gather<Bfloat>(params); }

KERNEL(scatter_rows_f32_f32, RowsParams, THREADS) { scatter<float, float>(params); }
KERNEL(scatter_rows_f32_f16, RowsParams, THREADS) { scatter<float, Half>(params); }
KERNEL(scatter_rows_f32_bf16, RowsParams, THREADS) { scatter<float, Bfloat>(params); }
KERNEL(scatter_rows_f16_f16, RowsParams, THREADS) { scatter<Half, Half>(params); }
KERNEL(scatter_rows_bf16_bf16, RowsParams, THREADS) { scatter<Bfloat, Bfloat>(params); }

// One integer a row.
KERNEL(scatter_integers, RowsParams, THREADS) {
  const uint32_t row = block_x() * THREADS + thread_index();
  if (row >= params.rows || params.indices[row] < 0) return;
  static_cast<int32_t*>(params.output)[params.indices[row]] = static_cast<const int32_t*>(params.input)[row];
}
