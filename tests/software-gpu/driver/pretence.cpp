#include "pretence.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>

namespace device {

std::string pretence(const std::string& name) {
  const char* text = getenv("SOFTWARE_GPU_PRETEND");
  const std::string all = "," + std::string(text ? text : "") + ",", wanted = "," + name + "=";
  const size_t found = all.find(wanted);
  if (found == std::string::npos) return "";
  const size_t start = found + wanted.size();
  return all.substr(start, all.find(',', start) - start);
}

int64_t pretended_number(const std::string& name, int64_t otherwise) {
  const std::string value = pretence(name);
  return value.empty() ? otherwise : strtoll(value.c_str(), nullptr, 10);
}

namespace {

// Something that is to go wrong, of which it is known how often it was met.
class Wish {
 public:
  explicit Wish(const char* kind) {
    const std::string text = pretence(kind);
    const size_t colon = text.find(':');
    name_ = text.substr(0, colon);
    if (colon != std::string::npos) number_ = strtoll(text.c_str() + colon + 1, nullptr, 10);
  }

  bool is_for(const std::string& name) {
    const bool any_rest = !name_.empty() && name_.back() == '*';
    const bool matches = any_rest ? name.compare(0, name_.size() - 1, name_, 0, name_.size() - 1) == 0 : name == name_;
    return matches && !name_.empty() && (++met_ == number_ || number_ == 0);
  }

 private:
  std::string name_;
  int64_t number_ = 0, met_ = 0;
};

[[noreturn]] void crash() {
  const rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);  // a crash that is wanted leaves no file
  abort();
}

[[noreturn]] void hang() {
  for (;;) pause();
}

}  // namespace

Wrong goes_wrong(const std::string& name) {
  static Wish failing("failing"), skipping("skipping"), crashing("crashing"), hanging("hanging");
  if (crashing.is_for(name)) crash();
  if (hanging.is_for(name)) hang();
  if (failing.is_for(name)) return Wrong::Fails;
  return skipping.is_for(name) ? Wrong::IsSkipped : Wrong::Not;
}

}  // namespace device
