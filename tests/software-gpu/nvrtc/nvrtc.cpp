// A stand-in for the run-time compiler: the "compiled" program is its own source text, which the driver accepts as an image.
#include <cstddef>
#include <cstring>
#include <string>

#include "pretence.hpp"

#define EXPORT extern "C" __attribute__((visibility("default")))

enum Result : int { SUCCESS = 0, INVALID_INPUT = 3, INVALID_PROGRAM = 4, COMPILATION = 6 };

struct Program {
  std::string source, log;
  bool compiled = false;
};

// A version no real compiler has, so that nothing it makes is mistaken for a real one's work in a cache.
EXPORT Result nvrtcVersion(int* major, int* minor) {
  *major = 0;
  *minor = 0;
  return SUCCESS;
}

constexpr int ARCHITECTURES[] = {80, 86, 89, 90, 100, 120};

EXPORT Result nvrtcGetNumSupportedArchs(int* count) {
  *count = sizeof ARCHITECTURES / sizeof *ARCHITECTURES;
  return SUCCESS;
}

EXPORT Result nvrtcGetSupportedArchs(int* architectures) {
  memcpy(architectures, ARCHITECTURES, sizeof ARCHITECTURES);
  return SUCCESS;
}

EXPORT Result nvrtcCreateProgram(Program** program, const char* source, const char*, int, const char* const*, const char* const*) {
  if (!program || !source) return INVALID_INPUT;
  *program = new Program{source, "", false};
  return SUCCESS;
}

EXPORT Result nvrtcCompileProgram(Program* program, int, const char* const*) {
  if (!program) return INVALID_PROGRAM;
  program->compiled = program->source.find("KERNEL(") != std::string::npos;
  if (!program->compiled) program->log = "the source has no kernel";
  if (device::is_to_fail(__func__)) {
    program->compiled = false;
    program->log = "the compiler was told to fail";
  }
  return program->compiled ? SUCCESS : COMPILATION;
}

EXPORT Result nvrtcGetCUBINSize(Program* program, size_t* bytes) {
  if (!program || !program->compiled) return INVALID_PROGRAM;
  *bytes = program->source.size() + 1;
  return SUCCESS;
}

EXPORT Result nvrtcGetCUBIN(Program* program, char* image) {
  if (!program || !program->compiled) return INVALID_PROGRAM;
  memcpy(image, program->source.c_str(), program->source.size() + 1);
  return SUCCESS;
}

EXPORT Result nvrtcGetPTXSize(Program* program, size_t* bytes) { return nvrtcGetCUBINSize(program, bytes); }
EXPORT Result nvrtcGetPTX(Program* program, char* image) { return nvrtcGetCUBIN(program, image); }

EXPORT Result nvrtcGetProgramLogSize(Program* program, size_t* bytes) {
  if (!program) return INVALID_PROGRAM;
  *bytes = program->log.size() + 1;
  return SUCCESS;
}

EXPORT Result nvrtcGetProgramLog(Program* program, char* log) {
  if (!program) return INVALID_PROGRAM;
  memcpy(log, program->log.c_str(), program->log.size() + 1);
  return SUCCESS;
}

EXPORT Result nvrtcDestroyProgram(Program** program) {
  if (!program || !*program) return INVALID_PROGRAM;
  delete *program;
  *program = nullptr;
  return SUCCESS;
}

EXPORT const char* nvrtcGetErrorString(Result result) { return result == SUCCESS ? "NVRTC_SUCCESS" : "NVRTC_ERROR_COMPILATION"; }
