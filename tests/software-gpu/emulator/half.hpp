// 16-bit floating-point formats on the host, rounded to nearest even.
#pragma once
#include <cstdint>
#include <cstring>

namespace half {

inline float as_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

inline uint32_t as_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return bits;
}

inline float from_bfloat(uint16_t bits) { return as_float(uint32_t(bits) << 16); }

inline uint16_t to_bfloat(float value) {
  const uint32_t bits = as_bits(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fff;
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// The exponent is moved by multiplying with a power of two, which also makes subnormals right.
inline float from_half(uint16_t bits) {
  const uint32_t sign = uint32_t(bits & 0x8000) << 16, magnitude = bits & 0x7fff;
  if (magnitude >= 0x7c00) return as_float(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
  return as_float(sign | as_bits(as_float(magnitude << 13) * 0x1p112f));
}

inline uint16_t to_half(float value) {
  const uint32_t bits = as_bits(value), magnitude = bits & 0x7fffffff;
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  if (magnitude > 0x7f800000) return 0x7fff;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;                                            // rounds to infinity
  if (magnitude < 0x38800000) return sign | static_cast<uint16_t>(as_bits(as_float(magnitude) + 0.5f) - 0x3f000000);  // subnormal
  return sign | static_cast<uint16_t>((magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13);
}

}  // namespace half
