// An operation graph, read as a convolution followed by element-by-element steps.
#include "descriptor.hpp"

namespace dnn {

Tensor tensor_of(const Descriptor& descriptor) {
  const bool is_virtual = descriptor.has(TENSOR_IS_VIRTUAL) && descriptor.value<uint8_t>(TENSOR_IS_VIRTUAL);
  return {descriptor.integer(TENSOR_UNIQUE_ID), descriptor.value<int>(TENSOR_DATA_TYPE), is_virtual, descriptor.integer(TENSOR_BYTE_ALIGNMENT),
          descriptor.integers(TENSOR_DIMENSIONS)};
}

namespace {

int64_t add_tensor(Graph& graph, const Descriptor& descriptor) {
  const Tensor tensor = tensor_of(descriptor);
  const auto [found, fresh] = graph.tensors.emplace(tensor.id, tensor);
  if (!fresh && (found->second.sizes != tensor.sizes || found->second.type != tensor.type || found->second.is_virtual != tensor.is_virtual)) {
    refuse(BAD_PARAM, "operation graph: two different tensors are called %ld", long(tensor.id));
  }
  return tensor.id;
}

struct Names {
  Name alpha, beta, window, x, w, y;
};

Names names_of(Kind kind) {
  switch (kind) {
    case CONVOLUTION_FORWARD: return {FORWARD_ALPHA, FORWARD_BETA, FORWARD_CONV_DESC, FORWARD_X, FORWARD_W, FORWARD_Y};
    case CONVOLUTION_BACKWARD_DATA: return {BWD_DATA_ALPHA, BWD_DATA_BETA, BWD_DATA_CONV_DESC, BWD_DATA_DX, BWD_DATA_W, BWD_DATA_DY};
    case CONVOLUTION_BACKWARD_FILTER: return {BWD_FILTER_ALPHA, BWD_FILTER_BETA, BWD_FILTER_CONV_DESC, BWD_FILTER_X, BWD_FILTER_DW, BWD_FILTER_DY};
    default: refuse(NOT_SUPPORTED_GRAPH_PATTERN, "operation graph: it must begin with a convolution, not with a %s", kind_name(kind));
  }
}

void add_convolution(Graph& graph, const Descriptor& operation) {
  const Names names = names_of(operation.kind);
  graph.convolution = operation.kind;
  graph.alpha = operation.value<float>(names.alpha);
  graph.beta = operation.value<float>(names.beta);
  const Descriptor& window = operation.part(names.window);
  for (size_t axis = 0; axis < 2; axis++) {
    graph.stride[axis] = window.integers(CONVOLUTION_FILTER_STRIDES)[axis];
    graph.padding[axis] = window.integers(CONVOLUTION_PRE_PADDINGS)[axis];
    graph.dilation[axis] = window.integers(CONVOLUTION_DILATIONS)[axis];
  }
  graph.input = add_tensor(graph, operation.part(names.x));
  graph.filter = add_tensor(graph, operation.part(names.w));
  graph.output = add_tensor(graph, operation.part(names.y));
  graph.computed = operation.kind == CONVOLUTION_FORWARD ? graph.output : operation.kind == CONVOLUTION_BACKWARD_DATA ? graph.input : graph.filter;
  graph.result = graph.computed;
  for (const int64_t id : {graph.input, graph.filter, graph.output}) {
    if (id != graph.computed && graph.tensors.at(id).is_virtual) refuse(NOT_SUPPORTED_GRAPH_PATTERN, "operation graph: a convolution reads tensor %ld, which is virtual", long(id));
  }
}

void add_step(Graph& graph, const Descriptor& operation) {
  if (operation.kind != OPERATION_POINTWISE) refuse(NOT_SUPPORTED_GRAPH_PATTERN, "operation graph: a %s after the convolution", kind_name(operation.kind));
  const int64_t from = add_tensor(graph, operation.part(OPERATION_POINTWISE_XDESC));
  if (from != graph.result || !graph.tensors.at(from).is_virtual) {
    refuse(NOT_SUPPORTED_GRAPH_PATTERN, "operation graph: a pointwise operation reads tensor %ld, not the virtual result before it", long(from));
  }
  const bool binary = operation.has(OPERATION_POINTWISE_BDESC);
  const int mode = operation.part(OPERATION_POINTWISE_PW_DESCRIPTOR).value<int>(POINTWISE_MODE_);
  graph.steps.push_back({mode, binary ? add_tensor(graph, operation.part(OPERATION_POINTWISE_BDESC)) : -1});
  graph.result = add_tensor(graph, operation.part(OPERATION_POINTWISE_YDESC));
}

// Formats that the library has engines for: one for all of a convolution's stored tensors, 32 bit between operations; a result in
// another format only where an identity converts it. beta cannot be combined with more operations.
void check_formats(const Graph& graph) {
  int format = -1;
  for (const int64_t id : {graph.input, graph.filter, graph.output}) {
    const Tensor& tensor = graph.tensors.at(id);
    if (tensor.is_virtual && tensor.type != DATA_FLOAT) refuse(NOT_SUPPORTED_DATA_TYPE, "operation graph: tensor %ld lies between operations and must be 32 bit", long(id));
    if (tensor.is_virtual) continue;
    if (format != -1 && tensor.type != format) refuse(NOT_SUPPORTED_DATA_TYPE, "operation graph: data types %d and %d in one convolution", format, tensor.type);
    format = tensor.type;
  }
  const bool converts = graph.steps.size() == 1 && graph.steps[0].mode == IDENTITY;
  if (graph.tensors.at(graph.result).type != format && !converts) refuse(NOT_SUPPORTED_DATA_TYPE, "operation graph: a result of data type %d", graph.tensors.at(graph.result).type);
  if (!graph.steps.empty() && graph.beta != 0) refuse(NOT_SUPPORTED_GRAPH_PATTERN, "operation graph: beta with operations after the convolution");
}

}  // namespace

Graph graph_of(const Descriptor& descriptor) {
  Graph graph;
  for (void* raw : descriptor.list<void*>(OPERATIONGRAPH_OPS)) {
    const Descriptor& operation = live(raw, "operation graph");
    if (!operation.finalized) refuse(NOT_FINALIZED, "operation graph: a %s is not finalized", kind_name(operation.kind));
    if (graph.tensors.empty()) {
      add_convolution(graph, operation);
    } else {
      add_step(graph, operation);
    }
  }
  if (graph.tensors.at(graph.result).is_virtual) refuse(BAD_PARAM, "operation graph: its result, tensor %ld, is virtual", long(graph.result));
  check_formats(graph);
  return graph;
}

}  // namespace dnn
