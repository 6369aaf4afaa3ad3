/* test_every_damage.c - every way to damage every file of small datasets.
 *
 * Datasets of all four kinds, with erasures and journals, are damaged one file
 * at a time: each bit flipped, each length, tails of zeros, of ones, of older
 * records and of other files, blocks of 512 and 4096 bytes zeroed and swapped,
 * files exchanged with each other, with those of another dataset and with older
 * versions of themselves, and random bytes.  A reader then shows everything as
 * it was, or an error that names the dataset; never other bytes, never less.
 * One exception is documented: an older manifest shows the dataset as of then.
 * A check of the dataset then finds something, too; and in a part of the cases
 * it is repaired: it opens with whole commits only, each of its samples is
 * what it was or is refused, nothing erased is back, and the writer goes on.
 *
 * It runs with little address space, so that a damaged count cannot make it
 * take what it says, and each look has to end within seconds.
 *
 * Without arguments a share of the bits and lengths, at random, is tried;
 * --all: all of them, and --count random damages of each file. */
#include "campaign.h"
#include "player.h"
#include "samples.h"

#include "base/random.h"
#include "storage/check.h"
#include "storage/repair.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES_MAX 16
#define VERSIONS_MAX 12
#define ADDRESS_SPACE (UINT64_C(1) << 30)
#define LOOK_SECONDS 20

typedef struct {
    char name[64];
    uint8_t *bytes; /* NULL: not there */
    uint64_t size;
} content;

/* All files of a dataset as they were at one time, and what it showed. */
typedef struct {
    content files[FILES_MAX];
    int file_count;
    truth_state state;
} version;

typedef struct {
    player p;
    faulty disk;
    version versions[VERSIONS_MAX]; /* the last one is whole and current */
    int version_count;
    bool exchanged;  /* a whole file is another one, or gone */
    char about[250]; /* the damage, for messages */
} subject;

typedef struct {
    uint64_t damages, named, harmless, wrong, flips, lengths, repaired;
} tally;

static campaign options;
static uint64_t stream, draws;

static uint64_t
draw(uint64_t below)
{
    return mdn_draw(stream, draws++) % below;
}

/* Whether this one of very many damages is tried: one of 16, or all. */
static bool
chosen(void)
{
    return options.all || draw(16 * CAMPAIGN_SHARE) == 0;
}

/* Files. */

static void
path_of(const subject *s, const char *name, char out[400])
{
    snprintf(out, 400, "%s/%s", s->p.path, name);
}

static content
load(const subject *s, const char *name)
{
    content c = {.bytes = NULL};
    char path[400];
    struct stat st;
    int fd;

    path_of(s, name, path);
    snprintf(c.name, sizeof c.name, "%s", name);
    fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &st) < 0)
        abort();
    c.size = (uint64_t)st.st_size;
    c.bytes = malloc(c.size + 1);
    if (c.bytes == NULL || read(fd, c.bytes, c.size) != st.st_size)
        abort();
    close(fd);
    return c;
}

/* The file holds these bytes and nothing else. */
static void
put(const subject *s, const char *name, const void *bytes, uint64_t size)
{
    char path[400];
    int fd;

    path_of(s, name, path);
    fd = open(path, O_WRONLY | O_CREAT, 0666);
    if (fd < 0 || pwrite(fd, bytes, size, 0) != (ssize_t)size
        || ftruncate(fd, (off_t)size) < 0)
        abort();
    close(fd);
}

static void
put_at(const subject *s, const char *name, const void *bytes, uint64_t size,
       uint64_t at)
{
    char path[400];
    int fd;

    path_of(s, name, path);
    fd = open(path, O_WRONLY);
    if (fd < 0 || pwrite(fd, bytes, size, (off_t)at) != (ssize_t)size)
        abort();
    close(fd);
}

static void
cut(const subject *s, const char *name, uint64_t size)
{
    char path[400];

    path_of(s, name, path);
    if (truncate(path, (off_t)size) < 0)
        abort();
}

static version *
current(subject *s)
{
    return &s->versions[s->version_count - 1];
}

static bool
has_file(const version *v, const char *name)
{
    for (int f = 0; f < v->file_count; f++) {
        if (strcmp(v->files[f].name, name) == 0)
            return true;
    }
    return strcmp(name, "lock") == 0;
}

/* The last version stands again in all files, and there are no others. */
static void
restore_all(subject *s)
{
    version *v = current(s);
    DIR *dir = opendir(s->p.path);
    struct dirent *entry;
    char path[400];

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        path_of(s, entry->d_name, path);
        if (entry->d_name[0] != '.' && !has_file(v, entry->d_name))
            unlink(path);
    }
    closedir(dir);
    for (int f = 0; f < v->file_count; f++)
        put(s, v->files[f].name, v->files[f].bytes, v->files[f].size);
}

/* Preallocated room behind the records means nothing; it is cut, so that what
 * is damaged means something. */
static void
cut_room(const subject *s, const char *name)
{
    content c = load(s, name);
    uint64_t used = c.size;

    while (used > 0 && c.bytes[used - 1] == 0)
        used--;
    cut(s, name, used + 64 < c.size ? used + 64 : c.size);
    free(c.bytes);
}

static void
take_version(subject *s)
{
    version *v = &s->versions[s->version_count++];
    DIR *dir = opendir(s->p.path);
    struct dirent *entry;

    if (dir == NULL || s->version_count > VERSIONS_MAX)
        abort();
    while ((entry = readdir(dir)) != NULL) {
        const char *name = entry->d_name;

        if (name[0] == '.' || strcmp(name, "lock") == 0)
            continue;
        if (v->file_count == FILES_MAX)
            abort();
        if (strstr(name, ".seg") != NULL)
            cut_room(s, name);
        v->files[v->file_count++] = load(s, name);
    }
    closedir(dir);
    truth_copy(&v->state, &s->p.truth.now);
}

/* Looking. */

static mdn_status
look(subject *s, bool writable, const truth_state *state, mdn_error *err)
{
    mdn_dataset *dataset = NULL;
    mdn_view *view = NULL;
    mdn_status st;

    alarm(LOOK_SECONDS);
    st = mdn_dataset_open(&mdn_io_system, s->p.path, writable, &dataset, err);
    if (st == MDN_OK)
        st = mdn_dataset_view(dataset, &view, err);
    if (st == MDN_OK)
        st = truth_compare(&s->p.truth, state, dataset, view, 1, err);
    if (st == MDN_OK)
        st = truth_compare_order(view, 1, err);
    mdn_view_release(view);
    mdn_dataset_free(dataset);
    alarm(0);
    return st;
}

static void
complain(const subject *s, const char *what, const mdn_error *err, tally *sum)
{
    sum->wrong++;
    fprintf(stderr, "WRONG: %s: %s: status %d: %s (--seed %llu)\n", s->about,
            what, err->status, err->message, (unsigned long long)options.seed);
}

static mdn_status
ignore_finding(void *ctx, const mdn_finding *finding, mdn_error *err)
{
    (void)ctx, (void)finding, (void)err;
    return MDN_OK;
}

static mdn_status
ignore_step(void *ctx, const mdn_step *step, mdn_error *err)
{
    (void)ctx, (void)step, (void)err;
    return MDN_OK;
}

/* What a reader noticed a check of all finds. */
static void
check_all(subject *s, tally *sum)
{
    mdn_error err = {.status = MDN_OK};
    mdn_check_report report = {.findings = 0};
    mdn_status st;

    alarm(LOOK_SECONDS);
    st = mdn_check_dataset(&mdn_io_system, s->p.path, 1, ignore_finding, NULL,
                           NULL, &report, &err);
    alarm(0);
    if (st == MDN_OK && report.findings == 0)
        complain(s, "the check finds nothing", &err, sum);
    if (st != MDN_OK && st != MDN_IO)
        complain(s, "the check fails", &err, sum);
}

static bool
is_count_of_a_commit(const subject *s, uint64_t count)
{
    for (int k = 0; k < s->version_count; k++) {
        if (s->versions[k].state.count == count)
            return true;
    }
    return count == 0;
}

static void
repair(subject *s, tally *sum)
{
    mdn_repair_options how = {.cut_sources = true};
    mdn_error err = {.status = MDN_OK};
    mdn_dataset *dataset = NULL;
    mdn_view *view = NULL;
    mdn_status st;

    alarm(LOOK_SECONDS);
    st = mdn_repair_dataset(&mdn_io_system, s->p.path, &how, ignore_step, NULL,
                            &err);
    if (st == MDN_CORRUPT || st == MDN_UNSUPPORTED
        || (st == MDN_IO && err.sys_errno == ENOENT))
        goto done; /* nothing can be done, and it says so */
    if (st == MDN_OK)
        st = mdn_dataset_open(&mdn_io_system, s->p.path, true, &dataset, &err);
    if (st == MDN_OK)
        st = mdn_dataset_view(dataset, &view, &err);
    if (st == MDN_OK)
        st = truth_compare_rest(&s->p.truth, &current(s)->state, view, &err);
    /* What stands in for a whole file is left as it is. */
    if (st != MDN_OK && !(s->exchanged && st != MDN_INVALID))
        complain(s, "repaired", &err, sum);
    else if (st == MDN_OK && !is_count_of_a_commit(s, mdn_view_count(view)))
        complain(s, "repaired to half of a commit", &err, sum);
    sum->repaired += st == MDN_OK;
done:
    mdn_view_release(view);
    mdn_dataset_free(dataset);
    alarm(0);
    restore_all(s);
}

/* The dataset is damaged: it shows `state`, or an error that names it.  Returns
 * whether it was noticed. */
static bool
judge(subject *s, const truth_state *state, tally *sum)
{
    bool writable = draw(16) == 0;
    mdn_error err = {.status = MDN_OK};
    mdn_status st = look(s, writable, state, &err);
    bool gone = st == MDN_IO && err.sys_errno == ENOENT;

    sum->damages++;
    sum->named += st != MDN_OK;
    sum->harmless += st == MDN_OK;
    if (st != MDN_OK && st != MDN_CORRUPT && st != MDN_UNSUPPORTED && !gone)
        complain(s, "wrong bytes, or a strange error", &err, sum);
    else if (st != MDN_OK && strstr(err.message, s->p.path) == NULL)
        complain(s, "names no file", &err, sum);
    if (st != MDN_OK && !writable && draw(4) == 0)
        check_all(s, sum);
    if (st != MDN_OK && !writable && draw(8) == 0)
        repair(s, sum);
    if (writable)
        restore_all(s);
    return st != MDN_OK;
}

/* Damages. */

static void
flip_bits(subject *s, const content *c, tally *sum)
{
    for (uint64_t bit = 0; bit < 8 * c->size; bit++) {
        uint8_t flipped = c->bytes[bit / 8] ^ (uint8_t)(1 << bit % 8);

        /* Most of a .col file is a hole: a part of it, where not all is. */
        if (!chosen() || (!options.all && c->size > 65536 && draw(64) != 0))
            continue;
        snprintf(s->about, sizeof s->about, "%s, bit %llu flipped", c->name,
                 (unsigned long long)bit);
        put_at(s, c->name, &flipped, 1, bit / 8);
        judge(s, &current(s)->state, sum);
        put_at(s, c->name, &c->bytes[bit / 8], 1, bit / 8);
        sum->flips++;
    }
}

static void
cut_lengths(subject *s, const content *c, tally *sum)
{
    for (uint64_t size = c->size; size-- > 0;) {
        if (!chosen() || (!options.all && c->size > 65536 && draw(64) != 0))
            continue;
        snprintf(s->about, sizeof s->about, "%s, cut to %llu", c->name,
                 (unsigned long long)size);
        cut(s, c->name, size);
        judge(s, &current(s)->state, sum);
        cut(s, c->name, c->size);
        put_at(s, c->name, c->bytes + size, c->size - size, size);
        sum->lengths++;
    }
}

static void
add_tails(subject *s, const content *c, const content *other, tally *sum)
{
    static const uint64_t sizes[] = {1,   31,  32,  33,  63,  64,   127, 128,
                                     129, 255, 256, 511, 512, 1024, 4096};
    uint8_t tail[4096];

    for (int kind = 0; kind < 4; kind++) {
        const content *from = kind == 3 ? other : c;

        memset(tail, kind == 1 ? 0xff : 0, sizeof tail);
        for (uint64_t i = 0; kind > 1 && i < sizeof tail && i < from->size; i++)
            tail[i] =
                kind == 2
                    ? from->bytes[from->size
                                  - (from->size < sizeof tail ? from->size
                                                              : sizeof tail)
                                  + i]
                    : from->bytes[i];
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            /* The end of the file, once more: whole records of it. */
            uint64_t skip =
                kind == 2 && c->size >= sizes[i] && c->size < sizeof tail
                    ? c->size - sizes[i]
                    : 0;

            if (skip + sizes[i] > sizeof tail)
                skip = 0;
            snprintf(s->about, sizeof s->about, "%s, tail %d of %llu", c->name,
                     kind, (unsigned long long)sizes[i]);
            put_at(s, c->name, tail + skip, sizes[i], c->size);
            judge(s, &current(s)->state, sum);
            cut(s, c->name, c->size);
        }
    }
}

/* Blocks of this size zeroed, and swapped with the one behind. */
static void
damage_blocks(subject *s, const content *c, uint64_t size, tally *sum)
{
    uint8_t zeros[4096] = {0};

    for (uint64_t at = 0; at < c->size; at += size) {
        uint64_t n = c->size - at < size ? c->size - at : size;

        snprintf(s->about, sizeof s->about, "%s, %llu bytes at %llu zeroed",
                 c->name, (unsigned long long)n, (unsigned long long)at);
        if (memcmp(c->bytes + at, zeros, n) == 0)
            continue;
        put_at(s, c->name, zeros, n, at);
        judge(s, &current(s)->state, sum);
        put_at(s, c->name, c->bytes + at, n, at);
        for (uint64_t to = at + size; to + size <= c->size; to += size) {
            if (to > at + size && memcmp(c->bytes + to, zeros, size) == 0)
                continue;
            snprintf(s->about, sizeof s->about,
                     "%s, %llu bytes at %llu and %llu swapped", c->name,
                     (unsigned long long)size, (unsigned long long)at,
                     (unsigned long long)to);
            put_at(s, c->name, c->bytes + to, size, at);
            put_at(s, c->name, c->bytes + at, size, to);
            judge(s, &current(s)->state, sum);
            put_at(s, c->name, c->bytes + at, size, at);
            put_at(s, c->name, c->bytes + to, size, to);
        }
    }
}

static void
damage_at_random(subject *s, const content *c, tally *sum)
{
    uint64_t count = options.all ? options.count : options.count / 16;

    for (uint64_t i = 0; i < count && c->size > 0; i++) {
        uint8_t noise[64];
        uint64_t at = draw(c->size), n = 1 + draw(sizeof noise);

        if (n > c->size - at)
            n = c->size - at;
        for (uint64_t k = 0; k < n; k++)
            noise[k] = (uint8_t)draw(256);
        snprintf(s->about, sizeof s->about, "%s, noise at %llu, %llu bytes",
                 c->name, (unsigned long long)at, (unsigned long long)n);
        put_at(s, c->name, noise, n, at);
        judge(s, &current(s)->state, sum);
        put_at(s, c->name, c->bytes + at, n, at);
    }
}

/* Another file in its place, or none. */
static void
exchange(subject *s, const content *c, const content *other, const char *what,
         const truth_state *state, tally *sum)
{
    char path[400];

    snprintf(s->about, sizeof s->about, "%s, %s %s", c->name, what,
             other ? other->name : "");
    if (other != NULL) {
        put(s, c->name, other->bytes, other->size);
    } else {
        path_of(s, c->name, path);
        unlink(path);
    }
    s->exchanged = true;
    judge(s, state, sum);
    s->exchanged = false;
    restore_all(s); /* a look may have written what is to be in order */
}

static void
exchange_files(subject *s, const subject *stranger, const content *c,
               tally *sum)
{
    const version *v = current(s);
    const version *w = &stranger->versions[stranger->version_count - 1];

    exchange(s, c, NULL, "removed", &v->state, sum);
    for (int f = 0; f < v->file_count; f++)
        exchange(s, c, &v->files[f], "exchanged with", &v->state, sum);
    for (int f = 0; f < w->file_count; f++)
        exchange(s, c, &w->files[f], "exchanged with a stranger's", &v->state,
                 sum);
    for (int k = 0; k + 1 < s->version_count; k++) {
        const version *old = &s->versions[k];

        for (int f = 0; f < old->file_count; f++) {
            if (strcmp(old->files[f].name, c->name) != 0)
                continue;
            /* This is what an older manifest shows. */
            exchange(s, c, &old->files[f], "an older version of",
                     strcmp(c->name, "manifest") == 0 ? &old->state : &v->state,
                     sum);
        }
    }
}

/* Subjects. */

static void
make(subject *s, bool ragged, bool labels, uint64_t count, uint64_t seed)
{
    static const player_op ops[] = {OP_ERASE, OP_APPEND, OP_SOURCE,
                                    OP_ERASE, OP_SOURCE, OP_APPEND};

    memset(s, 0, sizeof *s);
    player_start(&s->p, &s->disk, ragged, labels, count, seed);
    s->p.about = "making it";
    player_open(&s->p);
    take_version(s);
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        player_play(&s->p, ops[i]);
        take_version(s);
    }
    if (count > 8000) {
        player_play(&s->p, OP_CROSS);
        player_play(&s->p, OP_ERASE);
        take_version(s);
    }
    player_close(&s->p);
    restore_all(s);
}

static void
drop(subject *s)
{
    for (int k = 0; k < s->version_count; k++) {
        for (int f = 0; f < s->versions[k].file_count; f++)
            free(s->versions[k].files[f].bytes);
        truth_free_state(&s->versions[k].state);
    }
    player_end(&s->p);
}

static void
damage(subject *s, const subject *stranger, bool small, tally *sum)
{
    const version *v = current(s);
    mdn_error err = {.status = MDN_OK};

    if (look(s, false, &v->state, &err) != MDN_OK) {
        fprintf(stderr, "WRONG: undamaged: %s\n", err.message);
        sum->wrong++;
    }
    for (int f = 0; f < v->file_count; f++) {
        const content *c = &v->files[f];
        const content *other = &v->files[(f + 1) % v->file_count];

        if (small) {
            flip_bits(s, c, sum);
            cut_lengths(s, c, sum);
            add_tails(s, c, other, sum);
            damage_blocks(s, c, 512, sum);
            damage_blocks(s, c, 4096, sum);
        }
        exchange_files(s, stranger, c, sum);
        damage_at_random(s, c, sum);
    }
    if (look(s, false, &v->state, &err) != MDN_OK) {
        fprintf(stderr, "WRONG: restored: %s\n", err.message);
        sum->wrong++;
    }
}

int
main(int argc, char **argv)
{
    struct rlimit limit = {ADDRESS_SPACE, ADDRESS_SPACE};
    static subject subjects[5], stranger;
    tally sum = {0};

    options = campaign_arguments(argc, argv, 2000);
    stream = mdn_stream(options.seed, 5);
    printf("test_every_damage: seed %llu\n", (unsigned long long)options.seed);
    fflush(stdout);
    if (CAMPAIGN_SHARE == 1 && setrlimit(RLIMIT_AS, &limit) < 0)
        abort();
    make(&stranger, true, true, 20, options.seed + 9);
    for (uint64_t k = 0; k < 5; k++) {
        subject *s = &subjects[k];

        make(s, k & 1, k & 2, k == 4 ? 8187 : 12, options.seed + k);
        damage(s, &stranger, k < 4, &sum);
        sum.wrong += s->p.wrong;
        drop(s);
    }
    drop(&stranger);
    printf("test_every_damage: %llu damages, %llu of them flipped bits and "
           "%llu lengths; %llu named, %llu without effect, %llu repaired; ",
           (unsigned long long)sum.damages, (unsigned long long)sum.flips,
           (unsigned long long)sum.lengths, (unsigned long long)sum.named,
           (unsigned long long)sum.harmless, (unsigned long long)sum.repaired);
    campaign_end(sum.wrong);
    return sum.wrong > 0;
}
