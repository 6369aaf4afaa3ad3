/* tar_member.c - headers of tar archives.
 *
 *   offset  size  field (numbers are octal text, or binary if the first bit of
 *                 the field is set)
 *        0   100  name
 *      124    12  size
 *      136    12  time of the last change, in seconds
 *      148     8  sum of the header's bytes, these eight taken as blanks
 *      156     1  kind: '0' regular, '5' directory, 'x' 'g' pax, 'L' 'K' GNU
 *      257     6  "ustar" and a NUL or a blank
 *      345   155  what stands before the name and a slash, if there is a NUL */
#include "ingest/tar_member.h"

#include "base/bytes.h"

#include <stdlib.h>
#include <string.h>

#define WINDOW_SIZE (UINT64_C(256) << 10)
#define PAX_MAX (UINT64_C(1) << 20)
#define PADDING_MAX (UINT64_C(16) << 20) /* behind the end of the archive */
#define NS INT64_C(1000000000)

typedef unsigned long long ull;

/* What extensions say of the next member. */
typedef struct {
    bool name, size, mtime;
    uint64_t size_value;
    int64_t mtime_ns;
} extras;

mdn_status
mdn_tar_init(mdn_tar *tar, const mdn_input *input, mdn_error *err)
{
    uint64_t size = input->facts.size;

    size = size < WINDOW_SIZE ? size : WINDOW_SIZE;
    *tar = (mdn_tar){.input = input, .window = malloc(size + 1)};
    return tar->window ? MDN_OK : mdn_fail_nomem(err, size);
}

void
mdn_tar_clear(mdn_tar *tar)
{
    free(tar->window);
    *tar = (mdn_tar){.window = NULL};
}

void
mdn_tar_member_clear(mdn_tar_member *member)
{
    free(member->name);
    *member = (mdn_tar_member){.name = NULL};
}

static mdn_status
fail(const mdn_tar *tar, uint64_t at, const char *what, mdn_error *err)
{
    return mdn_fail(err, MDN_INVALID, "%s: byte %llu: %s", tar->input->name,
                    (ull)at, what);
}

/* Bytes [at, at + size) of the file, which are there; size <= WINDOW_SIZE. */
static mdn_status
look(mdn_tar *tar, uint64_t at, uint64_t size, const uint8_t **out,
     mdn_error *err)
{
    uint64_t left = tar->input->facts.size - at;
    mdn_status st;

    if (at < tar->window_at || at + size > tar->window_at + tar->window_size) {
        left = left < WINDOW_SIZE ? left : WINDOW_SIZE;
        tar->window_size = 0;
        st = mdn_input_read(tar->input, tar->window, left, at, err);
        if (st != MDN_OK)
            return st;
        tar->window_at = at;
        tar->window_size = left;
    }
    *out = tar->window + (at - tar->window_at);
    return MDN_OK;
}

/* The file reaches so far. */
static bool
reaches(const mdn_tar *tar, uint64_t at, uint64_t size)
{
    uint64_t end;

    return !mdn_add_overflows(at, size, &end) && end <= tar->input->facts.size;
}

/* Numbers --------------------------------------------------------------- */

/* Octal digits between blanks and NULs, or a binary number; false if neither,
 * or if it is negative or does not fit. */
static bool
load_number(const uint8_t *at, uint32_t size, uint64_t *out)
{
    uint64_t value = 0;
    uint32_t i = 0;

    if (at[0] & 0x80) {
        value = at[0] & 0x7f;
        for (i = 1; i < size; i++) {
            if (mdn_mul_overflows(value, 256, &value))
                return false;
            value |= at[i];
        }
        *out = value;
        return true;
    }
    while (i < size && at[i] == ' ')
        i++;
    for (; i < size && at[i] >= '0' && at[i] <= '7'; i++) {
        if (mdn_mul_overflows(value, 8, &value))
            return false;
        value |= (uint64_t)(at[i] - '0');
    }
    for (; i < size; i++) {
        if (at[i] != ' ' && at[i] != '\0')
            return false;
    }
    *out = value;
    return true;
}

static bool
sum_is_right(const uint8_t *header)
{
    uint64_t stated = 0, sum = 0;

    if (!load_number(header + 148, 8, &stated))
        return false;
    for (uint32_t i = 0; i < MDN_TAR_BLOCK; i++)
        sum += i >= 148 && i < 156 ? ' ' : header[i];
    return sum == stated;
}

static bool
seconds_to_ns(uint64_t seconds, int64_t *out)
{
    return seconds <= INT64_MAX
           && !__builtin_mul_overflow((int64_t)seconds, NS, out);
}

/* Decimal digits that fill the text. */
static bool
parse_decimal(const uint8_t *text, uint64_t size, uint64_t *out)
{
    uint64_t value = 0;

    if (size == 0)
        return false;
    for (uint64_t i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9'
            || mdn_mul_overflows(value, 10, &value)
            || mdn_add_overflows(value, (uint64_t)(text[i] - '0'), &value))
            return false;
    }
    *out = value;
    return true;
}

/* [-] digits [ . digits ], seconds; digits beyond nanoseconds are dropped. */
static bool
parse_time(const uint8_t *text, uint64_t size, int64_t *out)
{
    bool negative = size > 0 && text[0] == '-';
    const uint8_t *point;
    uint64_t whole, seconds, fraction = 0, digits = 0;
    int64_t ns;

    text += negative;
    size -= negative;
    point = size > 0 ? memchr(text, '.', size) : NULL;
    whole = point ? (uint64_t)(point - text) : size;
    if (!parse_decimal(text, whole, &seconds) || !seconds_to_ns(seconds, &ns))
        return false;
    for (uint64_t i = whole + 1; i < size; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        if (digits < 9) {
            fraction = 10 * fraction + (uint64_t)(text[i] - '0');
            digits++;
        }
    }
    for (; digits < 9; digits++)
        fraction *= 10;
    if (__builtin_add_overflow(ns, (int64_t)fraction, &ns))
        return false;
    *out = negative ? -ns : ns;
    return true;
}

/* Names ----------------------------------------------------------------- */

static mdn_status
set_name(mdn_tar_member *member, const uint8_t *a, uint64_t a_size,
         const uint8_t *b, uint64_t b_size, mdn_error *err)
{
    uint64_t size = a_size + b_size;

    if (size + 1 > member->name_room) {
        char *grown = realloc(member->name, size + 256);

        if (grown == NULL)
            return mdn_fail_nomem(err, size + 256);
        member->name = grown;
        member->name_room = size + 256;
    }
    if (a_size > 0)
        memcpy(member->name, a, a_size);
    if (b_size > 0)
        memcpy(member->name + a_size, b, b_size);
    member->name[size] = '\0';
    member->name_size = size;
    return MDN_OK;
}

/* The name in the header: prefix, slash, name. */
static mdn_status
header_name(mdn_tar_member *member, const uint8_t *header, mdn_error *err)
{
    const uint8_t *prefix = header + 345;
    uint64_t prefix_size = 0, size = strnlen((const char *)header, 100);
    uint8_t joined[156];

    if (memcmp(header + 257, "ustar\0", 6) == 0)
        prefix_size = strnlen((const char *)prefix, 155);
    memcpy(joined, prefix, prefix_size);
    if (prefix_size > 0)
        joined[prefix_size++] = '/';
    return set_name(member, joined, prefix_size, header, size, err);
}

/* Extensions ------------------------------------------------------------ */

/* One record of a pax extension: it knows key and value. */
static mdn_status
take_pax(const mdn_tar *tar, uint64_t at, bool global, const uint8_t *key,
         uint64_t key_size, const uint8_t *value, uint64_t size,
         mdn_tar_member *member, extras *e, mdn_error *err)
{
    bool path = key_size == 4 && memcmp(key, "path", 4) == 0;
    bool is_size = key_size == 4 && memcmp(key, "size", 4) == 0;
    bool mtime = key_size == 5 && memcmp(key, "mtime", 5) == 0;

    if (key_size >= 11 && memcmp(key, "GNU.sparse.", 11) == 0)
        return fail(tar, at,
                    "a sparse file, which is not read; archive it "
                    "without --sparse",
                    err);
    if (global && (path || is_size || mtime))
        return fail(tar, at,
                    "an extension for all members that sets name, "
                    "size or time, which is not read",
                    err);
    if (path) {
        if (size == 0 || size > MDN_TAR_NAME_MAX
            || memchr(value, '\0', size) != NULL)
            return fail(tar, at, "an extension with a name that is none", err);
        e->name = true;
        return set_name(member, value, size, NULL, 0, err);
    }
    if (is_size && !parse_decimal(value, size, &e->size_value))
        return fail(tar, at, "an extension with a size that is none", err);
    if (mtime && !parse_time(value, size, &e->mtime_ns))
        return fail(tar, at, "an extension with a time that is none", err);
    e->size |= is_size;
    e->mtime |= mtime;
    return MDN_OK;
}

/* Records "length key=value\n" over the whole extension. */
static mdn_status
parse_pax(const mdn_tar *tar, uint64_t at, bool global, const uint8_t *text,
          uint64_t size, mdn_tar_member *member, extras *e, mdn_error *err)
{
    while (size > 0) {
        const uint8_t *blank = memchr(text, ' ', size < 21 ? size : 21);
        const uint8_t *key, *equals;
        uint64_t length;
        mdn_status st;

        if (blank == NULL
            || !parse_decimal(text, (uint64_t)(blank - text), &length)
            || length > size || length < (uint64_t)(blank - text) + 3
            || text[length - 1] != '\n')
            return fail(tar, at, "an extension that is damaged", err);
        key = blank + 1;
        equals = memchr(key, '=', (uint64_t)(text + length - key));
        if (equals == NULL)
            return fail(tar, at, "an extension that is damaged", err);
        st =
            take_pax(tar, at, global, key, (uint64_t)(equals - key), equals + 1,
                     (uint64_t)(text + length - equals) - 2, member, e, err);
        if (st != MDN_OK)
            return st;
        text += length;
        size -= length;
    }
    return MDN_OK;
}

/* A member of kind x, g, L or K, whose data are wholly there. */
static mdn_status
take_extension(mdn_tar *tar, uint64_t at, char kind, uint64_t size,
               mdn_tar_member *member, extras *e, mdn_error *err)
{
    uint64_t max = kind == 'L' || kind == 'K' ? MDN_TAR_NAME_MAX : PAX_MAX;
    uint64_t length;
    uint8_t *text;
    mdn_status st;

    if (size > max)
        return fail(tar, at, "an extension that is too long", err);
    text = malloc(size + 1);
    if (text == NULL)
        return mdn_fail_nomem(err, size + 1);
    text[size] = '\0';
    st = mdn_input_read(tar->input, text, size, at + MDN_TAR_BLOCK, err);
    length = strlen((char *)text);
    if (st == MDN_OK && (kind == 'x' || kind == 'g'))
        st = parse_pax(tar, at, kind == 'g', text, size, member, e, err);
    else if (st == MDN_OK && kind == 'L' && length == 0)
        st = fail(tar, at, "an extension with a name that is none", err);
    else if (st == MDN_OK && kind == 'L' && !e->name) {
        e->name = true;
        st = set_name(member, text, length, NULL, 0, err);
    }
    free(text);
    return st;
}

/* Members --------------------------------------------------------------- */

static mdn_status
refuse_kind(const mdn_tar *tar, uint64_t at, const mdn_tar_member *member,
            char kind, mdn_error *err)
{
    const char *what = kind == '1'                  ? "a hard link"
                       : kind == '2'                ? "a symbolic link"
                       : kind == '3' || kind == '4' ? "a device"
                       : kind == '6'                ? "a pipe"
                       : kind == 'S'                ? "a sparse file"
                       : kind == 'M' ? "the rest of a file in another archive"
                                     : "of an unknown kind";
    const char *name = member->name;

    if (member->name_size > 80)
        name += member->name_size - 80;
    return mdn_fail(err, MDN_INVALID,
                    "%s: byte %llu: %s is %s; archive the files themselves "
                    "(tar --dereference --hard-dereference)",
                    tar->input->name, (ull)at, name, what);
}

/* Size, time and name of the member whose header is given. */
static mdn_status
take_facts(const mdn_tar *tar, uint64_t at, const uint8_t *header,
           const extras *e, mdn_tar_member *member, mdn_error *err)
{
    uint64_t seconds = 0;
    mdn_status st = MDN_OK;

    member->size = e->size_value;
    if (!e->size && !load_number(header + 124, 12, &member->size))
        return fail(tar, at, "a header with a size that is none", err);
    member->mtime_ns = e->mtime_ns;
    if (!e->mtime
        && (!load_number(header + 136, 12, &seconds)
            || !seconds_to_ns(seconds, &member->mtime_ns)))
        return fail(tar, at, "a header with a time that is none", err);
    if (!e->name)
        st = header_name(member, header, err);
    return st;
}

/* Where the next header begins: data are padded. */
static bool
step(uint64_t at, uint64_t size, uint64_t *next)
{
    return !mdn_add_overflows(at, MDN_TAR_BLOCK, next)
           && !mdn_add_overflows(*next, size, next)
           && !mdn_add_overflows(
               *next, (MDN_TAR_BLOCK - size % MDN_TAR_BLOCK) % MDN_TAR_BLOCK,
               next);
}

static bool
is_zero(const uint8_t *at, uint64_t size)
{
    return size == 0 || (at[0] == 0 && memcmp(at, at + 1, size - 1) == 0);
}

/* The member at `at` in *header, of this kind; its data are wholly there, or
 * *cut. */
static mdn_status
read_header(mdn_tar *tar, uint64_t at, const uint8_t **header, bool *cut,
            mdn_error *err)
{
    mdn_status st;

    *cut = !reaches(tar, at, MDN_TAR_BLOCK);
    if (*cut)
        return MDN_OK;
    st = look(tar, at, MDN_TAR_BLOCK, header, err);
    if (st == MDN_OK && !is_zero(*header, MDN_TAR_BLOCK)
        && !sum_is_right(*header))
        return fail(tar, at, "no header of a member: its sum is wrong", err);
    return st;
}

mdn_status
mdn_tar_next(mdn_tar *tar, uint64_t at, mdn_tar_member *member, mdn_error *err)
{
    extras e = {.name = false};

    member->at = at;
    for (;;) {
        const uint8_t *header = NULL;
        bool cut = false, extension;
        char kind;
        mdn_status st = read_header(tar, at, &header, &cut, err);

        member->kind = MDN_TAR_CUT;
        if (st != MDN_OK || cut)
            return st;
        if (is_zero(header, MDN_TAR_BLOCK)) {
            member->kind = MDN_TAR_END;
            return MDN_OK;
        }
        kind = (char)header[156];
        extension = kind != '\0' && strchr("xgLK", kind) != NULL;
        if (extension) {
            if (!load_number(header + 124, 12, &member->size))
                return fail(tar, at, "a header with a size that is none", err);
        } else if ((st = take_facts(tar, at, header, &e, member, err))
                   != MDN_OK) {
            return st;
        }
        if (kind == '5' || kind == 'V')
            member->size = 0; /* whatever it says: nothing follows */
        member->data_at = at + MDN_TAR_BLOCK;
        if (!step(at, member->size, &member->next)
            || member->next > tar->input->facts.size)
            return MDN_OK; /* cut */
        if (extension) {
            st = take_extension(tar, at, kind, member->size, member, &e, err);
            if (st != MDN_OK)
                return st;
        } else if (kind == '5' || kind == 'V') {
            e = (extras){.name = false};
            member->at = member->next;
        } else if (kind == '0' || kind == '\0' || kind == '7') {
            member->kind = MDN_TAR_MEMBER;
            return MDN_OK;
        } else {
            return refuse_kind(tar, at, member, kind, err);
        }
        at = member->next;
    }
}

mdn_status
mdn_tar_check_rest(mdn_tar *tar, uint64_t at, mdn_error *err)
{
    static const char what[] = "something stands behind the end of the "
                               "archive; are these two archives in one file?";
    uint64_t size = tar->input->facts.size;

    if (size - at > PADDING_MAX)
        return fail(tar, at, what, err);
    while (at < size) {
        uint64_t part = size - at < WINDOW_SIZE ? size - at : WINDOW_SIZE;
        const uint8_t *bytes = NULL;
        mdn_status st = look(tar, at, part, &bytes, err);

        if (st != MDN_OK)
            return st;
        if (!is_zero(bytes, part))
            return fail(tar, at, what, err);
        at += part;
    }
    return MDN_OK;
}
