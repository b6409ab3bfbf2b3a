#include "race.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>

#include "block.hpp"

namespace race {

using emulator::Block;
using emulator::Region;
using emulator::Thread;

namespace {

constexpr unsigned GRANULE = 2;  // bytes a cell stands for: the smallest element any kernel uses
constexpr unsigned READERS = 4;  // readers remembered; a further one replaces a random one
constexpr uint64_t REPORTS = 4;  // a missing barrier would otherwise fill the screen

struct Epoch {
  int thread = -1;
  uint32_t time = 0;
  bool after(const Clock& clock) const { return thread >= 0 && time > clock[thread]; }
};

struct Cell {
  Epoch write;
  std::array<Epoch, READERS> reads;
  bool atomic = false;
  bool being_copied = false;
  uint64_t block = 0;  // global memory only: launch and block of the entries above
};

struct Watched {
  uintptr_t start, end;
  std::string name;
  std::vector<Cell> cells;
};

struct Detector {
  bool on = false;
  uint64_t launch = 0;
  std::vector<Watched> global_memory;
  std::vector<Cell> shared;
  const void* hook_program_counter = nullptr;
};

Detector& detector() {
  static thread_local Detector instance;
  return instance;
}

std::string source_line(const void* program_counter) {
  Dl_info library{};
  if (!program_counter || !dladdr(program_counter, &library) || !library.dli_fname) return "an unknown place";
  const auto offset = static_cast<const char*>(program_counter) - static_cast<const char*>(library.dli_fbase) - 1;
  char command[600], line[300] = "";
  snprintf(command, sizeof command, "addr2line -sie '%s' %tx 2>/dev/null | sed 's/ (disc.*//' | paste -sd'<'", library.dli_fname, offset);
  if (FILE* pipe = popen(command, "r")) {
    if (!fgets(line, sizeof line, pipe)) line[0] = 0;
    pclose(pipe);
  }
  std::string text = line[0] ? line : "an unknown place";
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

void report(const Thread& thread, const char* kind, const std::string& where, size_t offset, int other) {
  Block& block = *emulator::running();
  block.failed = true;
  if (emulator::statistics().races++ >= REPORTS) return;
  const void* counter = detector().hook_program_counter ? detector().hook_program_counter : thread.program_counter;
  char message[700];
  snprintf(message, sizeof message, "race: %s at %s + %zu, thread %u of block %u against thread %d, at %s", kind, where.c_str(), offset,
           thread.number, block.number, other, source_line(counter).c_str());
  emulator::tell(message);
}

// Returns false once it has reported something.
bool check(Cell& cell, Thread& thread, Access kind, const std::string& where, size_t offset) {
  const Clock& clock = thread.clock;
  const int self = static_cast<int>(thread.number);
  if (cell.being_copied) {
    report(thread, "access to memory that an asynchronous copy may still write", where, offset, cell.write.thread);
    return false;
  }
  const bool both_atomic = kind == Access::Atomic && cell.atomic;
  if (cell.write.thread != self && cell.write.after(clock) && !both_atomic) {
    report(thread, kind == Access::Read ? "read after an unordered write" : "write after an unordered write", where, offset, cell.write.thread);
    return false;
  }
  if (kind == Access::Read) {
    Epoch* slot = std::find_if(cell.reads.begin(), cell.reads.end(), [&](const Epoch& e) { return e.thread == self || !e.after(clock); });
    if (slot == cell.reads.end()) slot = &cell.reads[emulator::running()->random() % READERS];
    *slot = {self, clock[self]};
    return true;
  }
  for (const Epoch& read : cell.reads) {
    if (read.thread != self && read.after(clock)) {
      report(thread, "write after an unordered read", where, offset, read.thread);
      return false;
    }
  }
  cell.reads.fill({});
  cell.write = {self, clock[self]};
  cell.atomic = kind == Access::Atomic;
  return true;
}

bool check_global(Cell& cell, Thread& thread, Access kind, const std::string& where, size_t offset) {
  const uint64_t block = detector().launch << 32 | (emulator::running()->number + 1);
  if (cell.block != block) {
    const bool same_launch = cell.block >> 32 == detector().launch;
    const bool written = cell.write.thread >= 0;
    const bool read = std::any_of(cell.reads.begin(), cell.reads.end(), [](const Epoch& e) { return e.thread >= 0; });
    const bool both_atomic = kind == Access::Atomic && cell.atomic;
    if (same_launch && ((written && !both_atomic) || (read && kind != Access::Read))) {
      report(thread, "conflict with another block", where, offset, cell.write.thread);
      return false;
    }
    cell = Cell{};
    cell.block = block;
  }
  return check(cell, thread, kind, where, offset);
}

template <class Visit>
void each_cell(size_t offset, unsigned bytes, Visit visit) {
  for (size_t cell = offset / GRANULE; cell <= (offset + bytes - 1) / GRANULE; cell++) {
    if (!visit(cell)) return;
  }
}

}  // namespace

bool enabled() { return detector().on; }

void begin_launch(bool watch, const std::vector<Region>& global_memory) {
  Detector& d = detector();
  d.on = watch;
  d.launch++;
  d.global_memory.clear();
  if (!watch) return;
  for (const Region& region : global_memory) {
    const auto start = reinterpret_cast<uintptr_t>(region.start);
    d.global_memory.push_back({start, start + region.bytes, region.name, std::vector<Cell>(region.bytes / GRANULE + 1)});
  }
}

void begin_block(Block& block) {
  if (!enabled()) return;
  detector().shared.assign(block.launch.shared_bytes / GRANULE + 1, Cell{});
  for (auto& thread : block.threads) {
    thread->clock.assign(block.threads.size(), 0);
    thread->clock[thread->number] = 1;
  }
}

void synchronize(Block& block, unsigned first_thread, unsigned count) {
  if (!enabled()) return;
  Clock joined = block.threads[first_thread]->clock;
  for (unsigned t = first_thread + 1; t < first_thread + count; t++) {
    const Clock& other = block.threads[t]->clock;
    for (size_t i = 0; i < joined.size(); i++) joined[i] = std::max(joined[i], other[i]);
  }
  for (unsigned t = first_thread; t < first_thread + count; t++) {
    block.threads[t]->clock = joined;
    block.threads[t]->clock[t]++;
  }
}

void access(Thread& thread, const void* memory, unsigned bytes, Access kind) {
  if (!enabled() || bytes == 0) return;
  Detector& d = detector();
  Block& block = *emulator::running();
  const auto address = reinterpret_cast<uintptr_t>(memory), shared = reinterpret_cast<uintptr_t>(block.shared);
  if (address >= shared && address < shared + block.launch.shared_bytes) {
    each_cell(address - shared, bytes, [&](size_t cell) { return check(d.shared[cell], thread, kind, "shared memory", cell * GRANULE); });
    return;
  }
  for (Watched& region : d.global_memory) {
    if (address < region.start || address >= region.end) continue;
    if (kind != Access::Write) emulator::statistics().bytes_read += bytes;
    if (kind != Access::Read) emulator::statistics().bytes_written += bytes;
    each_cell(address - region.start, bytes, [&](size_t cell) { return check_global(region.cells[cell], thread, kind, region.name, cell * GRANULE); });
    return;
  }
}

void copy_issued(Thread& thread, uint32_t shared_offset, unsigned bytes) {
  if (!enabled()) return;
  each_cell(shared_offset, bytes, [&](size_t index) {
    Cell& cell = detector().shared[index];
    const bool clean = check(cell, thread, Access::Write, "shared memory", index * GRANULE);
    cell.being_copied = true;
    return clean;
  });
}

void copy_awaited(Thread& thread, uint32_t shared_offset, unsigned bytes) {
  if (!enabled()) return;
  each_cell(shared_offset, bytes, [&](size_t index) {
    Cell& cell = detector().shared[index];
    cell.being_copied = false;
    cell.reads.fill({});
    cell.write = {static_cast<int>(thread.number), thread.clock[thread.number]};
    cell.atomic = false;
    return true;
  });
}

}  // namespace race

// The hooks that -fsanitize=thread makes the compiler call.
namespace {

void hooked(const void* memory, unsigned bytes, race::Access kind, const void* program_counter) {
  emulator::Block* block = emulator::running();
  if (!block || !block->current || block->in_emulator || !race::enabled()) return;
  emulator::Thread& thread = *block->current;
  const auto offset = static_cast<const char*>(memory) - static_cast<const char*>(thread.context.stack_low);
  if (offset >= 0 && static_cast<size_t>(offset) < fiber::STACK_BYTES) return;
  race::detector().hook_program_counter = program_counter;
  race::access(thread, memory, bytes, kind);
  race::detector().hook_program_counter = nullptr;
  if (block->failed) emulator::switch_to_scheduler(emulator::State::Finished, "a race");
}

}  // namespace

#define HOOKS(BYTES)                                                                                                               \
  extern "C" void __tsan_read##BYTES(void* p) { hooked(p, BYTES, race::Access::Read, __builtin_return_address(0)); }               \
  extern "C" void __tsan_write##BYTES(void* p) { hooked(p, BYTES, race::Access::Write, __builtin_return_address(0)); }             \
  extern "C" void __tsan_unaligned_read##BYTES(void* p) { hooked(p, BYTES, race::Access::Read, __builtin_return_address(0)); }     \
  extern "C" void __tsan_unaligned_write##BYTES(void* p) { hooked(p, BYTES, race::Access::Write, __builtin_return_address(0)); }
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
#undef HOOKS
extern "C" {
void __tsan_read_range(void* p, size_t bytes) { hooked(p, static_cast<unsigned>(bytes), race::Access::Read, __builtin_return_address(0)); }
void __tsan_write_range(void* p, size_t bytes) { hooked(p, static_cast<unsigned>(bytes), race::Access::Write, __builtin_return_address(0)); }
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void* __tsan_memcpy(void* to, const void* from, size_t bytes) {
  hooked(from, static_cast<unsigned>(bytes), race::Access::Read, __builtin_return_address(0));
  hooked(to, static_cast<unsigned>(bytes), race::Access::Write, __builtin_return_address(0));
  return memcpy(to, from, bytes);
}
void* __tsan_memset(void* to, int value, size_t bytes) {
  hooked(to, static_cast<unsigned>(bytes), race::Access::Write, __builtin_return_address(0));
  return memset(to, value, bytes);
}
}
