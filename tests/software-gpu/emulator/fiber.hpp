// Fibers: contexts on their own stacks, switched by hand. With AddressSanitizer in the process every switch is announced to it.
#pragma once
#include <cstddef>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace fiber {

constexpr size_t STACK_BYTES = 128 << 10;

struct Context {
#if defined(__x86_64__)
  void* stack_pointer = nullptr;
#else
  ucontext_t state;
#endif
  const void* stack_low = nullptr;  // for AddressSanitizer
  size_t stack_bytes = 0;
  void* fake_stack = nullptr;
};

// The stack of the given number on this operating-system thread; reused by every launch, with a guard page below.
char* stack(unsigned number);

// Prepares `context` to run `entry`, which must never return.
void prepare(Context& context, char* stack, void (*entry)());

// Leaves `from`, continues `to`. `last` says that `from` is never continued again.
void change(Context& from, Context& to, bool last = false);

// To be called first on a new fiber, with the context it was entered from.
void entered(Context& from);

// Marks memory as out of bounds, or in bounds again, for AddressSanitizer; nothing without it.
void forbid(const void* memory, size_t bytes);
void allow(const void* memory, size_t bytes);

}  // namespace fiber
