// 16-bit floating-point numbers, without a vendor header: NVRTC then needs no include path.
#pragma once
#include "platform.cuh"

struct Half {
  uint16_t bits;
};
struct Bfloat {
  uint16_t bits;
};

#if defined(__CUDACC__)

DEVICE float to_float(Half value) {
  float result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
  return result;
}
DEVICE float to_float(Bfloat value) { return __uint_as_float(uint32_t(value.bits) << 16); }
DEVICE void convert(float value, Half& result) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value)); }
DEVICE void convert(float value, Bfloat& result) { asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(value)); }
// The first source operand becomes the upper half.
DEVICE void pack_pair(float low, float high, uint32_t& pair, Half) { asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low)); }
DEVICE void pack_pair(float low, float high, uint32_t& pair, Bfloat) { asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low)); }
DEVICE uint32_t float_bits(float value) { return __float_as_uint(value); }
DEVICE float bits_float(uint32_t bits) { return __uint_as_float(bits); }
DEVICE float infinity() { return __uint_as_float(0x7f800000u); }
DEVICE bool is_finite(float value) { return (__float_as_uint(value) & 0x7f800000u) != 0x7f800000u; }

#else

#include "half.hpp"

DEVICE float to_float(Half value) { return half::from_half(value.bits); }
DEVICE float to_float(Bfloat value) { return half::from_bfloat(value.bits); }
DEVICE void convert(float value, Half& result) { result.bits = half::to_half(value); }
DEVICE void convert(float value, Bfloat& result) { result.bits = half::to_bfloat(value); }
DEVICE void pack_pair(float low, float high, uint32_t& pair, Half) { pair = half::to_half(low) | uint32_t(half::to_half(high)) << 16; }
DEVICE void pack_pair(float low, float high, uint32_t& pair, Bfloat) { pair = half::to_bfloat(low) | uint32_t(half::to_bfloat(high)) << 16; }
DEVICE uint32_t float_bits(float value) { return half::as_bits(value); }
DEVICE float bits_float(uint32_t bits) { return half::as_float(bits); }
DEVICE float infinity() { return half::as_float(0x7f800000u); }
DEVICE bool is_finite(float value) { return (half::as_bits(value) & 0x7f800000u) != 0x7f800000u; }

#endif

DEVICE float to_float(float value) { return value; }
DEVICE void convert(float value, float& result) { result = value; }

template <class T>
DEVICE T from_float(float value) {
  T result;
  convert(value, result);
  return result;
}

// Unsigned integers in the order of the numbers; no finite number becomes 0.
DEVICE uint32_t ordered_bits(float value) {
  const uint32_t bits = float_bits(value);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
DEVICE float from_ordered_bits(uint32_t ordered) { return bits_float(ordered & 0x80000000u ? ordered & 0x7fffffffu : ~ordered); }

// The numbers next to one; the same for an infinite one that has none.
DEVICE float next_above(float value) { return value == infinity() ? value : from_ordered_bits(ordered_bits(value == 0.0f ? 0.0f : value) + 1); }
DEVICE float next_below(float value) { return -next_above(-value); }

// Two neighbours in one register, the first in the lower half.
template <class T>
DEVICE uint32_t pack_pair(float low, float high) {
  uint32_t pair;
  pack_pair(low, high, pair, T{});
  return pair;
}

// Neighbours that move in one access; their address is a multiple of their size.
template <class T, unsigned WIDTH>
struct alignas(sizeof(T) * WIDTH) Vector {
  T values[WIDTH];
};
constexpr unsigned VECTOR_BYTES = 16;

template <unsigned WIDTH, class T>
DEVICE Vector<T, WIDTH> load_vector(const T* from) {
  return *reinterpret_cast<const Vector<T, WIDTH>*>(from);
}
template <class T, unsigned WIDTH>
DEVICE void store_vector(T* to, const Vector<T, WIDTH>& value) {
  *reinterpret_cast<Vector<T, WIDTH>*>(to) = value;
}

template <class T, unsigned WIDTH>
DEVICE Vector<T, WIDTH> rounded(const float (&values)[WIDTH]) {
  Vector<T, WIDTH> result;
  UNROLL
  for (unsigned c = 0; c < WIDTH; c++) result.values[c] = from_float<T>(values[c]);
  return result;
}

// Whether vectors may start at all these addresses.
template <class... T>
DEVICE bool vectors_start_at(const T*... buffers) {
  return ((reinterpret_cast<uint64_t>(buffers) % VECTOR_BYTES == 0) && ...);
}
