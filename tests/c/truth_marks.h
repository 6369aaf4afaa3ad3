/* truth_marks.h - by what the bytes of a sample are known in a file. */
#ifndef TESTS_TRUTH_MARKS_H
#define TESTS_TRUTH_MARKS_H

#include <stdint.h>

#define TRUTH_TIMESTAMP_TAG UINT64_C(0x5453)
#define TRUTH_LABEL_TAG UINT64_C(0x4c42)

/* What each cell begins with. */
static const char TRUTH_MARK[8] = "MdNcEl\r\n";

/* The low 24 bits, the last one first: keys out of order, so that timestamps
 * made of them are, too. */
static inline uint64_t
truth_reversed(uint64_t key)
{
    uint64_t out = 0;

    for (int bit = 0; bit < 24; bit++)
        out |= (key >> bit & 1) << (23 - bit);
    return out;
}

#endif
