// Streams, events, capture and graphs: the entry points.
#include "pretence.hpp"
#include "state.hpp"

using namespace device;

EXPORT CUresult cuStreamCreate(CUstream* handle, unsigned) {
  ENTER;
  RETURN_IF_ERROR(ready_error());
  auto stream = std::make_shared<Stream>();
  register_stream(stream);
  *handle = reinterpret_cast<CUstream>(stream.get());
  state().streams[stream.get()] = stream;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamCreateWithPriority(CUstream* handle, unsigned flags, int) { return cuStreamCreate(handle, flags); }

EXPORT CUresult cuStreamDestroy_v2(CUstream handle) {
  ENTER;
  RETURN_IF_ERROR(context_error());
  FIND_STREAM(stream, handle);
  forget_stream(stream);
  state().streams.erase(handle);
  return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamGetCtx(CUstream handle, CUcontext* context) {
  ENTER;
  RETURN_IF_ERROR(ready_error());
  // A question, so a handle that nobody has is an answer and no fault.
  if (reinterpret_cast<uintptr_t>(handle) > 2 && !state().streams.count(handle)) return CUDA_ERROR_INVALID_HANDLE;
  *context = reinterpret_cast<CUcontext>(&state());
  return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamSynchronize(CUstream handle) {
  ENTER;
  RETURN_IF_ERROR(ready_error());
  FIND_STREAM(stream, handle);
  RETURN_IF_ERROR(forbid_in_capture(stream, __func__));
  run_all(stream);
  return sticky_error();
}

EXPORT CUresult cuStreamWaitEvent(CUstream handle, CUevent event, unsigned) {
  ENTER;
  RETURN_IF_ERROR(ready_error());
  FIND_STREAM(stream, handle);
  const auto found = state().events.find(event);
  return found == state().events.end() ? CUDA_ERROR_INVALID_HANDLE : wait(stream, *found->second);
}

EXPORT CUresult cuEventCreate(CUevent* handle, unsigned) {
  ENTER;
  RETURN_IF_ERROR(ready_error());
  auto event = std::make_unique<Event>();
  *handle = reinterpret_cast<CUevent>(event.get());
  state().events[*handle] = std::move(event);
  return CUDA_SUCCESS;
}

EXPORT CUresult cuEventDestroy_v2(CUevent event) {
  ENTER;
  RETURN_IF_ERROR(context_error());
  return state().events.erase(event) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

EXPORT CUresult cuEventRecord(CUevent event, CUstream handle) {
  ENTER;
  RETURN_IF_ERROR(ready_error());
  FIND_STREAM(stream, handle);
  const auto found = state().events.find(event);
  return found == state().events.end() ? CUDA_ERROR_INVALID_HANDLE : record(*found->second, stream);
}

EXPORT CUresult cuEventQuery(CUevent event) {
  ENTER;
  RETURN_IF_ERROR(ready_error());
  const auto found = state().events.find(event);
  if (found == state().events.end()) return CUDA_ERROR_INVALID_HANDLE;
  RETURN_IF_ERROR(forbid_while_capturing(__func__));
  const Point& point = found->second->recorded;
  if (!point.stream || point.stream->completed >= point.position) return CUDA_SUCCESS;
  run_one(point.stream);  // or a polling caller would wait for ever
  return CUDA_ERROR_NOT_READY;
}

EXPORT CUresult cuEventSynchronize(CUevent event) {
  ENTER;
  RETURN_IF_ERROR(ready_error());
  const auto found = state().events.find(event);
  if (found == state().events.end()) return CUDA_ERROR_INVALID_HANDLE;
  RETURN_IF_ERROR(forbid_while_capturing(__func__));
  if (found->second->recorded.stream) run_until(found->second->recorded);
  return sticky_error();
}

EXPORT CUresult cuEventElapsedTime_v2(float* milliseconds, CUevent start, CUevent end) {
  ENTER;
  RETURN_IF_ERROR(ready_error());
  const auto first = state().events.find(start), last = state().events.find(end);
  if (first == state().events.end() || last == state().events.end()) return CUDA_ERROR_INVALID_HANDLE;
  if (!first->second->milliseconds || !last->second->milliseconds) return CUDA_ERROR_INVALID_HANDLE;
  if (*first->second->milliseconds < 0 || *last->second->milliseconds < 0) return CUDA_ERROR_NOT_READY;
  *milliseconds = static_cast<float>(*last->second->milliseconds - *first->second->milliseconds);
  return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamBeginCapture_v2(CUstream handle, int mode) {
  ENTER;
  RETURN_IF_ERROR(ready_error());
  FIND_STREAM(stream, handle);
  if (stream == state().default_stream || is_to_fail("cuStreamBeginCapture")) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
  stream->capture = std::make_shared<Graph>();
  stream->capture_invalid = false;
  stream->capture_mode = static_cast<CaptureMode>(mode);
  stream->capturing_thread = std::this_thread::get_id();
  return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamIsCapturing(CUstream handle, int* status) {
  ENTER;
  RETURN_IF_ERROR(ready_error());
  FIND_STREAM(stream, handle);
  *status = !stream->capture ? 0 : stream->capture_invalid ? 2 : 1;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamEndCapture(CUstream handle, CUgraph* graph) {
  ENTER;
  RETURN_IF_ERROR(ready_error());
  FIND_STREAM(stream, handle);
  *graph = nullptr;
  if (!stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
  const auto captured = std::move(stream->capture);
  stream->capture = nullptr;
  if (stream->capture_invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  state().graphs[captured.get()] = captured;
  *graph = reinterpret_cast<CUgraph>(captured.get());
  return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphInstantiateWithFlags(CUgraphExec* executable, CUgraph graph, unsigned long long) {
  ENTER;
  RETURN_IF_ERROR(ready_error());
  const auto found = state().graphs.find(graph);
  if (found == state().graphs.end()) return CUDA_ERROR_INVALID_HANDLE;
  auto copy = std::make_shared<Graph>(*found->second);
  *executable = reinterpret_cast<CUgraphExec>(copy.get());
  state().graphs[copy.get()] = std::move(copy);
  return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphLaunch(CUgraphExec executable, CUstream handle) {
  ENTER;
  RETURN_IF_ERROR(ready_error());
  FIND_STREAM(stream, handle);
  const auto found = state().graphs.find(executable);
  if (found == state().graphs.end()) return CUDA_ERROR_INVALID_HANDLE;
  auto run = [graph = found->second]() -> CUresult {
    const Wrong wrong = goes_wrong("cuGraphLaunch");
    if (wrong != Wrong::Not) return wrong == Wrong::Fails ? CUDA_ERROR_LAUNCH_FAILED : CUDA_SUCCESS;
    for (const Operation& node : graph->nodes) RETURN_IF_ERROR(node.run());
    return CUDA_SUCCESS;
  };
  return submit(stream, {__func__, run, {}});
}

EXPORT CUresult cuGraphUpload(CUgraphExec, CUstream) { return CUDA_SUCCESS; }

EXPORT CUresult cuGraphExecDestroy(CUgraphExec executable) {
  ENTER;
  return state().graphs.erase(executable) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

EXPORT CUresult cuGraphDestroy(CUgraph graph) {
  ENTER;
  return state().graphs.erase(graph) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}
