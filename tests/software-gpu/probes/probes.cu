// Small kernels that do one thing wrong on request, so that the software GPU's own tests can see it found.
#include "device/device.cuh"

constexpr unsigned THREADS = 64;

enum class Fault : uint32_t {
  None,
  MissingBarrier,
  WaitOffByOne,
  NoWait,
  PlainStoreForAtomic,
  DivergentBarrier,
  DivergentShuffle,
  MisalignedLoad,
  OutsideShared,
  BankConflict,
  WarpWithoutBarrier,
  WriteAfterRead,
  StrayWrite,
  NeverWritten,
};

struct ProbeParams {
  float* output;
  const float* input;
  uint32_t count;
  uint32_t stray;  // distance of a stray access, in elements past `count`
  Fault fault;
  uint32_t padding;
};

// output[i] = 2 input[i], and one element too far away.
KERNEL(probe_scale, ProbeParams, THREADS) {
  const uint32_t i = block_x() * THREADS + thread_index();
  if (i < params.count) params.output[i] = 2.0f * params.input[i];
  if (i == 0 && params.fault == Fault::StrayWrite) params.output[params.count + params.stray] = 1.0f;
}

// output[i] = what another warp wrote to shared memory.
KERNEL(probe_exchange, ProbeParams, THREADS) {
  SHARED_MEMORY(memory);
  float* values = reinterpret_cast<float*>(memory);
  const uint32_t i = thread_index(), other = THREADS - 1 - i;
  for (int round = 0; round < 2; round++) {
    if (params.fault != Fault::NeverWritten) values[i] = params.input[i] + float(round);
    if (params.fault != Fault::MissingBarrier) block_barrier();
    params.output[i] = values[other];
    if (params.fault != Fault::WriteAfterRead) block_barrier();
  }
}

// The same within a warp.
KERNEL(probe_warp_exchange, ProbeParams, WARP_SIZE) {
  SHARED_MEMORY(memory);
  float* values = reinterpret_cast<float*>(memory);
  const uint32_t i = thread_index();
  values[i] = params.input[i];
  if (params.fault != Fault::WarpWithoutBarrier) warp_barrier();
  params.output[i] = values[WARP_SIZE - 1 - i];
}

// output = input through asynchronous copies in two groups.
KERNEL(probe_copy, ProbeParams, THREADS) {
  SHARED_MEMORY(memory);
  const uint32_t shared = shared_address(memory), i = thread_index();
  copy_async_4(shared + i * 4, params.input + i, true);
  copy_async_commit();
  copy_async_4(shared + (THREADS + i) * 4, params.input + THREADS + i, true);
  copy_async_commit();
  if (params.fault == Fault::WaitOffByOne) {
    copy_async_wait<1>();
  } else if (params.fault != Fault::NoWait) {
    copy_async_wait<0>();
  }
  block_barrier();
  const float* values = reinterpret_cast<const float*>(memory);
  const float first = values[i], second = values[THREADS + i];
  copy_async_wait<0>();
  params.output[i] = first;
  params.output[THREADS + i] = second;
}

// output[0] = the number of threads of all blocks.
KERNEL(probe_count, ProbeParams, THREADS) {
  if (params.fault == Fault::PlainStoreForAtomic) {
    params.output[0] = params.output[0] + 1.0f;
  } else {
    atomic_add(params.output, 1.0f);
  }
}

// Collectives that not everybody reaches.
KERNEL(probe_divergence, ProbeParams, THREADS) {
  const bool low = lane_index() < WARP_SIZE / 2;
  if (params.fault == Fault::DivergentBarrier && warp_index() == 1) return;
  block_barrier();
  float value = float(lane_index());
  if (params.fault == Fault::DivergentShuffle && low) {
    value = float(warp_ballot(true));
  } else {
    value = warp_sum(value);
  }
  params.output[thread_index()] = value;
}

// Loads an 8 x 8 matrix four times.
KERNEL(probe_load, ProbeParams, WARP_SIZE) {
  SHARED_MEMORY(memory);
  uint32_t* words = reinterpret_cast<uint32_t*>(memory);
  for (uint32_t i = lane_index(); i < 512; i += WARP_SIZE) words[i] = i;
  warp_barrier();
  const uint32_t pitch = params.fault == Fault::BankConflict ? 128 : 16;
  uint32_t address = shared_address(memory) + lane_index() % 8 * pitch;
  if (params.fault == Fault::MisalignedLoad) address += 2;
  if (params.fault == Fault::OutsideShared) address += 4096;
  uint32_t registers[4];
  load_matrices(registers, address);
  params.output[lane_index()] = float(registers[0]);
}
