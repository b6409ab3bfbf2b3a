// A CUDA driver that has no device and says yes to everything else: cuDNN then compiles its run-time engines and plans with them for a
// device that is described, not there. Only .ci/cudnn-plans loads it. Signatures are from NVIDIA's driver API reference.
#define _GNU_SOURCE
#include <dlfcn.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 801 };
static char object;  // what every handle points to

int cuInit(unsigned flags) { (void)flags; return SUCCESS; }
int cuDriverGetVersion(int* version) { *version = 13000; return SUCCESS; }
int cuDeviceGetCount(int* count) { *count = 0; return SUCCESS; }
int cuGetErrorName(int error, const char** name) { (void)error; *name = "no device"; return SUCCESS; }
int cuGetErrorString(int error, const char** text) { return cuGetErrorName(error, text); }
int cuGetExportTable(const void** table, const void* id) { (void)id; *table = 0; return NOT_SUPPORTED; }

// A compiled kernel is "loaded", and has every attribute it is asked for.
int cuLibraryLoadData(void** library) { *library = &object; return SUCCESS; }
int cuLibraryGetKernel(void** kernel) { *kernel = &object; return SUCCESS; }
int cuLibraryUnload(void) { return SUCCESS; }
int cuKernelGetFunction(void** function) { *function = &object; return SUCCESS; }
int cuKernelGetAttribute(int* value) { *value = 0; return SUCCESS; }
int cuKernelSetAttribute(void) { return SUCCESS; }
int cuModuleLoadData(void** module) { *module = &object; return SUCCESS; }
int cuModuleGetFunction(void** function) { *function = &object; return SUCCESS; }
int cuModuleUnload(void) { return SUCCESS; }
int cuFuncGetAttribute(int* value) { *value = 0; return SUCCESS; }
int cuFuncSetAttribute(void) { return SUCCESS; }

// Everything that would need a device.
#define REFUSED(NAME) int NAME(void) { return NOT_SUPPORTED; }
REFUSED(cuCtxGetCurrent) REFUSED(cuCtxGetLimit) REFUSED(cuCtxPopCurrent) REFUSED(cuCtxPushCurrent) REFUSED(cuStreamGetCtx)
REFUSED(cuDeviceGet) REFUSED(cuLibraryLoadFromFile) REFUSED(cuOccupancyMaxPotentialClusterSize)
REFUSED(cuLinkCreate) REFUSED(cuLinkAddData) REFUSED(cuLinkComplete) REFUSED(cuLinkDestroy)
REFUSED(cuLaunchKernel) REFUSED(cuLaunchKernelEx) REFUSED(cuLaunchCooperativeKernel)

static int unknown(void) { return NOT_SUPPORTED; }

int cuGetProcAddress_v2(const char* symbol, void** function, int version, unsigned long long flags, int* status) {
  (void)version, (void)flags;
  Dl_info self;
  dladdr((void*)&object, &self);
  *function = dlsym(dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD), symbol);
  if (!*function) *function = (void*)unknown;
  if (status) *status = 0;
  return SUCCESS;
}

int cuGetProcAddress(const char* symbol, void** function, int version, unsigned long long flags) {
  return cuGetProcAddress_v2(symbol, function, version, flags, 0);
}
