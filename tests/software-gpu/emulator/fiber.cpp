#include "fiber.hpp"

#include <sys/mman.h>

#include <cstdint>
#include <vector>

// Present only when AddressSanitizer is: one build of the emulator serves both.
extern "C" {
__attribute__((weak)) void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom, size_t size);
__attribute__((weak)) void __sanitizer_finish_switch_fiber(void* fake_stack, const void** bottom, size_t* size);
__attribute__((weak)) void __asan_poison_memory_region(const volatile void* memory, size_t bytes);
__attribute__((weak)) void __asan_unpoison_memory_region(const volatile void* memory, size_t bytes);
}

namespace fiber {

namespace {
constexpr size_t GUARD_BYTES = 4096;
}

char* stack(unsigned number) {
  static thread_local std::vector<char*> stacks;
  while (stacks.size() <= number) {
    void* memory = mmap(nullptr, STACK_BYTES + GUARD_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    mprotect(memory, GUARD_BYTES, PROT_NONE);
    stacks.push_back(static_cast<char*>(memory) + GUARD_BYTES);
  }
  // Finished fibers never return, so their frames' red zones are still marked.
  allow(stacks[number], STACK_BYTES);
  return stacks[number];
}

#if defined(__x86_64__)
extern "C" void fiber_change(void** save, void* restore);
asm(R"(
.text
.globl fiber_change
.hidden fiber_change
.type fiber_change,@function
fiber_change:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp,(%rdi)
  mov %rsi,%rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
.size fiber_change,.-fiber_change
)");

static void prepare_registers(Context& context, char* stack, void (*entry)()) {
  constexpr unsigned SAVED_REGISTERS = 6;
  auto* top = reinterpret_cast<void**>((reinterpret_cast<uintptr_t>(stack) + STACK_BYTES) & ~uintptr_t(15));
  *--top = nullptr;  // the return address of `entry`: alignment as after a call
  *--top = reinterpret_cast<void*>(entry);
  for (unsigned i = 0; i < SAVED_REGISTERS; i++) *--top = nullptr;
  context.stack_pointer = top;
}

static void change_registers(Context& from, Context& to) { fiber_change(&from.stack_pointer, to.stack_pointer); }
#else
static void prepare_registers(Context& context, char* stack, void (*entry)()) {
  getcontext(&context.state);
  context.state.uc_stack.ss_sp = stack;
  context.state.uc_stack.ss_size = STACK_BYTES;
  context.state.uc_link = nullptr;
  makecontext(&context.state, entry, 0);
}

static void change_registers(Context& from, Context& to) { swapcontext(&from.state, &to.state); }
#endif

void prepare(Context& context, char* stack, void (*entry)()) {
  context.stack_low = stack;
  context.stack_bytes = STACK_BYTES;
  prepare_registers(context, stack, entry);
}

void change(Context& from, Context& to, bool last) {
  if (__sanitizer_start_switch_fiber) __sanitizer_start_switch_fiber(last ? nullptr : &from.fake_stack, to.stack_low, to.stack_bytes);
  change_registers(from, to);
  if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
}

void entered(Context& from) {
  if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(nullptr, &from.stack_low, &from.stack_bytes);
}

void forbid(const void* memory, size_t bytes) {
  if (__asan_poison_memory_region) __asan_poison_memory_region(memory, bytes);
}

void allow(const void* memory, size_t bytes) {
  if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(memory, bytes);
}

}  // namespace fiber
