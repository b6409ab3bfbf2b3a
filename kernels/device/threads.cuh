// Threads, warps and blocks: who am I, wait for the others, combine values in a fixed order.
#pragma once
#include "platform.cuh"

constexpr unsigned WARP_SIZE = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

#if defined(__CUDACC__)

DEVICE unsigned thread_index() { return threadIdx.x; }
DEVICE unsigned block_threads() { return blockDim.x; }
DEVICE unsigned block_x() { return blockIdx.x; }
DEVICE unsigned block_y() { return blockIdx.y; }
DEVICE unsigned blocks_x() { return gridDim.x; }
DEVICE void block_barrier() { __syncthreads(); }
DEVICE bool block_any(bool predicate) { return __syncthreads_or(predicate); }
DEVICE void warp_barrier() { __syncwarp(); }
DEVICE uint32_t warp_ballot(bool predicate) { return __ballot_sync(ALL_LANES, predicate); }
template <class T>
DEVICE T warp_exchange(T value, unsigned lane_mask) {
  return __shfl_xor_sync(ALL_LANES, value, lane_mask);
}
template <class T>
DEVICE T warp_read(T value, unsigned lane) {
  return __shfl_sync(ALL_LANES, value, lane);
}
DEVICE unsigned count_bits(uint32_t bits) { return __popc(bits); }
template <class T>
DEVICE void atomic_add(T* target, T value) {
  atomicAdd(target, value);
}
template <class T>
DEVICE T atomic_fetch_add(T* target, T value) {
  return atomicAdd(target, value);
}
template <class T>
DEVICE void atomic_max(T* target, T value) {
  atomicMax(target, value);
}

#else

DEVICE unsigned thread_index() { return emulator::thread_index().x; }
DEVICE unsigned block_threads() { return emulator::block_size().x; }
DEVICE unsigned block_x() { return emulator::block_index().x; }
DEVICE unsigned block_y() { return emulator::block_index().y; }
DEVICE unsigned blocks_x() { return emulator::grid_size().x; }
DEVICE void block_barrier() { emulator::block_barrier(); }
DEVICE bool block_any(bool predicate) { return emulator::block_barrier_or(predicate); }
DEVICE void warp_barrier() { emulator::warp_barrier(); }
DEVICE uint32_t warp_ballot(bool predicate) { return emulator::ballot(predicate); }
template <class T>
DEVICE T warp_read(T value, unsigned lane) {
  static_assert(sizeof(T) == 4, "a shuffle moves 32 bits");
  uint32_t bits;
  memcpy(&bits, &value, 4);
  bits = emulator::shuffle(bits, lane);
  memcpy(&value, &bits, 4);
  return value;
}
template <class T>
DEVICE T warp_exchange(T value, unsigned lane_mask) {
  return warp_read(value, (thread_index() % WARP_SIZE) ^ lane_mask);
}
DEVICE unsigned count_bits(uint32_t bits) { return static_cast<unsigned>(__builtin_popcount(bits)); }
template <class T>
DEVICE void atomic_add(T* target, T value) {
  emulator::atomic_add(target, value);
}
template <class T>
DEVICE T atomic_fetch_add(T* target, T value) {
  return emulator::atomic_add(target, value);
}
template <class T>
DEVICE void atomic_max(T* target, T value) {
  emulator::atomic_max(target, value);
}

#endif

DEVICE unsigned lane_index() { return thread_index() % WARP_SIZE; }
DEVICE unsigned warp_index() { return thread_index() / WARP_SIZE; }
DEVICE bool warp_any(bool predicate) { return warp_ballot(predicate) != 0; }

// Sum over the warp, the same in every lane: a butterfly, so always in the same order.
template <class T>
DEVICE T warp_sum(T value) {
  UNROLL
  for (unsigned distance = WARP_SIZE / 2; distance > 0; distance /= 2) value += warp_exchange(value, distance);
  return value;
}

// Sum over the block, the same in every thread. `scratch` holds one value a warp and may be reused after the call.
template <class T>
DEVICE T block_sum(T value, T* scratch) {
  value = warp_sum(value);
  if (lane_index() == 0) scratch[warp_index()] = value;
  block_barrier();
  T total = 0;
  for (unsigned warp = 0; warp < block_threads() / WARP_SIZE; warp++) total += scratch[warp];
  block_barrier();
  return total;
}

// Sum over the threads before this one. `scratch` holds one value a warp and may be reused after the call.
template <class T>
DEVICE T block_sum_before(T value, T* scratch) {
  T through = value;
  UNROLL
  for (unsigned distance = 1; distance < WARP_SIZE; distance *= 2) {
    const T theirs = warp_read(through, lane_index() < distance ? lane_index() : lane_index() - distance);
    through += lane_index() < distance ? T(0) : theirs;
  }
  if (lane_index() == WARP_SIZE - 1) scratch[warp_index()] = through;
  block_barrier();
  T before = through - value;
  for (unsigned warp = 0; warp < warp_index(); warp++) before += scratch[warp];
  block_barrier();
  return before;
}
