/* test_repair.c - verify finds every damage that the format claims to detect,
 * and repair keeps what can be kept.
 *
 * A small dataset with erasures, compactions and both journals is damaged in
 * one place; then
 *
 *     verify names the file, and the block that holds the place
 *     repair refuses and has changed nothing, or the dataset opens, shows a
 *         prefix of its commits, and in it no wrong byte and no erased sample
 *     verify finds nothing afterwards but blocks that were damaged before */
#include "check.h"
#include "faulty_io.h"
#include "samples.h"

#include "storage/check.h"
#include "storage/compact.h"
#include "storage/link.h"
#include "storage/repair.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A part of the damages where that is slow. */
#if defined(__SANITIZE_THREAD__)
#define SLOWER 499
#elif defined(__SANITIZE_ADDRESS__)
#define SLOWER 23
#else
#define SLOWER 2
#endif

#define FILES_MAX 16
#define RECORD 128
#define COLUMNS_AT 65536

static const char *const SCHEMAS[] = {FIXED, RAGGED};

/* Images of directories. */

typedef struct {
    char name[256];
    uint8_t *bytes;
    uint64_t size;
} image_file;

typedef struct {
    image_file files[FILES_MAX];
    int count;
} image;

static void
path_of(char out[700], const char *directory, const char *name)
{
    snprintf(out, 700, "%s/%s", directory, name);
}

static image
take(const char *path)
{
    image all = {.count = 0};
    DIR *dir = opendir(path);
    struct dirent *entry;

    while ((entry = readdir(dir)) != NULL) {
        image_file *f = &all.files[all.count];
        char name[700];
        struct stat st;
        int fd;

        if (entry->d_name[0] == '.' || strcmp(entry->d_name, "lock") == 0)
            continue;
        snprintf(f->name, sizeof f->name, "%s", entry->d_name);
        path_of(name, path, f->name);
        fd = open(name, O_RDONLY);
        if (fd < 0 || fstat(fd, &st) < 0 || all.count == FILES_MAX)
            abort();
        f->size = (uint64_t)st.st_size;
        f->bytes = malloc(f->size + 1);
        if (read(fd, f->bytes, f->size) != st.st_size)
            abort();
        close(fd);
        all.count++;
    }
    closedir(dir);
    return all;
}

static const image_file *
find(const image *all, const char *name)
{
    for (int i = 0; i < all->count; i++) {
        if (strcmp(all->files[i].name, name) == 0)
            return &all->files[i];
    }
    return NULL;
}

static void
write_file(const char *path, const char *as, const void *bytes, uint64_t size)
{
    char name[700];
    int fd;

    path_of(name, path, as);
    fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (fd < 0 || write(fd, bytes, size) != (ssize_t)size)
        abort();
    close(fd);
}

static void
drop(image *all)
{
    for (int i = 0; i < all->count; i++)
        free(all->files[i].bytes);
}

/* The directory becomes what the image says; files that are as they should be
 * are left alone, since most are. */
static void
put(const image *all, const char *path)
{
    image now = take(path);

    for (int i = 0; i < now.count; i++) {
        if (find(all, now.files[i].name) == NULL) {
            char name[700];

            path_of(name, path, now.files[i].name);
            unlink(name);
        }
    }
    for (int i = 0; i < all->count; i++) {
        const image_file *right = &all->files[i];
        const image_file *here = find(&now, right->name);

        if (here == NULL || here->size != right->size
            || memcmp(here->bytes, right->bytes, right->size) != 0)
            write_file(path, right->name, right->bytes, right->size);
    }
    drop(&now);
}

static bool
same(const image *a, const image *b)
{
    if (a->count != b->count)
        return false;
    for (int i = 0; i < a->count; i++) {
        const image_file *other = find(b, a->files[i].name);

        if (other == NULL || other->size != a->files[i].size
            || memcmp(other->bytes, a->files[i].bytes, other->size) != 0)
            return false;
    }
    return true;
}

/* The dataset. */

typedef struct {
    char path[128];
    int schema;
    uint64_t counts[16]; /* samples after each commit; counts[0] is 0 */
    int commits;
    bool erased[20000];
    image whole;
} model;

static void
add(model *m, mdn_dataset *dataset, uint64_t count)
{
    uint64_t before = m->counts[m->commits];

    if (samples_append(dataset, before, count, NULL) != MDN_OK)
        abort();
    m->counts[++m->commits] = before + count;
}

static void
erase(model *m, mdn_dataset *dataset, const uint64_t *keys, uint64_t count)
{
    uint64_t erased;

    if (mdn_dataset_erase(dataset, keys, count, "me", "test", &erased, NULL)
        != MDN_OK)
        abort();
    for (uint64_t i = 0; i < count; i++)
        m->erased[keys[i]] = true;
    m->commits++;
    m->counts[m->commits] = m->counts[m->commits - 1];
}

static void
compact(model *m, mdn_dataset *dataset)
{
    mdn_compaction done;

    if (mdn_dataset_compact(dataset, NULL, &done, NULL) != MDN_OK
        || done.segments != 1)
        abort();
    m->commits++;
    m->counts[m->commits] = m->counts[m->commits - 1];
}

static void
note_source(model *m, mdn_dataset *dataset)
{
    uint64_t first;

    if (mdn_dataset_append_from(dataset, 0, NULL, NULL, NULL, "a file", 6,
                                &first, NULL)
        != MDN_OK)
        abort();
    m->commits++;
    m->counts[m->commits] = m->counts[m->commits - 1];
}

/* The first `steps` of what is done to a dataset of this schema. */
static model *
make(int schema, int steps)
{
    static const uint64_t some[] = {3, 4, 5, 30}, one[] = {41};
    model *m = calloc(1, sizeof *m);
    mdn_dataset *dataset;

    snprintf(m->path, sizeof m->path, "%s", samples_path());
    m->schema = schema;
    dataset = samples_create(&mdn_io_system, m->path, SCHEMAS[schema], true);
    for (int step = 0; step < steps; step++) {
        switch (step) {
        case 0: add(m, dataset, 20); break;
        case 1: add(m, dataset, 20); break;
        case 2: erase(m, dataset, some, 4); break;
        case 3: compact(m, dataset); break;
        case 4: add(m, dataset, 7); break;
        case 5: note_source(m, dataset); break;
        case 6: erase(m, dataset, one, 1); break;
        case 7: note_source(m, dataset); break;
        default: add(m, dataset, 5); break;
        }
    }
    mdn_dataset_free(dataset);
    m->whole = take(m->path);
    return m;
}

/* Two segments; nothing is erased. */
static model *
make_long(int schema)
{
    model *m = calloc(1, sizeof *m);
    mdn_dataset *dataset;

    snprintf(m->path, sizeof m->path, "%s", samples_path());
    m->schema = schema;
    dataset = samples_create(&mdn_io_system, m->path, SCHEMAS[schema], true);
    add(m, dataset, 8000);
    add(m, dataset, 192);
    add(m, dataset, 4200);
    add(m, dataset, 20);
    mdn_dataset_free(dataset);
    m->whole = take(m->path);
    return m;
}

static void
done_with(model *m)
{
    samples_remove(m->path);
    drop(&m->whole);
    free(m);
}

/* Verify. */

typedef struct {
    uint64_t count, strays, others; /* others: not blocks */
    bool file_named, key_covered;
    const char *file;
    uint64_t key; /* UINT64_MAX: any */
    char first[300];
} heard;

static mdn_status
hear(void *ctx, const mdn_finding *f, mdn_error *err)
{
    heard *h = ctx;

    (void)err;
    if (f->what == MDN_FOUND_STRAY) {
        h->strays++;
        return MDN_OK;
    }
    if (h->count++ == 0)
        snprintf(h->first, sizeof h->first, "%s %s %llu: %s",
                 mdn_found_name(f->what), f->file,
                 (unsigned long long)f->number, f->text);
    if (f->what != MDN_FOUND_BLOCK)
        h->others++;
    if (h->file != NULL && strcmp(f->file, h->file) == 0) {
        h->file_named = true;
        if (f->what != MDN_FOUND_BLOCK || h->key == UINT64_MAX
            || (h->key >= f->first_key && h->key - f->first_key < f->key_count))
            h->key_covered = true;
    }
    return MDN_OK;
}

static heard
verify(const char *path, const char *file, uint64_t key)
{
    heard h = {.file = file, .key = key};
    mdn_check_report report;
    mdn_error err = {.status = MDN_OK};

    if (mdn_check_dataset(&mdn_io_system, path, 1, hear, &h, NULL, &report,
                          &err)
        != MDN_OK) {
        fprintf(stderr, "verify: %s\n", err.message);
        CHECK(!"verify goes through");
    }
    return h;
}

/* Repair. */

static mdn_status
count_step(void *ctx, const mdn_step *step, mdn_error *err)
{
    (void)err;
    CHECK(step->text != NULL && step->file != NULL);
    *(int *)ctx += 1;
    return MDN_OK;
}

static mdn_status
repair(const mdn_io *io, const char *path, bool dry, mdn_error *err)
{
    mdn_repair_options options = {.dry_run = dry, .cut_sources = true};
    int steps = 0;

    *err = (mdn_error){.status = MDN_OK};
    return mdn_repair_dataset(io, path, &options, count_step, &steps, err);
}

/* Living samples are right, or refused since their block is damaged; erased
 * ones are refused.  *count is how many samples there are. */
static bool
shows_no_wrong_byte(const model *m, uint64_t *count, uint64_t *refused)
{
    mdn_dataset *dataset;
    mdn_view *view;
    mdn_error err = {.status = MDN_OK};
    bool good = true;

    *refused = 0;
    if (mdn_dataset_open(&mdn_io_system, m->path, false, &dataset, &err)
        != MDN_OK) {
        fprintf(stderr, "open: %s\n", err.message);
        return false;
    }
    mdn_dataset_view(dataset, &view, NULL);
    *count = mdn_view_count(view);
    for (uint64_t key = 0; key < *count; key += *count > 100 ? 61 : 1) {
        mdn_status st = samples_check_keys(view, &key, 1, 1, &err);

        if (m->erased[key])
            good = good && st == MDN_NO_KEY;
        else if (st == MDN_CORRUPT || st == MDN_IO)
            ++*refused;
        else
            good = good && st == MDN_OK;
        if (!good) {
            fprintf(stderr, "key %llu: status %d %s\n", (unsigned long long)key,
                    st, err.message);
            break;
        }
    }
    mdn_view_release(view);
    mdn_dataset_free(dataset);
    return good;
}

static bool
is_prefix(const model *m, uint64_t count)
{
    for (int c = 0; c <= m->commits; c++) {
        if (m->counts[c] == count)
            return true;
    }
    return false;
}

/* A writer goes on, and what it adds is seen. */
static bool
goes_on(const model *m, uint64_t count)
{
    mdn_dataset *dataset;
    mdn_error err = {.status = MDN_OK};
    mdn_status st =
        mdn_dataset_open(&mdn_io_system, m->path, true, &dataset, &err);

    if (st == MDN_OK)
        st = samples_append(dataset, count, 3, &err);
    mdn_dataset_free(dataset);
    if (st != MDN_OK)
        fprintf(stderr, "going on: %s\n", err.message);
    return st == MDN_OK;
}

typedef struct {
    uint64_t repaired, refused, lost; /* damages; lost: samples or rows */
} tally;

/* The dataset is damaged now: repair, look, and put all right again. */
static void
repair_and_look(model *m, bool damaged_blocks, tally *t, const char *what)
{
    image before = take(m->path), after;
    heard then = verify(m->path, NULL, 0), now;
    uint64_t count = 0, refused = 0;
    mdn_error err;
    mdn_status st = repair(&mdn_io_system, m->path, true, &err);
    bool good = true;

    after = take(m->path);
    good = same(&before, &after); /* a dry run */
    drop(&after);
    if (good)
        st = repair(&mdn_io_system, m->path, false, &err);
    if (st != MDN_OK) {
        after = take(m->path);
        good = good && st == MDN_CORRUPT && same(&before, &after)
               && then.count > 0;
        t->refused++;
        drop(&after);
    } else {
        t->repaired++;
        now = verify(m->path, NULL, 0);
        good = good && shows_no_wrong_byte(m, &count, &refused)
               && is_prefix(m, count) && now.others == 0
               && (now.count == 0 || damaged_blocks)
               && (refused == 0 || now.count > 0) && goes_on(m, count);
        t->lost += count < m->counts[m->commits] || refused > 0;
        if (!good)
            fprintf(stderr,
                    "after: %llu findings, %s; %llu samples, %llu "
                    "refused\n",
                    (unsigned long long)now.count, now.first,
                    (unsigned long long)count, (unsigned long long)refused);
    }
    CHECK(good);
    if (!good)
        fprintf(stderr, "%s: status %d %s\nbefore: %llu findings, %s\n", what,
                st, err.message, (unsigned long long)then.count, then.first);
    drop(&before);
    put(&m->whole, m->path);
}

/* Flip a bit; verify must name the file and the key. */
static void
flip(model *m, const image_file *f, const char *named, uint64_t bit,
     uint64_t key, bool block, tally *t)
{
    uint8_t *byte = &f->bytes[bit / 8];
    char what[400];
    heard h;

    snprintf(what, sizeof what, "%s, bit %llu", f->name,
             (unsigned long long)bit);
    *byte ^= (uint8_t)(1 << bit % 8);
    write_file(m->path, f->name, f->bytes, f->size);
    *byte ^= (uint8_t)(1 << bit % 8);
    h = verify(m->path, named, key);
    CHECK(h.file_named && (!block || h.key_covered));
    if (!h.file_named || (block && !h.key_covered))
        fprintf(stderr, "%s: %llu findings, %s\n", what,
                (unsigned long long)h.count, h.first);
    repair_and_look(m, block, t, what);
}

static void
flips(model *m, const char *name, uint64_t first, uint64_t end, uint64_t stride,
      uint64_t first_key, bool block, tally *t)
{
    const image_file *f = find(&m->whole, name);

    for (uint64_t bit = 8 * first; bit < 8 * end; bit += stride * SLOWER) {
        uint64_t key = UINT64_MAX;

        if (block) /* of a column */
            key = first_key + (bit / 8 - first) / 8;
        flip(m, f, name, bit, key, block, t);
    }
}

static void
a_whole_dataset_has_no_findings(void)
{
    for (int k = 0; k < 20; k++) {
        model *m = make(k % 2, k / 2);
        mdn_check_report report;
        heard h = {.file = NULL};

        CHECK(mdn_check_dataset(&mdn_io_system, m->path, 4, hear, &h, NULL,
                                &report, NULL)
              == MDN_OK);
        CHECK(h.count == 0 && h.strays == 0 && report.findings == 0);
        CHECK(report.samples == m->counts[m->commits]);
        CHECK(report.commits == (uint64_t)m->commits);
        done_with(m);
    }
}

static void
flipped_bits_of_the_manifest_are_found_and_repaired(void)
{
    for (int schema = 0; schema < 2; schema++) {
        for (int steps = 2; steps <= 9; steps++) {
            model *m = make(schema, steps);
            const image_file *f = find(&m->whole, "manifest");
            uint64_t records = f->size - (uint64_t)m->commits * RECORD;
            uint64_t stride = 31 + (uint64_t)(schema + steps) % 7;
            tally t = {0, 0, 0};

            flips(m, "manifest", 0, 512, 97, 0, false, &t);
            flips(m, "manifest", 1536, records, 97, 0, false, &t);
            CHECK(t.repaired == 0); /* nothing can be read without these */
            t = (tally){0, 0, 0};
            flips(m, "manifest", 512, 528, 3, 0, false, &t); /* reach */
            flips(m, "manifest", 1024, 1040, 3, 0, false, &t);
            CHECK(t.refused == 0 && t.lost == 0);
            flips(m, "manifest", records, f->size - RECORD, stride, 0, false,
                  &t);
            CHECK(t.refused == 0 && t.lost == 0); /* a later one covers it */
            flips(m, "manifest", f->size - RECORD, f->size, stride, 0, false,
                  &t);
            CHECK(t.refused == 0);
            CHECK(steps != 3 && steps != 4 && steps != 7 ? true : t.lost == 0);
            done_with(m);
        }
    }
}

static void
flipped_bits_of_journals_are_found(void)
{
    for (int schema = 0; schema < 2; schema++) {
        model *m = make(schema, 9);
        tally t = {0, 0, 0};

        flips(m, "events", 0, 64, 13, 0, false, &t);
        CHECK(t.refused == 0 && t.lost == 0); /* the header */
        t = (tally){0, 0, 0};
        flips(m, "events", 64, find(&m->whole, "events")->size, 13, 0, false,
              &t);
        CHECK(t.repaired == 0); /* erased samples would come back */
        t = (tally){0, 0, 0};
        flips(m, "sources", 0, find(&m->whole, "sources")->size, 13, 0, false,
              &t);
        CHECK(t.refused == 0 && t.lost == 0);
        done_with(m);
    }
}

static void
flipped_bits_of_segments_are_found_in_their_block(void)
{
    for (int schema = 0; schema < 2; schema++) {
        model *m = make(schema, 9);
        const char *col = "000000-2.col", *seg = "000000-2.seg";
        uint64_t count = m->counts[m->commits];
        uint64_t used, checks = COLUMNS_AT + (2 + (uint64_t)schema) * 65536;
        tally t = {0, 0, 0};

        memcpy(&used,
               find(&m->whole, "manifest")->bytes
                   + find(&m->whole, "manifest")->size - RECORD + 24,
               8);
        flips(m, col, 0, 4096, 1201, 0, false, &t); /* header */
        CHECK(t.lost == 0 && t.refused == 0);
        for (uint64_t k = 0; k < 2 + (uint64_t)schema; k++) {
            uint64_t at = COLUMNS_AT + k * 65536;

            flips(m, col, at, at + 8 * count, 53, 0, true, &t);
        }
        for (uint64_t bit = 0; bit < 8 * used; bit += 101 * SLOWER)
            flip(m, find(&m->whole, seg), seg, bit, UINT64_MAX, true, &t);
        if (schema == 1) { /* each record has a checksum */
            for (uint64_t bit = 0; bit < 32 * count; bit += 17 * SLOWER)
                flip(m, find(&m->whole, col), seg, 8 * checks + bit, bit / 32,
                     true, &t);
        }
        CHECK(t.refused == 0);
        done_with(m);
    }
}

static void
every_truncation_is_found_and_repaired(void)
{
    for (int k = 0; k < 4; k++) {
        model *m = k < 2 ? make(k, 9) : make_long(k - 2);

        for (int i = 0; i < m->whole.count; i++) {
            const image_file *f = &m->whole.files[i];
            uint64_t used = f->size, step = 1 + f->size / 40;
            bool seg = strstr(f->name, ".seg") != NULL;
            tally t = {0, 0, 0};

            if (strcmp(f->name, "manifest") == 0)
                step = 29;
            if (seg) { /* preallocated: much of it means nothing */
                used = f->size < 200000 ? f->size : 200000;
                step = k < 2 ? 61 : used / 40;
            }
            if (strcmp(f->name, "events") == 0
                || strcmp(f->name, "sources") == 0)
                step = 7;
            for (uint64_t size = 0; size < used; size += step * SLOWER) {
                char what[400];

                snprintf(what, sizeof what, "%s cut at %llu", f->name,
                         (unsigned long long)size);
                write_file(m->path, f->name, f->bytes, size);
                repair_and_look(m, true, &t, what);
            }
        }
        done_with(m);
    }
}

static void
zeroed_sectors_are_found_and_repaired(void)
{
    for (int k = 0; k < 4; k++) {
        model *m = k < 2 ? make(k, 9) : make_long(k - 2);
        const uint64_t block = 512;
        uint8_t *room = calloc(1, 4 << 20);
        tally t = {0, 0, 0};

        for (int i = 0; i < m->whole.count; i++) {
            const image_file *f = &m->whole.files[i];
            uint64_t step = f->size > 100000 ? 37 * block : block;

            for (uint64_t at = 0; at < f->size; at += step * SLOWER) {
                uint64_t n = f->size - at < block ? f->size - at : block;
                char what[400];

                snprintf(what, sizeof what, "%s zeroed at %llu", f->name,
                         (unsigned long long)at);
                memcpy(room, f->bytes, f->size);
                memset(room + at, 0, n);
                write_file(m->path, f->name, room, f->size);
                repair_and_look(m, true, &t, what);
            }
        }
        free(room);
        done_with(m);
    }
}

static void
missing_and_swapped_files_are_found(void)
{
    for (int k = 0; k < 4; k++) {
        model *m = k < 2 ? make(k, 9) : make_long(k - 2);

        for (int i = 0; i < m->whole.count; i++) {
            const image_file *f = &m->whole.files[i];
            char name[700];
            tally t = {0, 0, 0};
            heard h;

            if (strcmp(f->name, "manifest") == 0)
                continue; /* then it is no dataset */
            path_of(name, m->path, f->name);
            unlink(name);
            h = verify(m->path, f->name, UINT64_MAX);
            CHECK(h.file_named);
            /* Files of the middle are not made up. */
            if (k < 2 || f->name[5] == '1')
                repair_and_look(m, true, &t, f->name);
            put(&m->whole, m->path);
        }
        if (k >= 2) {
            const image_file *a = find(&m->whole, "000000.col");
            const image_file *b = find(&m->whole, "000001.col");
            heard h;
            mdn_error err;

            write_file(m->path, a->name, b->bytes, b->size);
            write_file(m->path, b->name, a->bytes, a->size);
            h = verify(m->path, a->name, 0);
            CHECK(h.file_named && h.others == 2);
            CHECK(repair(&mdn_io_system, m->path, false, &err) == MDN_OK);
            h = verify(m->path, a->name, 0);
            CHECK(h.file_named && h.others == 2); /* as they were */
        }
        done_with(m);
    }
}

/* A file of the middle is gone: nothing is given up. */
static void
what_is_gone_in_the_middle_costs_nothing_else(void)
{
    for (int k = 0; k < 4; k++) {
        model *m = make_long(k % 2);
        const char *gone = k < 2 ? "000000.seg" : "000000.col";
        uint64_t key = 12000;
        mdn_dataset *dataset;
        mdn_view *view;
        char name[700];
        mdn_error err;

        path_of(name, m->path, gone);
        unlink(name);
        CHECK(repair(&mdn_io_system, m->path, false, &err) == MDN_OK);
        CHECK(mdn_dataset_open(&mdn_io_system, m->path, false, &dataset, &err)
              == MDN_OK);
        CHECK(mdn_dataset_view(dataset, &view, &err) == MDN_OK);
        CHECK(mdn_view_count(view) == 12412);
        CHECK(samples_check_keys(view, &key, 1, 1, &err) == MDN_OK);
        key = 100;
        CHECK(samples_check_keys(view, &key, 1, 1, &err) != MDN_OK);
        mdn_view_release(view);
        mdn_dataset_free(dataset);
        done_with(m);
    }
}

/* Damages that a repair mends in different ways. */
static void
damage(const model *m, int which)
{
    const image_file *f =
        find(&m->whole, which == 2 ? "000000-2.seg" : "manifest");
    uint8_t *room = malloc(f->size);

    memcpy(room, f->bytes, f->size);
    if (which == 0) /* the last commit */
        room[f->size - 100] ^= 1;
    if (which == 1) /* and one in the middle */
        room[f->size - 3 * RECORD + 50] ^= 1;
    write_file(m->path, f->name, room, which == 2 ? 300 : f->size);
    if (which == 1) { /* and a header */
        f = find(&m->whole, "000000-2.col");
        room = realloc(room, f->size);
        memcpy(room, f->bytes, f->size);
        room[20] ^= 4;
        write_file(m->path, f->name, room, f->size);
    }
    free(room);
}

static void
a_repair_that_is_interrupted_ends_as_if_it_were_not(void)
{
    static const faulty_fault faults[] = {FAULT_EIO,   FAULT_KILL,  FAULT_TORN,
                                          FAULT_EINTR, FAULT_SHORT, FAULT_FLIP,
                                          FAULT_ENOSPC};

    for (int k = 0; k < 2 * 3 * 7 * 2; k++) {
        model *m = make(k % 2, 9);
        uint64_t wanted, got, refused, again;
        bool fired = true;
        mdn_error err;

        damage(m, k / 2 % 3);
        CHECK(repair(&mdn_io_system, m->path, false, &err) == MDN_OK);
        CHECK(shows_no_wrong_byte(m, &wanted, &refused));
        put(&m->whole, m->path);
        for (int n = 0; fired; n += SLOWER > 2 ? 7 : 1) {
            faulty disk = {
                .fault = faults[k / 6 % 7], .fail_at = n, .record = k >= 42};
            mdn_status st;

            damage(m, k / 2 % 3);
            st = repair(faulty_io(&disk), m->path, false, &err);
            CHECK(st == MDN_OK || (disk.fired && err.message[0] != '\0'));
            if (k >= 42)
                faulty_power_cut(&disk);
            faulty_forget(&disk);
            CHECK(disk.open_files == 0);
            fired = disk.fired;
            st = repair(&mdn_io_system, m->path, false, &err);
            CHECK(st == MDN_OK);
            CHECK(shows_no_wrong_byte(m, &got, &again));
            CHECK(got == wanted && again == refused);
            if (got != wanted || again != refused)
                fprintf(stderr, "case %d, call %d: %llu samples, of %llu\n", k,
                        n, (unsigned long long)got, (unsigned long long)wanted);
            put(&m->whole, m->path);
        }
        done_with(m);
    }
}

/* Whatever fails, it ends with an error or finds what is there. */
static void
verify_survives_faults(void)
{
    static const faulty_fault faults[] = {FAULT_EIO, FAULT_KILL, FAULT_EINTR,
                                          FAULT_SHORT, FAULT_FLIP};

    for (int k = 0; k < 10; k++) {
        model *m = make(k % 2, 9);
        bool fired = true;

        for (int n = 0; fired; n += SLOWER > 2 ? 7 : 1) {
            faulty disk = {.fault = faults[k / 2], .fail_at = n};
            mdn_check_report report;
            heard h = {.file = NULL};
            mdn_error err = {.status = MDN_OK};
            mdn_status st = mdn_check_dataset(faulty_io(&disk), m->path, 1,
                                              hear, &h, NULL, &report, &err);

            fired = disk.fired;
            CHECK(disk.open_files == 0);
            CHECK(st == MDN_OK || (fired && err.message[0] != '\0'));
            CHECK(fired || h.count == 0);
            if (faults[k / 2] == FAULT_EINTR || faults[k / 2] == FAULT_SHORT)
                CHECK(st == MDN_OK && h.count == 0);
        }
        done_with(m);
    }
}

static mdn_status
stop_at_once(void *ctx, mdn_error *err)
{
    (void)ctx;
    return mdn_fail(err, MDN_CANCELLED, "stopped");
}

static void
the_pulse_ends_verify(void)
{
    model *m = make_long(1);
    const mdn_pulse pulse = {.ask = stop_at_once};
    mdn_check_report report;
    heard h = {.file = NULL};
    mdn_error err;

    CHECK(mdn_check_dataset(&mdn_io_system, m->path, 2, hear, &h, &pulse,
                            &report, &err)
          == MDN_CANCELLED);
    CHECK(h.count == 0);
    done_with(m);
}

static void
repair_waits_for_no_writer(void)
{
    model *m = make(0, 9);
    mdn_dataset *dataset;
    mdn_error err;

    CHECK(mdn_dataset_open(&mdn_io_system, m->path, true, &dataset, &err)
          == MDN_OK);
    CHECK(repair(&mdn_io_system, m->path, false, &err) == MDN_BUSY);
    CHECK(repair(&mdn_io_system, m->path, true, &err) == MDN_OK);
    mdn_dataset_free(dataset);
    CHECK(repair(&mdn_io_system, m->path, false, &err) == MDN_OK);
    done_with(m);
}

static void
files_that_do_not_belong_are_listed(void)
{
    model *m = make(0, 9);
    heard h;

    write_file(m->path, "000000.seg", "old", 3); /* bytes of before */
    write_file(m->path, "000000-9.col", "new", 3);
    write_file(m->path, "000007.seg", "", 0);
    write_file(m->path, "0000000.seg", "", 0);
    write_file(m->path, "notes.txt", "x", 1);
    h = verify(m->path, NULL, 0);
    CHECK(h.count == 0 && h.strays == 5);
    done_with(m);
}

/* Records of 28 bytes at a stride of 40, in a file of the user. */
static const char *
make_linked(model *m, uint64_t records)
{
    static char file[200];
    mdn_link_options options = {.path = file,
                                .record_size = 40,
                                .fields_at = 4,
                                .label = {.offset = 0, .size = 2},
                                .threads = 1};
    mdn_dataset *dataset;
    mdn_link_report done;
    uint8_t record[40] = {0};
    mdn_error err;
    int fd;

    snprintf(m->path, sizeof m->path, "%s", samples_path());
    snprintf(file, sizeof file, "%s.user", m->path);
    fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    for (uint64_t i = 0; i < records; i++) {
        memcpy(record + 8, &i, sizeof i);
        if (write(fd, record, sizeof record) != sizeof record)
            abort();
    }
    close(fd);
    dataset = samples_create(&mdn_io_system, m->path, FIXED, true);
    if (mdn_dataset_link(dataset, &options, NULL, 0, NULL, &done, &err)
            != MDN_OK
        || done.linked != 8192) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    m->counts[++m->commits] = records;
    mdn_dataset_free(dataset);
    m->whole = take(m->path);
    return file;
}

static void
linked_files_are_verified_and_left_alone(void)
{
    model *m = calloc(1, sizeof *m);
    const char *file = make_linked(m, 9000);
    int fd = open(file, O_RDWR);
    struct timespec times[2];
    struct stat before, after;
    heard h = verify(m->path, NULL, 0);
    mdn_error err;

    CHECK(h.count == 0 && h.strays == 0);
    fstat(fd, &before);
    CHECK(pwrite(fd, "x", 1, 40 * 5000 + 10) == 1);
    h = verify(m->path, file, 5000);
    CHECK(h.file_named && h.key_covered && h.others == 1);
    times[0] = before.st_atim;
    times[1] = before.st_mtim;
    futimens(fd, times); /* and nobody would know, but for the checksum */
    h = verify(m->path, file, 5000);
    CHECK(h.file_named && h.key_covered && h.count == 1 && h.others == 0);
    CHECK(repair(&mdn_io_system, m->path, false, &err) == MDN_OK);
    fstat(fd, &after);
    CHECK(after.st_size == before.st_size
          && after.st_mtim.tv_nsec == before.st_mtim.tv_nsec);
    CHECK(ftruncate(fd, 40 * 4000) == 0);
    h = verify(m->path, file, 6000);
    CHECK(h.file_named && h.key_covered);
    unlink(file);
    h = verify(m->path, file, 100);
    CHECK(h.file_named && h.count == 1);
    CHECK(repair(&mdn_io_system, m->path, false, &err) == MDN_OK);
    close(fd);
    done_with(m);
}

int
main(void)
{
    RUN(a_whole_dataset_has_no_findings);
    RUN(flipped_bits_of_the_manifest_are_found_and_repaired);
    RUN(flipped_bits_of_journals_are_found);
    RUN(flipped_bits_of_segments_are_found_in_their_block);
    RUN(every_truncation_is_found_and_repaired);
    RUN(zeroed_sectors_are_found_and_repaired);
    RUN(missing_and_swapped_files_are_found);
    RUN(what_is_gone_in_the_middle_costs_nothing_else);
    RUN(a_repair_that_is_interrupted_ends_as_if_it_were_not);
    RUN(verify_survives_faults);
    RUN(the_pulse_ends_verify);
    RUN(repair_waits_for_no_writer);
    RUN(files_that_do_not_belong_are_listed);
    RUN(linked_files_are_verified_and_left_alone);
    return check_report("test_repair");
}
