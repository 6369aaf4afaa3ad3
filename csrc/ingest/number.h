/* number.h - one number of a record from its decimal text.
 *
 * The whole text must be the number: no blanks around it, no separators of
 * thousands.  An integer is [+-] digits.  A float is [+-] digits with at most
 * one point and an optional exponent, or nan, inf, infinity in any case; it is
 * rounded correctly (to the nearest, ties to even) whatever its type.  A bool
 * is 0, 1, true or false, also True and TRUE.  At most 1,024 characters. */
#ifndef MDN_INGEST_NUMBER_H
#define MDN_INGEST_NUMBER_H

#include "storage/schema.h"

#include <stdint.h>

typedef enum {
    MDN_NUMBER_OK,
    MDN_NUMBER_MALFORMED, /* not a number of this type at all */
    MDN_NUMBER_RANGE,     /* a number, but the type does not hold it; a finite
                             text that a float would round to infinity, too */
} mdn_number_result;

/* Puts mdn_dtype_size(dtype) bytes to out, at any alignment; nothing unless
 * OK.  Complex numbers and bytes are MALFORMED. */
mdn_number_result mdn_number_parse(mdn_dtype dtype, const char *text,
                                   uint64_t size, void *out);

#endif
