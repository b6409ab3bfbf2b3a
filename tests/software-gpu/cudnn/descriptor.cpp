// Which attributes a kind of descriptor has, and whether pointers are those of live objects.
#include "descriptor.hpp"

#include <cstdarg>
#include <cstdio>

namespace dnn {

namespace {

enum Use { REQUIRED, OPTIONAL, GIVEN };  // by the caller, by the caller if at all, by the library

struct Rule {
  Kind kind;
  Name name;
  Type type;
  int64_t least, most;
  Use use;
};

constexpr int64_t MANY = 1 << 20;

constexpr Rule RULES[] = {
    {TENSOR, TENSOR_UNIQUE_ID, INT64, 1, 1, REQUIRED},
    {TENSOR, TENSOR_DATA_TYPE, DATA_TYPE, 1, 1, REQUIRED},
    {TENSOR, TENSOR_BYTE_ALIGNMENT, INT64, 1, 1, REQUIRED},
    {TENSOR, TENSOR_DIMENSIONS, INT64, 1, 8, REQUIRED},
    {TENSOR, TENSOR_STRIDES, INT64, 1, 8, REQUIRED},
    {TENSOR, TENSOR_IS_VIRTUAL, BOOLEAN, 1, 1, OPTIONAL},
    {CONVOLUTION, CONVOLUTION_COMP_TYPE, DATA_TYPE, 1, 1, REQUIRED},
    {CONVOLUTION, CONVOLUTION_CONV_MODE, CONVOLUTION_MODE, 1, 1, REQUIRED},
    {CONVOLUTION, CONVOLUTION_SPATIAL_DIMS, INT64, 1, 1, REQUIRED},
    {CONVOLUTION, CONVOLUTION_DILATIONS, INT64, 1, 3, REQUIRED},
    {CONVOLUTION, CONVOLUTION_FILTER_STRIDES, INT64, 1, 3, REQUIRED},
    {CONVOLUTION, CONVOLUTION_PRE_PADDINGS, INT64, 1, 3, REQUIRED},
    {CONVOLUTION, CONVOLUTION_POST_PADDINGS, INT64, 1, 3, REQUIRED},
    {CONVOLUTION_FORWARD, FORWARD_ALPHA, FLOAT, 1, 1, REQUIRED},
    {CONVOLUTION_FORWARD, FORWARD_BETA, FLOAT, 1, 1, REQUIRED},
    {CONVOLUTION_FORWARD, FORWARD_CONV_DESC, BACKEND_DESCRIPTOR, 1, 1, REQUIRED},
    {CONVOLUTION_FORWARD, FORWARD_X, BACKEND_DESCRIPTOR, 1, 1, REQUIRED},
    {CONVOLUTION_FORWARD, FORWARD_W, BACKEND_DESCRIPTOR, 1, 1, REQUIRED},
    {CONVOLUTION_FORWARD, FORWARD_Y, BACKEND_DESCRIPTOR, 1, 1, REQUIRED},
    {CONVOLUTION_BACKWARD_DATA, BWD_DATA_ALPHA, FLOAT, 1, 1, REQUIRED},
    {CONVOLUTION_BACKWARD_DATA, BWD_DATA_BETA, FLOAT, 1, 1, REQUIRED},
    {CONVOLUTION_BACKWARD_DATA, BWD_DATA_CONV_DESC, BACKEND_DESCRIPTOR, 1, 1, REQUIRED},
    {CONVOLUTION_BACKWARD_DATA, BWD_DATA_DX, BACKEND_DESCRIPTOR, 1, 1, REQUIRED},
    {CONVOLUTION_BACKWARD_DATA, BWD_DATA_W, BACKEND_DESCRIPTOR, 1, 1, REQUIRED},
    {CONVOLUTION_BACKWARD_DATA, BWD_DATA_DY, BACKEND_DESCRIPTOR, 1, 1, REQUIRED},
    {CONVOLUTION_BACKWARD_FILTER, BWD_FILTER_ALPHA, FLOAT, 1, 1, REQUIRED},
    {CONVOLUTION_BACKWARD_FILTER, BWD_FILTER_BETA, FLOAT, 1, 1, REQUIRED},
    {CONVOLUTION_BACKWARD_FILTER, BWD_FILTER_CONV_DESC, BACKEND_DESCRIPTOR, 1, 1, REQUIRED},
    {CONVOLUTION_BACKWARD_FILTER, BWD_FILTER_X, BACKEND_DESCRIPTOR, 1, 1, REQUIRED},
    {CONVOLUTION_BACKWARD_FILTER, BWD_FILTER_DW, BACKEND_DESCRIPTOR, 1, 1, REQUIRED},
    {CONVOLUTION_BACKWARD_FILTER, BWD_FILTER_DY, BACKEND_DESCRIPTOR, 1, 1, REQUIRED},
    {POINTWISE, POINTWISE_MODE_, POINTWISE_MODE, 1, 1, REQUIRED},
    {POINTWISE, POINTWISE_MATH_PREC, DATA_TYPE, 1, 1, REQUIRED},
    {OPERATION_POINTWISE, OPERATION_POINTWISE_PW_DESCRIPTOR, BACKEND_DESCRIPTOR, 1, 1, REQUIRED},
    {OPERATION_POINTWISE, OPERATION_POINTWISE_XDESC, BACKEND_DESCRIPTOR, 1, 1, REQUIRED},
    {OPERATION_POINTWISE, OPERATION_POINTWISE_BDESC, BACKEND_DESCRIPTOR, 1, 1, OPTIONAL},
    {OPERATION_POINTWISE, OPERATION_POINTWISE_YDESC, BACKEND_DESCRIPTOR, 1, 1, REQUIRED},
    {OPERATIONGRAPH, OPERATIONGRAPH_OPS, BACKEND_DESCRIPTOR, 1, MANY, REQUIRED},
    {OPERATIONGRAPH, OPERATIONGRAPH_HANDLE, HANDLE, 1, 1, OPTIONAL},
    {DEVICEPROP, DEVICEPROP_JSON_REPRESENTATION, CHAR, 1, MANY, REQUIRED},
    {ENGINEHEUR, ENGINEHEUR_OPERATION_GRAPH, BACKEND_DESCRIPTOR, 1, 1, REQUIRED},
    {ENGINEHEUR, ENGINEHEUR_MODE, HEUR_MODE, 1, 1, REQUIRED},
    {ENGINEHEUR, ENGINEHEUR_DEVICEPROP, BACKEND_DESCRIPTOR, 1, 1, OPTIONAL},
    {ENGINEHEUR, ENGINEHEUR_RESULTS, BACKEND_DESCRIPTOR, 0, MANY, GIVEN},
    {ENGINECFG, ENGINECFG_ENGINE, BACKEND_DESCRIPTOR, 1, 1, REQUIRED},
    {ENGINE, ENGINE_OPERATION_GRAPH, BACKEND_DESCRIPTOR, 1, 1, REQUIRED},
    {ENGINE, ENGINE_GLOBAL_INDEX, INT64, 1, 1, REQUIRED},
    {ENGINE, ENGINE_NUMERICAL_NOTE, NUMERICAL_NOTE, 0, MANY, GIVEN},
    {ENGINE, ENGINE_BEHAVIOR_NOTE, BEHAVIOR_NOTE, 0, MANY, GIVEN},
    {EXECUTION_PLAN, EXECUTION_PLAN_ENGINE_CONFIG, BACKEND_DESCRIPTOR, 1, 1, REQUIRED},
    {EXECUTION_PLAN, EXECUTION_PLAN_HANDLE, HANDLE, 1, 1, OPTIONAL},
    {EXECUTION_PLAN, EXECUTION_PLAN_DEVICEPROP, BACKEND_DESCRIPTOR, 1, 1, OPTIONAL},
    {EXECUTION_PLAN, EXECUTION_PLAN_WORKSPACE_SIZE, INT64, 1, 1, GIVEN},
    {VARIANT_PACK, VARIANT_PACK_UNIQUE_IDS, INT64, 1, MANY, REQUIRED},
    {VARIANT_PACK, VARIANT_PACK_DATA_POINTERS, VOID_PTR, 1, MANY, REQUIRED},
    {VARIANT_PACK, VARIANT_PACK_WORKSPACE, VOID_PTR, 1, 1, OPTIONAL},
};

}  // namespace

void refuse(Status status, const char* format, ...) {
  char text[700];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  throw Refusal{status, text};
}

const char* kind_name(Kind kind) {
  switch (kind) {
    case POINTWISE: return "pointwise function";
    case CONVOLUTION: return "convolution";
    case ENGINE: return "engine";
    case ENGINECFG: return "engine configuration";
    case ENGINEHEUR: return "heuristic";
    case EXECUTION_PLAN: return "execution plan";
    case CONVOLUTION_FORWARD: return "forward convolution";
    case CONVOLUTION_BACKWARD_FILTER: return "filter gradient";
    case CONVOLUTION_BACKWARD_DATA: return "input gradient";
    case OPERATION_POINTWISE: return "pointwise operation";
    case OPERATIONGRAPH: return "operation graph";
    case VARIANT_PACK: return "variant pack";
    case TENSOR: return "tensor";
    case DEVICEPROP: return "device description";
  }
  return "descriptor of a kind that the software GPU has not";
}

size_t bytes_of(Type type) {
  switch (type) {
    case HANDLE: case INT64: case VOID_PTR: case BACKEND_DESCRIPTOR: return 8;
    case BOOLEAN: case CHAR: return 1;
    default: return 4;
  }
}

void check_attribute(Kind kind, int name, int type, int64_t count, bool reading) {
  for (const Rule& rule : RULES) {
    if (rule.kind != kind || rule.name != name) continue;
    if (rule.type != type) refuse(ATTRIBUTE_TYPE, "attribute %d of a %s has type %d, not %d", name, kind_name(kind), rule.type, type);
    if (!reading && rule.use == GIVEN) refuse(BAD_PARAM, "attribute %d of a %s can only be read", name, kind_name(kind));
    if (!reading && (count < rule.least || count > rule.most)) {
      refuse(BAD_PARAM, "attribute %d of a %s has %ld to %ld elements, not %ld", name, kind_name(kind), long(rule.least), long(rule.most), long(count));
    }
    return;
  }
  refuse(NOT_SUPPORTED, "a %s has no attribute %d", kind_name(kind), name);
}

void check_required(const Descriptor& descriptor) {
  for (const Rule& rule : RULES) {
    if (rule.kind != descriptor.kind || rule.use != REQUIRED || descriptor.has(rule.name)) continue;
    refuse(BAD_PARAM, "attribute %d of a %s is not set", rule.name, kind_name(descriptor.kind));
  }
}

const Descriptor& Descriptor::part(Name name) const {
  const Descriptor& part = live(value<void*>(name), "a descriptor's part");
  if (!part.finalized) refuse(NOT_FINALIZED, "attribute %d of a %s is a %s that is not finalized", name, kind_name(kind), kind_name(part.kind));
  return part;
}

std::set<void*>& descriptors() {
  static auto* all = new std::set<void*>;
  return *all;
}

std::set<void*>& handles() {
  static auto* all = new std::set<void*>;
  return *all;
}

Descriptor& live(void* pointer, const char* call) {
  if (!pointer) refuse(NULL_POINTER, "%s: a null descriptor", call);
  if (!descriptors().count(pointer)) refuse(BAD_PARAM, "%s: a descriptor that does not exist, or no longer", call);
  return *static_cast<Descriptor*>(pointer);
}

Handle& live_handle(void* pointer, const char* call) {
  if (!handles().count(pointer)) refuse(BAD_PARAM, "%s: a handle that does not exist, or no longer", call);
  return *static_cast<Handle*>(pointer);
}

}  // namespace dnn
