/* campaign.h - how a campaign is asked for: how much, and from which seed.
 *
 *     test_sweep [--count N] [--seed S] [--all] [--only CASE] [--story WORDS]
 *
 * Without a count the program does what every commit can afford; the seed is
 * MODYN_SEED or drawn, and printed, so that a failure can be played again. */
#ifndef TESTS_CAMPAIGN_H
#define TESTS_CAMPAIGN_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* What is slow under a sanitizer is done in part. */
#if defined(__SANITIZE_THREAD__)
#define CAMPAIGN_SHARE 500 /* most of it is for one thread */
#elif defined(__SANITIZE_ADDRESS__)
#define CAMPAIGN_SHARE 10
#else
#define CAMPAIGN_SHARE 1
#endif

typedef struct {
    uint64_t count, seed, only; /* only: the one case to play, or UINT64_MAX */
    const char *story;          /* NULL, or the one story to play */
    bool all;
} campaign;

static inline campaign
campaign_arguments(int argc, char **argv, uint64_t count)
{
    const char *seed = getenv("MODYN_SEED");
    campaign c = {.count = count / CAMPAIGN_SHARE, .only = UINT64_MAX};

    if (getrandom(&c.seed, sizeof c.seed, 0) != sizeof c.seed)
        abort();
    c.seed >>= 32;
    if (seed != NULL)
        c.seed = strtoull(seed, NULL, 0);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--all") == 0)
            c.all = true;
        else if (strcmp(argv[i], "--count") == 0 && i + 1 < argc)
            c.count = strtoull(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            c.seed = strtoull(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc)
            c.only = strtoull(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--story") == 0 && i + 1 < argc)
            c.story = argv[++i];
        else {
            fprintf(stderr,
                    "usage: %s [--count N] [--seed S] [--all] [--only CASE] "
                    "[--story WORD,WORD,...]\n",
                    argv[0]);
            exit(2);
        }
    }
    return c;
}

/* The end of the line that a campaign prints last. */
static inline void
campaign_end(uint64_t wrong)
{
    if (wrong == 0)
        printf("0 lost, 0 resurrected, 0 undetected, 0 crashes\n");
    else
        printf("%llu WRONG, listed above\n", (unsigned long long)wrong);
}

#endif
