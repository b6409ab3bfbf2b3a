// The entry points of a stand-in libcudnn.so.9: handles, errors, and the six functions of the backend API.
#include <cstdio>

#include "descriptor.hpp"
#include "pretence.hpp"

using namespace dnn;

namespace {

std::string& last_words() {
  static thread_local std::string words;
  return words;
}

// Runs the body of an entry point; what it refuses becomes its status, and its words are kept.
template <class Body>
int guarded(Body body) {
  ENTER;
  try {
    body();
    return SUCCESS;
  } catch (const Refusal& refusal) {
    last_words() = refusal.words;
    return refusal.status;
  }
}

}  // namespace

// A version that no real library has.
EXPORT size_t cudnnGetVersion() { return static_cast<size_t>(device::pretended_number("cudnn_version", 99999)); }

// Whether the library's parts are of one version.
EXPORT int cudnnGraphVersionCheck() { return device::pretence("cudnn") == "mixed" ? SUBLIBRARY_VERSION_MISMATCH : SUCCESS; }
EXPORT int cudnnOpsVersionCheck() { return cudnnGraphVersionCheck(); }
EXPORT int cudnnCnnVersionCheck() { return cudnnGraphVersionCheck(); }

EXPORT const char* cudnnGetErrorString(int status) {
  switch (status) {
    case SUCCESS: return "CUDNN_STATUS_SUCCESS";
    case SUBLIBRARY_VERSION_MISMATCH: return "CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH";
    case NOT_INITIALIZED: return "CUDNN_STATUS_NOT_INITIALIZED";
    case BAD_PARAM: return "CUDNN_STATUS_BAD_PARAM";
    case NULL_POINTER: return "CUDNN_STATUS_BAD_PARAM_NULL_POINTER";
    case MISALIGNED_POINTER: return "CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER";
    case NOT_FINALIZED: return "CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED";
    case OUT_OF_BOUND: return "CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND";
    case SIZE_INSUFFICIENT: return "CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT";
    case SHAPE_MISMATCH: return "CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH";
    case DUPLICATED_ENTRIES: return "CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES";
    case ATTRIBUTE_TYPE: return "CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE";
    case DESCRIPTOR_TYPE: return "CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE";
    case NOT_SUPPORTED: return "CUDNN_STATUS_NOT_SUPPORTED";
    case NOT_SUPPORTED_GRAPH_PATTERN: return "CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN";
    case NOT_SUPPORTED_SHAPE: return "CUDNN_STATUS_NOT_SUPPORTED_SHAPE";
    case NOT_SUPPORTED_DATA_TYPE: return "CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE";
    case NOT_SUPPORTED_LAYOUT: return "CUDNN_STATUS_NOT_SUPPORTED_LAYOUT";
    case EXECUTION_FAILED: return "CUDNN_STATUS_EXECUTION_FAILED";
    default: return "a status the software GPU has no name for";
  }
}

EXPORT void cudnnGetLastErrorString(char* text, size_t length) {
  if (text && length > 0) snprintf(text, length, "%s", last_words().c_str());
  last_words().clear();
}

EXPORT int cudnnCreate(void** handle) {
  return guarded([=] {
    if (!handle) refuse(NULL_POINTER, "cudnnCreate: no place for the handle");
    if (device::ready_error() != CUDA_SUCCESS) refuse(NOT_INITIALIZED, "cudnnCreate: no context is current, or it has failed");
    *handle = new Handle;
    handles().insert(*handle);
  });
}

EXPORT int cudnnDestroy(void* handle) {
  return guarded([=] {
    Handle* dead = &live_handle(handle, "cudnnDestroy");
    handles().erase(dead);
    delete dead;
  });
}

EXPORT int cudnnSetStream(void* handle, CUstream stream) {
  return guarded([=] {
    if (!device::find_stream(stream)) refuse(BAD_PARAM, "cudnnSetStream: a stream that does not exist, or no longer");
    live_handle(handle, "cudnnSetStream").stream = stream;
  });
}

EXPORT int cudnnBackendCreateDescriptor(int kind, void** descriptor) {
  return guarded([=] {
    if (!descriptor) refuse(NULL_POINTER, "cudnnBackendCreateDescriptor: no place for the descriptor");
    const auto known = std::string(kind_name(static_cast<Kind>(kind))).find("software GPU") == std::string::npos;
    if (!known) refuse(NOT_SUPPORTED, "cudnnBackendCreateDescriptor: kind %d", kind);
    *descriptor = new Descriptor{static_cast<Kind>(kind)};
    descriptors().insert(*descriptor);
  });
}

EXPORT int cudnnBackendDestroyDescriptor(void* descriptor) {
  return guarded([=] {
    Descriptor* dead = &live(descriptor, "cudnnBackendDestroyDescriptor");
    descriptors().erase(dead);
    delete dead;
  });
}

EXPORT int cudnnBackendSetAttribute(void* descriptor, int name, int type, int64_t count, const void* elements) {
  return guarded([=] {
    Descriptor& target = live(descriptor, "cudnnBackendSetAttribute");
    if (target.finalized) refuse(NOT_INITIALIZED, "setting attribute %d: the %s is finalized", name, kind_name(target.kind));
    check_attribute(target.kind, name, type, count, false);
    if (!elements && count > 0) refuse(NULL_POINTER, "setting attribute %d of a %s: no elements", name, kind_name(target.kind));
    const auto* start = static_cast<const uint8_t*>(elements);
    const size_t bytes = static_cast<size_t>(count) * bytes_of(static_cast<Type>(type));
    target.attributes[static_cast<Name>(name)] = {static_cast<Type>(type), count, std::vector<uint8_t>(start, start + bytes)};
  });
}

EXPORT int cudnnBackendFinalize(void* descriptor) {
  return guarded([=] {
    Descriptor& target = live(descriptor, "cudnnBackendFinalize");
    if (target.finalized) refuse(BAD_PARAM, "the %s is finalized already", kind_name(target.kind));
    judge(target);
    target.finalized = true;
  });
}

EXPORT int cudnnBackendGetAttribute(void* descriptor, int name, int type, int64_t room, int64_t* count, void* elements) {
  return guarded([=] {
    const Descriptor& source = live(descriptor, "cudnnBackendGetAttribute");
    if (!source.finalized) refuse(NOT_FINALIZED, "reading attribute %d: the %s is not finalized", name, kind_name(source.kind));
    check_attribute(source.kind, name, type, room, true);
    const auto found = source.attributes.find(static_cast<Name>(name));
    const int64_t held = found == source.attributes.end() ? 0 : found->second.count;
    if (count) *count = held;
    if (room == 0 || held == 0) return;
    if (!elements) refuse(NULL_POINTER, "reading attribute %d of a %s: no place for the elements", name, kind_name(source.kind));
    if (type == BACKEND_DESCRIPTOR) return hand_out(source, static_cast<Name>(name), static_cast<void**>(elements), room);
    memcpy(elements, found->second.bytes.data(), static_cast<size_t>(std::min(room, held)) * bytes_of(static_cast<Type>(type)));
  });
}

EXPORT int cudnnBackendExecute(void* handle, void* plan, void* pack) {
  return guarded([=] {
    const Handle& target = live_handle(handle, "cudnnBackendExecute");
    const Descriptor &what = live(plan, "cudnnBackendExecute"), &where = live(pack, "cudnnBackendExecute");
    if (what.kind != EXECUTION_PLAN || where.kind != VARIANT_PACK) refuse(DESCRIPTOR_TYPE, "execution: a %s and a %s", kind_name(what.kind), kind_name(where.kind));
    if (!what.finalized || !where.finalized) refuse(NOT_FINALIZED, "execution: the %s is not finalized", what.finalized ? "variant pack" : "execution plan");
    if (device::ready_error() != CUDA_SUCCESS) refuse(EXECUTION_FAILED, "execution: no context is current, or it has failed");
    execute(target, what, where);
  });
}
