// Streams, events, capture and graphs. Work is executed by whoever calls into the driver.
#pragma once
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "abi.hpp"

namespace device {

// When submitted work executes: inside the call, or only when something synchronises with its stream. Late execution makes a
// forgotten synchronisation visible.
enum class Execution { Now, Late };
Execution& execution();

struct Stream;

// Everything submitted to a stream up to here.
struct Point {
  std::shared_ptr<Stream> stream;
  uint64_t position = 0;
};

struct Operation {
  std::string what;
  std::function<CUresult()> run;
  Point after;                // executed first
  bool even_after_error = false;
};

struct Graph {
  std::vector<Operation> nodes;
};

// Whose calls that concern no stream in particular a capture forbids: everybody's, those of the thread that began it, or nobody's.
enum class CaptureMode { Global, ThreadLocal, Relaxed };

struct Stream {
  std::deque<Operation> queue;
  uint64_t submitted = 0, completed = 0;
  std::shared_ptr<Graph> capture;
  bool capture_invalid = false;
  CaptureMode capture_mode = CaptureMode::Global;
  std::thread::id capturing_thread;
};

struct Event {
  Point recorded;
  std::shared_ptr<double> milliseconds;
};

CUresult submit(const std::shared_ptr<Stream>& stream, Operation operation);
bool run_one(const std::shared_ptr<Stream>& stream);
void run_until(const Point& point);
void run_all(const std::shared_ptr<Stream>& stream);
void run_everything();
void register_stream(const std::shared_ptr<Stream>& stream);
void forget_stream(const std::shared_ptr<Stream>& stream);

CUresult record(Event& event, const std::shared_ptr<Stream>& stream);
CUresult wait(const std::shared_ptr<Stream>& stream, const Event& event);
// Reports a call that no capture may contain, and spoils the capture.
CUresult forbid_in_capture(const std::shared_ptr<Stream>& stream, const char* call);

// The same for calls that concern no stream in particular, in captures whose mode forbids this thread to make them.
CUresult forbid_while_capturing(const char* call);

// As on a device: after a fault every call fails until the context is released.
CUresult& sticky_error();

}  // namespace device
