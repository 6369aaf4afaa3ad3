/* show.c - what a value looks like in one line. */
#include "ingest/show.h"

#include <stdio.h>
#include <string.h>

#define VALUE_SHOWN 64 /* bytes; each may become four */

const char *
mdn_show(const char *text, uint64_t size, char out[MDN_SHOWN])
{
    static const char named[] = "\nn\rr\tt\\\\";
    uint64_t shown = size < VALUE_SHOWN ? size : VALUE_SHOWN;
    char *to = out;

    /* Not in the middle of a UTF-8 sequence. */
    while (shown < size && shown > 0 && ((uint8_t)text[shown] & 0xc0) == 0x80)
        shown--;
    *to++ = '\'';
    for (uint64_t i = 0; i < shown; i++) {
        uint8_t byte = (uint8_t)text[i];
        const char *name = byte ? strchr(named, byte) : NULL;
        if (name != NULL && (name - named) % 2 == 0)
            to += sprintf(to, "\\%c", name[1]);
        else if (byte < 0x20 || byte == 0x7f)
            to += sprintf(to, "\\x%02x", byte);
        else
            *to++ = (char)byte;
    }
    strcpy(to, shown < size ? "'..." : "'");
    return out;
}
