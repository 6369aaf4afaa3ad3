/* truth_files.c - which files a dataset has, and whose bytes are in them. */
#include "truth.h"
#include "truth_marks.h"

#include "base/bytes.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef unsigned long long ull;

/* The segment that a file belongs to, NNNNNN.seg or NNNNNN-G.seg; -1: another
 * known file, -2: none that is known. */
static int64_t
segment_of(const char *name)
{
    static const char *const known[] = {
        "manifest",   "lock",           "events",          "sources",
        "time.order", "time.order.tmp", "time.order.lock", NULL};
    const char *at = name;

    for (int i = 0; known[i] != NULL; i++) {
        if (strcmp(name, known[i]) == 0)
            return -1;
    }
    while (isdigit((unsigned char)*at))
        at++;
    if (at - name != 6)
        return -2;
    if (*at == '-') /* its files have been written anew */
        while (isdigit((unsigned char)*++at))
            ;
    if (strcmp(at, ".seg") != 0 && strcmp(at, ".col") != 0)
        return -2;
    return strtol(name, NULL, 10);
}

static bool
is_erased(const truth_state *state, uint64_t key, uint32_t take)
{
    return key < state->count && state->erased[key] && state->take[key] == take;
}

/* Cells at any place, timestamps and labels at multiples of 8: the key of an
 * erased sample that any of them names, or UINT64_MAX. */
static uint64_t
find_erased(const truth_state *state, const uint8_t *data, uint64_t size)
{
    const uint8_t *at = data, *end = data + size;

    while ((at = memmem(at, (size_t)(end - at), TRUTH_MARK, sizeof TRUTH_MARK))
           != NULL) {
        if (end - at >= 20
            && is_erased(state, mdn_load_u64(at + 8), mdn_load_u32(at + 16)))
            return mdn_load_u64(at + 8);
        at += sizeof TRUTH_MARK;
    }
    for (uint64_t i = 0; i + 8 <= size; i += 8) {
        uint64_t word = mdn_load_u64(data + i), tag = word >> 48, key;

        if (tag != TRUTH_TIMESTAMP_TAG && tag != TRUTH_LABEL_TAG)
            continue;
        key = truth_reversed(word >> 24);
        if (is_erased(state, key, word & 0xffffff))
            return key;
    }
    return UINT64_MAX;
}

static mdn_status
search_file(const truth_state *state, const char *path, const char *name,
            mdn_error *err)
{
    char full[400];
    struct stat st;
    uint64_t key = UINT64_MAX;
    void *data;
    int fd;

    snprintf(full, sizeof full, "%s/%s", path, name);
    fd = open(full, O_RDONLY);
    if (fd < 0 || fstat(fd, &st) < 0)
        abort();
    data = malloc((size_t)st.st_size + 1);
    if (data == NULL || pread(fd, data, (size_t)st.st_size, 0) != st.st_size)
        abort();
    key = find_erased(state, data, (uint64_t)st.st_size);
    free(data);
    close(fd);
    if (key == UINT64_MAX)
        return MDN_OK;
    return mdn_fail(err, MDN_INVALID, "%s holds bytes of erased sample %llu",
                    name, (ull)key);
}

mdn_status
truth_check_files(const truth *t, const char *path, bool compacted,
                  mdn_error *err)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    uint64_t seen[2] = {0, 0}; /* bits of segments, .seg and .col */
    mdn_status st = MDN_OK;

    if (dir == NULL)
        return mdn_fail(err, MDN_INVALID, "%s is gone", path);
    while (st == MDN_OK && (entry = readdir(dir)) != NULL) {
        const char *name = entry->d_name;
        int64_t segment = segment_of(name);
        uint64_t *bits = &seen[strstr(name, ".col") != NULL];

        if (name[0] == '.')
            continue;
        if (segment == -2 || segment > 63
            || (segment >= 0 && (*bits >> segment & 1)))
            st = mdn_fail(err, MDN_INVALID, "stray file %s", name);
        if (st == MDN_OK && segment >= 0)
            *bits |= UINT64_C(1) << segment;
        if (st == MDN_OK && compacted)
            st = search_file(&t->now, path, name, err);
    }
    closedir(dir);
    return st;
}
