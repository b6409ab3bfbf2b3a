// What the driver's entry points share.
#pragma once
#include <map>
#include <mutex>
#include <unordered_map>

#include "memory.hpp"
#include "stream.hpp"

namespace device {

constexpr int MAX_THREADS_PER_BLOCK = 1024;
constexpr int DEFAULT_SHARED_BYTES = 48 << 10;

struct Function {
  const emulator::Kernel* kernel;
  int dynamic_shared_limit = DEFAULT_SHARED_BYTES;
};

// A loaded image: the kernels of one library.
struct Module {
  const std::vector<emulator::Kernel>* kernels;
  std::map<std::string, std::unique_ptr<Function>> functions;
};

struct State {
  std::recursive_mutex lock;
  bool initialised = false;
  int context_references = 0;
  std::shared_ptr<Stream> default_stream;
  std::unordered_map<void*, std::shared_ptr<Stream>> streams;
  std::unordered_map<void*, std::unique_ptr<Event>> events;
  std::unordered_map<void*, std::unique_ptr<Module>> modules;
  std::unordered_map<void*, Function*> functions;
  std::unordered_map<void*, std::shared_ptr<Graph>> graphs;
  std::vector<std::string> reports;
  int capability = 80;  // the compute capability this device pretends to have
};

State& state();
// Shared memory a block of the pretended device may have after opting in.
int shared_limit();
std::shared_ptr<Stream> find_stream(CUstream handle);

// Which context a thread has made current: there is only the primary one.
bool& context_is_current();

CUresult context_error();  // not initialised, or no context
CUresult ready_error();    // or a sticky error

// The kernels of a shared library, loaded once; null with a report when it cannot be.
const std::vector<emulator::Kernel>* kernels_of(const std::string& library);

}  // namespace device

// Every entry point holds the lock: one call at a time.
#define ENTER std::lock_guard<std::recursive_mutex> guard(device::state().lock)
#define RETURN_IF_ERROR(EXPRESSION) \
  if (const CUresult error = (EXPRESSION); error != CUDA_SUCCESS) return error
#define FIND_STREAM(NAME, HANDLE)             \
  const auto NAME = device::find_stream(HANDLE); \
  if (!NAME) return CUDA_ERROR_INVALID_HANDLE
