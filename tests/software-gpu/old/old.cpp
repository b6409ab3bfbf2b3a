// A stand-in for a driver that lacks functions: it can be asked how many devices there are, and nothing else.
#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT int cuInit(unsigned) { return 0; }

EXPORT int cuDriverGetVersion(int* version) {
  *version = 13000;
  return 0;
}

EXPORT int cuDeviceGetCount(int* count) {
  *count = 1;
  return 0;
}
