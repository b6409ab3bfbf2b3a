// Which compiler reads a kernel, and how a kernel is declared.
//
// nvcc and NVRTC build it for a GPU; g++ builds the same text for the emulator of tests/software-gpu. Everything that differs
// between them is in this folder: a kernel names no vendor intrinsic and contains no assembly.
#pragma once

#if defined(__CUDACC__)

#if defined(__CUDACC_RTC__)
using int8_t = signed char;
using uint8_t = unsigned char;
using int16_t = short;
using uint16_t = unsigned short;
using int32_t = int;
using uint32_t = unsigned int;
using int64_t = long long;
using uint64_t = unsigned long long;
#else
#include <cstdint>
#endif

#define DEVICE __device__ __forceinline__
// A function that stays one: code too large to be repeated at every use.
#define DEVICE_CALL static __device__ __noinline__
// A kernel of at most THREADS threads a block, one warp-multiple block of which fits any register use; `params` is its argument.
#define KERNEL(NAME, PARAMS, THREADS) extern "C" __global__ void __launch_bounds__(THREADS, 1) NAME(const __grid_constant__ PARAMS params)
DEVICE uint8_t* dynamic_shared_memory() {
  extern __shared__ __align__(1024) uint8_t all_shared_memory[];
  return all_shared_memory;
}
#define UNROLL _Pragma("unroll")
#define ROLLED _Pragma("unroll 1")

#else

#include <cmath>
#include <cstdint>
#include <cstring>

#include "emulator.hpp"

#if defined(__SANITIZE_THREAD__)
#define RACE_CHECKED true
#else
#define RACE_CHECKED false
#endif

#define DEVICE inline
#define DEVICE_CALL inline
#define KERNEL(NAME, PARAMS, THREADS)                                                                  \
  static void NAME(const PARAMS& params);                                                              \
  static void NAME##_from_bytes(const void* bytes) {                                                   \
    PARAMS params;                                                                                     \
    memcpy(&params, bytes, sizeof params);                                                             \
    NAME(params);                                                                                      \
  }                                                                                                    \
  static const emulator::Registered NAME##_registered({#NAME, sizeof(PARAMS), THREADS, RACE_CHECKED, NAME##_from_bytes}); \
  static void NAME(const PARAMS& params)
// One that the emulator cannot run.
#define PTX_KERNEL(NAME, PARAMS, THREADS) \
  static const emulator::Registered NAME##_registered({#NAME, sizeof(PARAMS), THREADS, false, nullptr});
inline uint8_t* dynamic_shared_memory() { return emulator::shared_memory(); }
#define UNROLL
#define ROLLED

#endif

// The shared memory of the block, as many bytes as the launch asks for; it starts as whatever was there.
#define SHARED_MEMORY(NAME) uint8_t* const NAME = dynamic_shared_memory()
