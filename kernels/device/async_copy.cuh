// Copies from global to shared memory that go on while the threads compute (cp.async, sm_80 and later).
#pragma once
#include "platform.cuh"

constexpr unsigned ASYNC_COPY_BYTES = 16;

#if defined(__CUDACC__)

DEVICE uint32_t shared_address(const void* pointer) { return static_cast<uint32_t>(__cvta_generic_to_shared(pointer)); }

// 16 bytes; zeros when not `valid`, and `source` is then not read. Past the first-level cache: a tile is read once a block.
DEVICE void copy_async_16(uint32_t destination, const void* source, bool valid) {
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(destination), "l"(source), "r"(bytes) : "memory");
}
DEVICE void copy_async_4(uint32_t destination, const void* source, bool valid) {
  const int bytes = valid ? 4 : 0;
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(destination), "l"(source), "r"(bytes) : "memory");
}
DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int GROUPS_LEFT>
DEVICE void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(GROUPS_LEFT) : "memory");
}

#else

DEVICE uint32_t shared_address(const void* pointer) { return emulator::shared_address(pointer); }
DEVICE void copy_async_16(uint32_t destination, const void* source, bool valid) { emulator::copy_async(destination, source, 16, valid ? 16 : 0); }
DEVICE void copy_async_4(uint32_t destination, const void* source, bool valid) { emulator::copy_async(destination, source, 4, valid ? 4 : 0); }
DEVICE void copy_async_commit() { emulator::copy_async_commit(); }
template <int GROUPS_LEFT>
DEVICE void copy_async_wait() {
  emulator::copy_async_wait(GROUPS_LEFT);
}

#endif
