/* npy_header.c - a parser of the one dictionary that NumPy writes.
 *
 *   dictionary = '{' { key ':' value ',' } '}'     each of the three keys once
 *   descr      = string | '[' { member ',' } ']'
 *   member     = '(' name ',' string [ ',' shape ] ')'
 *   name       = string | '(' string ',' string ')'       a title and a name
 *   shape      = '(' { digits [ 'L' ] ',' } ')'
 *
 * The last comma may be missing; blanks may stand anywhere between. */
#include "ingest/npy_header.h"

#include "base/bytes.h"
#include "ingest/records.h"

#include <stdlib.h>
#include <string.h>

#define HEADER_MAX (UINT64_C(1) << 20)

typedef unsigned long long ull;

typedef struct {
    const char *text;
    uint64_t size, at;
    const char *what;
    mdn_npy_header *out;
    mdn_error *err;
} parser;

static mdn_status
fail_at(const parser *p, const char *expected)
{
    return mdn_fail(p->err, MDN_INVALID,
                    "%s: byte %llu of the array's header: %s expected", p->what,
                    (ull)p->at, expected);
}

static mdn_status
refuse(const parser *p, const char *reason)
{
    return mdn_fail(p->err, MDN_INVALID, "%s: %s", p->what, reason);
}

/* Tokens ---------------------------------------------------------------- */

/* The next byte that is no blank; 0 at the end. */
static char
peek(parser *p)
{
    while (p->at < p->size
           && (p->text[p->at] == ' ' || p->text[p->at] == '\n'
               || p->text[p->at] == '\t' || p->text[p->at] == '\r'))
        p->at++;
    return p->at < p->size ? p->text[p->at] : '\0';
}

static bool
take(parser *p, char wanted)
{
    if (peek(p) != wanted)
        return false;
    p->at++;
    return true;
}

/* A comma, or the end of the list before it; *last says which. */
static mdn_status
take_comma(parser *p, char close, bool *last)
{
    bool comma = take(p, ',');

    *last = take(p, close);
    return comma || *last ? MDN_OK : fail_at(p, "',' or a closing bracket");
}

/* The inside of a string as it stands: an escaped byte stays escaped. */
static mdn_status
take_string(parser *p, const char **out, uint64_t *size)
{
    char quote = peek(p);
    uint64_t from;

    if (quote != '\'' && quote != '"')
        return fail_at(p, "a string");
    from = ++p->at;
    while (p->at < p->size && p->text[p->at] != quote)
        p->at += p->text[p->at] == '\\' ? 2 : 1;
    if (p->at >= p->size) {
        p->at = p->size;
        return fail_at(p, "the end of a string");
    }
    *out = p->text + from;
    *size = p->at++ - from;
    return MDN_OK;
}

static bool
is(const char *text, uint64_t size, const char *wanted)
{
    return size == strlen(wanted) && memcmp(text, wanted, size) == 0;
}

/* Decimal digits; false without any, or when there are too many. */
static bool
digits(const char *text, uint64_t size, uint64_t *at, uint64_t *out)
{
    uint64_t from = *at, value = 0;

    while (*at < size && text[*at] >= '0' && text[*at] <= '9') {
        if (mdn_mul_overflows(value, 10, &value)
            || mdn_add_overflows(value, (uint64_t)(text[*at] - '0'), &value))
            return false;
        ++*at;
    }
    *out = value;
    return *at > from;
}

static mdn_status
take_shape(parser *p, uint64_t *shape, uint32_t max, uint32_t *ndim)
{
    bool last = false;
    mdn_status st = MDN_OK;

    *ndim = 0;
    if (!take(p, '('))
        return fail_at(p, "'('");
    last = take(p, ')');
    while (st == MDN_OK && !last) {
        if (*ndim == max)
            return fail_at(p, "a smaller number of dimensions");
        peek(p);
        if (!digits(p->text, p->size, &p->at, &shape[*ndim]))
            return fail_at(p, "a dimension below 2^64");
        if (p->at < p->size && p->text[p->at] == 'L')
            p->at++; /* as Python 2 wrote it */
        ++*ndim;
        st = take_comma(p, ')', &last);
    }
    return st;
}

/* Types ----------------------------------------------------------------- */

/* "<f4", "|V12", "<M8[ns]", ...: letter, item and byte order. */
static mdn_status
take_type(parser *p, mdn_npy_member *member)
{
    const char *text = NULL;
    uint64_t size = 0, at = 2;
    mdn_status st = take_string(p, &text, &size);

    if (st != MDN_OK)
        return st;
    if (size < 2 || strchr("<>|", text[0]) == NULL)
        return fail_at(p, "a type such as '<f4' before this");
    member->kind = text[1];
    member->big_endian = text[0] == '>';
    if (member->kind == 'O')
        return refuse(p, "holds Python objects, which are never loaded; save "
                         "an array of numbers");
    if (strchr("biufcSUVMm", member->kind) == NULL
        || !digits(text, size, &at, &member->item))
        return fail_at(p, "a type such as '<f4' before this");
    if (member->kind == 'U'
        && mdn_mul_overflows(member->item, 4, &member->item))
        member->item = MDN_RECORD_MAX;
    if (at < size && member->kind != 'M' && member->kind != 'm')
        return fail_at(p, "a type such as '<f4' before this");
    if (member->item >= MDN_RECORD_MAX)
        return refuse(p, "a type of 2^31 bytes or more");
    return MDN_OK;
}

/* Behind the other members: its place in the record. */
static mdn_status
place_member(parser *p, mdn_npy_member *member)
{
    mdn_npy_header *out = p->out;

    member->size = member->item;
    for (uint32_t d = 0; d < member->ndim; d++) {
        if (mdn_mul_overflows(member->size, member->shape[d], &member->size))
            return refuse(p, "records of 2^31 bytes or more");
    }
    member->offset = out->item_size;
    if (mdn_add_overflows(out->item_size, member->size, &out->item_size)
        || out->item_size >= MDN_RECORD_MAX)
        return refuse(p, "records of 2^31 bytes or more");
    return MDN_OK;
}

static mdn_status
add_member(parser *p, mdn_npy_member **member)
{
    mdn_npy_header *out = p->out;
    uint32_t count = out->member_count;

    if (count == MDN_NPY_MEMBERS_MAX)
        return refuse(p, "more than 4096 fields");
    if ((count & (count - 1)) == 0) { /* 0, 1, 2, 4, ...: room for as many */
        uint64_t room = count ? 2 * (uint64_t)count : 1;
        mdn_npy_member *grown = realloc(out->members, room * sizeof *grown);

        if (grown == NULL)
            return mdn_fail_nomem(p->err, room * sizeof *grown);
        out->members = grown;
    }
    *member = &out->members[out->member_count++];
    **member = (mdn_npy_member){.name = NULL};
    return MDN_OK;
}

/* A name, or a title and a name. */
static mdn_status
take_name(parser *p, mdn_npy_member *member)
{
    mdn_status st;

    if (!take(p, '('))
        return take_string(p, &member->name, &member->name_size);
    if ((st = take_string(p, &member->name, &member->name_size)) != MDN_OK)
        return st;
    if (!take(p, ','))
        return fail_at(p, "','");
    if ((st = take_string(p, &member->name, &member->name_size)) != MDN_OK)
        return st;
    return take(p, ')') ? MDN_OK : fail_at(p, "')'");
}

static mdn_status
take_member(parser *p)
{
    mdn_npy_member *member = NULL;
    bool last = false;
    mdn_status st = add_member(p, &member);

    if (st != MDN_OK)
        return st;
    if (!take(p, '('))
        return fail_at(p, "'('");
    if ((st = take_name(p, member)) != MDN_OK)
        return st;
    if (!take(p, ','))
        return fail_at(p, "','");
    if (peek(p) == '[')
        return refuse(p, "a field that has fields of its own; save it flat");
    if ((st = take_type(p, member)) != MDN_OK
        || (st = take_comma(p, ')', &last)) != MDN_OK)
        return st;
    if (!last
        && (st = take_shape(p, member->shape, MDN_NDIM_MAX, &member->ndim))
               != MDN_OK)
        return st;
    if (!last && ((st = take_comma(p, ')', &last)) != MDN_OK || !last))
        return st != MDN_OK ? st : fail_at(p, "')'");
    return place_member(p, member);
}

static mdn_status
take_descr(parser *p)
{
    mdn_npy_member *member = NULL;
    bool last = false;
    mdn_status st = MDN_OK;

    if (!take(p, '[')) {
        st = add_member(p, &member);
        if (st == MDN_OK)
            st = take_type(p, member);
        return st == MDN_OK ? place_member(p, member) : st;
    }
    p->out->structured = true;
    last = take(p, ']');
    while (st == MDN_OK && !last) {
        st = take_member(p);
        if (st == MDN_OK)
            st = take_comma(p, ']', &last);
    }
    return st;
}

/* Dictionary ------------------------------------------------------------ */

static mdn_status
take_order(parser *p)
{
    static const char *const words[] = {"False", "True"};

    peek(p);
    for (int i = 0; i < 2; i++) {
        uint64_t size = strlen(words[i]);

        if (p->size - p->at < size
            || memcmp(p->text + p->at, words[i], size) != 0)
            continue;
        p->at += size;
        p->out->fortran_order = i == 1;
        return MDN_OK;
    }
    return fail_at(p, "True or False");
}

/* One key and its value; *seen has a bit for each key that was there. */
static mdn_status
take_entry(parser *p, unsigned *seen)
{
    const char *key = NULL;
    uint64_t size = 0;
    unsigned bit;
    mdn_status st = take_string(p, &key, &size);

    if (st != MDN_OK)
        return st;
    bit = is(key, size, "descr")           ? 1
          : is(key, size, "fortran_order") ? 2
          : is(key, size, "shape")         ? 4
                                           : 0;
    if (bit == 0 || (*seen & bit))
        return fail_at(p, "'descr', 'fortran_order' and 'shape', each once,");
    *seen |= bit;
    if (!take(p, ':'))
        return fail_at(p, "':'");
    if (bit == 1)
        return take_descr(p);
    if (bit == 2)
        return take_order(p);
    return take_shape(p, p->out->shape, MDN_NPY_NDIM_MAX, &p->out->ndim);
}

static mdn_status
take_dictionary(parser *p)
{
    unsigned seen = 0;
    bool last = false;
    mdn_status st = MDN_OK;

    if (!take(p, '{'))
        return fail_at(p, "'{'");
    while (st == MDN_OK && !last && !(last = take(p, '}'))) {
        st = take_entry(p, &seen);
        if (st == MDN_OK)
            st = take_comma(p, '}', &last);
    }
    if (st != MDN_OK)
        return st;
    if (seen != 7)
        return refuse(p, "the array's header lacks 'descr', 'fortran_order' or "
                         "'shape'");
    return peek(p) == '\0' && p->at == p->size
               ? MDN_OK
               : fail_at(p, "the end of the header");
}

/* Bytes ----------------------------------------------------------------- */

/* Magic, version and length: where the text begins, and its size. */
static mdn_status
read_start(const mdn_input *input, uint64_t at, uint64_t size, const char *what,
           uint64_t *text_at, uint64_t *text_size, bool *cut, mdn_error *err)
{
    uint8_t start[12] = {0};
    uint64_t have = size < sizeof start ? size : sizeof start;
    mdn_status st = mdn_input_read(input, start, have, at, err);
    bool wide = start[6] != 1;

    *cut = false;
    if (st != MDN_OK)
        return st;
    if (memcmp(start, "\x93NUMPY", have < 6 ? have : 6) != 0)
        return mdn_fail(err, MDN_INVALID,
                        "%s: not an array in NumPy's format (.npy)", what);
    if (have >= 8 && (start[6] < 1 || start[6] > 3 || start[7] != 0))
        return mdn_fail(err, MDN_INVALID,
                        "%s: version %u.%u of NumPy's format; 1.0, 2.0 and 3.0 "
                        "are known",
                        what, start[6], start[7]);
    *text_at = wide ? 12 : 10;
    *cut = have < *text_at;
    if (!*cut) {
        *text_size =
            wide ? mdn_load_u32(start + 8) : mdn_load_u32(start + 8) & 0xffff;
        if (*text_size > HEADER_MAX)
            return mdn_fail(err, MDN_INVALID,
                            "%s: an array's header of %llu bytes; %llu are the "
                            "most",
                            what, (ull)*text_size, (ull)HEADER_MAX);
        *cut = *text_size > size - *text_at;
    }
    if (*cut)
        return mdn_fail(err, MDN_INVALID,
                        "%s: ends in the middle of the array's header: %llu "
                        "bytes",
                        what, (ull)size);
    return MDN_OK;
}

mdn_status
mdn_npy_header_read(const mdn_input *input, uint64_t at, uint64_t size,
                    const char *what, mdn_npy_header *out, bool *cut,
                    mdn_error *err)
{
    uint64_t text_at = 0, text_size = 0;
    parser p = {.what = what, .out = out, .err = err};
    mdn_status st;

    *out = (mdn_npy_header){.text = NULL};
    st = read_start(input, at, size, what, &text_at, &text_size, cut, err);
    if (st != MDN_OK)
        return st;
    out->data_at = text_at + text_size;
    out->text = malloc(text_size + 1);
    if (out->text == NULL)
        return mdn_fail_nomem(err, text_size + 1);
    st = mdn_input_read(input, out->text, text_size, at + text_at, err);
    p.text = out->text;
    p.size = text_size;
    if (st == MDN_OK)
        st = take_dictionary(&p);
    if (st != MDN_OK)
        mdn_npy_header_clear(out);
    return st;
}

void
mdn_npy_header_clear(mdn_npy_header *header)
{
    free(header->members);
    free(header->text);
    *header = (mdn_npy_header){.text = NULL};
}

bool
mdn_npy_is(const mdn_npy_member *member, mdn_dtype dtype)
{
    static const char kinds[] = {
        [MDN_BOOL] = 'b',      [MDN_INT8] = 'i',       [MDN_INT16] = 'i',
        [MDN_INT32] = 'i',     [MDN_INT64] = 'i',      [MDN_UINT8] = 'u',
        [MDN_UINT16] = 'u',    [MDN_UINT32] = 'u',     [MDN_UINT64] = 'u',
        [MDN_FLOAT16] = 'f',   [MDN_FLOAT32] = 'f',    [MDN_FLOAT64] = 'f',
        [MDN_COMPLEX64] = 'c', [MDN_COMPLEX128] = 'c', [MDN_BYTES] = '\0',
    };

    return member->kind == kinds[dtype]
           && member->item == mdn_dtype_size(dtype);
}
