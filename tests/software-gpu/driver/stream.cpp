#include "stream.hpp"

#include <algorithm>
#include <chrono>

#include "memory.hpp"
#include "state.hpp"

namespace device {

namespace {

std::vector<std::shared_ptr<Stream>>& streams() {
  static auto* all = new std::vector<std::shared_ptr<Stream>>;
  return *all;
}

double now_in_milliseconds() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

Execution& execution() {
  static Execution instance = Execution::Late;
  return instance;
}

CUresult& sticky_error() {
  static CUresult error = CUDA_SUCCESS;
  return error;
}

void register_stream(const std::shared_ptr<Stream>& stream) { streams().push_back(stream); }

void forget_stream(const std::shared_ptr<Stream>& stream) {
  run_all(stream);
  streams().erase(std::find(streams().begin(), streams().end(), stream));
}

bool run_one(const std::shared_ptr<Stream>& stream) {
  if (stream->queue.empty()) return false;
  const Operation operation = std::move(stream->queue.front());
  stream->queue.pop_front();
  if (operation.after.stream) run_until(operation.after);
  if (operation.run && (sticky_error() == CUDA_SUCCESS || operation.even_after_error)) {
    const CUresult result = operation.run();
    if (result != CUDA_SUCCESS && sticky_error() == CUDA_SUCCESS) sticky_error() = result;
  }
  stream->completed++;
  return true;
}

void run_until(const Point& point) {
  while (point.stream->completed < point.position && run_one(point.stream)) {
  }
}

void run_all(const std::shared_ptr<Stream>& stream) { run_until({stream, stream->submitted}); }

void run_everything() {
  for (const auto& stream : streams()) run_all(stream);
}

CUresult submit(const std::shared_ptr<Stream>& stream, Operation operation) {
  if (stream->capture) {
    if (stream->capture_invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    stream->capture->nodes.push_back(std::move(operation));
    return CUDA_SUCCESS;
  }
  stream->queue.push_back(std::move(operation));
  stream->submitted++;
  if (execution() == Execution::Now) run_all(stream);
  return CUDA_SUCCESS;
}

CUresult record(Event& event, const std::shared_ptr<Stream>& stream) {
  if (stream->capture) return CUDA_SUCCESS;  // within the one captured stream the order is already known
  auto stamp = std::make_shared<double>(-1.0);
  event.milliseconds = stamp;
  event.recorded = {stream, stream->submitted + 1};
  return submit(stream, {"event record", [stamp] { *stamp = now_in_milliseconds(); return CUDA_SUCCESS; }, {}});
}

CUresult wait(const std::shared_ptr<Stream>& stream, const Event& event) {
  if (!event.recorded.stream) return CUDA_SUCCESS;
  if (stream->capture) {
    report("capture: a wait for an event that was recorded outside of it");
    stream->capture_invalid = true;
    return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
  }
  return submit(stream, {"event wait", nullptr, event.recorded});
}

CUresult forbid_in_capture(const std::shared_ptr<Stream>& stream, const char* call) {
  if (!stream->capture) return CUDA_SUCCESS;
  report("capture: %s is not allowed while the stream is captured", call);
  stream->capture_invalid = true;
  return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

CUresult forbid_while_capturing(const char* call) {
  for (const auto& stream : streams()) {
    const bool others = stream->capture_mode == CaptureMode::ThreadLocal && stream->capturing_thread != std::this_thread::get_id();
    if (stream->capture_mode != CaptureMode::Relaxed && !others) RETURN_IF_ERROR(forbid_in_capture(stream, call));
  }
  return CUDA_SUCCESS;
}

}  // namespace device
