/* schema.h - the typed fields of a record, and their text form.
 *
 * The text form is what the manifest stores and what Python passes: one line
 * per field, in record order, each ended by a newline.
 *
 *     dense: float32[13]
 *     image: uint8[28,28]
 *     name: bytes
 *
 * A record is the fixed fields one after the other without padding, then for
 * each bytes field its length (u32), then the payloads of the bytes fields. */
#ifndef MDN_STORAGE_SCHEMA_H
#define MDN_STORAGE_SCHEMA_H

#include "base/error.h"

#include <stdint.h>

#define MDN_NAME_SIZE 65 /* 64 characters [A-Za-z0-9_] and a NUL */
#define MDN_NDIM_MAX 8
#define MDN_FIELDS_MAX 256

typedef enum {
    MDN_BOOL,
    MDN_INT8,
    MDN_INT16,
    MDN_INT32,
    MDN_INT64,
    MDN_UINT8,
    MDN_UINT16,
    MDN_UINT32,
    MDN_UINT64,
    MDN_FLOAT16,
    MDN_FLOAT32,
    MDN_FLOAT64,
    MDN_COMPLEX64,
    MDN_COMPLEX128,
    MDN_BYTES, /* variable length, at most 2^32 - 1 bytes */
} mdn_dtype;

typedef struct {
    char name[MDN_NAME_SIZE];
    mdn_dtype dtype;
    uint32_t ndim; /* 0 for a scalar and for bytes */
    uint64_t shape[MDN_NDIM_MAX];
    uint64_t size_bytes; /* in the record; 0 for bytes */
    uint64_t offset;     /* in the record; for bytes, of its u32 length */
} mdn_field;

typedef struct {
    uint32_t field_count; /* >= 1 */
    uint32_t bytes_count; /* how many fields are bytes */
    uint64_t fixed_size;  /* bytes of the fixed fields */
    uint64_t head_size;   /* fixed_size + 4 * bytes_count; the record size
                             when bytes_count is 0; >= 1, < 2^31 */
    mdn_field fields[];
} mdn_schema;

/* MDN_INVALID names the line, the field and what is wrong with it. */
mdn_status mdn_schema_parse(const char *text, uint64_t size, mdn_schema **out,
                            mdn_error *err);
void mdn_schema_free(mdn_schema *schema);
/* The text form, malloc'd and NUL-terminated; NULL without memory.
 * mdn_schema_parse(text(schema)) gives the same schema. */
char *mdn_schema_text(const mdn_schema *schema);

/* Bytes of one element; 0 for MDN_BYTES. */
uint64_t mdn_dtype_size(mdn_dtype dtype);
/* NumPy's name: "float32", "bool", ...; "bytes". */
const char *mdn_dtype_name(mdn_dtype dtype);

#endif
