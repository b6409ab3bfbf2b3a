#include "interpreter.hpp"

#include "memory.hpp"
#include "state.hpp"

namespace device {

namespace {

// What src/ptx/hook.rs declares alike.
struct RegionOfLaunch {
  uint64_t start, bytes, number;
};

struct InterpretedLaunch {
  const char* name;
  uint32_t grid[3], block[3], cluster[3];
  uint32_t shared_bytes;
  int32_t order;
  uint64_t seed;
  const uint8_t* params;
  uint64_t params_bytes;
  const RegionOfLaunch* regions;
  uint64_t regions_count;
  emulator::Statistics* statistics;
  char* error;
  uint64_t error_bytes;
  bool late_copies;
};

enum Outcome { UNKNOWN, DONE, FAILED, ILLEGAL_ADDRESS };

using Interpreter = int (*)(const InterpretedLaunch*);
Interpreter interpreter;

}  // namespace

bool is_interpreted() { return interpreter != nullptr; }

std::optional<CUresult> interpret(const emulator::Kernel& kernel, const emulator::Launch& launch, const std::vector<uint8_t>& params) {
  if (!interpreter) return std::nullopt;
  const std::vector<RegionOfLaunch> regions = memory().ranges<RegionOfLaunch>();
  const auto [grid, block, shared_bytes, cluster] = launch;
  const emulator::Schedule& schedule = emulator::schedule();
  char error[600] = {};
  const InterpretedLaunch description{kernel.name, {grid.x, grid.y, grid.z}, {block.x, block.y, block.z}, {cluster.x, cluster.y, cluster.z}, static_cast<uint32_t>(shared_bytes),
                                      static_cast<int32_t>(schedule.order), schedule.seed, params.data(), params.size(), regions.data(),
                                      regions.size(), &emulator::statistics(), error, sizeof error, schedule.late_copies};
  const int outcome = interpreter(&description);
  if (outcome == UNKNOWN) return std::nullopt;
  const bool intact = memory().canaries_intact(kernel.name);
  if (outcome == DONE) return intact ? CUDA_SUCCESS : CUDA_ERROR_ILLEGAL_ADDRESS;
  report("%s", error);
  return outcome == ILLEGAL_ADDRESS ? CUDA_ERROR_ILLEGAL_ADDRESS : CUDA_ERROR_LAUNCH_FAILED;
}

}  // namespace device

EXPORT void software_gpu_interpreter(device::Interpreter chosen) {
  ENTER;
  device::interpreter = chosen;
}
