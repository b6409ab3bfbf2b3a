// Warp collectives, asynchronous copies and matrix instructions.
#include <array>
#include <cmath>

#include "block.hpp"
#include "fragments.hpp"
#include "half.hpp"

namespace emulator {

uint32_t shuffle(uint32_t value, unsigned source_lane) {
  struct Arguments {
    uint32_t value;
    unsigned source;
    uint32_t result;
  } mine{value, source_lane % WARP, 0};
  warp_operation("shuffle", &mine, [](void* const* lanes) {
    for (unsigned lane = 0; lane < WARP; lane++) {
      auto* to = static_cast<Arguments*>(lanes[lane]);
      to->result = static_cast<Arguments*>(lanes[to->source])->value;
    }
  });
  return mine.result;
}

uint32_t ballot(bool predicate) {
  struct Arguments {
    bool predicate;
    uint32_t result;
  } mine{predicate, 0};
  warp_operation("ballot", &mine, [](void* const* lanes) {
    uint32_t bits = 0;
    for (unsigned lane = 0; lane < WARP; lane++) bits |= uint32_t(static_cast<Arguments*>(lanes[lane])->predicate) << lane;
    for (unsigned lane = 0; lane < WARP; lane++) static_cast<Arguments*>(lanes[lane])->result = bits;
  });
  return mine.result;
}

void note_atomic(const void* pointer, size_t bytes) {
  maybe_yield();
  Thread& thread = *running()->current;
  thread.program_counter = __builtin_return_address(0);
  race::access(thread, pointer, static_cast<unsigned>(bytes), race::Access::Atomic);
}

static void land(AsyncCopy& copy) {
  if (copy.landed) return;
  uint8_t* to = shared_at(copy.destination, copy.bytes, copy.bytes);
  memcpy(to, copy.source, copy.valid_bytes);
  memset(to + copy.valid_bytes, 0, copy.bytes - copy.valid_bytes);
  copy.landed = true;
}

void copy_async(uint32_t destination, const void* source, unsigned bytes, unsigned valid_bytes) {
  Thread& thread = *running()->current;
  thread.program_counter = __builtin_return_address(0);
  maybe_yield();
  InEmulator guard;
  shared_at(destination, bytes, bytes);
  if (reinterpret_cast<uintptr_t>(source) % bytes) fail("the source of an asynchronous copy is not aligned to its %u bytes", bytes);
  if (valid_bytes > 0 && !readable(source, valid_bytes)) fail("an asynchronous copy reads outside of its allocation");
  race::access(thread, source, valid_bytes, race::Access::Read);
  if (!race::enabled()) statistics().bytes_read += valid_bytes;
  race::copy_issued(thread, destination - SHARED_START, bytes);
  AsyncCopy copy{destination, source, bytes, valid_bytes, false};
  const bool at_once = schedule().order == Order::Random ? running()->random() % 2 : !schedule().late_copies;
  if (at_once) land(copy);
  thread.uncommitted.push_back(copy);
}

void copy_async_commit() {
  Thread& thread = *running()->current;
  thread.groups.push_back(std::move(thread.uncommitted));
  thread.uncommitted.clear();
}

void copy_async_wait(unsigned groups_left) {
  {
    InEmulator guard;
    Thread& thread = *running()->current;
    while (thread.groups.size() > groups_left) {
      for (AsyncCopy& copy : thread.groups.front()) {
        land(copy);
        race::copy_awaited(thread, copy.destination - SHARED_START, copy.bytes);
      }
      thread.groups.pop_front();
    }
  }
  maybe_yield();
}

namespace {

struct LoadArguments {
  uint32_t* registers;
  uint32_t address;
  bool transposed;
};

void count_bank_conflicts(void* const* lanes, unsigned matrix) {
  constexpr unsigned ROW_BYTES = 16, BANK_GROUPS = 8;
  unsigned used = 0;
  for (unsigned row = 0; row < 8; row++) {
    const unsigned group = static_cast<LoadArguments*>(lanes[matrix * 8 + row])->address / ROW_BYTES % BANK_GROUPS;
    if (used >> group & 1) statistics().bank_conflicts++;
    used |= 1u << group;
  }
}

void perform_load(void* const* lanes) {
  statistics().matrix_loads++;
  Block& block = *running();
  const unsigned first = block.current->number / WARP * WARP;
  for (unsigned matrix = 0; matrix < 4; matrix++) {
    count_bank_conflicts(lanes, matrix);
    std::array<const uint8_t*, 8> rows;
    for (unsigned row = 0; row < 8; row++) {
      rows[row] = shared_at(static_cast<LoadArguments*>(lanes[matrix * 8 + row])->address, 16, 16);
      race::access(*block.threads[first + matrix * 8 + row], rows[row], 16, race::Access::Read);
    }
    for (unsigned lane = 0; lane < WARP; lane++) {
      auto* to = static_cast<LoadArguments*>(lanes[lane]);
      uint16_t values[2];
      for (unsigned value = 0; value < 2; value++) {
        const auto element = fragments::load_matrix(lane, value, to->transposed);
        memcpy(&values[value], rows[element.row] + element.column * 2, 2);
      }
      memcpy(&to->registers[matrix], values, 4);
    }
  }
}

struct MultiplyArguments {
  float* d;
  const uint32_t *a, *b;
  Format format;
};

float element_of(const uint32_t* registers, unsigned value, Format format) {
  const auto bits = static_cast<uint16_t>(registers[value / 2] >> (value % 2 * 16));
  return format == Format::Half ? half::from_half(bits) : half::from_bfloat(bits);
}

// Products of 16-bit numbers are exact; their sum in double precision is rounded once, as on the PTX machine.
void perform_multiply(void* const* lanes) {
  statistics().multiplications++;
  float a[16][16], b[16][8];
  double sums[16][8];
  for (unsigned lane = 0; lane < WARP; lane++) {
    auto* from = static_cast<MultiplyArguments*>(lanes[lane]);
    for (unsigned value = 0; value < 8; value++) {
      const auto element = fragments::mma_a(lane, value);
      a[element.row][element.column] = element_of(from->a, value, from->format);
    }
    for (unsigned value = 0; value < 4; value++) {
      const auto element = fragments::mma_b(lane, value);
      b[element.row][element.column] = element_of(from->b, value, from->format);
      const auto sum = fragments::mma_c(lane, value);
      sums[sum.row][sum.column] = from->d[value];
    }
  }
  for (unsigned row = 0; row < 16; row++) {
    for (unsigned k = 0; k < 16; k++) {
      for (unsigned column = 0; column < 8; column++) sums[row][column] += a[row][k] * b[k][column];
    }
  }
  for (unsigned lane = 0; lane < WARP; lane++) {
    auto* to = static_cast<MultiplyArguments*>(lanes[lane]);
    for (unsigned value = 0; value < 4; value++) {
      const auto sum = fragments::mma_c(lane, value);
      to->d[value] = static_cast<float>(sums[sum.row][sum.column]);
    }
  }
}

}  // namespace

void load_matrices(uint32_t (&registers)[4], uint32_t row_address, bool transposed) {
  running()->current->program_counter = __builtin_return_address(0);
  LoadArguments mine{registers, row_address, transposed};
  warp_operation(transposed ? "ldmatrix.trans" : "ldmatrix", &mine, perform_load);
}

void multiply_accumulate(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Format format) {
  MultiplyArguments mine{d, a, b, format};
  warp_operation("mma", &mine, perform_multiply);
}

}  // namespace emulator
