/* number_at.h - where a whole number stands in a record of a user's file. */
#ifndef MDN_STORAGE_NUMBER_AT_H
#define MDN_STORAGE_NUMBER_AT_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uint64_t offset; /* in the record */
    uint32_t size;   /* 1, 2, 4 or 8; 0: there is none */
    bool is_signed;
    bool big_endian;
} mdn_number_at;

#endif
