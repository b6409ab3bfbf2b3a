// The CUDA execution model for a host compiler: what kernels/device/*.cuh calls when g++ compiles a kernel.
//
// Every CUDA thread is a fiber. Barriers and warp collectives switch fibers; the last lane to arrive performs a warp operation for
// all 32. Shared memory is addressed by 32-bit offsets, as on the device, and every access of an emulated instruction is checked
// for bounds and alignment. Asynchronous copies land as late as the program allows, or at once, as the schedule says.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace emulator {

constexpr unsigned WARP = 32;

struct Index {
  unsigned x, y, z;
};

// A kernel compiled for the host. `run` is called once per thread, on that thread's fiber.
struct Kernel {
  const char* name;
  size_t params_bytes;
  unsigned max_threads;
  bool race_checked;  // compiled with access hooks: see race.hpp
  void (*run)(const void* params);  // null for one that is executed as PTX only
};

// Collects the kernels of a library while it is being loaded.
void register_kernel(const Kernel& kernel);

struct Registered {
  explicit Registered(const Kernel& kernel) { register_kernel(kernel); }
};

Index thread_index();
Index block_index();
Index block_size();
Index grid_size();

void block_barrier();
bool block_barrier_or(bool predicate);
void warp_barrier();
uint32_t shuffle(uint32_t value, unsigned source_lane);
uint32_t ballot(bool predicate);

uint8_t* shared_memory();
uint32_t shared_address(const void* pointer);

void copy_async(uint32_t destination, const void* source, unsigned bytes, unsigned valid_bytes);
void copy_async_commit();
void copy_async_wait(unsigned groups_left);

enum class Format { Half, Bfloat };
void load_matrices(uint32_t (&registers)[4], uint32_t row_address, bool transposed);
void multiply_accumulate(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Format format);

// Orders nothing but other atomics, as on the device.
void note_atomic(const void* pointer, size_t bytes);

template <class T>
__attribute__((no_sanitize("thread"))) T atomic_add(T* target, T value) {
  note_atomic(target, sizeof(T));
  T old = *target;
  *target = old + value;
  return old;
}

template <class T>
__attribute__((no_sanitize("thread"))) void atomic_max(T* target, T value) {
  note_atomic(target, sizeof(T));
  if (value > *target) *target = value;
}

}  // namespace emulator
