// Turns a memory fault inside a kernel into a failed launch instead of a dead process.
#include "fault.hpp"

#include <signal.h>
#include <ucontext.h>

#include "launch.hpp"
#include "memory.hpp"

namespace device {

namespace {

thread_local bool faulted;
thread_local const void* fault_address;
struct sigaction previous_segv, previous_bus;

[[noreturn]] void fail_thread() { emulator::fail("illegal address: %s", memory().describe(fault_address).c_str()); }

// Runs on a signal stack of a few KiB: it stores the address and redirects the interrupted fiber to `fail_thread`, nothing else.
void on_fault(int signal_number, siginfo_t* info, void* context) {
#if defined(__x86_64__)
  if (emulator::inside_kernel()) {
    constexpr uintptr_t RED_ZONE = 256;
    auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    faulted = true;
    fault_address = info->si_addr;
    const uintptr_t stack = (static_cast<uintptr_t>(registers[REG_RSP]) - RED_ZONE) & ~uintptr_t(15);
    registers[REG_RSP] = static_cast<greg_t>(stack - sizeof(void*));
    registers[REG_RIP] = reinterpret_cast<greg_t>(&fail_thread);
    return;
  }
#endif
  const struct sigaction& previous = signal_number == SIGSEGV ? previous_segv : previous_bus;
  if (previous.sa_flags & SA_SIGINFO && previous.sa_sigaction) {
    previous.sa_sigaction(signal_number, info, context);
  } else {
    signal(signal_number, SIG_DFL);
  }
}

}  // namespace

void install_fault_handler() {
  struct sigaction action = {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigaction(SIGSEGV, &action, &previous_segv);
  sigaction(SIGBUS, &action, &previous_bus);
}

bool take_fault() {
  const bool result = faulted;
  faulted = false;
  return result;
}

}  // namespace device
