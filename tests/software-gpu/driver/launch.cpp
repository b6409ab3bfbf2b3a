// Modules, functions and launches.
//
// An image that begins with "software-gpu:" names a library of host-compiled kernels; any other image (a fat binary, PTX) stands
// for the kernels of this build, which lie beside this library.
#include <algorithm>
#include <dlfcn.h>

#include <cstring>

#include "fault.hpp"
#include "interpreter.hpp"
#include "pretence.hpp"
#include "state.hpp"

using namespace device;

namespace {

constexpr unsigned MAX_BLOCKS_PER_CLUSTER = 8, MULTIPROCESSORS_OF_CLUSTERS = 132;

// CUlaunchAttribute and CUlaunchConfig.
struct LaunchAttribute {
  int id, padding;
  union {
    emulator::Index cluster;
    uint8_t bytes[64];
  };
};
struct LaunchConfig {
  emulator::Index grid, block;
  unsigned shared_bytes;
  CUstream stream;
  const LaunchAttribute* attributes;
  unsigned attribute_count;
};

CUresult read_cluster(const LaunchConfig& config, emulator::Launch& launch) {
  constexpr int CLUSTER_DIMENSION = 4;
  for (unsigned i = 0; i < config.attribute_count; i++) {
    const LaunchAttribute& attribute = config.attributes[i];
    if (attribute.id != CLUSTER_DIMENSION) {
      report("launch attribute %d is not known here", attribute.id);
      return CUDA_ERROR_NOT_SUPPORTED;
    }
    launch.cluster = attribute.cluster;
  }
  return CUDA_SUCCESS;
}

std::vector<emulator::Kernel>*& library_being_loaded() {
  static std::vector<emulator::Kernel>* kernels = nullptr;
  return kernels;
}

std::string default_library() {
  Dl_info self{};
  dladdr(reinterpret_cast<void*>(&default_library), &self);
  const std::string path = self.dli_fname;
  return path.substr(0, path.rfind('/') + 1) + "libkernels.so";
}

Function* find_function(CUfunction handle) {
  const auto found = state().functions.find(handle);
  return found == state().functions.end() ? nullptr : found->second;
}

// Whether a kernel is one of kernels/ as it stands, rather than of a library that a test has compiled.
bool of_this_build(const emulator::Kernel& kernel) {
  const auto* kernels = kernels_of(default_library());
  return kernels && &kernel >= kernels->data() && &kernel < kernels->data() + kernels->size();
}

CUresult execute(const emulator::Kernel& kernel, const emulator::Launch& launch, const std::vector<uint8_t>& params) {
  const Wrong wrong = goes_wrong(kernel.name);
  if (wrong != Wrong::Not) return wrong == Wrong::Fails ? CUDA_ERROR_LAUNCH_FAILED : CUDA_SUCCESS;
  if (of_this_build(kernel)) {
    if (const auto result = interpret(kernel, launch, params)) return *result;
  }
  if (!kernel.run || launch.cluster.x * launch.cluster.y * launch.cluster.z > 1) {
    report("%s: clusters of blocks and products of warpgroups are executed as PTX only, and there is none of it", kernel.name);
    return CUDA_ERROR_LAUNCH_FAILED;
  }
  const bool clean = emulator::run(kernel, launch, params.data(), kernel.race_checked ? memory().regions() : std::vector<emulator::Region>{});
  const bool faulted = take_fault();
  const bool intact = memory().canaries_intact(kernel.name);
  if (faulted || !intact) return CUDA_ERROR_ILLEGAL_ADDRESS;
  return clean ? CUDA_SUCCESS : CUDA_ERROR_LAUNCH_FAILED;
}

CUresult check_limits(const Function& function, const emulator::Launch& launch) {
  const emulator::Kernel& kernel = *function.kernel;
  const auto [grid, block, shared_bytes, cluster] = launch;
  const uint64_t threads = uint64_t(block.x) * block.y * block.z;
  const bool grid_fits = grid.x && grid.y && grid.z && grid.x <= 0x7fffffff && grid.y <= 65535 && grid.z <= 65535;
  if (!grid_fits || threads == 0 || threads > MAX_THREADS_PER_BLOCK) {
    report("%s: grid %u x %u x %u of %lu threads is outside the device's limits", kernel.name, grid.x, grid.y, grid.z, static_cast<unsigned long>(threads));
    return CUDA_ERROR_INVALID_VALUE;
  }
  const bool whole_clusters = cluster.x && cluster.y && cluster.z && grid.x % cluster.x == 0 && grid.y % cluster.y == 0 && grid.z % cluster.z == 0;
  const uint64_t blocks = uint64_t(cluster.x) * cluster.y * cluster.z;
  if (!whole_clusters || blocks > MAX_BLOCKS_PER_CLUSTER || (blocks > 1 && state().capability < 90)) {
    report("%s: clusters of %u x %u x %u in a grid of %u x %u x %u are outside the device's limits", kernel.name, cluster.x, cluster.y, cluster.z,
           grid.x, grid.y, grid.z);
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (threads > kernel.max_threads) {
    report("%s: %lu threads, but its launch bound is %u", kernel.name, static_cast<unsigned long>(threads), kernel.max_threads);
    return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
  }
  if (shared_bytes > static_cast<size_t>(function.dynamic_shared_limit)) {
    report("%s: %zu bytes of shared memory, but only %d are allowed before opting in to more", kernel.name, shared_bytes, function.dynamic_shared_limit);
    return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_SUCCESS;
}

// A launch of `grid` blocks, in clusters where there are any.
CUresult launch_on(const std::shared_ptr<Stream>& stream, const Function& function, const emulator::Launch& launch, void** params, void** extra) {
  if (extra || !params || !params[0]) return CUDA_ERROR_INVALID_VALUE;
  RETURN_IF_ERROR(check_limits(function, launch));
  const emulator::Kernel& kernel = *function.kernel;
  const auto* start = static_cast<const uint8_t*>(params[0]);
  std::vector<uint8_t> copied(start, start + kernel.params_bytes);
  return submit(stream, {kernel.name, [&kernel, launch, copied] { return execute(kernel, launch, copied); }, {}});
}

// There is no machine code: as if every kernel used all that a thread may have.
constexpr int REGISTERS_OF_A_THREAD = 256;

// Whether the device has it: kernels that are executed as PTX only are for compute capability 9.0, and as if there were no machine code
// for it where nobody executes PTX.
bool has_code(const emulator::Kernel& kernel) { return kernel.run || (is_interpreted() && state().capability == 90); }

std::vector<const emulator::Kernel*> kernels_with_code(const Module& loaded) {
  std::vector<const emulator::Kernel*> found;
  for (const emulator::Kernel& kernel : *loaded.kernels) {
    if (has_code(kernel)) found.push_back(&kernel);
  }
  return found;
}

// The handle of a kernel of a module, made when it is first asked for.
CUfunction function_of(Module& loaded, const emulator::Kernel& kernel) {
  auto& function = loaded.functions[kernel.name];
  if (!function) function = std::make_unique<Function>(Function{&kernel});
  const auto handle = reinterpret_cast<CUfunction>(function.get());
  state().functions[handle] = function.get();
  return handle;
}

}  // namespace

void emulator::register_kernel(const Kernel& kernel) {
  if (library_being_loaded()) library_being_loaded()->push_back(kernel);
}

const std::vector<emulator::Kernel>* device::kernels_of(const std::string& library) {
  static auto* loaded = new std::map<std::string, std::vector<emulator::Kernel>>;
  const auto found = loaded->find(library);
  if (found != loaded->end()) return &found->second;
  std::vector<emulator::Kernel> kernels;
  library_being_loaded() = &kernels;
  const void* handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  library_being_loaded() = nullptr;
  if (!handle) {
    report("the host-compiled kernels cannot be loaded: %s", dlerror());
    return nullptr;
  }
  return &(*loaded->emplace(library, std::move(kernels)).first).second;
}

EXPORT CUresult cuModuleLoadData(CUmodule* handle, const void* image) {
  ENTER;
  RETURN_IF_ERROR(ready_error());
  RETURN_IF_ERROR(forbid_while_capturing(__func__));
  if (is_to_fail(__func__)) return CUDA_ERROR_INVALID_IMAGE;
  constexpr char PREFIX[] = "software-gpu:";
  const auto* text = static_cast<const char*>(image);
  if (!text) return CUDA_ERROR_INVALID_VALUE;
  const bool named = strncmp(text, PREFIX, sizeof PREFIX - 1) == 0;
  const auto* kernels = kernels_of(named ? text + sizeof PREFIX - 1 : default_library());
  if (!kernels) return CUDA_ERROR_INVALID_IMAGE;
  auto loaded = std::make_unique<Module>(Module{kernels, {}});
  *handle = reinterpret_cast<CUmodule>(loaded.get());
  state().modules[*handle] = std::move(loaded);
  return CUDA_SUCCESS;
}

EXPORT CUresult cuModuleUnload(CUmodule handle) {
  ENTER;
  const auto found = state().modules.find(handle);
  if (found == state().modules.end()) return CUDA_ERROR_INVALID_HANDLE;
  for (auto& [_, function] : found->second->functions) state().functions.erase(function.get());
  state().modules.erase(found);
  return CUDA_SUCCESS;
}

EXPORT CUresult cuModuleGetFunction(CUfunction* handle, CUmodule module_handle, const char* name) {
  ENTER;
  RETURN_IF_ERROR(ready_error());
  const auto found = state().modules.find(module_handle);
  if (found == state().modules.end()) return CUDA_ERROR_INVALID_HANDLE;
  Module& loaded = *found->second;
  for (const emulator::Kernel& kernel : *loaded.kernels) {
    if (strcmp(kernel.name, name) != 0) continue;
    if (!has_code(kernel)) return CUDA_ERROR_NOT_FOUND;
    *handle = function_of(loaded, kernel);
    return CUDA_SUCCESS;
  }
  report("no kernel is named %s", name);
  return CUDA_ERROR_NOT_FOUND;
}

EXPORT CUresult cuModuleGetFunctionCount(unsigned* count, CUmodule handle) {
  ENTER;
  const auto found = state().modules.find(handle);
  if (found == state().modules.end()) return CUDA_ERROR_INVALID_HANDLE;
  *count = static_cast<unsigned>(kernels_with_code(*found->second).size());
  return CUDA_SUCCESS;
}

EXPORT CUresult cuModuleEnumerateFunctions(CUfunction* functions, unsigned count, CUmodule handle) {
  ENTER;
  const auto found = state().modules.find(handle);
  if (found == state().modules.end()) return CUDA_ERROR_INVALID_HANDLE;
  const auto kernels = kernels_with_code(*found->second);
  for (unsigned i = 0; i < count && i < kernels.size(); i++) functions[i] = function_of(*found->second, *kernels[i]);
  return CUDA_SUCCESS;
}

EXPORT CUresult cuFuncGetName(const char** name, CUfunction handle) {
  ENTER;
  const Function* function = find_function(handle);
  if (!function) return CUDA_ERROR_INVALID_HANDLE;
  *name = function->kernel->name;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuFuncGetAttribute(int* value, int attribute, CUfunction handle) {
  ENTER;
  RETURN_IF_ERROR(ready_error());
  const Function* function = find_function(handle);
  if (!function) return CUDA_ERROR_INVALID_HANDLE;
  constexpr int MAX_THREADS = 0, STATIC_SHARED = 1, LOCAL = 3, REGISTERS = 4, MAX_DYNAMIC_SHARED = 8;
  switch (attribute) {
    case MAX_THREADS: *value = static_cast<int>(function->kernel->max_threads); return CUDA_SUCCESS;
    case STATIC_SHARED: *value = 0; return CUDA_SUCCESS;
    case LOCAL: *value = 0; return CUDA_SUCCESS;
    case REGISTERS: *value = REGISTERS_OF_A_THREAD; return CUDA_SUCCESS;
    case MAX_DYNAMIC_SHARED: *value = function->dynamic_shared_limit; return CUDA_SUCCESS;
    default: report("cuFuncGetAttribute: attribute %d is unknowable without the compiled code", attribute); return CUDA_ERROR_NOT_SUPPORTED;
  }
}

EXPORT CUresult cuFuncSetAttribute(CUfunction handle, int attribute, int value) {
  ENTER;
  RETURN_IF_ERROR(ready_error());
  Function* function = find_function(handle);
  if (!function) return CUDA_ERROR_INVALID_HANDLE;
  constexpr int MAX_DYNAMIC_SHARED = 8, SHARED_CARVEOUT = 9;
  if (attribute == SHARED_CARVEOUT) return CUDA_SUCCESS;
  if (attribute != MAX_DYNAMIC_SHARED) return CUDA_ERROR_INVALID_VALUE;
  if (value < 0 || value > shared_limit()) {
    report("%s: %d bytes of shared memory, but the device has %d", function->kernel->name, value, shared_limit());
    return CUDA_ERROR_INVALID_VALUE;
  }
  function->dynamic_shared_limit = value;
  return CUDA_SUCCESS;
}

// By shared memory, threads and registers.
EXPORT CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, CUfunction handle, int threads, size_t shared_bytes, unsigned) {
  ENTER;
  RETURN_IF_ERROR(ready_error());
  if (!find_function(handle)) return CUDA_ERROR_INVALID_HANDLE;
  if (threads <= 0) return CUDA_ERROR_INVALID_VALUE;
  constexpr int RESERVED_SHARED = 1024, REGISTERS = 65536;
  const int by_shared = (shared_limit() + RESERVED_SHARED) / (static_cast<int>(shared_bytes) + RESERVED_SHARED);
  *blocks = std::min(by_shared, REGISTERS / (threads * REGISTERS_OF_A_THREAD));
  return CUDA_SUCCESS;
}

// Exists on a real driver too (12.4 and later): lets a program compare its struct with the kernel's.
EXPORT CUresult cuFuncGetParamInfo(CUfunction handle, size_t index, size_t* offset, size_t* bytes) {
  ENTER;
  RETURN_IF_ERROR(ready_error());
  const Function* function = find_function(handle);
  if (!function) return CUDA_ERROR_INVALID_HANDLE;
  if (index != 0) return CUDA_ERROR_INVALID_VALUE;
  *offset = 0;
  *bytes = function->kernel->params_bytes;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuLaunchKernel(CUfunction handle, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                               unsigned block_z, unsigned shared_bytes, CUstream stream_handle, void** params, void** extra) {
  ENTER;
  RETURN_IF_ERROR(ready_error());
  FIND_STREAM(stream, stream_handle);
  const Function* function = find_function(handle);
  if (!function) return CUDA_ERROR_INVALID_HANDLE;
  return launch_on(stream, *function, {{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes}, params, extra);
}

EXPORT CUresult cuLaunchKernelEx(const LaunchConfig* config, CUfunction handle, void** params, void** extra) {
  ENTER;
  RETURN_IF_ERROR(ready_error());
  if (!config) return CUDA_ERROR_INVALID_VALUE;
  FIND_STREAM(stream, config->stream);
  const Function* function = find_function(handle);
  if (!function) return CUDA_ERROR_INVALID_HANDLE;
  emulator::Launch launch{config->grid, config->block, config->shared_bytes};
  RETURN_IF_ERROR(read_cluster(*config, launch));
  return launch_on(stream, *function, launch, params, extra);
}

// As many clusters as whole ones fit: on a device those of a processing cluster.
EXPORT CUresult cuOccupancyMaxActiveClusters(int* clusters, CUfunction handle, const LaunchConfig* config) {
  ENTER;
  RETURN_IF_ERROR(ready_error());
  if (!find_function(handle)) return CUDA_ERROR_INVALID_HANDLE;
  if (!config) return CUDA_ERROR_INVALID_VALUE;
  emulator::Launch launch{config->grid, config->block, config->shared_bytes};
  RETURN_IF_ERROR(read_cluster(*config, launch));
  *clusters = static_cast<int>(MULTIPROCESSORS_OF_CLUSTERS / (launch.cluster.x * launch.cluster.y * launch.cluster.z));
  return CUDA_SUCCESS;
}
