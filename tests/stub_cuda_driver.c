/* A CUDA driver with one device and no GPU: memory is the host's, a stream runs nothing.

   It is what NVIDIA's own binding loads in tests/test_cuda_driver.py, so that the arguments which
   the adapter hands over are converted and checked by the real code. A handle that the stub did
   not give out is answered with an error, as the driver would. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, INVALID_VALUE = 1, INVALID_DEVICE = 101, INVALID_CONTEXT = 201, INVALID_HANDLE = 400 };
enum { MAJOR = 75, MINOR = 76, RELAXED = 2 };

static void *const CONTEXT = (void *)0x10, *const STREAM = (void *)0x20;
static void *const GRAPH = (void *)0x30, *const READY = (void *)0x40;

typedef int Result;
typedef unsigned long long Pointer;

static Result same(void *given, void *ours) { return given == ours ? OK : INVALID_HANDLE; }

Result cuInit(unsigned flags) { return flags ? INVALID_VALUE : OK; }
Result cuDriverGetVersion(int *version) { *version = 13020; return OK; }
Result cuDeviceGetCount(int *count) { *count = 1; return OK; }
Result cuDeviceGet(int *device, int ordinal) { *device = ordinal; return ordinal ? INVALID_DEVICE : OK; }
Result cuDeviceGetName(char *name, int size, int device) { (void)device; strncpy(name, "stub", size); return OK; }
Result cuDeviceGetAttribute(int *value, int kind, int device) {
    (void)device;
    *value = kind == MAJOR ? 8 : kind == MINOR ? 7 : 0;
    return OK;
}
Result cuDevicePrimaryCtxRetain(void **context, int device) { (void)device; *context = CONTEXT; return OK; }
Result cuCtxSetCurrent(void *context) { return context == CONTEXT ? OK : INVALID_CONTEXT; }
Result cuMemAlloc(Pointer *pointer, size_t size) { *pointer = (Pointer)malloc(size); return OK; }
Result cuMemFree(Pointer pointer) { free((void *)pointer); return OK; }
Result cuMemcpyHtoD(Pointer to, const void *from, size_t size) { memcpy((void *)to, from, size); return OK; }
Result cuMemcpyDtoH(void *to, Pointer from, size_t size) { memcpy(to, (void *)from, size); return OK; }
Result cuStreamCreate(void **stream, unsigned flags) { *stream = STREAM; return flags ? INVALID_VALUE : OK; }
Result cuStreamSynchronize(void *stream) { return same(stream, STREAM); }
Result cuStreamDestroy(void *stream) { return same(stream, STREAM); }
Result cuEventCreate(void **event, unsigned flags) { *event = malloc(1); return flags ? INVALID_VALUE : OK; }
Result cuEventRecord(void *event, void *stream) { return event ? same(stream, STREAM) : INVALID_HANDLE; }
Result cuEventSynchronize(void *event) { return event ? OK : INVALID_HANDLE; }
Result cuEventElapsedTime(float *ms, void *before, void *after) { *ms = 1.5f; return before && after ? OK : INVALID_HANDLE; }
Result cuEventDestroy(void *event) { free(event); return OK; }
Result cuStreamBeginCapture(void *stream, int mode) { return mode == RELAXED ? same(stream, STREAM) : INVALID_VALUE; }
Result cuStreamEndCapture(void *stream, void **graph) { *graph = GRAPH; return same(stream, STREAM); }
Result cuGraphInstantiateWithFlags(void **ready, void *graph, unsigned long long flags) {
    *ready = READY;
    return flags ? INVALID_VALUE : same(graph, GRAPH);
}
Result cuGraphLaunch(void *ready, void *stream) { return same(ready, READY) | same(stream, STREAM); }
Result cuGraphDestroy(void *graph) { return same(graph, GRAPH); }
Result cuGraphExecDestroy(void *ready) { return same(ready, READY); }

/* How the binding finds all of the above. */
Result cuGetProcAddress_v2(const char *name, void **found, int version, uint64_t flags, int *status) {
    Dl_info here;
    (void)version, (void)flags;
    dladdr((void *)cuInit, &here);
    void *self = dlopen(here.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    int asks_for_this = !strcmp(name, "cuGetProcAddress") || !strcmp(name, "cuGetProcAddress_v2");
    *found = asks_for_this ? (void *)cuGetProcAddress_v2 : dlsym(self, name);
    if (status) *status = *found ? 0 : 1;
    return OK;
}
