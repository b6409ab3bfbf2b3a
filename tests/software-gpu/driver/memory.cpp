#include "memory.hpp"

#include <sys/mman.h>

#include <cstdio>
#include <cstring>

#include "pretence.hpp"

namespace device {

namespace {
constexpr size_t PAGE = 4096, GUARD = 16 * PAGE, ALIGNMENT = 256, QUARANTINED = 4096;
constexpr uint8_t CANARY = 0xfd, FRESH = 0xff;
size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }
}  // namespace

size_t total_bytes() { return static_cast<size_t>(pretended_number("memory", int64_t(8) << 30)); }

Memory& memory() {
  static auto* instance = new Memory;  // never destroyed: still in use by other static destructors
  return *instance;
}

CUresult Memory::allocate(size_t bytes, bool pinned_host, void** out) {
  const size_t padded = round_up(bytes, ALIGNMENT), body = round_up(padded, PAGE), total = body + 2 * GUARD;
  if (is_to_fail("allocation")) return CUDA_ERROR_OUT_OF_MEMORY;
  if (!pinned_host && live_bytes() + bytes > total_bytes()) return CUDA_ERROR_OUT_OF_MEMORY;
  void* mapping = mmap(nullptr, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
  uint8_t* start = static_cast<uint8_t*>(mapping) + GUARD;
  if (mprotect(start, body, PROT_READ | PROT_WRITE) != 0) {
    munmap(mapping, total);
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  uint8_t* data = start + body - padded;  // at the end, so that the guard follows the padding directly
  memset(start, CANARY, static_cast<size_t>(data - start));
  memset(data, FRESH, bytes);
  memset(data + bytes, CANARY, padded - bytes);
  all_[reinterpret_cast<uintptr_t>(mapping)] = {static_cast<uint8_t*>(mapping), total, data, bytes, next_number_++, pinned_host};
  *out = data;
  return CUDA_SUCCESS;
}

const Allocation* Memory::around(const void* pointer) const {
  auto next = all_.upper_bound(reinterpret_cast<uintptr_t>(pointer));
  if (next == all_.begin()) return nullptr;
  const Allocation& candidate = std::prev(next)->second;
  return static_cast<const uint8_t*>(pointer) < candidate.mapping + candidate.mapping_bytes ? &candidate : nullptr;
}

CUresult Memory::request_free(const void* pointer, const char* call) {
  auto* allocation = const_cast<Allocation*>(around(pointer));
  if (!allocation || allocation->data != pointer) {
    report("%s: not the start of an allocation: %s", call, describe(pointer).c_str());
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (allocation->free_requested) {
    report("%s: double free of %s", call, describe(pointer).c_str());
    return CUDA_ERROR_INVALID_VALUE;
  }
  allocation->free_requested = true;
  return CUDA_SUCCESS;
}

void Memory::free(const void* pointer) {
  auto& allocation = *const_cast<Allocation*>(around(pointer));
  canary_intact(allocation, "before a free");
  allocation.freed = true;
  mprotect(allocation.mapping, allocation.mapping_bytes, PROT_NONE);
  madvise(allocation.mapping, allocation.mapping_bytes, MADV_DONTNEED);
  quarantine_.push_back(reinterpret_cast<uintptr_t>(allocation.mapping));
  if (quarantine_.size() <= QUARANTINED) return;
  auto oldest = all_.find(quarantine_.front());
  munmap(oldest->second.mapping, oldest->second.mapping_bytes);
  all_.erase(oldest);
  quarantine_.pop_front();
}

bool Memory::valid(const void* pointer, size_t bytes, const char* what) {
  if (bytes == 0) return true;
  const Allocation* allocation = around(pointer);
  auto* start = static_cast<const uint8_t*>(pointer);
  const bool inside = allocation && !allocation->freed && start >= allocation->data &&
                      start <= allocation->data + allocation->bytes && bytes <= size_t(allocation->data + allocation->bytes - start);
  if (!inside) report("%s of %zu bytes: %s", what, bytes, describe(pointer).c_str());
  return inside;
}

bool Memory::pinned_host(const void* pointer) const { return owner(pointer) == Ownership::PinnedHost; }

Ownership Memory::owner(const void* pointer) const {
  const Allocation* allocation = around(pointer);
  if (!allocation || allocation->freed) return Ownership::Nobody;
  return allocation->pinned_host ? Ownership::PinnedHost : Ownership::Device;
}

std::string Memory::describe(const void* pointer) const {
  const Allocation* allocation = around(pointer);
  if (!allocation) return "not device memory";
  auto* p = static_cast<const uint8_t*>(pointer);
  const uint8_t* end = allocation->data + allocation->bytes;
  const char* state = allocation->freed ? "freed " : "";
  char text[200];
  const unsigned long number = allocation->number;
  if (p < allocation->data) {
    snprintf(text, sizeof text, "%td bytes before %sallocation %lu (%zu bytes)", allocation->data - p, state, number, allocation->bytes);
  } else if (p < end) {
    snprintf(text, sizeof text, "byte %td of %sallocation %lu (%zu bytes)", p - allocation->data, state, number, allocation->bytes);
  } else {
    snprintf(text, sizeof text, "%td bytes past the end of %sallocation %lu (%zu bytes)", p - end, state, number, allocation->bytes);
  }
  return text;
}

bool Memory::canary_intact(const Allocation& allocation, const char* after) {
  const uint8_t* hit = nullptr;
  auto inspect = [&](uint8_t* from, uint8_t* to) {
    for (uint8_t* p = from; p < to; p++) {
      if (*p == CANARY) continue;
      if (!hit) hit = p;
      *p = CANARY;
    }
  };
  inspect(allocation.mapping + GUARD, allocation.data);
  inspect(allocation.data + allocation.bytes, allocation.mapping + allocation.mapping_bytes - GUARD);
  if (hit) report("out-of-bounds write, seen after %s: %s", after, describe(hit).c_str());
  return !hit;
}

bool Memory::canaries_intact(const char* after) {
  bool intact = true;
  for (auto& [_, allocation] : all_) {
    if (!allocation.freed) intact = canary_intact(allocation, after) && intact;
  }
  return intact;
}

size_t Memory::live() const {
  size_t count = 0;
  for (auto& [_, allocation] : all_) count += !allocation.freed;
  return count;
}

size_t Memory::live_bytes() const {
  size_t bytes = 0;
  for (auto& [_, allocation] : all_) bytes += allocation.freed || allocation.pinned_host ? 0 : allocation.bytes;
  return bytes;
}

std::vector<emulator::Region> Memory::regions() const {
  std::vector<emulator::Region> regions;
  for (auto& [_, allocation] : all_) {
    if (allocation.freed || allocation.pinned_host) continue;
    regions.push_back({allocation.data, allocation.bytes, "allocation " + std::to_string(allocation.number)});
  }
  return regions;
}

void Memory::report_leaks_and_free_all() {
  std::vector<const Allocation*> left;
  for (auto& [_, allocation] : all_) {
    if (!allocation.freed) left.push_back(&allocation);
  }
  for (const Allocation* allocation : left) {
    report("leak: %zu bytes of allocation %lu", allocation->bytes, static_cast<unsigned long>(allocation->number));
    free(allocation->data);
  }
}

}  // namespace device
