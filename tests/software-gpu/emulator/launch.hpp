// How the driver runs a kernel on the emulator.
#pragma once
#include <cstdarg>
#include <string>
#include <vector>

#include "emulator.hpp"

namespace emulator {

// In which order runnable threads continue. No single schedule finds every missing synchronisation: tests use several.
enum class Order { Fifo, Reverse, Random, Greedy };

struct Schedule {
  Order order = Order::Fifo;
  uint64_t seed = 1;
  bool late_copies = true;  // asynchronous copies land at the wait that needs them, not at issue
};

// Bytes are of device memory. Every access counts in a library compiled with hooks (race.hpp), asynchronous copies alone in others.
struct Statistics {
  uint64_t launches, switches, multiplications, matrix_loads, bank_conflicts, races, bytes_read, bytes_written;
};

struct Region {
  const void* start;
  size_t bytes;
  std::string name;
};

struct Launch {
  Index grid, block;
  size_t shared_bytes;
  Index cluster{1, 1, 1};  // blocks of one
};

Schedule& schedule();      // of this operating-system thread
Statistics& statistics();  // of this operating-system thread

// Runs every block, one after another. Returns false after a fault, having told `describe_fault` in words.
// `global_memory` is watched for races between blocks when the kernel was compiled for it.
bool run(const Kernel& kernel, const Launch& launch, const void* params, const std::vector<Region>& global_memory);

// Ends the running block with an error, from inside a kernel.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));
bool inside_kernel();

// Set by the driver: where errors are told, and whether an asynchronous copy may read there (which it must report if not).
extern void (*tell)(const char* message);
extern bool (*readable)(const void* source, size_t bytes);

}  // namespace emulator
