// The state of the block that is running: internal to the emulator.
#pragma once
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "fiber.hpp"
#include "launch.hpp"
#include "race.hpp"

namespace emulator {

// Shared addresses start here, so that 0 is never valid.
constexpr uint32_t SHARED_START = 1024;

struct AsyncCopy {
  uint32_t destination;
  const void* source;
  unsigned bytes, valid_bytes;
  bool landed;
};

enum class State : uint8_t { Ready, InWarpOperation, AtBarrier, Finished };

struct Thread {
  fiber::Context context;
  unsigned number = 0;
  State state = State::Ready;
  const char* waits_at = "start";
  Index index{};
  std::vector<AsyncCopy> uncommitted;
  std::deque<std::vector<AsyncCopy>> groups;
  race::Clock clock;
  const void* program_counter = nullptr;
};

struct Warp {
  unsigned arrived = 0;
  const char* operation = nullptr;
  void* arguments[WARP];
};

struct Barrier {
  unsigned arrived = 0;
  bool any = false;
  bool result = false;
};

struct Block {
  const Kernel* kernel;
  const void* params;
  Launch launch;
  Index index;
  unsigned number;

  std::vector<std::unique_ptr<Thread>> threads;
  std::vector<Warp> warps;
  Barrier barrier;
  std::deque<unsigned> runnable;
  std::vector<unsigned> warp_priority;
  std::mt19937_64 random;

  std::vector<uint8_t> shared_storage;
  uint8_t* shared = nullptr;

  fiber::Context scheduler;
  Thread* current = nullptr;
  bool in_emulator = false;  // accesses of the emulator itself are no accesses of the kernel
  bool failed = false;
};

// The block of this operating-system thread, or null outside a kernel.
Block*& running();

void make_ready(Thread& thread);
void switch_to_scheduler(State state, const char* waits_at);
// Gives other threads a chance under the random order.
void maybe_yield();
uint8_t* shared_at(uint32_t address, unsigned bytes, unsigned alignment);

struct InEmulator {
  bool before = running()->in_emulator;
  InEmulator() { running()->in_emulator = true; }
  ~InEmulator() { running()->in_emulator = before; }
};

using PerformForWarp = void (*)(void* const* arguments);
void warp_operation(const char* name, void* arguments, PerformForWarp perform, bool orders_memory = false);

}  // namespace emulator
