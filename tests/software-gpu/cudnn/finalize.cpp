// Whether the attributes of a descriptor make sense together. Where the library accepts more than the engine has a use for (other
// layouts, ranks, dilations, true convolution), this refuses: what passes here passes there.
#include "descriptor.hpp"

namespace dnn {

namespace {

bool is_number(int type) { return type == DATA_FLOAT || type == DATA_HALF || type == DATA_BFLOAT16; }

const Descriptor& tensor_part(const Descriptor& descriptor, Name name) {
  const Descriptor& part = descriptor.part(name);
  if (part.kind != TENSOR) refuse(DESCRIPTOR_TYPE, "attribute %d of a %s is a %s, not a tensor", name, kind_name(descriptor.kind), kind_name(part.kind));
  return part;
}

void judge_tensor(const Descriptor& descriptor) {
  const auto sizes = descriptor.integers(TENSOR_DIMENSIONS), strides = descriptor.integers(TENSOR_STRIDES);
  const int type = descriptor.value<int>(TENSOR_DATA_TYPE);
  if (!is_number(type)) refuse(NOT_SUPPORTED_DATA_TYPE, "tensor: data type %d", type);
  if (sizes.size() != 4 || strides.size() != 4) refuse(NOT_SUPPORTED_SHAPE, "tensor: %zu sizes and %zu strides, 4 are needed", sizes.size(), strides.size());
  for (const int64_t size : sizes) {
    if (size <= 0) refuse(BAD_PARAM, "tensor: a size of %ld", long(size));
  }
  const std::vector<int64_t> packed = {sizes[1] * sizes[2] * sizes[3], 1, sizes[1] * sizes[3], sizes[1]};
  if (strides != packed) {
    refuse(NOT_SUPPORTED_LAYOUT, "tensor: strides %ld %ld %ld %ld are not those of packed NHWC, %ld 1 %ld %ld", long(strides[0]), long(strides[1]),
           long(strides[2]), long(strides[3]), long(packed[0]), long(packed[2]), long(packed[3]));
  }
  const int64_t alignment = descriptor.integer(TENSOR_BYTE_ALIGNMENT), element = type == DATA_FLOAT ? 4 : 2;
  if (alignment <= 0 || alignment % element != 0) refuse(BAD_PARAM, "tensor: alignment %ld is no multiple of its %ld-byte elements", long(alignment), long(element));
}

void judge_convolution(const Descriptor& descriptor) {
  if (descriptor.integer(CONVOLUTION_SPATIAL_DIMS) != 2) refuse(NOT_SUPPORTED_SHAPE, "convolution: 2 spatial dimensions are needed");
  for (const Name name : {CONVOLUTION_DILATIONS, CONVOLUTION_FILTER_STRIDES, CONVOLUTION_PRE_PADDINGS, CONVOLUTION_POST_PADDINGS}) {
    const auto values = descriptor.integers(name);
    const int64_t least = name == CONVOLUTION_DILATIONS || name == CONVOLUTION_FILTER_STRIDES ? 1 : 0;
    if (values.size() != 2) refuse(BAD_PARAM, "convolution: attribute %d has %zu elements for 2 spatial dimensions", name, values.size());
    if (values[0] < least || values[1] < least) refuse(BAD_PARAM, "convolution: attribute %d is below %ld", name, long(least));
  }
  if (descriptor.integers(CONVOLUTION_PRE_PADDINGS) != descriptor.integers(CONVOLUTION_POST_PADDINGS)) refuse(NOT_SUPPORTED, "convolution: padding differs before and after");
  if (descriptor.value<int>(CONVOLUTION_CONV_MODE) != CROSS_CORRELATION) refuse(NOT_SUPPORTED, "convolution: only cross-correlation");
  if (descriptor.value<int>(CONVOLUTION_COMP_TYPE) != DATA_FLOAT) refuse(NOT_SUPPORTED_DATA_TYPE, "convolution: sums must be taken in 32 bit");
}

void judge_operation(const Descriptor& descriptor, Name window_name, Name x_name, Name w_name, Name y_name) {
  const Descriptor& window = descriptor.part(window_name);
  if (window.kind != CONVOLUTION) refuse(DESCRIPTOR_TYPE, "%s: its convolution is a %s", kind_name(descriptor.kind), kind_name(window.kind));
  const Tensor x = tensor_of(tensor_part(descriptor, x_name)), w = tensor_of(tensor_part(descriptor, w_name)), y = tensor_of(tensor_part(descriptor, y_name));
  if (x.sizes[1] != w.sizes[1]) refuse(SHAPE_MISMATCH, "%s: input of %ld channels, filter for %ld", kind_name(descriptor.kind), long(x.sizes[1]), long(w.sizes[1]));
  std::vector<int64_t> expected = {x.sizes[0], w.sizes[0], 0, 0};
  for (size_t axis = 0; axis < 2; axis++) {
    const int64_t reach = window.integers(CONVOLUTION_DILATIONS)[axis] * (w.sizes[2 + axis] - 1) + 1;
    const int64_t room = x.sizes[2 + axis] + 2 * window.integers(CONVOLUTION_PRE_PADDINGS)[axis] - reach;
    expected[2 + axis] = room < 0 ? 0 : room / window.integers(CONVOLUTION_FILTER_STRIDES)[axis] + 1;
  }
  if (y.sizes == expected) return;
  refuse(SHAPE_MISMATCH, "%s: output of %ld x %ld x %ld x %ld, the convolution gives %ld x %ld x %ld x %ld", kind_name(descriptor.kind), long(y.sizes[0]),
         long(y.sizes[1]), long(y.sizes[2]), long(y.sizes[3]), long(expected[0]), long(expected[1]), long(expected[2]), long(expected[3]));
}

void judge_function(const Descriptor& descriptor) {
  const int mode = descriptor.value<int>(POINTWISE_MODE_);
  if (mode != ADD && mode != MUL && mode != IDENTITY && mode != RELU_FWD) refuse(NOT_SUPPORTED, "pointwise function: mode %d", mode);
  if (descriptor.value<int>(POINTWISE_MATH_PREC) != DATA_FLOAT) refuse(NOT_SUPPORTED_DATA_TYPE, "pointwise function: it must compute in 32 bit");
}

void judge_pointwise(const Descriptor& descriptor) {
  const Descriptor& function = descriptor.part(OPERATION_POINTWISE_PW_DESCRIPTOR);
  if (function.kind != POINTWISE) refuse(DESCRIPTOR_TYPE, "pointwise operation: its function is a %s", kind_name(function.kind));
  const int mode = function.value<int>(POINTWISE_MODE_);
  const Tensor x = tensor_of(tensor_part(descriptor, OPERATION_POINTWISE_XDESC)), y = tensor_of(tensor_part(descriptor, OPERATION_POINTWISE_YDESC));
  if (x.sizes != y.sizes) refuse(SHAPE_MISMATCH, "pointwise operation: input and output differ in shape");
  const bool binary = mode == ADD || mode == MUL;
  if (binary != descriptor.has(OPERATION_POINTWISE_BDESC)) refuse(BAD_PARAM, "pointwise operation: mode %d %s a second input", mode, binary ? "needs" : "has no");
  if (!binary) return;
  const Tensor b = tensor_of(tensor_part(descriptor, OPERATION_POINTWISE_BDESC));
  for (size_t axis = 0; axis < 4; axis++) {
    if (b.sizes[axis] != 1 && b.sizes[axis] != x.sizes[axis]) refuse(SHAPE_MISMATCH, "pointwise operation: a second input of size %ld where the first has %ld", long(b.sizes[axis]), long(x.sizes[axis]));
  }
}

void judge_pack(const Descriptor& descriptor) {
  const auto ids = descriptor.integers(VARIANT_PACK_UNIQUE_IDS);
  const auto pointers = descriptor.list<void*>(VARIANT_PACK_DATA_POINTERS);
  if (ids.size() != pointers.size()) refuse(BAD_PARAM, "variant pack: %zu tensors, but %zu addresses", ids.size(), pointers.size());
  if (std::set<int64_t>(ids.begin(), ids.end()).size() != ids.size()) refuse(DUPLICATED_ENTRIES, "variant pack: a tensor is named twice");
}

void judge_description(const Descriptor& descriptor) {
  const auto text = descriptor.list<char>(DEVICEPROP_JSON_REPRESENTATION);
  const std::string json(text.begin(), text.end());
  for (const char* key : {"deviceVer", "multiProcessorCount", "warpSize", "maxSharedMemoryPerBlockOptin", "totalGlobalMem", "l2CacheSize", "deviceName", "driverVer"}) {
    if (json.find('"' + std::string(key) + '"') == std::string::npos) refuse(BAD_PARAM, "device description: %s is missing", key);
  }
}

}  // namespace

void judge(Descriptor& descriptor) {
  check_required(descriptor);
  switch (descriptor.kind) {
    case TENSOR: return judge_tensor(descriptor);
    case CONVOLUTION: return judge_convolution(descriptor);
    case CONVOLUTION_FORWARD: return judge_operation(descriptor, FORWARD_CONV_DESC, FORWARD_X, FORWARD_W, FORWARD_Y);
    case CONVOLUTION_BACKWARD_DATA: return judge_operation(descriptor, BWD_DATA_CONV_DESC, BWD_DATA_DX, BWD_DATA_W, BWD_DATA_DY);
    case CONVOLUTION_BACKWARD_FILTER: return judge_operation(descriptor, BWD_FILTER_CONV_DESC, BWD_FILTER_X, BWD_FILTER_DW, BWD_FILTER_DY);
    case POINTWISE: return judge_function(descriptor);
    case OPERATION_POINTWISE: return judge_pointwise(descriptor);
    case OPERATIONGRAPH: graph_of(descriptor); return;
    case VARIANT_PACK: return judge_pack(descriptor);
    case DEVICEPROP: return judge_description(descriptor);
    case ENGINEHEUR: return propose_engines(descriptor);
    case EXECUTION_PLAN: return prepare_plan(descriptor);
    case ENGINE: case ENGINECFG: refuse(NOT_SUPPORTED, "%s: only those of a heuristic are used", kind_name(descriptor.kind));
  }
}

}  // namespace dnn
