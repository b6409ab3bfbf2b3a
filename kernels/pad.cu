// Rows made wider by zeros, or narrower: the stem's three channels as convolutions want them, and the gradient of its filter back.
//
// One thread makes one value. Any widths, fewer than 2^32 blocks. Bound by bytes: one read and one write.
#include "device/device.cuh"

constexpr unsigned THREADS = 256;

struct PadParams {
  const void* input;   // (rows, from)
  void* output;        // (rows, to)
  uint64_t rows;
  uint32_t from, to;
};

template <class Input, class Output>
DEVICE void pad(const PadParams& params) {
  const uint64_t index = uint64_t(block_x()) * THREADS + thread_index();
  if (index >= params.rows * params.to) return;
  const uint64_t row = index / params.to;
  const uint32_t column = uint32_t(index % params.to);
  const float value = column < params.from ? to_float(static_cast<const Input*>(params.input)[row * params.from + column]) : 0.0f;
  static_cast<Output*>(params.output)[index] = from_float<Output>(value);
}

KERNEL(pad_f32_f32, PadParams, THREADS) { pad<float, float>(params); }
KERNEL(pad_f16_f16, PadParams, THREADS) { pad<Half, Half>(params); }
KERNEL(pad_bf16_bf16, PadParams, THREADS) { pad<Bfloat, Bfloat>(params); }
KERNEL(pad_f16_f32, PadParams, THREADS) { pad<Half, float>(params); }
KERNEL(pad_bf16_f32, PadParams, THREADS) { pad<Bfloat, float>(params); }
