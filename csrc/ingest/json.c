/* json.c - a strict reader of JSON. */
#include "ingest/json.h"

#include "ingest/utf8.h"

#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

bool
mdn_json_fail(mdn_json *json, const char *wrong)
{
    json->wrong = wrong;
    return false;
}

char
mdn_json_peek(mdn_json *json)
{
    while (*json->at == ' ' || *json->at == '\t' || *json->at == '\r')
        json->at++;
    return *json->at;
}

/* Strings --------------------------------------------------------------- */

/* The next byte of a string that is not plain ASCII: a quote, a backslash, a
 * control character (as the line feed at the end is) or a byte above 0x7f. */
static const char *
find_special(const char *at)
{
#ifdef __SSE2__
    const __m128i quotes = _mm_set1_epi8('"');
    const __m128i slashes = _mm_set1_epi8('\\');
    const __m128i blanks = _mm_set1_epi8(' ');

    for (;; at += 16) {
        __m128i text = _mm_loadu_si128((const __m128i *)(const void *)at);
        /* Bytes above 0x7f are negative, hence below a blank as well. */
        __m128i hits = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(text, quotes),
                                                 _mm_cmpeq_epi8(text, slashes)),
                                    _mm_cmplt_epi8(text, blanks));
        unsigned mask = (unsigned)_mm_movemask_epi8(hits);

        if (mask != 0)
            return at + __builtin_ctz(mask);
    }
#else
    while ((uint8_t)*at >= ' ' && (uint8_t)*at < 0x80 && *at != '"'
           && *at != '\\')
        at++;
    return at;
#endif
}

/* Four hexadecimal digits; -1 if they are not. */
static int32_t
hex4(const char *at)
{
    int32_t value = 0;

    for (int i = 0; i < 4; i++) {
        char c = at[i];

        if (c >= '0' && c <= '9')
            value = value * 16 + (c - '0');
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            value = value * 16 + ((c | 0x20) - 'a' + 10);
        else
            return -1; /* in time for the line feed */
    }
    return value;
}

/* The code point of the \u escape at `at`, and its size (6, or 12 for a pair of
 * surrogates); -1 for what is none. */
static int32_t
read_unicode(const char *at, uint64_t *size)
{
    int32_t high = hex4(at + 2), low;

    *size = 6;
    if (high < 0xd800 || high > 0xdfff)
        return high;
    if (high > 0xdbff || at[6] != '\\' || at[7] != 'u')
        return -1;
    low = hex4(at + 8);
    if (low < 0xdc00 || low > 0xdfff)
        return -1;
    *size = 12;
    return 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
}

static const char *
behind_escape(mdn_json *json, const char *at)
{
    uint64_t size = 2;

    if (at[1] == 'u' && read_unicode(at, &size) < 0) {
        mdn_json_fail(json, "a \\u escape that is no character");
        return NULL;
    }
    if (at[1] != 'u' && !memchr("\"\\/bfnrt", at[1], 8)) {
        mdn_json_fail(json, "an escape that does not exist");
        return NULL;
    }
    return at + size;
}

bool
mdn_json_string(mdn_json *json, mdn_json_text *out)
{
    const char *at = json->at + 1;

    *out = (mdn_json_text){.text = at};
    for (;;) {
        const char *next;

        json->at = at = find_special(at);
        if (*at == '"')
            break;
        if (*at == '\\') {
            out->escaped = true;
            next = behind_escape(json, at);
        } else if ((uint8_t)*at < 0x80) {
            return mdn_json_fail(json, at == json->end
                                           ? "a string that is not closed"
                                           : "a control character in a string");
        } else if ((next = mdn_utf8_next(at)) == NULL) {
            mdn_json_fail(json, "a byte that is not UTF-8");
        }
        if (next == NULL)
            return false;
        at = next;
    }
    out->size = (uint64_t)(at - out->text);
    json->at = at + 1;
    return true;
}

uint64_t
mdn_json_unescape(const mdn_json_text *text, char *out)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    const char *at = text->text, *end = at + text->size;
    char *to = out;

    while (at < end) {
        const char *slash = memchr(at, '\\', (size_t)(end - at));
        uint64_t plain = (uint64_t)((slash ? slash : end) - at), size = 2;

        memcpy(to, at, plain);
        to += plain;
        at += plain;
        if (at == end)
            break;
        if (at[1] == 'u')
            to = mdn_utf8_put(read_unicode(at, &size), to);
        else
            *to++ = values[strchr(names, at[1]) - names];
        at += size;
    }
    return (uint64_t)(to - out);
}

/* Numbers and words ----------------------------------------------------- */

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static const char *
behind_digits(const char *at)
{
    while (is_digit(*at))
        at++;
    return at;
}

bool
mdn_json_number(mdn_json *json, mdn_json_text *out)
{
    const char *at = json->at;

    *out = (mdn_json_text){.text = at};
    at += *at == '-';
    json->at = at;
    if (!is_digit(*at))
        return mdn_json_fail(json, "a number without digits");
    at = *at == '0' ? at + 1 : behind_digits(at);
    if ((json->at = at, *at == '.')) {
        if (!is_digit(at[1]))
            return mdn_json_fail(json, "a point without digits behind it");
        at = behind_digits(at + 1);
    }
    if ((json->at = at, *at == 'e' || *at == 'E')) {
        at += at[1] == '-' || at[1] == '+' ? 2 : 1;
        if (!is_digit(*at))
            return mdn_json_fail(json, "an exponent without digits");
        at = behind_digits(at);
    }
    json->at = at;
    if (is_digit(*at))
        return mdn_json_fail(json, "a digit behind a leading zero");
    out->size = (uint64_t)(at - out->text);
    return true;
}

bool
mdn_json_word(mdn_json *json, const char *word)
{
    uint64_t size = strlen(word);

    if ((uint64_t)(json->end - json->at) < size
        || memcmp(json->at, word, size) != 0)
        return mdn_json_fail(json, "no value begins here");
    json->at += size;
    return true;
}

/* Objects and arrays ---------------------------------------------------- */

bool
mdn_json_open(mdn_json *json, bool *empty)
{
    char close = *json->at == '{' ? '}' : ']';

    if (json->depth == MDN_JSON_DEPTH)
        return mdn_json_fail(json, "too many values within each other");
    json->depth++;
    json->at++;
    *empty = mdn_json_peek(json) == close;
    if (*empty) {
        json->at++;
        json->depth--;
    }
    return true;
}

bool
mdn_json_next(mdn_json *json, char close, bool *more)
{
    char c = mdn_json_peek(json);

    *more = c == ',';
    if (c != ',' && c != close)
        return mdn_json_fail(json, close == '}' ? "no ',' or '}' here"
                                                : "no ',' or ']' here");
    json->at++;
    if (c == close)
        json->depth--;
    return true;
}

bool
mdn_json_key(mdn_json *json, mdn_json_text *out)
{
    if (mdn_json_peek(json) != '"')
        return mdn_json_fail(json, "no key in quotes here");
    if (!mdn_json_string(json, out))
        return false;
    if (mdn_json_peek(json) != ':')
        return mdn_json_fail(json, "no ':' behind a key");
    json->at++;
    return true;
}

/* A value that is neither object nor array. */
static bool
skip_scalar(mdn_json *json)
{
    mdn_json_text text;

    switch (*json->at) {
    case '"': return mdn_json_string(json, &text);
    case 't': return mdn_json_word(json, "true");
    case 'f': return mdn_json_word(json, "false");
    case 'n': return mdn_json_word(json, "null");
    default: break;
    }
    if (*json->at != '-' && !is_digit(*json->at))
        return mdn_json_fail(json, "no value begins here");
    return mdn_json_number(json, &text);
}

bool
mdn_json_skip(mdn_json *json, mdn_json_text *out)
{
    char closes[MDN_JSON_DEPTH]; /* of what was opened here */
    uint32_t open = 0;
    mdn_json_text key;
    char c = mdn_json_peek(json);

    out->text = json->at;
    for (;;) {
        bool empty = true, more = false;

        /* A value begins here. */
        if (c != '{' && c != '[') {
            if (!skip_scalar(json))
                return false;
        } else if (!mdn_json_open(json, &empty)) {
            return false;
        }
        if (!empty) {
            closes[open++] = c == '{' ? '}' : ']';
            more = true;
        }
        /* Behind a value, or at the first of an object or array. */
        while (!more && open > 0) {
            if (!mdn_json_next(json, closes[open - 1], &more))
                return false;
            open -= !more;
        }
        if (open == 0)
            break;
        if (closes[open - 1] == '}' && !mdn_json_key(json, &key))
            return false;
        c = mdn_json_peek(json);
    }
    out->size = (uint64_t)(json->at - out->text);
    out->escaped = false;
    return true;
}
