/* base64.c - four characters to three bytes. */
#include "ingest/base64.h"

/* The value of a character; 64 and more for what is none. */
static uint32_t
value_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (uint32_t)(c - 'A');
    if (c >= 'a' && c <= 'z')
        return (uint32_t)(c - 'a' + 26);
    if (c >= '0' && c <= '9')
        return (uint32_t)(c - '0' + 52);
    return c == '+' ? 62 : c == '/' ? 63 : 64;
}

bool
mdn_base64_decode(const char *text, uint64_t size, uint8_t *out,
                  uint64_t *out_size)
{
    uint64_t missing = 0; /* bytes that the padding stands for */
    uint8_t *to = out;

    if (size % 4 != 0)
        return false;
    if (size > 0 && text[size - 1] == '=')
        missing = text[size - 2] == '=' ? 2 : 1;
    for (uint64_t i = 0; i < size; i += 4) {
        uint64_t known = i + 4 == size ? 4 - missing : 4;
        uint32_t bits = 0;

        for (uint64_t k = 0; k < 4; k++) {
            uint32_t value = k < known ? value_of(text[i + k]) : 0;

            if (value > 63)
                return false;
            bits = bits << 6 | value;
        }
        for (uint64_t k = 0; k + 1 < known; k++)
            *to++ = (uint8_t)(bits >> (16 - 8 * k));
    }
    *out_size = (uint64_t)(to - out);
    return true;
}
