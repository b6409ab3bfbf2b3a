// Devices, the primary context, errors, and what the tests ask the software GPU itself.
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "fault.hpp"
#include "pretence.hpp"
#include "state.hpp"

namespace device {

State& state() {
  static auto* instance = new State;  // never destroyed: still in use by other static destructors
  return *instance;
}

bool& context_is_current() {
  static thread_local bool current = false;
  return current;
}

int shared_limit() {
  const int capability = state().capability;
  return (capability >= 90 && capability < 120 ? 227 : capability == 80 ? 163 : 99) << 10;
}

std::shared_ptr<Stream> find_stream(CUstream handle) {
  const auto number = reinterpret_cast<uintptr_t>(handle);
  if (number <= 2) return state().default_stream;  // null, legacy, per-thread
  const auto found = state().streams.find(handle);
  if (found != state().streams.end()) return found->second;
  report("a stream that does not exist, or no longer");
  return nullptr;
}

CUresult context_error() {
  if (!state().initialised) return CUDA_ERROR_NOT_INITIALIZED;
  return context_is_current() ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult ready_error() {
  RETURN_IF_ERROR(context_error());
  return sticky_error();
}

void report(const char* format, ...) {
  char text[700];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  state().reports.emplace_back(text);
}

static void report_message(const char* message) { report("%s", message); }
static bool readable(const void* source, size_t bytes) { return memory().valid(source, bytes, "asynchronous copy"); }

static const char* error_name(CUresult error) {
  switch (error) {
    case CUDA_SUCCESS: return "CUDA_SUCCESS";
    case CUDA_ERROR_INVALID_VALUE: return "CUDA_ERROR_INVALID_VALUE";
    case CUDA_ERROR_OUT_OF_MEMORY: return "CUDA_ERROR_OUT_OF_MEMORY";
    case CUDA_ERROR_NOT_INITIALIZED: return "CUDA_ERROR_NOT_INITIALIZED";
    case CUDA_ERROR_DEVICE_UNAVAILABLE: return "CUDA_ERROR_DEVICE_UNAVAILABLE";
    case CUDA_ERROR_NO_DEVICE: return "CUDA_ERROR_NO_DEVICE";
    case CUDA_ERROR_INVALID_DEVICE: return "CUDA_ERROR_INVALID_DEVICE";
    case CUDA_ERROR_INVALID_IMAGE: return "CUDA_ERROR_INVALID_IMAGE";
    case CUDA_ERROR_INVALID_CONTEXT: return "CUDA_ERROR_INVALID_CONTEXT";
    case CUDA_ERROR_INVALID_HANDLE: return "CUDA_ERROR_INVALID_HANDLE";
    case CUDA_ERROR_ILLEGAL_STATE: return "CUDA_ERROR_ILLEGAL_STATE";
    case CUDA_ERROR_NOT_FOUND: return "CUDA_ERROR_NOT_FOUND";
    case CUDA_ERROR_NOT_READY: return "CUDA_ERROR_NOT_READY";
    case CUDA_ERROR_ILLEGAL_ADDRESS: return "CUDA_ERROR_ILLEGAL_ADDRESS";
    case CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES: return "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES";
    case CUDA_ERROR_LAUNCH_FAILED: return "CUDA_ERROR_LAUNCH_FAILED";
    case CUDA_ERROR_NOT_SUPPORTED: return "CUDA_ERROR_NOT_SUPPORTED";
    case CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED: return "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED";
    case CUDA_ERROR_STREAM_CAPTURE_INVALIDATED: return "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED";
    case CUDA_ERROR_STREAM_CAPTURE_ISOLATION: return "CUDA_ERROR_STREAM_CAPTURE_ISOLATION";
  }
  return "an error the software GPU has no name for";
}

// The device attributes cudarc and this engine ask for, by the numbers of CUdevice_attribute.
static bool attribute_value(int attribute, int* value) {
  const bool hopper = state().capability >= 90;
  switch (attribute) {
    case 1: *value = MAX_THREADS_PER_BLOCK; return true;
    case 2: case 3: *value = 1024; return true;                     // block dimensions x, y
    case 4: *value = 64; return true;                               // block dimension z
    case 5: *value = 0x7fffffff; return true;                       // grid dimension x
    case 6: case 7: *value = 65535; return true;                    // grid dimensions y, z
    case 8: *value = DEFAULT_SHARED_BYTES; return true;
    case 10: *value = emulator::WARP; return true;
    case 12: case 82: *value = 65536; return true;                  // registers
    case 16: *value = hopper ? 132 : 108; return true;              // multiprocessors
    case 38: *value = (hopper ? 50 : 40) << 20; return true;        // second-level cache
    case 39: *value = 2048; return true;                            // threads of a multiprocessor
    case 41: case 83: case 115: *value = 1; return true;            // unified addressing, managed memory, memory pools
    case 75: *value = state().capability / 10; return true;
    case 76: *value = state().capability % 10; return true;
    case 81: *value = shared_limit() + 1024; return true;           // shared memory of a multiprocessor
    case 97: *value = shared_limit(); return true;
    default: return false;
  }
}

}  // namespace device

using namespace device;

EXPORT CUresult cuInit(unsigned flags) {
  ENTER;
  if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
  if (state().initialised) return CUDA_SUCCESS;
  if (pretended_number("devices", 1) == 0) return CUDA_ERROR_NO_DEVICE;
  if (is_to_fail(__func__)) return CUDA_ERROR_NOT_INITIALIZED;
  state().initialised = true;
  state().capability = static_cast<int>(pretended_number("capability", state().capability));
  register_stream(state().default_stream = std::make_shared<Stream>());
  emulator::tell = report_message;
  emulator::readable = readable;
  install_fault_handler();
  return CUDA_SUCCESS;
}

EXPORT CUresult cuDriverGetVersion(int* version) {
  *version = static_cast<int>(pretended_number("driver", 13000));
  return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetCount(int* count) {
  ENTER;
  if (!state().initialised) return CUDA_ERROR_NOT_INITIALIZED;
  *count = 1;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  ENTER;
  if (!state().initialised) return CUDA_ERROR_NOT_INITIALIZED;
  *device = 0;
  return ordinal == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

EXPORT CUresult cuDeviceGetName(char* name, int length, CUdevice) {
  ENTER;
  snprintf(name, static_cast<size_t>(length), "software GPU (as sm_%d)", state().capability);
  return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetUuid_v2(void* uuid, CUdevice) {
  memcpy(uuid, "software gpu 000", 16);
  return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice) {
  *bytes = total_bytes();
  return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetAttribute(int* value, int attribute, CUdevice) {
  ENTER;
  if (attribute_value(attribute, value)) return CUDA_SUCCESS;
  report("cuDeviceGetAttribute: attribute %d is not modelled", attribute);
  return CUDA_ERROR_INVALID_VALUE;
}

EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice) {
  ENTER;
  // As where another process has the device to itself.
  if (is_to_fail(__func__)) return CUDA_ERROR_DEVICE_UNAVAILABLE;
  state().context_references++;
  *context = reinterpret_cast<CUcontext>(&state());
  return CUDA_SUCCESS;
}

EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice) {
  ENTER;
  if (state().context_references == 0) return CUDA_ERROR_INVALID_CONTEXT;
  if (--state().context_references > 0) return CUDA_SUCCESS;
  run_everything();
  memory().report_leaks_and_free_all();
  sticky_error() = CUDA_SUCCESS;  // it ends with its context
  return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxGetCurrent(CUcontext* context) {
  ENTER;
  *context = context_is_current() ? reinterpret_cast<CUcontext>(&state()) : nullptr;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxSetCurrent(CUcontext context) {
  ENTER;
  context_is_current() = context != nullptr;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxSetFlags(unsigned) { return CUDA_SUCCESS; }

EXPORT CUresult cuCtxSynchronize() {
  ENTER;
  RETURN_IF_ERROR(ready_error());
  RETURN_IF_ERROR(forbid_while_capturing(__func__));
  run_everything();
  return sticky_error();
}

EXPORT CUresult cuGetErrorName(CUresult error, const char** name) {
  *name = error_name(error);
  return CUDA_SUCCESS;
}

EXPORT CUresult cuGetErrorString(CUresult error, const char** text) { return cuGetErrorName(error, text); }

// For the tests.
EXPORT void software_gpu_schedule(int order, uint64_t seed, bool late_copies) {
  emulator::schedule() = {static_cast<emulator::Order>(order), seed, late_copies};
}

EXPORT void software_gpu_execution(bool late) {
  ENTER;
  execution() = late ? Execution::Late : Execution::Now;
}

EXPORT void software_gpu_capability(int capability) {
  ENTER;
  state().capability = capability;
}

EXPORT emulator::Statistics software_gpu_statistics() { return emulator::statistics(); }

EXPORT size_t software_gpu_live_allocations() {
  ENTER;
  return memory().live();
}

// Copies the oldest report into `text` and forgets it; returns false when there is none.
EXPORT bool software_gpu_take_report(char* text, size_t length) {
  ENTER;
  if (state().reports.empty()) return false;
  snprintf(text, length, "%s", state().reports.front().c_str());
  state().reports.erase(state().reports.begin());
  return true;
}
