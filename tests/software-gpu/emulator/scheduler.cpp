// Runs the threads of a block: who continues next, barriers, warp operations, deadlocks.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <numeric>

#include "block.hpp"

namespace emulator {

namespace {
void print(const char* message) { fprintf(stderr, "software gpu: %s\n", message); }
constexpr size_t SHARED_ALIGNMENT = 1024;
constexpr uint8_t POISON = 0xff;  // NaN in every floating-point format, -1 in integers
}  // namespace

void (*tell)(const char* message) = print;
bool (*readable)(const void* source, size_t bytes) = [](const void*, size_t) { return true; };

Block*& running() {
  static __thread Block* block;  // not thread_local: no wrapper call on each of millions of uses
  return block;
}

Schedule& schedule() {
  static thread_local Schedule instance;
  return instance;
}

Statistics& statistics() {
  static thread_local Statistics instance{};
  return instance;
}

bool inside_kernel() { return running() && running()->current; }
Index thread_index() { return running()->current->index; }
Index block_index() { return running()->index; }
Index block_size() { return running()->launch.block; }
Index grid_size() { return running()->launch.grid; }
uint8_t* shared_memory() { return running()->shared; }

void make_ready(Thread& thread) {
  thread.state = State::Ready;
  running()->runnable.push_back(thread.number);
}

void switch_to_scheduler(State state, const char* waits_at) {
  Block& block = *running();
  Thread& thread = *block.current;
  thread.state = state;
  thread.waits_at = waits_at;
  statistics().switches++;
  const bool in_emulator = block.in_emulator;
  block.in_emulator = false;
  fiber::change(thread.context, block.scheduler, state == State::Finished);
  block.in_emulator = in_emulator;
}

void maybe_yield() {
  constexpr unsigned ONE_IN = 4;
  Block& block = *running();
  if (schedule().order != Order::Random || block.random() % ONE_IN) return;
  make_ready(*block.current);
  switch_to_scheduler(State::Ready, "yield");
}

void fail(const char* format, ...) {
  char text[400], message[500];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  Block* block = running();
  if (!block || !block->current) {
    tell(text);
    abort();
  }
  snprintf(message, sizeof message, "%s, block %u thread %u: %s", block->kernel->name, block->number, block->current->number, text);
  tell(message);
  block->failed = true;
  switch_to_scheduler(State::Finished, "an error");
  abort();
}

void warp_operation(const char* name, void* arguments, PerformForWarp perform, bool orders_memory) {
  maybe_yield();
  InEmulator guard;
  Block& block = *running();
  Thread& thread = *block.current;
  Warp& warp = block.warps[thread.number / WARP];
  if (warp.arrived == 0) warp.operation = name;
  if (strcmp(warp.operation, name) != 0) fail("the warp diverged: a lane is at '%s' while others wait at '%s'", name, warp.operation);
  warp.arguments[thread.number % WARP] = arguments;
  if (++warp.arrived < WARP) {
    switch_to_scheduler(State::InWarpOperation, name);
    return;
  }
  perform(warp.arguments);
  warp.arrived = 0;
  const unsigned first = thread.number / WARP * WARP;
  if (orders_memory) race::synchronize(block, first, WARP);
  for (unsigned t = first; t < first + WARP; t++) {
    if (t != thread.number) make_ready(*block.threads[t]);
  }
}

bool block_barrier_or(bool predicate) {
  maybe_yield();
  InEmulator guard;
  Block& block = *running();
  Barrier& barrier = block.barrier;
  barrier.any = barrier.any || predicate;
  if (++barrier.arrived < block.threads.size()) {
    switch_to_scheduler(State::AtBarrier, "the block's barrier");
    return barrier.result;
  }
  race::synchronize(block, 0, static_cast<unsigned>(block.threads.size()));
  barrier.result = barrier.any;
  barrier.arrived = 0;
  barrier.any = false;
  for (auto& thread : block.threads) {
    if (thread->state == State::AtBarrier) make_ready(*thread);
  }
  return barrier.result;
}

void block_barrier() { block_barrier_or(false); }

void warp_barrier() {
  warp_operation("warp barrier", nullptr, [](void* const*) {}, true);
}

uint32_t shared_address(const void* pointer) {
  const Block& block = *running();
  const auto offset = static_cast<const uint8_t*>(pointer) - block.shared;
  if (offset < 0 || static_cast<size_t>(offset) > block.launch.shared_bytes) fail("a pointer outside shared memory was given as a shared address");
  return SHARED_START + static_cast<uint32_t>(offset);
}

uint8_t* shared_at(uint32_t address, unsigned bytes, unsigned alignment) {
  const Block& block = *running();
  if (address < SHARED_START || size_t(address) - SHARED_START + bytes > block.launch.shared_bytes) {
    fail("%u bytes at shared offset %u are outside the %zu bytes of shared memory", bytes, address - SHARED_START, block.launch.shared_bytes);
  }
  if (address % alignment) fail("shared offset %u is not aligned to %u bytes", address - SHARED_START, alignment);
  return block.shared + (address - SHARED_START);
}

namespace {

unsigned take_next(Block& block) {
  auto& runnable = block.runnable;
  auto chosen = runnable.begin();
  switch (schedule().order) {
    case Order::Fifo: break;
    case Order::Reverse: chosen = runnable.end() - 1; break;
    case Order::Random: chosen += static_cast<long>(block.random() % runnable.size()); break;
    case Order::Greedy:
      chosen = std::min_element(runnable.begin(), runnable.end(), [&](unsigned a, unsigned b) {
        return block.warp_priority[a / WARP] < block.warp_priority[b / WARP];
      });
      break;
  }
  const unsigned thread = *chosen;
  runnable.erase(chosen);
  return thread;
}

bool copies_in_flight(const Thread& thread) {
  return !thread.uncommitted.empty() || std::any_of(thread.groups.begin(), thread.groups.end(), [](auto& group) { return !group.empty(); });
}

void thread_main() {
  Block& block = *running();
  fiber::entered(block.scheduler);
  block.kernel->run(block.params);
  if (copies_in_flight(*block.current)) fail("a thread ended before its asynchronous copies were waited for");
  switch_to_scheduler(State::Finished, "the end");
  abort();
}

void report_deadlock(const Block& block) {
  unsigned stuck = 0;
  const Thread* first = nullptr;
  for (auto& thread : block.threads) {
    if (thread->state == State::Finished) continue;
    if (!first) first = thread.get();
    stuck++;
  }
  if (!first) return;
  char message[300];
  snprintf(message, sizeof message, "%s, block %u: deadlock, %u of %zu threads cannot go on; thread %u waits at %s", block.kernel->name,
           block.number, stuck, block.threads.size(), first->number, first->waits_at);
  tell(message);
}

void prepare_block(Block& block, unsigned threads) {
  block.random.seed(schedule().seed * 1000003 + block.number);
  block.warps.resize((threads + WARP - 1) / WARP);
  block.warp_priority.resize(block.warps.size());
  std::iota(block.warp_priority.begin(), block.warp_priority.end(), 0u);
  std::shuffle(block.warp_priority.begin(), block.warp_priority.end(), block.random);

  block.shared_storage.resize(block.launch.shared_bytes + 2 * SHARED_ALIGNMENT);
  const auto start = reinterpret_cast<uintptr_t>(block.shared_storage.data());
  block.shared = reinterpret_cast<uint8_t*>((start + SHARED_ALIGNMENT - 1) / SHARED_ALIGNMENT * SHARED_ALIGNMENT);
  memset(block.shared, POISON, block.launch.shared_bytes);
  uint8_t* end = block.shared + block.launch.shared_bytes;
  fiber::forbid(end, static_cast<size_t>(block.shared_storage.data() + block.shared_storage.size() - end));

  const Index size = block.launch.block;
  for (unsigned t = 0; t < threads; t++) {
    auto thread = std::make_unique<Thread>();
    thread->number = t;
    thread->index = {t % size.x, t / size.x % size.y, t / (size.x * size.y)};
    fiber::prepare(thread->context, fiber::stack(t), thread_main);
    block.threads.push_back(std::move(thread));
    block.runnable.push_back(t);
  }
  race::begin_block(block);
}

bool run_block(Block& block) {
  const unsigned threads = block.launch.block.x * block.launch.block.y * block.launch.block.z;
  prepare_block(block, threads);
  running() = &block;
  while (!block.failed && !block.runnable.empty()) {
    block.current = block.threads[take_next(block)].get();
    fiber::change(block.scheduler, block.current->context);
    block.current = nullptr;
  }
  const bool finished = std::all_of(block.threads.begin(), block.threads.end(), [](auto& t) { return t->state == State::Finished; });
  if (!block.failed && !finished) report_deadlock(block);
  running() = nullptr;
  fiber::allow(block.shared_storage.data(), block.shared_storage.size());
  return !block.failed && finished;
}

}  // namespace

bool run(const Kernel& kernel, const Launch& launch, const void* params, const std::vector<Region>& global_memory) {
  statistics().launches++;
  const unsigned threads = launch.block.x * launch.block.y * launch.block.z;
  if (threads % WARP) {
    tell("a block of threads that is no whole number of warps is not emulated");
    return false;
  }
  race::begin_launch(kernel.race_checked, global_memory);
  std::vector<unsigned> order(size_t(launch.grid.x) * launch.grid.y * launch.grid.z);
  std::iota(order.begin(), order.end(), 0u);
  if (schedule().order != Order::Fifo) {
    std::mt19937_64 random(schedule().seed);
    std::shuffle(order.begin(), order.end(), random);
  }
  for (unsigned number : order) {
    Block block{};
    block.kernel = &kernel;
    block.params = params;
    block.launch = launch;
    block.number = number;
    block.index = {number % launch.grid.x, number / launch.grid.x % launch.grid.y, number / (launch.grid.x * launch.grid.y)};
    if (!run_block(block)) return false;
  }
  return true;
}

}  // namespace emulator
