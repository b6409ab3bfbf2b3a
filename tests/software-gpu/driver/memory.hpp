// Device memory: every allocation lives between two unreadable guards and stays unreadable after it is freed.
//
//   | guard | canary ... | data, aligned | canary, less than the alignment | guard |
//
// An access to a guard faults at once (fault.cpp); a write to a canary is seen after each kernel. Fresh data is 0xff: NaN in every
// floating-point format, -1 in integers.
#pragma once
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "abi.hpp"
#include "launch.hpp"

namespace device {

struct Allocation {
  uint8_t* mapping;
  size_t mapping_bytes;
  uint8_t* data;
  size_t bytes;
  uint64_t number;
  bool pinned_host;
  bool free_requested = false;
  bool freed = false;
};

// Whose memory an address is in.
enum class Ownership { Nobody, PinnedHost, Device };

class Memory {
 public:
  CUresult allocate(size_t bytes, bool pinned_host, void** out);
  // At the call of a free: finds double frees and pointers into the middle.
  CUresult request_free(const void* pointer, const char* call);
  // When the free executes.
  void free(const void* pointer);
  // Whether `bytes` at `pointer` are inside one live allocation; reports where they are if not.
  bool valid(const void* pointer, size_t bytes, const char* what);
  bool pinned_host(const void* pointer) const;
  Ownership owner(const void* pointer) const;
  std::string describe(const void* pointer) const;
  // Reports and repairs writes beside allocations.
  bool canaries_intact(const char* after);
  size_t live() const;
  size_t live_bytes() const;
  std::vector<emulator::Region> regions() const;
  // Start, bytes and number of everything a kernel may touch.
  template <class Range>
  std::vector<Range> ranges() const {
    std::vector<Range> found;
    for (auto& [_, allocation] : all_) {
      if (!allocation.freed) found.push_back({reinterpret_cast<uintptr_t>(allocation.data), allocation.bytes, allocation.number});
    }
    return found;
  }
  void report_leaks_and_free_all();

 private:
  const Allocation* around(const void* pointer) const;
  bool canary_intact(const Allocation& allocation, const char* after);
  std::map<uintptr_t, Allocation> all_;
  std::deque<uintptr_t> quarantine_;
  uint64_t next_number_ = 1;
};

Memory& memory();

// Of the device.
size_t total_bytes();

// A fault found by the software GPU: printed, and kept for the tests.
void report(const char* format, ...) __attribute__((format(printf, 1, 2)));

}  // namespace device
