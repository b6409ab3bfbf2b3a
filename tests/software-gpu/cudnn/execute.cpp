// Convolutions as plain loops, summed in 32 bit. They read and write device memory when the stream gets to them.
#include <cmath>

#include "descriptor.hpp"
#include "half.hpp"
#include "pretence.hpp"

namespace dnn {

bool refuses_to_run(int64_t engine);

namespace {

using Values = std::vector<float>;
using Addresses = std::map<int64_t, void*>;

Values load(const Tensor& tensor, const void* address) {
  Values values(tensor.count());
  const auto* wide = static_cast<const float*>(address);
  const auto* narrow = static_cast<const uint16_t*>(address);
  for (size_t i = 0; i < values.size(); i++) {
    values[i] = tensor.type == DATA_FLOAT ? wide[i] : tensor.type == DATA_HALF ? half::from_half(narrow[i]) : half::from_bfloat(narrow[i]);
  }
  return values;
}

void store(const Tensor& tensor, const Values& values, void* address) {
  auto* wide = static_cast<float*>(address);
  auto* narrow = static_cast<uint16_t*>(address);
  for (size_t i = 0; i < values.size(); i++) {
    if (tensor.type == DATA_FLOAT) {
      wide[i] = values[i];
    } else {
      narrow[i] = tensor.type == DATA_HALF ? half::to_half(values[i]) : half::to_bfloat(values[i]);
    }
  }
}

// A filter as (R, S, C, K), so that the innermost loop of the forward pass runs over neighbours.
Values with_outputs_innermost(const Values& filter, const std::vector<int64_t>& sizes) {
  const int64_t outputs = sizes[0], others = sizes[1] * sizes[2] * sizes[3];
  Values turned(filter.size());
  for (int64_t k = 0; k < outputs; k++) {
    for (int64_t i = 0; i < others; i++) turned[static_cast<size_t>(i * outputs + k)] = filter[static_cast<size_t>(k * others + i)];
  }
  return turned;
}

// sums[j] += factor * values[j]
void add_scaled(float* sums, float factor, const float* values, int64_t count) {
  for (int64_t j = 0; j < count; j++) sums[j] += factor * values[j];
}

// Calls visit(input pixel, filter tap, output pixel) for every pair of pixels that a tap of the filter connects.
template <class Visit>
void for_each_tap(const Graph& graph, Visit visit) {
  const auto& x = graph.tensors.at(graph.input).sizes;
  const auto& w = graph.tensors.at(graph.filter).sizes;
  const auto& y = graph.tensors.at(graph.output).sizes;
  for (int64_t n = 0; n < y[0]; n++) {
    for (int64_t p = 0; p < y[2]; p++) {
      for (int64_t q = 0; q < y[3]; q++) {
        for (int64_t r = 0; r < w[2]; r++) {
          for (int64_t s = 0; s < w[3]; s++) {
            const int64_t row = p * graph.stride[0] + r * graph.dilation[0] - graph.padding[0];
            const int64_t column = q * graph.stride[1] + s * graph.dilation[1] - graph.padding[1];
            if (row < 0 || row >= x[2] || column < 0 || column >= x[3]) continue;
            visit((n * x[2] + row) * x[3] + column, r * w[3] + s, (n * y[2] + p) * y[3] + q);
          }
        }
      }
    }
  }
}

Values convolve(const Graph& graph, const Values& input, const Values& filter, const Values& output) {
  const auto& w = graph.tensors.at(graph.filter).sizes;
  const int64_t outputs = w[0], inputs = w[1], taps = w[2] * w[3];
  Values sums(graph.tensors.at(graph.computed).count(), 0.0f);
  if (graph.convolution == CONVOLUTION_FORWARD) {
    const Values turned = with_outputs_innermost(filter, w);
    for_each_tap(graph, [&](int64_t from, int64_t tap, int64_t to) {
      for (int64_t c = 0; c < inputs; c++) add_scaled(&sums[to * outputs], input[from * inputs + c], &turned[(tap * inputs + c) * outputs], outputs);
    });
  } else if (graph.convolution == CONVOLUTION_BACKWARD_DATA) {
    for_each_tap(graph, [&](int64_t to, int64_t tap, int64_t from) {
      for (int64_t k = 0; k < outputs; k++) add_scaled(&sums[to * inputs], output[from * outputs + k], &filter[(k * taps + tap) * inputs], inputs);
    });
  } else {
    for_each_tap(graph, [&](int64_t at, int64_t tap, int64_t from) {
      for (int64_t k = 0; k < outputs; k++) add_scaled(&sums[(k * taps + tap) * inputs], output[from * outputs + k], &input[at * inputs], inputs);
    });
  }
  return sums;
}

// The second input may be one number for each channel.
void apply(const Step& step, const Graph& graph, const Addresses& addresses, Values& values) {
  Values operand;
  if (step.operand >= 0) operand = load(graph.tensors.at(step.operand), addresses.at(step.operand));
  for (size_t i = 0; i < values.size(); i++) {
    switch (step.mode) {
      case ADD: values[i] += operand[i % operand.size()]; break;
      case MUL: values[i] *= operand[i % operand.size()]; break;
      case RELU_FWD: values[i] = std::isnan(values[i]) ? values[i] : std::fmax(values[i], 0.0f); break;
      default: break;  // identity
    }
  }
}

void run(const Graph& graph, const Addresses& addresses) {
  const auto read = [&](int64_t id) { return id == graph.computed ? Values{} : load(graph.tensors.at(id), addresses.at(id)); };
  Values values = convolve(graph, read(graph.input), read(graph.filter), read(graph.output));
  const Tensor& result = graph.tensors.at(graph.result);
  Values before;
  if (graph.beta != 0) before = load(result, addresses.at(graph.result));
  for (size_t i = 0; i < values.size(); i++) values[i] = graph.alpha * values[i] + (before.empty() ? 0.0f : graph.beta * before[i]);
  for (const Step& step : graph.steps) apply(step, graph, addresses, values);
  store(result, values, addresses.at(graph.result));
}

// As a test that wants it to go wrong calls it.
const char* name_of(const Graph& graph) {
  if (graph.convolution == CONVOLUTION_BACKWARD_DATA) return "convolution_backward_data";
  return graph.convolution == CONVOLUTION_BACKWARD_FILTER ? "convolution_backward_filter" : "convolution_forward";
}

// The tensors of the graph that are stored, with the pack's addresses: all of them and no other.
Addresses bind(const Graph& graph, const Descriptor& pack) {
  const auto ids = pack.integers(VARIANT_PACK_UNIQUE_IDS);
  const auto pointers = pack.list<void*>(VARIANT_PACK_DATA_POINTERS);
  Addresses addresses;
  for (size_t i = 0; i < ids.size(); i++) {
    const auto found = graph.tensors.find(ids[i]);
    if (found == graph.tensors.end() || found->second.is_virtual) refuse(BAD_PARAM, "execution: the graph stores no tensor %ld", long(ids[i]));
    const auto misalignment = reinterpret_cast<uintptr_t>(pointers[i]) % static_cast<uintptr_t>(found->second.alignment);
    if (!pointers[i]) refuse(NULL_POINTER, "execution: tensor %ld has no address", long(ids[i]));
    if (misalignment != 0) refuse(MISALIGNED_POINTER, "execution: tensor %ld is %zu bytes off its alignment of %ld", long(ids[i]), size_t(misalignment), long(found->second.alignment));
    addresses[ids[i]] = pointers[i];
  }
  for (const auto& [id, tensor] : graph.tensors) {
    if (!tensor.is_virtual && !addresses.count(id)) refuse(BAD_PARAM, "execution: tensor %ld is not in the variant pack", long(id));
  }
  for (const auto& [id, address] : addresses) {
    if (id != graph.result && address == addresses.at(graph.result)) refuse(NOT_SUPPORTED, "execution: the result overwrites tensor %ld", long(id));
  }
  return addresses;
}

bool memory_is_valid(const Graph& graph, const Addresses& addresses, void* workspace, size_t bytes) {
  for (const auto& [id, address] : addresses) {
    if (!device::memory().valid(address, graph.tensors.at(id).bytes(), "cudnnBackendExecute: a tensor")) return false;
  }
  return device::memory().valid(workspace, bytes, "cudnnBackendExecute: the workspace");
}

}  // namespace

void execute(const Handle& handle, const Descriptor& plan, const Descriptor& pack) {
  if (!plan.has(EXECUTION_PLAN_HANDLE)) refuse(BAD_PARAM, "execution: the plan was made for a device that is not there");
  const Descriptor& engine = plan.part(EXECUTION_PLAN_ENGINE_CONFIG).part(ENGINECFG_ENGINE);
  const int64_t index = engine.integer(ENGINE_GLOBAL_INDEX);
  if (refuses_to_run(index)) refuse(NOT_SUPPORTED, "engine %ld was told to refuse", long(index));
  const Graph graph = graph_of(engine.part(ENGINE_OPERATION_GRAPH));
  const Addresses addresses = bind(graph, pack);
  const auto bytes = static_cast<size_t>(plan.integer(EXECUTION_PLAN_WORKSPACE_SIZE));
  void* workspace = pack.has(VARIANT_PACK_WORKSPACE) ? pack.value<void*>(VARIANT_PACK_WORKSPACE) : nullptr;
  if (bytes > 0 && !workspace) refuse(NULL_POINTER, "execution: %zu bytes of workspace are needed, none are given", bytes);
  if (reinterpret_cast<uintptr_t>(workspace) % 16 != 0) refuse(MISALIGNED_POINTER, "execution: the workspace is not aligned to 16 bytes");
  if (!memory_is_valid(graph, addresses, workspace, bytes)) refuse(OUT_OF_BOUND, "execution: an address is outside of device memory");
  const auto stream = device::find_stream(handle.stream);
  if (!stream) refuse(BAD_PARAM, "execution: the handle's stream does not exist, or no longer");
  const auto work = [=]() -> CUresult {
    if (!memory_is_valid(graph, addresses, workspace, bytes)) return CUDA_ERROR_ILLEGAL_ADDRESS;
    const device::Wrong wrong = device::goes_wrong(name_of(graph));
    if (wrong == device::Wrong::Fails) return CUDA_ERROR_LAUNCH_FAILED;
    if (wrong == device::Wrong::Not) run(graph, addresses);
    if (bytes > 0) memset(workspace, 0xff, bytes);  // whatever was there is lost
    return CUDA_SUCCESS;
  };
  if (device::submit(stream, {"cudnnBackendExecute", work, {}}) != CUDA_SUCCESS) refuse(EXECUTION_FAILED, "execution: the stream refuses work");
}

}  // namespace dnn
