/* test_sweep.c - short stories, with a fault at every call to the system.
 *
 * A story is a sequence of one to three operations on a small dataset.  It is
 * played once undisturbed, which says how many calls it makes; then a *point*
 * is a call of it that fails in one of the modes below.  After that, in some
 * of the modes, the power fails; in a part of the points recovery meets a
 * second fault, and perhaps another cut.  At last player_recover looks.
 *
 * Most bugs of file systems under crashes need no longer stories than these
 * (Mohan et al., OSDI 2018).  Without arguments: points drawn at random, for
 * every commit.  --all: every call of every story in every mode; --story
 * erase,compact,erase: the same of this story. */
#include "campaign.h"
#include "player.h"

#include "base/random.h"

#include <errno.h>
#include <stdio.h>

#define BASE_COUNT 20
#define LONG_BASE_COUNT                                                        \
    8187 /* where the end of the segment is to be crossed                      \
          */
#define STORY_MAX 3
#define SECOND_CALLS 40 /* recovery makes about this many */

typedef enum { CUT_NONE, CUT_ALL, CUT_SOME } cut;

typedef struct {
    faulty_fault fault;
    bool sticky;
    cut cut;
} mode;

/* A disk that lies about syncs keeps no promise in a power cut; one that flips
 * bits may hide the last commit while the reach lags (docs/format.md). */
static const mode MODES[] = {
    {FAULT_EIO, false, CUT_NONE},    {FAULT_EIO, true, CUT_NONE},
    {FAULT_EIO, false, CUT_ALL},     {FAULT_EIO, true, CUT_ALL},
    {FAULT_EIO, false, CUT_SOME},    {FAULT_EIO, true, CUT_SOME},
    {FAULT_ENOSPC, false, CUT_NONE}, {FAULT_ENOSPC, true, CUT_NONE},
    {FAULT_ENOSPC, true, CUT_SOME},  {FAULT_EDQUOT, false, CUT_NONE},
    {FAULT_EDQUOT, true, CUT_SOME},  {FAULT_EMFILE, false, CUT_NONE},
    {FAULT_EMFILE, true, CUT_SOME},  {FAULT_EINTR, false, CUT_NONE},
    {FAULT_EINTR, false, CUT_SOME},  {FAULT_SHORT, false, CUT_NONE},
    {FAULT_SHORT, true, CUT_NONE},   {FAULT_SHORT, false, CUT_SOME},
    {FAULT_KILL, false, CUT_NONE},   {FAULT_KILL, false, CUT_ALL},
    {FAULT_KILL, false, CUT_SOME},   {FAULT_TORN, false, CUT_NONE},
    {FAULT_TORN, false, CUT_ALL},    {FAULT_TORN, false, CUT_SOME},
    {FAULT_FLIP, false, CUT_NONE},   {FAULT_FLIP, true, CUT_NONE},
    {FAULT_LIE, false, CUT_NONE},    {FAULT_LIE, true, CUT_NONE},
};
#define MODE_COUNT (sizeof MODES / sizeof MODES[0])

/* Not the disk is at fault, but memory: at one call, or from it on. */
static const mode NO_MEMORY, NO_MEMORY_LEFT;

/* What recovery may meet: those that kill, and those that refuse. */
static const faulty_fault SECOND[] = {FAULT_KILL,   FAULT_TORN,  FAULT_EIO,
                                      FAULT_ENOSPC, FAULT_EINTR, FAULT_SHORT};
#define SECOND_COUNT (sizeof SECOND / sizeof SECOND[0])

/* Memory that runs out at a chosen call inside of the core.  A sanitizer has an
 * allocator of its own; there it never runs out. */
static struct {
    faulty *disk; /* NULL: there is enough */
    int fail_at, calls;
    bool sticky;
} memory;

#if CAMPAIGN_SHARE == 1
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);

static bool
is_out(void)
{
    int n;

    if (!player_in_core || memory.disk == NULL)
        return false;
    n = memory.calls++;
    if (memory.sticky ? n < memory.fail_at : n != memory.fail_at)
        return false;
    memory.disk->fired = true;
    errno = ENOMEM;
    return true;
}

void *
malloc(size_t size)
{
    return is_out() ? NULL : __libc_malloc(size);
}

void *
calloc(size_t count, size_t size)
{
    return is_out() ? NULL : __libc_calloc(count, size);
}
#endif

/* One story on one kind of dataset. */
typedef struct {
    player_op ops[STORY_MAX];
    int length;
    bool ragged, labels;
} story;

typedef struct {
    uint64_t points; /* faults that had an effect */
    uint64_t plays, wrong;
    uint64_t by_fault[FAULT_FLIP + 1];
    uint64_t cuts, seconds, without_memory;
} tally;

static uint64_t
story_count(void)
{
    uint64_t count = 0, power = 1;

    for (int length = 1; length <= STORY_MAX; length++)
        count += power *= OPS;
    return count * 4;
}

static story
story_of(uint64_t number)
{
    story s = {.ragged = number & 1, .labels = number & 2, .length = 1};
    uint64_t power = OPS;

    for (number /= 4; number >= power; power *= OPS, s.length++)
        number -= power;
    for (int i = 0; i < s.length; i++, number /= OPS)
        s.ops[i] = (player_op)(number % OPS);
    return s;
}

/* The number of the story erase, compact and what `third` says, or nothing. */
static uint64_t
compaction_story(uint64_t third)
{
    const uint64_t pair = OP_ERASE + OPS * OP_COMPACT;
    uint64_t kind = third % 4;

    third /= 4;
    if (third % 4 == 0)
        return 4 * (OPS + pair) + kind;
    third = third / 4 % OPS;
    return 4 * (OPS + OPS * OPS + pair + OPS * OPS * third) + kind;
}

static bool
crosses(const story *s)
{
    for (int i = 0; i < s->length; i++) {
        if (s->ops[i] == OP_CROSS)
            return true;
    }
    return false;
}

static void
cut_power(faulty *disk, cut how, uint64_t seed)
{
    if (how == CUT_ALL)
        faulty_power_cut(disk);
    if (how == CUT_SOME)
        faulty_power_cut_some(disk, seed);
    faulty_forget(disk);
}

/* Recovery that meets a fault itself. */
static void
recover_badly(player *p, const mode *m, uint64_t stream)
{
    faulty disk = {.fault = SECOND[mdn_draw(stream, 1) % SECOND_COUNT],
                   .fail_at = (int)(mdn_draw(stream, 2) % SECOND_CALLS),
                   .sticky = mdn_draw(stream, 3) % 4 == 0
                             && mdn_draw(stream, 1) % SECOND_COUNT != 4,
                   .record = m->cut != CUT_NONE};
    faulty *first = p->disk;

    p->disk = &disk;
    player_open(p);
    player_close(p);
    cut_power(&disk, m->cut, mdn_draw(stream, 4));
    p->disk = first;
}

/* Play a story with this fault; returns how many calls it made. */
static int
play(const story *s, const mode *m, int n, uint64_t seed, bool second,
     const char *about, tally *sum)
{
    faulty disk = {.fault = m->fault,
                   .fail_at = n,
                   .sticky = m->sticky,
                   .record = m->cut != CUT_NONE};
    uint64_t stream = mdn_stream(seed, 9);
    player p;
    int calls;

    player_start(&p, &disk, s->ragged, s->labels,
                 crosses(s) ? LONG_BASE_COUNT : BASE_COUNT, seed);
    p.about = about;
    memory.disk = m == &NO_MEMORY || m == &NO_MEMORY_LEFT ? &disk : NULL;
    memory.calls = 0;
    memory.fail_at = n;
    memory.sticky = m == &NO_MEMORY_LEFT;
    player_open(&p);
    for (int i = 0; i < s->length; i++)
        player_play(&p, s->ops[i]);
    player_close(&p);
    calls = memory.disk != NULL ? memory.calls : disk.calls;
    memory.disk = NULL;
    cut_power(&disk, m->cut, mdn_draw(stream, 0));
    if (second)
        recover_badly(&p, m, stream);
    player_recover(&p);
    player_end(&p);
    sum->plays++;
    sum->wrong += p.wrong > 0;
    sum->points += disk.fired;
    sum->by_fault[m->fault] += disk.fired;
    sum->cuts += m->cut != CUT_NONE;
    sum->seconds += second;
    return calls;
}

static int
calls_of(uint64_t number, tally *sum)
{
    static int *known;
    const mode none = {FAULT_NONE, false, CUT_NONE};
    story s = story_of(number);

    if (known == NULL && (known = calloc(story_count(), sizeof *known)) == NULL)
        abort();
    if (known[number] == 0)
        known[number] = play(&s, &none, 0, 1, false, "undisturbed", sum);
    return known[number];
}

/* Point number `number` of the random ones of this seed. */
static void
play_drawn(uint64_t seed, uint64_t number, tally *sum)
{
    uint64_t stream = mdn_stream(seed, number);
    /* Half of the points have short stories, which are few. */
    uint64_t below =
        mdn_draw(stream, 0) % 2 ? 4 * (OPS + OPS * OPS) : story_count();
    uint64_t which = mdn_draw(stream, 1) % below;
    const mode *m = &MODES[mdn_draw(stream, 2) % MODE_COUNT];
    char about[80];
    story s;
    int n;

    if (mdn_draw(stream, 6) % 4 == 0) /* the one with most names at stake */
        which = compaction_story(mdn_draw(stream, 1));
    n = (int)(mdn_draw(stream, 3) % (uint64_t)calls_of(which, sum));
    s = story_of(which);
    snprintf(about, sizeof about, "--seed %llu --only %llu",
             (unsigned long long)seed, (unsigned long long)number);
    play(&s, m, n, mdn_draw(stream, 4), mdn_draw(stream, 5) % 4 == 0, about,
         sum);
}

/* Whether the story is that of these words: erase,compact,erase. */
static bool
is_story(const story *s, const char *words)
{
    char own[STORY_MAX * 16] = "";

    for (int i = 0; i < s->length; i++) {
        strcat(own, i > 0 ? "," : "");
        strcat(own, player_names[s->ops[i]]);
    }
    return strcmp(own, words) == 0;
}

/* Every call of every story, or of those with these words, in every mode. */
static void
play_all(uint64_t seed, const char *words, tally *sum)
{
    char about[80];

    for (uint64_t which = 0; which < story_count(); which++) {
        story s = story_of(which);
        int calls;

        if (words != NULL && !is_story(&s, words))
            continue;
        calls = calls_of(which, sum);
        for (size_t m = 0; m < MODE_COUNT; m++) {
            for (int n = 0; n < calls; n++) {
                snprintf(about, sizeof about, "story %llu mode %zu call %d",
                         (unsigned long long)which, m, n);
                play(&s, &MODES[m], n, mdn_mix(seed + (uint64_t)n), n % 2,
                     about, sum);
            }
        }
    }
}

/* Every call for memory of the stories of one operation, or of two. */
static void
play_without_memory(uint64_t seed, int length, tally *sum)
{
    const mode *const modes[] = {&NO_MEMORY, &NO_MEMORY_LEFT};
    uint64_t count = 4 * (length == 1 ? OPS : OPS + OPS * OPS);

    for (uint64_t k = 0; k < 2 * count; k++) {
        story s = story_of(k / 2);
        uint64_t before = UINT64_MAX;

        for (int n = 0; sum->points != before; n++) {
            before = sum->points;
            play(&s, modes[k % 2], n, seed, false, "without memory", sum);
            sum->without_memory += sum->points - before;
        }
    }
}

int
main(int argc, char **argv)
{
    campaign c = campaign_arguments(argc, argv, 3000);
    tally sum = {0};

    printf("test_sweep: seed %llu\n", (unsigned long long)c.seed);
    fflush(stdout);
    if (c.only != UINT64_MAX) {
        play_drawn(c.seed, c.only, &sum);
    } else if (c.all || c.story != NULL) {
        play_all(c.seed, c.story, &sum);
    } else {
        for (uint64_t i = 0; sum.points < c.count; i++)
            play_drawn(c.seed, i, &sum);
    }
    if (CAMPAIGN_SHARE == 1 && c.only == UINT64_MAX && c.story == NULL)
        play_without_memory(c.seed, c.all || c.count > 5000 ? 2 : 1, &sum);
    printf("test_sweep: %llu crash points of %llu stories (%llu of memory), "
           "%llu cuts, %llu second faults; ",
           (unsigned long long)sum.points, (unsigned long long)sum.plays,
           (unsigned long long)sum.without_memory, (unsigned long long)sum.cuts,
           (unsigned long long)sum.seconds);
    campaign_end(sum.wrong);
    return sum.wrong > 0;
}
