/* base64.h - the inverse of base64 (RFC 4648, section 4), padded. */
#ifndef MDN_INGEST_BASE64_H
#define MDN_INGEST_BASE64_H

#include <stdbool.h>
#include <stdint.h>

/* Into out, which has room for size / 4 * 3 bytes; *out_size of them.  False
 * for what is no base64: a byte that is none of its 64, or padding that is
 * missing or not at the end. */
bool mdn_base64_decode(const char *text, uint64_t size, uint8_t *out,
                       uint64_t *out_size);

#endif
