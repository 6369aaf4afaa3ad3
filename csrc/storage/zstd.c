/* zstd.c - the few functions of libzstd.so.1 that are used, found by name.
 *
 * Their types are those of zstd 1.4 and later, a stable interface. */
#include "storage/zstd.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>

#define LEVEL 3 /* the library's own choice */

static struct {
    bool found;
    char why[160]; /* not found */
    void *(*new_packing)(void);
    size_t (*free_packing)(void *);
    size_t (*pack)(void *, void *, size_t, const void *, size_t, int);
    void *(*new_unpacking)(void);
    size_t (*free_unpacking)(void *);
    size_t (*unpack)(void *, void *, size_t, const void *, size_t);
    unsigned (*is_error)(size_t);
    unsigned long long (*content_size)(const void *, size_t);
} lib;

static pthread_once_t once = PTHREAD_ONCE_INIT;

/* A function of the library into *out, a pointer to a function. */
static bool
find(void *library, const char *name, void *out)
{
    void *address = dlsym(library, name);

    memcpy(out, &address, sizeof address);
    return address != NULL;
}

static void
load(void)
{
    void *library = dlopen("libzstd.so.1", RTLD_NOW | RTLD_LOCAL);
    const char *why;

    lib.found = library != NULL
                && find(library, "ZSTD_createCCtx", &lib.new_packing)
                && find(library, "ZSTD_freeCCtx", &lib.free_packing)
                && find(library, "ZSTD_compressCCtx", &lib.pack)
                && find(library, "ZSTD_createDCtx", &lib.new_unpacking)
                && find(library, "ZSTD_freeDCtx", &lib.free_unpacking)
                && find(library, "ZSTD_decompressDCtx", &lib.unpack)
                && find(library, "ZSTD_isError", &lib.is_error)
                && find(library, "ZSTD_getFrameContentSize", &lib.content_size);
    if (!lib.found && (why = dlerror()) != NULL)
        strncpy(lib.why, why, sizeof lib.why - 1);
}

mdn_status
mdn_zstd_load(mdn_error *err)
{
    pthread_once(&once, load);
    if (lib.found)
        return MDN_OK;
    return mdn_fail_errno(err, ENOPKG,
                          "compression needs libzstd, which cannot be loaded "
                          "(%s); install the Debian package libzstd1",
                          lib.why);
}

void
mdn_zstd_free(mdn_zstd *zstd)
{
    if (zstd->packing != NULL)
        lib.free_packing(zstd->packing);
    if (zstd->unpacking != NULL)
        lib.free_unpacking(zstd->unpacking);
    *zstd = (mdn_zstd){NULL, NULL};
}

uint64_t
mdn_zstd_pack(mdn_zstd *zstd, const void *from, uint64_t size, void *to)
{
    size_t packed;

    if (zstd->packing == NULL)
        zstd->packing = lib.new_packing();
    if (size < 2 || zstd->packing == NULL)
        return 0; /* stored as it is, which is always right */
    packed = lib.pack(zstd->packing, to, size - 1, from, size, LEVEL);
    return lib.is_error(packed) ? 0 : packed;
}

bool
mdn_zstd_holds(const void *frame, uint64_t frame_size, uint64_t size)
{
    return lib.content_size(frame, frame_size) == size;
}

bool
mdn_zstd_unpack(mdn_zstd *zstd, const void *frame, uint64_t frame_size,
                void *to, uint64_t size)
{
    if (zstd->unpacking == NULL)
        zstd->unpacking = lib.new_unpacking();
    return zstd->unpacking != NULL
           && lib.unpack(zstd->unpacking, to, size, frame, frame_size) == size;
}
