// Copies between number formats: what 16-bit layers made to single precision, parameters and gradients to 16 bit; on the way each
// value is multiplied, to put a loss scale on a gradient or to take it off.
//
// output[i] = round(input[i] * scale), the product in single precision, rounded to nearest even. A scale of 1 changes no value that
// the output format has; f16 beyond 65,504 becomes infinite, NaN stays NaN. The buffers do not overlap.
// Any number of values below 2^40, from any element on: where both buffers start on 16 bytes a thread moves chunks of eight values,
// elsewhere and at the ragged end single ones. Bound by bytes: 6 a value.
#include "device/device.cuh"

constexpr unsigned THREADS = 256;
constexpr unsigned CHUNK_VALUES = 8;
constexpr unsigned CHUNK_ALIGNMENT = 16;

struct CastParams {
  const void* input;
  void* output;
  uint64_t len;
  float scale;
  uint32_t padding;
};

template <class Value>
struct alignas(CHUNK_ALIGNMENT) Chunk {
  Value values[CHUNK_VALUES];
  static_assert(sizeof(Value) * CHUNK_VALUES % CHUNK_ALIGNMENT == 0, "chunks follow each other without gaps");
};

DEVICE bool starts_a_chunk(const void* pointer) { return reinterpret_cast<uint64_t>(pointer) % CHUNK_ALIGNMENT == 0; }

template <class Input, class Output>
DEVICE void cast(const CastParams& params) {
  const Input* input = static_cast<const Input*>(params.input);
  Output* output = static_cast<Output*>(params.output);
  const uint64_t chunks = starts_a_chunk(input) && starts_a_chunk(output) ? params.len / CHUNK_VALUES : 0;
  const uint64_t first = uint64_t(block_x()) * THREADS + thread_index(), stride = uint64_t(blocks_x()) * THREADS;
  for (uint64_t index = first; index < chunks; index += stride) {
    const Chunk<Input> from = static_cast<const Chunk<Input>*>(params.input)[index];
    Chunk<Output> to;
    UNROLL
    for (unsigned i = 0; i < CHUNK_VALUES; i++) to.values[i] = from_float<Output>(to_float(from.values[i]) * params.scale);
    static_cast<Chunk<Output>*>(params.output)[index] = to;
  }
  for (uint64_t index = chunks * CHUNK_VALUES + first; index < params.len; index += stride) {
    output[index] = from_float<Output>(to_float(input[index]) * params.scale);
  }
}

KERNEL(cast_f32_f16, CastParams, THREADS) { cast<float, Half>(params); }
KERNEL(cast_f32_bf16, CastParams, THREADS) { cast<float, Bfloat>(params); }
KERNEL(cast_f16_f32, CastParams, THREADS) { cast<Half, float>(params); }
KERNEL(cast_bf16_f32, CastParams, THREADS) { cast<Bfloat, float>(params); }
KERNEL(cast_f32_f32, CastParams, THREADS) { cast<float, float>(params); }
