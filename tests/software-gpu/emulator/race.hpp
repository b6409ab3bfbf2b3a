// Races between the threads of a kernel, found by happens-before: vector clocks joined at barriers.
//
// A kernel library compiled with -fsanitize=thread calls a hook at every load and store; the hooks are here, and the thread
// sanitizer's own runtime is not linked. Shuffles, votes and matrix instructions deliberately order no memory. Memory that an
// asynchronous copy is about to write may not be touched until its wait. Blocks of a launch are never ordered with each other,
// except atomics with atomics.
#pragma once
#include <cstdint>
#include <vector>

namespace emulator {
struct Block;
struct Thread;
struct Region;
}  // namespace emulator

namespace race {

using Clock = std::vector<uint32_t>;
enum class Access : uint8_t { Read, Write, Atomic };

bool enabled();
void begin_launch(bool watch, const std::vector<emulator::Region>& global_memory);
void begin_block(emulator::Block& block);
// Everything any of these threads did happens before everything any of them does next.
void synchronize(emulator::Block& block, unsigned first_thread, unsigned count);
void access(emulator::Thread& thread, const void* memory, unsigned bytes, Access kind);
void copy_issued(emulator::Thread& thread, uint32_t shared_offset, unsigned bytes);
void copy_awaited(emulator::Thread& thread, uint32_t shared_offset, unsigned bytes);

}  // namespace race
